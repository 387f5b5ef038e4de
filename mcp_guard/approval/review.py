"""The control plane: what the command line, the console and the form do to requests.

It may run in another process than the guard that holds the request. It never opens the audit log: what it did goes
there through the outbox.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from mcp_guard.approval.eligibility import Reviewer, Separation, judge
from mcp_guard.approval.grants import Chosen, Grant, Grants, chosen_or_error
from mcp_guard.approval.machine import Approve, Cancel, Conflict, Deny, Event, Reconcile, State, Void
from mcp_guard.approval.reviewers import Reviewers
from mcp_guard.approval.rows import Request, SignedDecision, StoredEvent
from mcp_guard.approval.sealed import intact, unseal
from mcp_guard.approval.statement import Said, Statement, comment_mac, sign, verify
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
    others: int = 0
    """How many other calls of this requester and tool wait under the same rule."""


class ApprovalReview:
    """Lists, shows and decides requests of one store.

    `mask` cleans what reviewers write. Who may decide a request follows from the request as it was made, sealed, and
    never from the configuration of the process that decides.
    """

    def __init__(self, store: ApprovalStore, keys: KeyStore, ids: Ids, *, mask: Callable[[str], MaskedText]) -> None:
        self._store = store
        self._keys = keys
        self._ids = ids
        self._mask = mask
        self.reviewers = Reviewers(store, keys)
        self.grants = Grants(store, keys, ids, mask=mask)

    async def add_reviewer(self, name: str, *, user: str, tty: bool, token: str | None) -> str:
        """Register a reviewer, from a terminal or with the token of another one; returns the new token.

        Without either only the first one is added, before anything was asked here: so a container is set up.

        Raises:
            NotEligibleError, UsageError: see `Reviewers.add`.
        """
        if not tty and not token:
            return await self.reviewers.add(name)
        by = await self.identify(user=user, tty=tty, token=token)
        return await self.reviewers.add(name, by=by.name)

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
        others = await self._store.others_waiting(request)
        return Shown(request, fingerprint(request.row.action_digest), events, others)

    def require_eligible(self, request: Request, reviewer: Reviewer) -> None:
        """Tell who may not approve what is about to be shown, before any question is put. `decide` judges again.

        Raises:
            NotEligibleError: assurance too low, or the requester himself in team mode.
            ConflictError: it is not what was asked for; what is shown of it may be anything.
        """
        stored = intact(self._keys, self._mask, request)
        if isinstance(stored, Void):
            raise _void(request, stored)
        judge(stored.mode, request.row.owner, request.min_assurance, reviewer)

    async def decision_of(self, request: Request) -> Statement | None:
        """What a person said of it last, where this installation signed that."""
        for signed in await self._store.decisions(request.row.id):
            found = verify(self._keys, signed.statement, signed.signature)
            if found is not None and found.approval == request.row.id:
                return found
        return None

    async def list_grants(self, *, active_only: bool = True) -> list[Grant]:
        """Grants, newest first: those that still let calls through, or all."""
        return await self.grants.list(active_only=active_only)

    async def revoke_grant(self, grant_id: str, reviewer: Reviewer) -> Grant:
        """End a grant. It tightens, so it needs neither a terminal nor a token; `reviewer` is recorded.

        Raises:
            UnknownApprovalError: no such grant.
        """
        return await self.grants.revoke(grant_id, reviewer)

    async def decide(
        self,
        approval_id: str,
        verdict: Verdict,
        reviewer: Reviewer,
        reason: str = "",
        *,
        shown: str | None = None,
        grant: int | None = None,
    ) -> Request:
        """T4 or T5. `shown` is the action digest that the reviewer saw, where the channel knows it.

        `grant` is the index in `view["grants"]` of the grant that is given with the approval, in the same transaction.
        Anybody may deny; who may approve is in `eligibility`.

        Raises:
            UnknownApprovalError, NotEligibleError, ApprovalExpiredError
            AlreadyDecidedError: somebody was first; the message names the state and who.
            UsageError: the request offers no such grant; nothing was decided.
        """
        if (error := chosen_or_error(verdict, grant)) is not None:
            raise error
        chosen = None if grant is None else await self.grants.choose(approval_id, grant)
        async with self._store.write() as transaction:
            outcome = await self._decide_in(transaction, approval_id, verdict, reviewer, reason, shown, chosen)
        return _raised(outcome)

    async def cancel(self, approval_id: str, reviewer: Reviewer, reason: str = "") -> Request:
        """T9: by the requester, or by a reviewer with a token.

        Raises:
            NotEligibleError: somebody else.
            UnknownApprovalError, AlreadyDecidedError, ApprovalExpiredError
        """
        async with self._store.write() as transaction:
            request = await transaction.get(approval_id)
            if request is None:
                outcome: Request | Conflict | GuardError = _unknown()
            elif reviewer.assurance < Assurance.A2 and reviewer.principal_key != request.row.owner:
                outcome = NotEligibleError("only the requester, or a reviewer with a token, cancels a request")
            else:
                outcome = await self._say(transaction, request, "cancel", reviewer, reason)
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
            raise NotEligibleError(
                "reconciling needs a reviewer's token (A2)",
                hint="set MCP_GUARD_REVIEWER_TOKEN to the token of a reviewer",
            )
        async with self._store.write() as transaction:
            request = await transaction.get(approval_id)
            step = await self._say(transaction, request, outcome, reviewer, reason) if request else _unknown()
        return _raised(step)

    async def _decide_in(
        self,
        transaction: Transaction,
        approval_id: str,
        verdict: Verdict,
        reviewer: Reviewer,
        reason: str,
        shown: str | None,
        chosen: Chosen | None,
    ) -> Request | Conflict | GuardError:
        request = await transaction.get(approval_id)
        if request is None:
            return _unknown()
        if request.row.state is not State.PENDING:
            return Conflict("state", request.row)
        stored = intact(self._keys, self._mask, request)
        if isinstance(stored, Void):
            await transaction.void(request, stored)
            return _void(request, stored)
        separation: Separation = "none"
        if verdict == "approve":
            try:
                separation = judge(stored.mode, request.row.owner, request.min_assurance, reviewer)
            except NotEligibleError as error:
                return error
        after = await self._say(transaction, request, verdict, reviewer, reason, shown=shown, separation=separation)
        if chosen is not None and isinstance(after, Request):
            await self.grants.give_in(transaction, request, stored, chosen, reviewer=reviewer, separation=separation)
        return after

    async def _say(
        self,
        transaction: Transaction,
        request: Request,
        said: Said,
        reviewer: Reviewer,
        reason: str,
        *,
        shown: str | None = None,
        separation: Separation = "none",
    ) -> Request | Conflict:
        """Take the step that this person wants, with a signed statement of it."""
        comment = self._mask(reason[:_MAX_REASON])
        signed = self._signed(request, said, reviewer, transaction.now_ns, comment, separation)
        event = _event(said, request, reviewer, comment, shown)
        detail: JsonDict = {
            "statement": signed.statement,
            "signature": base64.b64encode(signed.signature).decode(),
            "comment": comment,
        }
        actor = request.row.owner if said == "cancel" and reviewer.assurance < Assurance.A2 else reviewer.name
        after = await transaction.step(request, event, actor=actor, detail=detail)
        if isinstance(after, Request):
            await transaction.add_decision(request, signed)
        return after

    def _signed(
        self, request: Request, said: Said, reviewer: Reviewer, now_ns: int, comment: str, separation: Separation
    ) -> SignedDecision:
        row, nonce = request.row, self._ids.new("nonce")
        stored = unseal(self._keys, request)
        statement = Statement(
            approval=row.id,
            round=row.round,
            action_digest=row.action_digest,
            verdict=said,
            reviewer=reviewer.name,
            assurance=reviewer.assurance,
            channel=reviewer.channel,
            mode="team" if isinstance(stored, Void) else stored.mode,
            separation=separation,
            at_ns=now_ns,
            exp_ns=now_ns + row.use_within_ns if said == "approve" else now_ns,
            comment_mac=comment_mac(self._keys, row.id, nonce, comment),
            nonce=nonce,
            how=reviewer.how,
        )
        return SignedDecision(statement.text(), sign(self._keys, statement))


def _event(said: Said, request: Request, reviewer: Reviewer, comment: str, shown: str | None) -> Event:
    if said == "approve":
        digest = request.row.action_digest if shown is None else shown
        return Approve(request.row.round, digest, reviewer.name, comment)
    if said == "deny":
        return Deny(reviewer.name, comment)
    if said == "cancel":
        return Cancel(reviewer.name)
    return Reconcile(said, reviewer.name, comment)


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


def _void(request: Request, why: Void) -> ConflictError:
    return ConflictError(f"the request {request.row.id} is void: {why}", hint="nothing runs for it")


def _unknown() -> UnknownApprovalError:
    return UnknownApprovalError("there is no such approval request")
