"""What a form on the page does: approve, deny, revoke. Only these, only by POST, only with the session's token.

The order of `approve` is the argument: what was shown, whether a second look was taken, whether all of it was seen;
then the control plane decides by the sealed request who may do what. The second look is a page of its own, below an
address that carries no authority: what it stands for is in a stamp on it that only this session can use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mcp_guard.approval.machine import State
from mcp_guard.approval.review import Shown
from mcp_guard.approval.signin import Session
from mcp_guard.canon import same_fingerprint
from mcp_guard.errors import AlreadyDecidedError, ApprovalExpiredError, ConflictError
from mcp_guard.http.console import views
from mcp_guard.http.console.access import PageError, form_of, session_of
from mcp_guard.http.console.views import Card

if TYPE_CHECKING:
    from mcp_guard.http.console.app import Pages

_MAX_REASON = 500
_NO_GRANT = "once"
_LOOK_NS = 700_000_000
"""A confirmation that comes sooner after its page was made is a double click."""
_WRONG = "This is not the fingerprint of this request. Nothing was decided."


class Desk:
    """The forms."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._parts = pages.parts

    async def approve(self, request: Request) -> Response:
        """Approve, after as many looks as the risk and the length demand."""
        session, fields = await form_of(request, self._parts.signin)
        approval_id = request.path_params["id"]
        found = await self._open(approval_id)
        card = await views.card_of(self._parts, found, session, whole=found.request.risk.rank >= views.TWO_STEPS)
        grant = _checked(found, card, fields)
        how = "click"
        if card.two_steps:
            at = fields.get("at", "")
            if not self._parts.signin.stamped(session, fields.get("confirm", ""), *_steps(found, grant, at)):
                return self._confirm(found, grant)
            if self._parts.store.now_ns() - int(at) < _LOOK_NS:
                return self._confirm(found, grant, quick="1")
            how = "second_look"
        if card.needs_fingerprint:
            seen = self._seen(session, fields, found, card)
            if not seen:
                return await self._again(session, found, card, grant, fields)
            how = f"{how}+{seen}" if card.two_steps else seen
        more: dict[str, Any] = {} if grant is None else {"grant": grant}
        reviewer = replace(session.reviewer, how=how)
        await self._parts.review.decide(approval_id, "approve", reviewer, _reason(fields), shown=_digest(found), **more)
        return self._back(approval_id)

    async def confirm(self, request: Request) -> Response:
        """The second look: everything that would run, and the button that approves."""
        session = await session_of(request, self._parts.signin)
        await self._pages.expire()
        found = await self._parts.review.show(request.path_params["id"])
        card = await views.card_of(self._parts, found, session, whole=True)
        asked = request.query_params
        if not card.pending or card.hindrance or not card.two_steps or asked.get("digest") != _digest(found):
            return self._back(found.request.row.id)
        quick = "That was too quick to have looked. Nothing was decided." if "quick" in asked else ""
        return await self._look(session, found, card, _grant(asked, card), wrong=quick)

    async def deny(self, request: Request) -> Response:
        """Deny: one step, for everybody who is signed in."""
        session, fields = await form_of(request, self._parts.signin)
        approval_id = request.path_params["id"]
        await self._open(approval_id)
        reviewer = replace(session.reviewer, how="click")
        await self._parts.review.decide(approval_id, "deny", reviewer, _reason(fields))
        return self._back(approval_id)

    async def alike(self, request: Request) -> Response:
        """Ask whether everything that waits like this request is to be denied."""
        session = await session_of(request, self._parts.signin)
        found, waiting = await self._alike(request.path_params["id"])
        card = await views.card_of(self._parts, found, session, whole=False)
        return await self._pages.show(session, "alike.html", card=card, count=len(waiting))

    async def deny_alike(self, request: Request) -> Response:
        """Deny everything that waits like this request. Never is more than one approved at once."""
        session, fields = await form_of(request, self._parts.signin)
        _, waiting = await self._alike(request.path_params["id"])
        reviewer = replace(session.reviewer, how="all_alike")
        for approval_id in waiting:
            try:
                await self._parts.review.decide(approval_id, "deny", reviewer, _reason(fields))
            except (AlreadyDecidedError, ApprovalExpiredError, ConflictError):
                continue  # it waits no longer, or is void: nothing runs for it
        return RedirectResponse(self._pages.root, status_code=303)

    async def revoke(self, request: Request) -> Response:
        """End a standing grant."""
        session, _ = await form_of(request, self._parts.signin)
        await self._parts.review.revoke_grant(request.path_params["id"], session.reviewer)
        return RedirectResponse(f"{self._pages.root}grants", status_code=303)

    async def _alike(self, approval_id: str) -> tuple[Shown, list[str]]:
        now = await self._pages.expire()
        return await self._parts.review.show(approval_id), await self._parts.inbox.alike(approval_id, now)

    async def _open(self, approval_id: str) -> Shown:
        found = await self._parts.review.show(approval_id)
        if found.request.row.state is not State.PENDING:
            raise already(found)
        return found

    async def _look(
        self, session: Session, found: Shown, card: Card, grant: int | None, *, wrong: str = "", reason: str = ""
    ) -> Response:
        at = str(self._parts.store.now_ns())
        row = found.request.row
        return await self._pages.show(
            session,
            "confirm.html",
            status=422 if wrong == _WRONG else 200,
            card=card,
            at=at,
            stamp=self._parts.signin.stamp(session, *_steps(found, grant, at)),
            grant=_NO_GRANT if grant is None else grant,
            chosen=None if grant is None else card.grants[grant],
            wrong=wrong,
            reason=reason,
            mark=f"{row.state.value}.{row.version}",
        )

    async def _again(
        self, session: Session, found: Shown, card: Card, grant: int | None, fields: Mapping[str, str]
    ) -> Response:
        """The same page once more, with what was written on it."""
        if card.two_steps:
            return await self._look(session, found, card, grant, wrong=_WRONG, reason=_reason(fields))
        whole = fields.get("all") == "1"
        return await self._pages.card(session, found.request.row.id, whole=whole, wrong=_WRONG, reason=_reason(fields))

    def _seen(self, session: Session, fields: Mapping[str, str], found: Shown, card: Card) -> str:
        """How all of it was seen; empty when it was not."""
        row = found.request.row
        if self._parts.signin.stamped(session, fields.get("seen", ""), "seen", row.id, row.action_digest):
            return "opened_all"
        return "fingerprint" if same_fingerprint(fields.get("fingerprint", ""), card.fingerprint) else ""

    def _confirm(self, found: Shown, grant: int | None, **more: str) -> Response:
        query = {"grant": _NO_GRANT if grant is None else str(grant), "digest": _digest(found), **more}
        return RedirectResponse(
            f"{self._pages.url_of(found.request.row.id)}/confirm?{urlencode(query)}", status_code=303
        )

    def _back(self, approval_id: str) -> Response:
        return RedirectResponse(self._pages.url_of(approval_id), status_code=303)


