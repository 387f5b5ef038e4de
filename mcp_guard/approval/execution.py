"""Carrying out an approved request: verified, claimed, sent at most once (approvals.md S4, decisions.md D26)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import structlog
from anyio import to_thread

from mcp_guard.approval import outcome
from mcp_guard.approval.eligibility import Mode, Separation, demanded
from mcp_guard.approval.grants import Grants, Warrant
from mcp_guard.approval.machine import Claim, Conflict, Event, Finish, Lose, MarkSent, Release, Void
from mcp_guard.approval.outbox import Outbox
from mcp_guard.approval.rows import Request
from mcp_guard.approval.sealed import intact
from mcp_guard.approval.statement import Statement, Stored, verify
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.approval.transaction import Transaction
from mcp_guard.approval.used import Used
from mcp_guard.approval.wake import Wake
from mcp_guard.clock import Ids
from mcp_guard.errors import (
    AuditUnavailableError,
    DownstreamUnavailableError,
    FaultError,
    GuardError,
    InternalError,
    MaskingError,
    OutcomeUnknownError,
)
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Answer, Assurance, Call, Decision, Effect, MaskedText, Views
from mcp_guard.permit import Permit, issue_permit
from mcp_guard.ports import Executor

Recheck = Callable[[Call, Views], Awaitable[Decision]]
"""Judges the stored call again by today's policy and catalogue; raises when it may not run at all."""

_log = structlog.get_logger(__name__)

_ACTOR = "guard"


@dataclass(frozen=True, slots=True)
class Approved:
    """What may be carried out, and on whose word: a signed decision over it, or a use of a signed grant."""

    stored: Stored
    assurance: Assurance
    separation: Separation
    not_after_ns: int
    warrant: Warrant | None = None
    """The use of a grant, noted as spent beside the approval itself."""


class ClaimedRun:
    """`ports.ApprovedRun`: one claimed request in the hands of the executor."""

    def __init__(self, store: ApprovalStore, used: Used, request: Request, approved: Approved) -> None:
        self._store = store
        self._used = used
        self._not_after_ns = approved.not_after_ns
        self._warrant = approved.warrant
        stored = approved.stored
        self.request = request
        self.approval_id = request.row.id
        self.execution_id = request.row.exec_id or ""
        self.call = stored.call
        self.views = stored.views
        self.decision = stored.decision

    async def mark_sent(self) -> bool:
        """T14: commit sent=1, and leave the witness outside the database.

        False means: do not send. An approval whose time is over has expired (S13), one with a witness was used, and a
        grant that was revoked meanwhile gives the call back: then it is void.
        """
        revoked = await to_thread.run_sync(self._revoked)
        async with self._store.write() as transaction:
            over = transaction.now_ns >= self._not_after_ns or revoked or await self._ended_in(transaction)
            event = Release(self.execution_id) if over else MarkSent(self.execution_id)
            step = await transaction.step(self.request, event, actor=_ACTOR)
            if isinstance(step, Conflict) and step.why == "time":
                step = await transaction.step(self.request, Release(self.execution_id), actor=_ACTOR)
        if not isinstance(step, Request):
            return False
        self.request = step
        # After the commit: a crash between the two leaves an unknown outcome, and never a used approval unsent.
        return step.row.sent and await to_thread.run_sync(self._note_used)

    def _note_used(self) -> bool:
        if not self._used.take(self.approval_id, self._not_after_ns):
            return False
        if self._warrant is None:
            return True
        # Looked at last: a revocation that comes later comes after the call.
        return self._used.take(self._warrant.witness, self._not_after_ns) and not self._revoked()

    def _revoked(self) -> bool:
        return self._warrant is not None and self._used.holds(self._warrant.ended)

    async def _ended_in(self, transaction: Transaction) -> bool:
        """Whether the grant is over by its row: checking again, and the record, may have taken seconds."""
        return self._warrant is not None and not await transaction.grant_lives(self._warrant.grant)


