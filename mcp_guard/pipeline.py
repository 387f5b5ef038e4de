"""The policy enforcement point: the one path of a call (ARCHITECTURE.md, "One call").

`handle` is read from top to bottom; its numbered comment is the security argument.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import lru_cache

import anyio
import structlog

from mcp_guard import records
from mcp_guard.errors import (
    AuditUnavailableError,
    FaultError,
    GuardError,
    InternalError,
    PlaceholderError,
    PolicyDeniedError,
    origin_of,
)
from mcp_guard.model import (
    Answer,
    Call,
    Decision,
    Effect,
    JsonDict,
    MaskedJson,
    RawResult,
    Receipt,
    Record,
    Risk,
    Suspended,
    Views,
)
from mcp_guard.permit import Permit
from mcp_guard.ports import (
    ApprovalPort,
    ApprovedRun,
    AuditTrail,
    CheckArguments,
    Confirm,
    Downstreams,
    FitsSchema,
    Front,
    MaskingPort,
    PolicyPort,
    ProgressSink,
    Vault,
)
from mcp_guard.question import AskClient

_NO_LONGER_FITS = (
    "[mcp-guard] the call ran. Its structured result no longer fits the tool's output schema after masking and is "
    "left out."
)

_log = structlog.get_logger(__name__)


class Pipeline:
    """Carries calls from the front to a downstream and back."""

    def __init__(
        self,
        *,
        masking: MaskingPort,
        vault: Vault,
        check_arguments: CheckArguments,
        fits_schema: FitsSchema,
        policy: PolicyPort,
        confirm: Confirm,
        approvals: ApprovalPort,
        audit: AuditTrail,
        downstreams: Downstreams,
    ) -> None:
        self._masking = masking
        # Names of tools and clients come back with every call.
        self._label = lru_cache(maxsize=512)(masking.text)
        self._vault = vault
        self._check_arguments = check_arguments
        self._fits_schema = fits_schema
        self._policy = policy
        self._confirm = confirm
        self._approvals = approvals
        self._audit = audit
        self._downstreams = downstreams
        self._carrying = 0
        self._settled = anyio.Event()

    async def handle(self, call: Call, front: Front) -> Answer | Suspended | AskClient:
        """Carry one call, or one more round of it.

        Raises:
            RefusalError: the guard said no; nothing was forwarded.
            FaultError: something broke; `OutcomeUnknownError` alone means that the call may have run.
        """
        # The order of these lines is the security argument:
        # 1. Derive the views first. After this line only decide, the digest, the encrypted approval row and forward
        #    read `for_downstream`; reviewers, records and clients see masked views only.
        # 2. Decide on exactly what would run, so that no placeholder and no re-spelling can slip past a rule.
        # 3. Record the intent durably: what cannot be recorded is not done.
        # 4. Nothing goes on without a permit, and a permit is for this call and for once.
        # 5. Forward: the only line that sends anything. An approved call is recorded as forwarded before its bytes.
        # 6. Mask the result before anybody can see it; a result that cannot be masked is withheld.
        # 7. Record the result durably, and only then answer.
        async with self._refusals_recorded(call):
            views = await self._derive(call)  # (1)
            decision = self._policy.decide(call, views)  # (2)
            call = await self._same_call(call, views, decision, front)
        async with self._refusals_recorded(call):
            with anyio.CancelScope(shield=True):  # what follows notices that the client left, and records the end
                await self._audit.append(records.intent(call, views, decision, self._label))  # (3)
            step = await self._permit(call, views, decision, front)  # (4)
        if isinstance(step, Permit):
            return await self._carry_out(call, views, step, progress=self._progress_to(front))  # (5) (6) (7)
        return step

    async def run_approved(self, run: ApprovedRun, permit: Permit) -> Answer:
        """Steps 5 to 7 for a call that people approved; the desk's executor calls it with a claimed row."""
        return await self._carry_out(run.call, run.views, permit, run=run)

    async def _derive(self, call: Call) -> Views:
        tokens = self._masking.tokens_in(call.arguments.value)
        known = await self._vault.get(call.principal.key, tokens) if tokens else {}
        views = self._masking.derive(call, known)
        if views.refused:
            names = ", ".join(f"[{token}]" for token in views.refused)
            raise PlaceholderError(f"{names} may not be restored into this argument of {call.target.server}")
        await self._check_arguments(call.target, views.for_downstream)
        if views.entries:
            await self._vault.put(views.entries)
        return views

    async def _same_call(self, call: Call, views: Views, decision: Decision, front: Front) -> Call:
        """A further round of a suspended call keeps its id; everything else is a call of its own."""
        if decision.effect is not Effect.REQUIRE_APPROVAL or front.resumed is None:
            return call
        call_id = await self._approvals.round_of(call, views, front)
        return call if call_id is None else replace(call, call_id=call_id)

    async def _permit(
        self, call: Call, views: Views, decision: Decision, front: Front
    ) -> Permit | Answer | Suspended | AskClient:
        if decision.effect is Effect.ALLOW:
            if decision.risk.rank >= Risk.HIGH.rank:
                # An approved call is looked at again by the desk's recheck.
                async with self._leaving_recorded(records.not_sent(call)):
                    await self._confirm(call)
            return self._policy.permit(call, decision)
        if decision.effect is not Effect.REQUIRE_APPROVAL:
            raise PolicyDeniedError(f"rule {decision.rule} denies this call: {'; '.join(decision.reasons)}")
        async with self._leaving_recorded(records.left(call, "client_gone")):
            step = await self._approvals.settle(call, views, decision, front)
        if isinstance(step, Suspended):
            await self._audit.append(records.left(call, "suspended", approval=step.approval_id))
        elif isinstance(step, Answer):
            await self._audit.append(records.delivered(call, step))
        return step

    async def _carry_out(
        self,
        call: Call,
        views: Views,
        permit: Permit,
        *,
        run: ApprovedRun | None = None,
        progress: ProgressSink | None = None,
    ) -> Answer:
        execution_id = run.execution_id if run else call.call_id
        if run is not None:
            if await self._audit.has_forwarded(call.call_id):
                raise AuditUnavailableError("the log says that this call was sent; it is not sent again")
            if not await run.mark_sent():
                raise InternalError("the approval was withdrawn or expired before anything was sent")
            await self._audit.append(records.forwarded(call, run))
        async with self._faults_recorded(call):
            raw = await self._downstreams.forward(  # (5)
                call, permit, views.for_downstream, execution_id=execution_id, progress=progress
            )
            # From here on the call has run: a client that leaves changes nothing about masking and recording it.
            with anyio.CancelScope(shield=True):
                answer = await self._mask_result(call, raw)  # (6)
                receipt = await self._record_result(records.result(call, answer))  # (7)
        return Answer(answer.result, answer.error, answer.notes, receipt, run.approval_id if run else None)

    async def _mask_result(self, call: Call, raw: RawResult) -> Answer:
        raw_value = raw.result if raw.error is None else raw.error
        masked = await self._masking.mask(raw_value or {}, scope=call.principal.key, server=call.target.server)
        if masked.entries:
            await self._vault.put(masked.entries)
        if raw.error is not None:
            return Answer(error=masked.json, notes=masked.notes)
        value = masked.json.value
        if isinstance(value, dict) and not self._fits_schema(call.target, value):
            return Answer(result=_text_only(value), notes=masked.notes)
        return Answer(result=masked.json, notes=masked.notes)

    async def _record_result(self, record: Record) -> Receipt:
        try:
            return await self._audit.append(record)
        except AuditUnavailableError:
            raise AuditUnavailableError(
                f"the result of call {record.call_id} could not be recorded, so it is withheld; the call did run",
                hint="check at the server what happened before repeating it; then mend the audit log",
            ) from None

    def _progress_to(self, front: Front) -> ProgressSink:
        async def sink(done: float, total: float | None, message: str | None) -> None:
            try:
                masked = None if message is None else self._masking.text(message)
            except GuardError:
                masked = None
            await front.progress(done, total, masked)

        return sink

    def _refusals_recorded(self, call: Call) -> AbstractAsyncContextManager[None]:
        """Steps 1 to 4: whatever goes wrong there is a refusal, and nothing was sent."""
        return self._end_recorded(
            call, records.refused, "the guard failed before the call was sent; nothing was forwarded"
        )

    @asynccontextmanager
    async def _faults_recorded(self, call: Call) -> AsyncIterator[None]:
        """Steps 5 to 7: an outcome is recorded also when there is no result to give."""
        self._carrying += 1
        withheld = "the guard failed while the call ran; its result is withheld"
        try:
            # Cancelled before a byte was written: afterwards the pool answers, or says that the outcome is unknown.
            async with (
                self._leaving_recorded(records.not_sent(call)),
                self._end_recorded(call, records.no_result, withheld),
            ):
                yield
        finally:
            self._carrying -= 1
            self._settled.set()
            self._settled = anyio.Event()

    @asynccontextmanager
    async def _leaving_recorded(self, record: Record) -> AsyncIterator[None]:
        """What is on record of a call whose client left meanwhile."""
        try:
            yield
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._audit.append(record)
            raise

    @asynccontextmanager
    async def _end_recorded(
        self, call: Call, record: Callable[[Call, GuardError], Record], failed: str
    ) -> AsyncIterator[None]:
        try:
            yield
        except AuditUnavailableError:
            raise
        except GuardError as error:
            if isinstance(error, FaultError):
                _log.warning("call_failed", call_id=call.call_id, error=error.code, origin=error.origin)
            with anyio.CancelScope(shield=True):
                await self._audit.append(record(call, error))
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: no foreign text may reach a client
            _log.error("call_failed", call_id=call.call_id, error=type(error).__name__, origin=origin_of(error))
            internal = InternalError(failed)
            with anyio.CancelScope(shield=True):
                await self._audit.append(record(call, internal))
            raise internal from None

    async def note(self, record: Record) -> None:
        """Record what never became a call on this line: an unknown name, an outcome that was picked up."""
        await self._audit.append(record)

    async def drained(self) -> None:
        """Return when no call is on its way."""
        while self._carrying:
            await self._settled.wait()


def _text_only(masked: JsonDict) -> MaskedJson:
    """A masked result whose structured part no longer fits its schema: clients would refuse the whole of it."""
    kept = {key: value for key, value in masked.items() if key not in {"structuredContent", "isError"}}
    content = kept.get("content")
    note: JsonDict = {"type": "text", "text": _NO_LONGER_FITS}
    return MaskedJson({**kept, "content": [*(content if isinstance(content, list) else []), note], "isError": True})
