"""The waiting half of the desk: one call waits for people, and then for the outcome of what they approved.

Waiting changes nothing by itself: when the client gives up, the request stays as it is (docs/approvals.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import anyio
import structlog

from mcp_guard.approval import outcome
from mcp_guard.approval.asking import Question
from mcp_guard.approval.channels.elicitation import fingerprint_typed, mistyped
from mcp_guard.approval.clients import Clients
from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.approval.holders import Holders
from mcp_guard.approval.machine import LIVE, OUTCOMES, State, Void
from mcp_guard.approval.prompt import build_prompt
from mcp_guard.approval.review import ApprovalReview
from mcp_guard.approval.rows import Request
from mcp_guard.approval.sealed import unseal
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.approval.wake import Wake
from mcp_guard.errors import ConflictError, GuardError, RefusalError, StoreUnavailableError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import (
    Answer,
    Assurance,
    MaskedText,
    Principal,
    Suspended,
)
from mcp_guard.ports import Front
from mcp_guard.question import Prompt, PromptAnswer

_log = structlog.get_logger(__name__)

_PROGRESS_S = 5.0
_OUTCOME_S = 15.0
"""At least this long a call waits for the outcome after it brought the approval itself."""
_MAX_AGAIN = 3
"""Times that the form comes back after a wrong fingerprint."""
_MISTYPED = (
    "Your user typed something else than the fingerprint into the form, so nothing was decided: tell them that too."
)


@dataclass(slots=True)
class _Asked:
    """What an older client is asked while its call waits."""

    prompt: Prompt | None
    answered: bool = False
    dismissed: bool = False
    mistyped: bool = False


class Waiting:
    """Holds a call as long as allowed, and hands out what became of its request."""

    def __init__(
        self,
        *,
        store: ApprovalStore,
        keys: KeyStore,
        holders: Holders,
        wake: Wake,
        review: ApprovalReview,
        clients: Clients,
    ) -> None:
        self._store = store
        self._keys = keys
        self._holders = holders
        self._wake = wake
        self._review = review
        self._clients = clients

    async def attend(
        self, request: Request, principal: Principal, front: Front, question: Question
    ) -> Answer | Suspended:
        """Wait for people as long as allowed. The person at an older client is asked the question meanwhile.

        Raises:
            ApprovalDeniedError, ApprovalExpiredError, FaultError, StoreUnavailableError: see `conclude`.
        """
        with self._wake.attach(request.row.id):
            wrong = self._brought_wrong(request, front) is not None
            here = await self._answered(request, principal, front, question)
            wrong |= await self._hold(request, principal, front, question, here=here)
        found = await self.conclude(request)
        if wrong and isinstance(found, Suspended) and found.state == State.PENDING:
            return replace(found, note=_MISTYPED)
        return found

    async def once_more(
        self, request: Request, principal: Principal, front: Front, question: Question
    ) -> Prompt | None:
        """Modern era: the same question, where the answer brought a wrong fingerprint. Nothing was decided by it."""
        answer = self._brought_wrong(request, front)
        if answer is None or question.channel != "form" or answer.again >= _MAX_AGAIN:
            return None
        await self._clients.answered(principal.client, question.channel)
        return build_prompt(request, again=answer.again + 1)

    def _brought_wrong(self, request: Request, front: Front) -> PromptAnswer | None:
        """The answer of a modern client, if it means to approve and has not the fingerprint."""
        answer = front.resumed[1] if front.resumed and front.resumed[0] == request.row.id else None
        if answer is None or request.row.state is not State.PENDING or not front.can_prompt:
            return None
        return answer if mistyped(build_prompt(request), answer) else None

    async def pick_up(self, request: Request, timeout_s: float) -> None:
        """Wait at most this long for the request to end; what runs on pick-up is carried out by this process."""
        with self._wake.attach(request.row.id), anyio.move_on_after(timeout_s):
            await self._take_over(request)
            await self._while(request.row.id, LIVE)

    async def _answered(self, request: Request, principal: Principal, front: Front, question: Question) -> bool:
        """Modern era: take the answer that the client brought. Whether it approved the request."""
        answer = front.resumed[1] if front.resumed and front.resumed[0] == request.row.id else None
        if answer is not None:
            await self._clients.answered(principal.client, question.channel)
        # Who declares no forms has not answered one.
        if answer is None or request.row.state is not State.PENDING or not front.can_prompt:
            return False
        taken = await self._take(request, principal, build_prompt(request), answer)
        if answer.verdict == "approve" and not taken:
            await self._ask_again(request, 0)
        return taken

    async def _take(self, request: Request, principal: Principal, prompt: Prompt, answer: PromptAnswer) -> bool:
        """T4 or T5 by the requester's own client; whatever does not count leaves the request as it is."""
        offered = answer.grant is None or answer.grant in dict(prompt.grants)
        typed = answer.verdict != "approve" or fingerprint_typed(prompt, answer)
        if prompt.url or answer.verdict == "dismissed" or not offered or not typed:
            return False
        reviewer = Reviewer(principal.subject, Assurance.A1, "elicitation", principal.key)
        try:
            await self._review.decide(
                request.row.id,
                answer.verdict,
                reviewer,
                answer.reason,
                shown=request.row.action_digest,
                grant=answer.grant,
            )
        except (ConflictError, RefusalError):
            return False
        self._wake.ring()
        return answer.verdict == "approve"

    async def _ask_again(self, request: Request, from_ns: int) -> None:
        """Until this moment no equal call is asked about this request. Never raises: a ticket says the rest."""
        try:
            async with self._store.write() as transaction:
                await transaction.asked_until(request.row.id, from_ns)
        except GuardError as error:
            _log.warning("approval_prompt_not_noted", approval=request.row.id, error=error.code)

    async def _hold(
        self, request: Request, principal: Principal, front: Front, question: Question, *, here: bool
    ) -> bool:
        """Wait for the decision, then for the outcome, as long as allowed. Whether a wrong fingerprint was typed."""
        deadline = anyio.current_time() + question.hold_s
        asked = _Asked(question.prompt if front.era == "legacy" else None)
        if request.row.state is State.PENDING and not here:
            opened_ns = self._clients.now_ns()
            try:
                with anyio.CancelScope(deadline=deadline) as held:
                    here = await self._until_decided(request, principal, front, asked)
            finally:
                if asked.prompt is not None:  # its form is gone now
                    await self._ask_again(request, request.row.expires_ns if asked.dismissed else 0)
            if held.cancelled_caught and asked.prompt is not None and not asked.answered:
                await self._clients.unanswered(principal.client, question.channel, opened_ns)
            elif asked.answered:
                await self._clients.answered(principal.client, question.channel)
        if here:
            deadline = max(deadline, anyio.current_time() + _OUTCOME_S)
        with anyio.CancelScope(deadline=deadline):
            await self._take_over(request)
            if (await self._current(request)).row.state is not State.PENDING:
                await self._while(request.row.id, LIVE)
        return asked.mistyped

    async def _until_decided(self, request: Request, principal: Principal, front: Front, asked: _Asked) -> bool:
        """Race the question against decisions from elsewhere; it is withdrawn when it is over."""
        here = False
        failed: list[GuardError] = []

        async def ask(prompt: Prompt) -> None:
            nonlocal here
            try:
                here = await self._asked(request, principal, front, asked, prompt)
            except GuardError as error:
                _log.warning("approval_prompt_failed", approval=request.row.id, error=error.code)
            except Exception as error:  # noqa: BLE001 - the boundary: a broken client has not answered
                _log.warning("approval_prompt_failed", approval=request.row.id, error=type(error).__name__)

        async with anyio.create_task_group() as group:
            group.start_soon(self._report, request.row.id, front)
            if asked.prompt is not None:
                group.start_soon(ask, asked.prompt)
            try:
                await self._while(request.row.id, frozenset({State.PENDING}))
            except GuardError as error:
                failed.append(error)
            group.cancel_scope.cancel()
        if failed:
            raise failed[0]
        if asked.answered and asked.prompt is not None and asked.prompt.url:
            await front.over(asked.prompt)
        return here

    async def _asked(self, request: Request, principal: Principal, front: Front, asked: _Asked, prompt: Prompt) -> bool:
        """Put the question, and again after a wrong fingerprint. Whether the answer approved the request."""
        while True:
            answer = await front.ask(prompt)
            asked.answered |= answer is not None
            asked.dismissed = answer is not None and answer.verdict == "dismissed"
            wrong = answer is not None and mistyped(prompt, answer)
            asked.mistyped |= wrong
            if answer is None or not wrong:
                return answer is not None and await self._take(request, principal, prompt, answer)
            if prompt.again >= _MAX_AGAIN:
                return False
            prompt = build_prompt(request, again=prompt.again + 1)

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

    async def conclude(self, request: Request) -> Answer | Suspended:
        """What the request means now for the call; an outcome is marked as delivered.

        Raises:
            ApprovalDeniedError, ApprovalExpiredError, FaultError: see `outcome.conclude`.
            StoreUnavailableError: the row was altered from outside.
        """
        request = await self._current(request)
        held = request.row.state in LIVE | OUTCOMES and not request.forgotten
        if held and isinstance(unseal(self._keys, request), Void):
            raise StoreUnavailableError(f"the stored request {request.row.id} was altered from outside")
        if request.row.state in OUTCOMES and not request.delivered:
            async with self._store.write() as transaction:
                await transaction.deliver(request.row.id)
        return outcome.conclude(self._keys, request)