class Execution:
    """Carries out approved requests of this holder, one task each."""

    def __init__(
        self,
        *,
        store: ApprovalStore,
        keys: KeyStore,
        ids: Ids,
        outbox: Outbox,
        wake: Wake,
        recheck: Recheck,
        mask: Callable[[str], MaskedText],
        used: Used,
        grants: Grants,
        mode: Mode,
    ) -> None:
        self._used = used
        self._grants = grants
        self._mode: Mode = mode
        self._store = store
        self._keys = keys
        self._ids = ids
        self._outbox = outbox
        self._wake = wake
        self._recheck = recheck
        self._mask = mask

    async def carry_out(self, request: Request, executor: Executor) -> None:
        """Run one approved request, or make it invalid.

        Raises:
            FaultError: nothing was claimed or sent; the request stays approved.
        """
        # The order of these lines is the security argument:
        # 1. Only a signed decision over exactly what is stored counts, never a column; and it counts once.
        # 2. Policy and catalogue are asked again and may only tighten.
        # 3. Everything that led here is in the audit log before the claim.
        # 4. The claim is a compare-and-set on the version that was verified: nobody else executes it too.
        # 5. The executor commits sent=1 before the first byte; what it leaves behind decides the last state.
        approved = await self._verified(request)  # (1)
        if not isinstance(approved, Void):
            approved = await self._objection(approved) or approved  # (2)
        if isinstance(approved, Void):
            async with self._store.write() as transaction:
                await transaction.void(request, approved)
            self._wake.ring()
            return
        await self._outbox.flush(request.row.id)  # (3)
        row = request.row
        claim = Claim(row.holder, row.owner, row.lookup, row.action_digest, self._ids.new("exe"))
        claimed = await self._step(request, claim)  # (4)
        if claimed is not None:
            await self._execute(ClaimedRun(self._store, self._used, claimed, approved), executor)  # (5)

    async def _verified(self, request: Request) -> Approved | Void:
        """What was approved and on whose word, or why nothing was."""
        approval_id = request.row.id
        stored = intact(self._keys, self._mask, request)
        if isinstance(stored, Void):
            return stored
        used = await to_thread.run_sync(self._used.holds, approval_id)
        if used or any(event.transition == "T14" for event in await self._store.events(approval_id)):
            return Void.USED
        for signed in await self._store.decisions(approval_id):
            statement = verify(self._keys, signed.statement, signed.signature)
            if statement is not None and _covers(statement, stored, request, self._store.now_ns()):
                return Approved(stored, statement.assurance, statement.separation, statement.exp_ns)
        warrant = await self._grants.warrant(request, stored)
        return _by_grant(stored, warrant) if isinstance(warrant, Warrant) else warrant or Void.UNSIGNED

    async def _objection(self, approved: Approved) -> Void | None:
        """Why today's policy no longer lets it run (S10); None when it does."""
        stored = approved.stored
        try:
            decision = await self._recheck(stored.call, stored.views)
        except FaultError:
            raise  # not known yet: nothing was claimed, and the approval may still be used in time
        except Exception as error:  # noqa: BLE001 - the boundary: whatever fails here, nothing runs
            _log.warning("approval_recheck_failed", call_id=stored.call.call_id, error=type(error).__name__)
            return Void.UNCHECKED
        if decision.effect is Effect.DENY:
            return Void.DENIED
        if decision.policy_digest != stored.decision.policy_digest:
            return Void.POLICY
        if self._mode == "team" and approved.separation != "reviewer":
            return Void.SEPARATION
        if decision.effect is Effect.REQUIRE_APPROVAL and demanded(decision, self._mode) > approved.assurance:
            return Void.ASSURANCE
        return None

    async def _execute(self, run: ClaimedRun, executor: Executor) -> None:
        permit = issue_permit(run.call.call_id, run.approval_id)
        result: Answer | GuardError
        try:
            result = await executor(run, permit)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._end(run, _after_cancel(run, permit), None)
            raise
        except GuardError as error:
            result = error
        except Exception as error:  # noqa: BLE001 - the boundary: no foreign text may reach a client
            _log.error("approved_call_failed", call_id=run.call.call_id, error=type(error).__name__)
            result = InternalError("the guard failed while the approved call ran")
        with anyio.CancelScope(shield=True):
            await self._end(run, _ending(run, permit, result), result)

    async def _end(self, run: ClaimedRun, event: Event, result: Answer | GuardError | None) -> None:
        sealed = None if result is None else outcome.seal(self._keys, run.approval_id, result)
        await self._step(run.request, event, result=sealed)

    async def _step(self, request: Request, event: Event, *, result: bytes | None = None) -> Request | None:
        async with self._store.write() as transaction:
            step = await transaction.step(request, event, actor=_ACTOR, result=result)
        self._wake.ring()
        return step if isinstance(step, Request) else None


def _by_grant(stored: Stored, warrant: Warrant) -> Approved:
    return Approved(stored, warrant.assurance, warrant.separation, warrant.expires_ns, warrant)


def _covers(statement: Statement, stored: Stored, request: Request, now_ns: int) -> bool:
    row = request.row
    return (
        statement.verdict == "approve"
        and (statement.approval, statement.round, statement.action_digest) == (row.id, row.round, row.action_digest)
        and statement.mode == stored.mode
        and (stored.mode == "personal" or statement.separation == "reviewer")
        and statement.assurance >= demanded(stored.decision, stored.mode)
        and now_ns < statement.exp_ns
    )


def _after_cancel(run: ClaimedRun, permit: Permit) -> Event:
    if not run.request.row.sent:
        return Release(run.execution_id)
    return Lose(run.execution_id) if permit.used else Finish(run.execution_id, ran=False)


def _ending(run: ClaimedRun, permit: Permit, result: Answer | GuardError) -> Event:
    """Which state an execution ends in. Where it is not provable that nothing was sent, it is unknown."""
    if not run.request.row.sent:
        return Finish(run.execution_id, ran=False)
    if isinstance(result, Answer):
        return Finish(run.execution_id, ran=True)
    if isinstance(result, OutcomeUnknownError):
        return Lose(run.execution_id)
    if not permit.used or isinstance(result, DownstreamUnavailableError):
        return Finish(run.execution_id, ran=False)
    # A result came, and was withheld because it could not be masked or recorded.
    if isinstance(result, (MaskingError, AuditUnavailableError)):
        return Finish(run.execution_id, ran=True)
    return Lose(run.execution_id)
