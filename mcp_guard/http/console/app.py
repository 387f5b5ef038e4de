"""The page for reviewers: routes, and the pages that only show (decisions.md D17).

No GET changes anything. Every path lies below the prefix of this data folder, but for the door, which says how to get
in, and the probe, which tells `mcp-guard console` that the process on the port is a guard of the same folder.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from os import PathLike
from typing import Any
from urllib.parse import quote

from anyio import Path, to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_guard.approval.channels.console import console_prefix
from mcp_guard.approval.inbox import Box
from mcp_guard.approval.signin import Session
from mcp_guard.audit import query
from mcp_guard.errors import (
    AlreadyDecidedError,
    ApprovalExpiredError,
    ConflictError,
    FaultError,
    GuardError,
    NotEligibleError,
    UnknownApprovalError,
)
from mcp_guard.http.console import render, views
from mcp_guard.http.console.access import Gate, PageError, SignedOutError, session_of
from mcp_guard.http.console.desk import Desk
from mcp_guard.http.console.live import MAX_STREAMS, Live
from mcp_guard.http.console.login import Login
from mcp_guard.http.console.parts import PageParts
from mcp_guard.http.console.probe import probe_path, proof

Handler = Callable[[Request], Awaitable[Response]]

_AUDIT_ROWS = 100
_ENDED = 50
"""Ended grants that are listed."""
_MAX_NUMBER = 9
"""Digits of a page number."""
_STATUS: tuple[tuple[type[GuardError], int], ...] = (
    (UnknownApprovalError, 404),
    (NotEligibleError, 403),
    (ApprovalExpiredError, 410),
    (AlreadyDecidedError, 409),
    (ConflictError, 409),
    (FaultError, 503),
)
_LOST = "You are not signed in any more, so nothing was done. What you wrote is lost: sign in and do it again."
_NOTHING = "There is nothing here.\n"
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def build_page(parts: PageParts) -> ASGIApp:
    """The page as an ASGI application for HTTP alone."""
    return Gate(Pages(parts).router(), parts.port)


class Pages:
    """Everything that can be looked at."""

    def __init__(self, parts: PageParts) -> None:
        self.parts = parts
        self.root = f"/{console_prefix(parts.keys)}/"
        self._live = Live(parts.store, parts.inbox)
        self._login = Login(self)
        self._desk = Desk(self)

    def router(self) -> Router:
        """All routes."""
        get: list[tuple[str, Handler]] = [
            ("/", self._waiting),
            ("/requests/{id}", self._request),
            ("/requests/{id}/all", self._whole),
            ("/requests/{id}/confirm", self._desk.confirm),
            ("/requests/{id}/alike", self._desk.alike),
            ("/grants", self._grants),
            ("/history", self._history),
            ("/audit", self._audit),
            ("/audit/{id}", self._story),
            ("/events", self._events),
            ("/login", self._login.get),
            ("/login/{code}", self._login.link),
            ("/static/{name}", self._static),
        ]
        post: list[tuple[str, Handler]] = [
            ("/requests/{id}/approve", self._desk.approve),
            ("/requests/{id}/deny", self._desk.deny),
            ("/requests/{id}/alike", self._desk.deny_alike),
            ("/grants/{id}/revoke", self._desk.revoke),
            ("/login", self._login.post),
            ("/login/{code}", self._login.use_link),
            ("/logout", self._login.out),
        ]
        routes = [Route(path, self._guarded(handler), methods=["GET"]) for path, handler in get]
        routes += [Route(path, self._guarded(handler), methods=["POST"]) for path, handler in post]
        return Router(
            [
                Route(probe_path(self.parts.keys) + "{challenge}", self._probe, methods=["GET"]),
                Route("/", _door, methods=["GET"]),
                Route("/static/{name}", _door_static, methods=["GET"]),
                Mount(self.root.rstrip("/"), Router(routes, redirect_slashes=False, default=_nowhere)),
            ],
            redirect_slashes=False,
            default=_nowhere,
        )

    def url_of(self, approval_id: str) -> str:
        """Path of one request."""
        return f"{self.root}requests/{quote(approval_id, safe='')}"

    async def show(self, session: Session, template: str, *, status: int = 200, **values: Any) -> Response:
        """Render a page for somebody who is signed in."""
        mark = await self._live.mark()
        draw = partial(
            render.page,
            template,
            status,
            root=self.root,
            url_of=self.url_of,
            session=session,
            form=self.parts.signin.stamp(session, "form"),
            waiting=mark.waiting,
            now_ns=self.parts.store.now_ns(),
            **values,
        )
        return await to_thread.run_sync(draw)  # a page of big arguments takes a while, and calls may not wait for it

    def _guarded(self, handler: Handler) -> Handler:
        """Turn what stands in the way into a page of our own words."""

        async def run(request: Request) -> Response:
            try:
                return await handler(request)
            except SignedOutError:
                return self._login.form(request, status=401, wrong=_LOST if request.method == "POST" else "")
            except PageError as error:
                return self._message(error)
            except GuardError as error:
                status = next((status for kind, status in _STATUS if isinstance(error, kind)), 422)
                return self._message(PageError(status, _sentence(error.message), _sentence(error.hint)))

        return run

    def _message(self, error: PageError) -> Response:
        return render.page(
            "message.html", error.status, root=self.root, title=error.title, text=error.text, back=error.back
        )

    async def _waiting(self, request: Request) -> Response:
        session = await session_of(request, self.parts.signin)
        like = request.query_params.get("like", "")
        held = await to_thread.run_sync(self.parts.held.now)
        return await self._list(
            request, session, "waiting", "waiting.html", like if _ID.fullmatch(like) else None, held=held
        )

    async def _history(self, request: Request) -> Response:
        session = await session_of(request, self.parts.signin)
        return await self._list(request, session, "closed", "history.html")

    async def _list(
        self, request: Request, session: Session, box: Box, template: str, like: str | None = None, **more: Any
    ) -> Response:
        now = await self.expire()
        number = _number(request.query_params.get("page", "1"))
        pager = views.Pager(number, await self.parts.inbox.count(box, now, like))
        rows = await self.parts.inbox.page(box, now, pager.number, like=like)
        mark = await self._live.mark()
        where = f"{mark.transition}.{mark.waiting}"
        return await self.show(session, template, rows=rows, pager=pager, like=like, mark=where, **more)

    async def _request(self, request: Request) -> Response:
        session = await session_of(request, self.parts.signin)
        return await self.card(session, request.path_params["id"], whole=False)

    async def _whole(self, request: Request) -> Response:
        session = await session_of(request, self.parts.signin)
        return await self.card(session, request.path_params["id"], whole=True)

    async def card(
        self, session: Session, approval_id: str, *, whole: bool, wrong: str = "", reason: str = ""
    ) -> Response:
        """The page of one request; `wrong` with what was wrong in its form, and the note that stood there."""
        now = await self.expire()
        found = await self.parts.review.show(approval_id)
        card = await views.card_of(self.parts, found, session, whole=whole)
        row = found.request.row
        # Only who was given all of it can say to have seen all of it.
        complete = whole and not card.tree.cut
        seen = self.parts.signin.stamp(session, "seen", row.id, row.action_digest) if complete else ""
        following = [] if card.pending else await self.parts.inbox.page("waiting", now, 1, size=1)
        return await self.show(
            session,
            "request.html",
            status=422 if wrong else 200,
            card=card,
            seen=seen,
            following=following,
            wrong=wrong,
            reason=reason,
            mark=f"{row.state.value}.{row.version}",
        )

    async def _grants(self, request: Request) -> Response:
        session = await session_of(request, self.parts.signin)
        found = [views.grant_of(grant) for grant in await self.parts.review.list_grants(active_only=False)]
        live = [grant for grant in found if grant["state"] == "active"]
        over = [grant for grant in found if grant["state"] != "active"]
        return await self.show(session, "grants.html", live=live, over=over[:_ENDED])

    async def _audit(self, request: Request) -> Response:
        session = await session_of(request, self.parts.signin)
        wanted = request.query_params.get("id", "").strip()
        if wanted:
            return await self._told(session, wanted)
        entries = await self._read(query.tail, self.parts.audit, _AUDIT_ROWS)
        return await self.show(session, "audit.html", entries=[views.entry_of(e) for e in reversed(entries)])

    async def _story(self, request: Request) -> Response:
        session = await session_of(request, self.parts.signin)
        return await self._told(session, request.path_params["id"])

    async def _told(self, session: Session, key: str) -> Response:
        if not _ID.fullmatch(key):
            raise PageError(404, "No such id", "An id looks like call_… or apr_….")
        entries = await self._read(query.show, self.parts.audit, key)
        return await self.show(session, "story.html", key=key, entries=[views.story_of(entry) for entry in entries])

    async def _read(
        self, ask: Callable[..., list[query.Entry]], folder: PathLike[str], what: object
    ) -> list[query.Entry]:
        try:
            if not await Path(folder).is_dir():
                return []
            return await to_thread.run_sync(ask, folder, what)
        except (OSError, sqlite3.Error, ValueError):
            raise PageError(
                503, "The log cannot be read", "`mcp-guard audit verify` in a terminal names the damaged file."
            ) from None

    async def _events(self, request: Request) -> Response:
        session = await session_of(request, self.parts.signin)
        # Nothing is awaited from here to the answer, which gives the place back: a burst gets no more than the bound.
        if not self._live.reserve(MAX_STREAMS):
            raise PageError(503, "Too many open pages", "Close other tabs of this page.")

        async def signed_in() -> bool:
            try:
                return (await session_of(request, self.parts.signin)).id == session.id
            except SignedOutError:
                return False

        return _Stream(self._live, signed_in)

    async def _static(self, request: Request) -> Response:
        return render.static(request.path_params["name"]) or await self._missing()

    async def _missing(self) -> Response:
        raise PageError(404, "There is no such page", "Go to the list of what waits.")

    async def _probe(self, request: Request) -> Response:
        return PlainTextResponse(proof(self.parts.keys, self.parts.port, request.path_params["challenge"]))

    async def expire(self) -> int:
        """Let expire what is due, so that the page shows what is true now; wall nanoseconds."""
        if await self.parts.store.any_due():
            async with self.parts.store.write():
                pass  # the transaction itself expires what is due
        return self.parts.store.now_ns()


class _Stream(StreamingResponse):
    """One stream of events, in a place that was taken for it."""

    def __init__(self, live: Live, signed_in: Callable[[], Awaitable[bool]]) -> None:
        super().__init__(live.stream(signed_in), media_type="text/event-stream")
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.leave()


async def _door(_request: Request) -> Response:
    """For who typed the address without the path: how to get in, and nothing of this data folder."""
    return render.page("door.html", root="/")


async def _door_static(request: Request) -> Response:
    return render.static(request.path_params["name"]) or PlainTextResponse(_NOTHING, status_code=404)


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(_NOTHING, status_code=404)(scope, receive, send)


def _number(text: str) -> int:
    return max(1, int(text)) if text.isdecimal() and text.isascii() and len(text) <= _MAX_NUMBER else 1


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", "`")) else ".")
