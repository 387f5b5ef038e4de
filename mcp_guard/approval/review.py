"""The control plane: what the command line, the console and the form do to requests.

It may run in another process than the guard that holds the request. It never opens the audit log: what it did goes
there through the outbox.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from mcp_guard.approval.eligibility import Mode, Reviewer, Separation, judge
from mcp_guard.approval.machine import Approve, Cancel, Conflict, Deny, Reconcile, State
from mcp_guard.approval.reviewers import Reviewers
from mcp_guard.approval.rows import Request, SignedDecision, StoredEvent
from mcp_guard.approval.statement import Statement, sign
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.approval.transaction import Transaction
from mcp_guard.canon import fingerprint
from mcp_guard.clock import Ids
from mcp_guard.errors import (
    AlreadyDecidedError,
    ApprovalExpiredError,
    ConflictError,
    GuardError,
    NotEligibleError,
    UnknownApprovalError,
)
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Assurance, JsonDict, MaskedText

Verdict = Literal["approve", "deny"]
_MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Shown:
    """A request with its history."""

    request: Request
    fingerprint: str
    events: tuple[StoredEvent, ...]


class ApprovalReview:
    """Lists, shows and decides requests of one store.

    `mask` cleans what reviewers write; `mode` is that of the configuration.
    """

    def __init__(
        self, store: ApprovalStore, keys: KeyStore, ids: Ids, *, mode: Mode, mask: Callable[[str], MaskedText]
    ) -> None:
        self._store = store
        self._keys = keys
        self._ids = ids
        self._mode: Mode = mode
        self._mask = mask
        self.reviewers = Reviewers(store)

    async def identify(self, *, user: str, tty: bool, token: str | None, principal_key: str | None = None) -> Reviewer:
        """Who sits at the command line. Agents hold shells, so without a terminal only a token counts (D25).

        Raises:
            NotEligibleError: no terminal and no token, or a token that nobody was given.
        """
        if token:
            name = await self.reviewers.verify(token)
            if name is None:
                raise NotEligibleError("this reviewer token is not registered here")
            return Reviewer(name, Assurance.A2, "cli")
        if not tty:
            raise NotEligibleError(
                "deciding outside a terminal needs a reviewer token",
                hint="set MCP_GUARD_REVIEWER_TOKEN, or decide in a terminal",
            )
        return Reviewer(user, Assurance.A1, "cli", principal_key)

    async def list_requests(self, states: Iterable[State] | None = (State.PENDING,)) -> list[Request]:
        """Requests in these states (None: all), newest first; what is over has expired."""
        async with self._store.write():
            pass  # the transaction itself expires what is due
        return await self._store.requests(states)

    async def show(self, approval_id: str) -> Shown:
        """One request with its history.

        Raises:
            UnknownApprovalError: no such request.
        """
        request = await self._store.get(approval_id)
        if request is None:
            raise _unknown()
        events = tuple(await self._store.events(approval_id))
        return Shown(request, fingerprint(request.row.action_digest), events)

    async def decide(
        self, approval_id: str, verdict: Verdict, reviewer: Reviewer, reason: str = "", *, shown: str | None = None
    ) -> Request:
        """T4 or T5. `shown` is the action digest that the reviewer saw, where the channel knows it.

        Anybody may deny; who may approve is in `eligibility`.

        Raises:
            UnknownApprovalError, NotEligibleError, ApprovalExpiredError
            AlreadyDecidedError: somebody was first; the message names the state and who.
        """
        comment = self._mask(reason[:_MAX_REASON])
        async with self._store.write() as transaction:
            outcome = await self._decide_in(transaction, approval_id, verdict, reviewer, comment, shown)
        return _raised(outcome)

    async def cancel(self, approval_id: str, actor: str) -> Request:
        """T9. `actor` is a reviewer's name or the requester's principal key.

        Raises:
            UnknownApprovalError, AlreadyDecidedError, ApprovalExpiredError
        """
        async with self._store.write() as transaction:
            request = await transaction.get(approval_id)
            outcome = await transaction.step(request, Cancel(actor), actor=actor) if request else _unknown()
        return _raised(outcome)

    async def reconcile(
        self, approval_id: str, outcome: Literal["completed", "failed"], reviewer: Reviewer, reason: str
    ) -> Request:
        """T18: record what became of an execution with unknown outcome. Changes nothing at the server.

        Raises:
            NotEligibleError: below A2.
            UnknownApprovalError, AlreadyDecidedError
        """
        if reviewer.assurance < Assurance.A2:
            raise NotEligibleError("reconciling needs a reviewer token (A2)")
        comment = self._mask(reason[:_MAX_REASON])
        async with self._store.write() as transaction:
            request = await transaction.get(approval_id)
            step = (
                await transaction.step(
                    request,
                    Reconcile(outcome, reviewer.name, comment),
                    actor=reviewer.name,
                    detail={"comment": comment, "assurance": reviewer.assurance.name},
                )
                if request
                else _unknown()
            )
        return _raised(step)

    async def _decide_in(
        self,
        transaction: Transaction,
        approval_id: str,
        verdict: Verdict,
        reviewer: Reviewer,
        comment: str,
        shown: str | None,
    ) -> Request | Conflict | GuardError:
        request = await transaction.get(approval_id)
        if request is None:
            return _unknown()
        if request.row.state is not State.PENDING:
            return Conflict("state", request.row)
        separation: Separation = "none"
        if verdict == "approve":
            try:
                separation = judge(self._mode, request.row.owner, request.min_assurance, reviewer)
            except NotEligibleError as error:
                return error
        signed = self._signed(request, verdict, reviewer, transaction.now_ns)
        event = (
            Approve(request.row.round, shown or request.row.action_digest, reviewer.name, comment)
            if verdict == "approve"
            else Deny(reviewer.name, comment)
        )
        detail = _detail(request, verdict, reviewer, signed, separation, comment)
        after = await transaction.step(request, event, actor=reviewer.name, detail=detail)
        if isinstance(after, Request):
            await transaction.add_decision(request, signed)
        return after

    def _signed(self, request: Request, verdict: Verdict, reviewer: Reviewer, now_ns: int) -> SignedDecision:
        row = request.row
        statement = Statement(
            approval=row.id,
            round=row.round,
            action_digest=row.action_digest,
            verdict=verdict,
            reviewer=reviewer.name,
            assurance=reviewer.assurance,
            channel=reviewer.channel,
            at_ns=now_ns,
            exp_ns=now_ns + row.use_within_ns if verdict == "approve" else now_ns,
            nonce=self._ids.new("nonce"),
        )
        return SignedDecision(statement.text(), sign(self._keys, statement))


def _raised(outcome: Request | Conflict | GuardError) -> Request:
    """Give back the request, or raise what stands in its way."""
    if isinstance(outcome, GuardError):
        raise outcome
    if isinstance(outcome, Request):
        return outcome
    row = outcome.row
    if outcome.why == "stale":
        raise ConflictError(f"the request {row.id} is no longer what was shown", hint="look at it again")
    if row.state is State.EXPIRED or outcome.why == "time":
        raise ApprovalExpiredError(f"the request {row.id} has expired")
    by = f" by {row.decided_by}" if row.decided_by else ""
    raise AlreadyDecidedError(f"the request {row.id} is {row.state.value} already{by}")


def _unknown() -> UnknownApprovalError:
    return UnknownApprovalError("there is no such approval request")


def _detail(
    request: Request,
    verdict: Verdict,
    reviewer: Reviewer,
    signed: SignedDecision,
    separation: Separation,
    comment: str,
) -> JsonDict:
    """What the event and the audit record say of a decision."""
    return {
        "decision": verdict,
        "round": request.row.round,
        "reviewer": reviewer.name,
        "assurance": reviewer.assurance.name,
        "channel": reviewer.channel,
        "separation": separation,
        "statement": signed.statement,
        "signature": base64.b64encode(signed.signature).decode(),
        "comment": comment,
    }