def already(found: Shown) -> PageError:
    """Somebody, or the clock, was first."""
    row = found.request.row
    by = f" by {row.decided_by[:80]}" if row.decided_by else ""
    text = f"This request is {row.state.value} already. Nothing was changed."
    return PageError(409, f"Already decided{by}", text, back=row.id)


def _checked(found: Shown, card: Card, fields: Mapping[str, str]) -> int | None:
    """The chosen grant, where this person may approve, and it is what was shown."""
    back = found.request.row.id
    if card.hindrance:
        raise PageError(403, "You cannot approve this", card.hindrance, back=back)
    if fields.get("digest", "") != _digest(found):
        raise PageError(409, "This is not what was shown", "Open the request again and decide there.", back=back)
    return _grant(fields, card)


def _grant(fields: Mapping[str, str], card: Card) -> int | None:
    chosen = fields.get("grant", _NO_GRANT)
    if chosen == _NO_GRANT:
        return None
    index = int(chosen) if chosen.isdecimal() and len(chosen) <= 3 else -1  # noqa: PLR2004 - digits
    if index not in card.grants:
        text = "This request does not offer that grant. Choose again."
        raise PageError(422, "No such grant", text, back=card.request.row.id)
    return index


def _steps(found: Shown, grant: int | None, at: str) -> tuple[str, ...]:
    """What a second look is of, and when it began."""
    return ("confirm", found.request.row.id, _digest(found), str(grant), at)


def _digest(found: Shown) -> str:
    return found.request.row.action_digest


def _reason(fields: Mapping[str, str]) -> str:
    return fields.get("reason", "")[:_MAX_REASON]
