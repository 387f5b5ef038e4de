"""The approval desk: attaches calls to durable requests and hands out what became of them.

A human is never awaited inside the only copy of the state. The row is durable, the call attaches to it, and the
approved call runs in the desk's own task: clients time out and cancel their handlers (docs/approvals.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import anyio
import anyio.abc
import structlog
from anyio import to_thread

from mcp_guard.approval import outcome, statement
from mcp_guard.approval.channels.elicitation import fingerprint_typed
from mcp_guard.approval.eligibility import Channels, Mode, Reviewer, demanded, may_prompt, require_reachable
from mcp_guard.approval.execution import Execution, Recheck
from mcp_guard.approval.holders import Holders
from mcp_guard.approval.machine import LIVE, OUTCOMES, Conflict, State, Void
from mcp_guard.approval.outbox import Outbox
from mcp_guard.approval.prompt import build_prompt
from mcp_guard.approval.review import ApprovalReview
from mcp_guard.approval.rows import Request
from mcp_guard.approval.runner import Runner
from mcp_guard.approval.sealed import intact, new_request, unseal
from mcp_guard.approval.statement import Stored
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.approval.transaction import Transaction
from mcp_guard.approval.used import Used
from mcp_guard.approval.wake import Wake
from mcp_guard.clock import Ids
from mcp_guard.errors import (
    ConflictError,
    GuardError,
    OverloadedError,
    RefusalError,
    StoreUnavailableError,
    UnknownApprovalError,
)
from mcp_guard.keystore import KeyStore
from mcp_guard.model import (
    Answer,
    AskClient,
    Assurance,
    Call,
    Decision,
    MaskedText,
    Principal,
    PromptAnswer,
    Suspended,
    Views,
)
from mcp_guard.ports import AuditTrail, Executor, Front

_log = structlog.get_logger(__name__)

_NS = 1_000_000_000
_DENIED_FOR_NS = 600 * _NS
"""An identical call is refused for this long after a denial (S16)."""
_PROGRESS_S = 5.0
_OUTCOME_S = 15.0
"""At least this long a call waits for the outcome after it brought the approval itself."""


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """Configuration of the desk.

    `environment` gives the environment of a server; `adopts` says for (`Principal.key`, server) whether this guard
    may take over requests of a guard that died: only of the same principal and for servers that it serves.
    """

    mode: Mode
    max_open: int
    environment: Callable[[str], str]
    adopts: Callable[[str, str], bool]


class ApprovalDesk:
    """Implements `ports.ApprovalPort`, the wait tool, and the background work."""

    def __init__(
        self,
        *,
        store: ApprovalStore,
        keys: KeyStore,
        ids: Ids,
        holders: Holders,
        audit: AuditTrail,
        recheck: Recheck,
        mask: Callable[[str], MaskedText],
        settings: DeskSettings,
    ) -> None:
        self._store = store
        self._keys = keys
        self._ids = ids
        self._holders = holders
        self._mask = mask
        self._settings = settings
        self._wake = Wake()
        self._review = ApprovalReview(store, keys, ids, mask=mask)
        outbox = Outbox(store, audit, holders.id, keys=keys, reviewers=self._review.reviewers, mask=mask)
        self._used = Used(holders.folder.parent / "used")
        execution = Execution(
            store=store,
            keys=keys,
            ids=ids,
            outbox=outbox,
            wake=self._wake,
            recheck=recheck,
            mask=mask,
            used=self._used,
            mode=settings.mode,
        )
        self._runner = Runner(
            store=store, holders=holders, outbox=outbox, wake=self._wake, execution=execution, adopts=settings.adopts
        )

    async def run(
        self, executor: Executor, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Work in the background until cancelled: `await group.start(desk.run, pipeline.run_approved)`.

        Started once what dead holders left behind is recovered. `holders.open()` comes before.
        """
        await to_thread.run_sync(self._used.sweep, self._store.now_ns())
        await self._runner.run(executor, task_status=task_status)

    async def live_call_ids(self) -> frozenset[str]:
        """Calls with a live request: for these no `call.interrupted` is written at start (D26)."""
        return await self._store.live_call_ids()

    async def round_of(self, call: Call, views: Views, front: Front) -> str | None:
        """See `ports.ApprovalPort.round_of`. The sealed state only names the request; owner and arguments must fit."""
        request = await self._resumed(call, statement.lookup(self._keys, call, views.for_downstream), front)
        return request.call_id if request is not None else None

    async def settle(
        self, call: Call, views: Views, decision: Decision, front: Front
    ) -> Suspended | AskClient | Answer:
        """See `ports.ApprovalPort.settle`."""
        key = statement.lookup(self._keys, call, views.for_downstream)
        channels = Channels(front.can_prompt, await self._review.reviewers.any())
        request = await self._resumed(call, key, front)
        fresh = request is None
        if request is None:
            environment = self._settings.environment(call.target.server)
            stored = Stored(call, views, decision, environment, self._settings.mode)
            request = await self._attach_or_open(stored, key, channels)
        prompts = may_prompt(self._settings.mode, request.min_assurance, channels)
        if fresh and request.row.state is State.PENDING and prompts and front.era == "modern":
            return AskClient(build_prompt(request))
        with self._wake.attach(request.row.id):
            here = await self._answered(request, call.principal, front)
            form = prompts and front.era == "legacy"
            request = await self._hold(request, call.principal, front, decision.terms.hold_s, form=form, here=here)
        return await self._conclude(request)

    async def wait(self, approval_id: str, principal: Principal, timeout_s: float) -> Suspended | Answer:
        """For `guard_approval_wait`: the requester's own requests only; an outcome is given as often as asked for.

        Raises:
            UnknownApprovalError: no such request of this principal.
            ApprovalDeniedError, ApprovalExpiredError, FaultError: see `settle`.
        """
        request = await self._store.get(approval_id)
        if request is None or request.row.owner != principal.key:
            raise UnknownApprovalError("you have no such approval request", hint="repeat the call itself")
        with self._wake.attach(approval_id), anyio.move_on_after(timeout_s):
            await self._take_over(request)
            await self._while(approval_id, LIVE)
        return await self._conclude(request)

    # -- attaching ---------------------------------------------------------------------------------------------

    async def _resumed(self, call: Call, key: str, front: Front) -> Request | None:
        """The request that a modern client comes back to. Another owner's, or of other arguments: not this one."""
        if front.resumed is None:
            return None
        request = await self._store.get(front.resumed[0])
        if request is None or (request.row.owner, request.row.lookup) != (call.principal.key, key):
            return None
        if isinstance(intact(self._keys, self._mask, request), Void):
            return None
        return None if request.row.state is State.INVALIDATED else request

    async def _attach_or_open(self, stored: Stored, key: str, channels: Channels) -> Request:
        async with self._store.write() as transaction:
            found = await self._attach_in(transaction, stored, key)
            if found is None:
                found = await self._open_in(transaction, stored, key, channels)
        self._wake.ring()
        if isinstance(found, GuardError):
            raise found
        return found

    async def _attach_in(self, transaction: Transaction, stored: Stored, key: str) -> Request | GuardError | None:
        owner = stored.call.principal.key
        live = await transaction.live(owner, key)
        why = self._outdated(live, stored) if live else None
        if live is not None and why is not None:
            live = live if isinstance(await transaction.void(live, why), Conflict) else None
        if live is not None:
            return live if self._holders.alive(live.row.holder) else await self._adopt_in(transaction, live)
        last = await transaction.last(owner, key)
        if last is None or isinstance(unseal(self._keys, last), Void):
            return None
        if last.row.state in OUTCOMES and not last.delivered:
            await transaction.deliver(last.row.id)
            return last
        if last.row.state is State.DENIED and transaction.now_ns - (last.row.ended_ns or 0) < _DENIED_FOR_NS:
            return outcome.refusal(last)
        return None

    def _outdated(self, live: Request, stored: Stored) -> Void | None:
        """Why nobody may decide the live request any more."""
        then = intact(self._keys, self._mask, live)
        if isinstance(then, Void):
            return then
        if then.mode != stored.mode:
            return Void.SEPARATION
        # Whoever looks at it now would decide under another policy than the one that asks (S10).
        return Void.POLICY if then.decision.policy_digest != stored.decision.policy_digest else None

    async def _adopt_in(self, transaction: Transaction, live: Request) -> Request:
        if live.row.state is State.EXECUTING:
            return live  # recovery settles it: T15 or T17
        return await transaction.hold(live, self._holders.id) or live

    async def _open_in(
        self, transaction: Transaction, stored: Stored, key: str, channels: Channels
    ) -> Request | GuardError:
        owner, need = stored.call.principal.key, demanded(stored.decision, stored.mode)
        stored = replace(stored, created_ns=transaction.now_ns)
        try:
            require_reachable(stored.mode, need, channels)
            request = new_request(stored, key, keys=self._keys, ids=self._ids, holder=self._holders.id, mask=self._mask)
        except RefusalError as error:
            return error
        if await transaction.count_open(owner) >= self._settings.max_open:
            return OverloadedError(
                f"{self._settings.max_open} approval requests of this requester are open already",
                hint="decide or wait for the open ones: `mcp-guard approvals ls`",
            )
        await transaction.insert(request, {})
        return request

    # -- waiting -----------------------------------------------------------------------------------------------

    async def _answered(self, request: Request, principal: Principal, front: Front) -> bool:
        """Modern era: take the answer that the client brought. Whether it approved the request."""
        answer = front.resumed[1] if front.resumed and front.resumed[0] == request.row.id else None
        if answer is None or request.row.state is not State.PENDING:
            return False
        return await self._take(request, principal, answer)

    async def _take(self, request: Request, principal: Principal, answer: PromptAnswer) -> bool:
        """T4 or T5 by the requester's own client; whatever does not count leaves the request as it is."""
        prompt = build_prompt(request)
        if answer.verdict == "dismissed" or (answer.verdict == "approve" and not fingerprint_typed(prompt, answer)):
            return False
        reviewer = Reviewer(principal.subject, Assurance.A1, "elicitation", principal.key)
        try:
            await self._review.decide(
                request.row.id, answer.verdict, reviewer, answer.reason, shown=request.row.action_digest
            )
        except (ConflictError, RefusalError):
            return False
        self._wake.ring()
        return answer.verdict == "approve"

    async def _hold(
        self, request: Request, principal: Principal, front: Front, hold_s: float, *, form: bool, here: bool
    ) -> Request:
        """Wait for the decision, then for the outcome, as long as allowed. Returns the request as it was known."""
        deadline = anyio.current_time() + hold_s
        if request.row.state is State.PENDING and not here:
            with anyio.CancelScope(deadline=deadline):
                here = await self._until_decided(request, principal, front, form=form)
        if here:
            deadline = max(deadline, anyio.current_time() + _OUTCOME_S)
        with anyio.CancelScope(deadline=deadline):
            await self._take_over(request)
            if (await self._current(request)).row.state is not State.PENDING:
                await self._while(request.row.id, LIVE)
        return request

    async def _until_decided(self, request: Request, principal: Principal, front: Front, *, form: bool) -> bool:
        """Race the form against decisions from elsewhere; the form is withdrawn when it is over."""
        here = False
        failed: list[GuardError] = []

        async def ask() -> None:
            nonlocal here
            try:
                here = await self._take(request, principal, await front.ask(build_prompt(request)))
            except GuardError as error:
                _log.warning("approval_prompt_failed", approval=request.row.id, error=error.code)
            except Exception as error:  # noqa: BLE001 - the boundary: a broken client has not answered
                _log.warning("approval_prompt_failed", approval=request.row.id, error=type(error).__name__)

        async with anyio.create_task_group() as group:
            group.start_soon(self._report, request.row.id, front)
            if form:
                group.start_soon(ask)
            try:
                await self._while(request.row.id, frozenset({State.PENDING}))
            except GuardError as error:
                failed.append(error)
            group.cancel_scope.cancel()
        if failed:
            raise failed[0]
        return here

    async def _report(self, approval_id: str, front: Front) -> None:
        done = 0.0
        while True:
            await front.progress(done, None, MaskedText(f"waiting for approval {approval_id}"))
            done += _PROGRESS_S
            await anyio.sleep(_PROGRESS_S)

    async def _while(self, approval_id: str, states: Iterable[State]) -> None:
        """Wait as long as the request is in one of these states."""
        while True:
            signal = self._wake.signal
            request = await self._store.get(approval_id)
            if request is None or request.row.state not in states:
                return
            await signal.wait()

    async def _take_over(self, request: Request) -> None:
        """A request that runs on pick-up is carried out by the process that picks it up (D35)."""
        if request.run != "on_pickup" or request.row.holder == self._holders.id:
            return
        async with self._store.write() as transaction:
            current = await transaction.get(request.row.id)
            if current is not None and current.row.state in {State.PENDING, State.APPROVED}:
                await transaction.hold(current, self._holders.id)
        self._wake.ring()

    async def _current(self, request: Request) -> Request:
        return await self._store.get(request.row.id) or request

    async def _conclude(self, request: Request) -> Answer | Suspended:
        request = await self._current(request)
        if request.row.state in LIVE | OUTCOMES and isinstance(unseal(self._keys, request), Void):
            raise StoreUnavailableError(f"the stored request {request.row.id} was altered from outside")
        if request.row.state in OUTCOMES and not request.delivered:
            async with self._store.write() as transaction:
                await transaction.deliver(request.row.id)
        return outcome.conclude(self._keys, request)
