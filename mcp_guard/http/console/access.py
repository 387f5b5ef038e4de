"""Who may speak to the page, and how: addresses, headers, forms, sessions (security.md S18, S19).

The order in `Gate` is the argument: the address first (DNS rebinding), then where the request comes from (forms and
streams of other pages), and only then a handler, which looks at the session and the form's token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from urllib.parse import parse_qsl

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_guard.approval.signin import SESSION_S, Session, SignIn

_log = structlog.get_logger(__name__)

COOKIE = "mcp_guard_session"
_CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _CONTENT_POLICY,
    # Not no-referrer: under it browsers send `Origin: null` with our own forms. Nothing leaves this origin either way.
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_MAX_FORM = 64 * 1024
"""Bytes of one form."""
_MAX_FIELDS = 32
_COOKIES = 4
"""Cookies of our name that are looked at; another local page may have set some."""
_MAX_FAILURES = 5
_FAILURES_NS = 60 * 1_000_000_000


class PageError(Exception):
    """What a person is told instead of a page. All text is ours."""

    def __init__(self, status: int, title: str, text: str, *, back: str = "") -> None:
        """`back`: the path of a request to go back to."""
        super().__init__(title)
        self.back = back
        self.status = status
        self.title = title
        self.text = text


class SignedOutError(Exception):
    """Nobody is signed in."""


class Gate:
    """Refuses what does not come from the page itself, and puts the headers on everything that leaves."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point; only HTTP gets here."""
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(raw=message.setdefault("headers", [])).update(HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        try:
            await self._app(scope, receive, guarded)
        except Exception as error:  # noqa: BLE001 - the boundary: no text of an error reaches a browser
            _log.error("console_request_broke", error=type(error).__name__)
            if not started:
                text = "Something broke here. Nothing was decided by this request.\n"
                await PlainTextResponse(text, status_code=500)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return PlainTextResponse("This address is not served here.\n", status_code=421)
        if scope["method"] not in {"GET", "HEAD", "POST"}:
            return PlainTextResponse("Method not allowed.\n", status_code=405, headers={"allow": "GET, HEAD, POST"})
        if not _from_here(scope["method"], headers, f"http://{hosts[0]}"):
            return PlainTextResponse("Only the page itself may do this.\n", status_code=403)
        return None


def _from_here(method: str, headers: Headers, origin: str) -> bool:
    site = headers.get("sec-fetch-site", "same-origin")
    if method == "POST":
        # A page on another port of this machine is the same site, so the origin has to be ours to the letter.
        return headers.getlist("origin") == [origin] and site == "same-origin"
    return site in {"same-origin", "none"} or headers.get("sec-fetch-mode") == "navigate"


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of a form.

    Raises:
        PageError: too big, or no form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise PageError(415, "Not a form", "Use the buttons of the page.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM:
            raise PageError(413, "Too long", "What you wrote is too long. Go back and shorten it.")
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict", encoding="utf-8"
        )
    except ValueError:
        raise PageError(400, "Not a form", "Use the buttons of the page.") from None
    return dict(fields)


async def session_of(request: Request, signin: SignIn) -> Session:
    """Who is signed in.

    Raises:
        SignedOutError: nobody.
    """
    found = [
        value
        for header in request.headers.getlist("cookie")
        for name, _, value in (part.strip().partition("=") for part in header.split(";"))
        if name == COOKIE
    ]
    for secret in found[:_COOKIES]:
        session = await signin.session(secret)
        if session is not None:
            return session
    raise SignedOutError


async def form_of(request: Request, signin: SignIn) -> tuple[Session, Mapping[str, str]]:
    """Session and fields of a form that this page gave to this very session.

    Raises:
        SignedOutError, PageError
    """
    session = await session_of(request, signin)
    fields = await read_form(request)
    if not signin.stamped(session, fields.get("form", ""), "form"):
        raise PageError(403, "This form is out of date", "Go back, reload the page, and try again.")
    return session, fields


def keep(response: Response, secret: str, path: str) -> None:
    """Give the browser its session."""
    response.set_cookie(COOKIE, secret, max_age=SESSION_S, path=path, httponly=True, samesite="strict")


def forget(response: Response, path: str) -> None:
    """Take the session back."""
    response.delete_cookie(COOKIE, path=path, httponly=True, samesite="strict")


class Throttle:
    """Few wrong answers a minute are told apart and recorded. A right token is let in all the same."""

    def __init__(self) -> None:
        self._failures: deque[int] = deque(maxlen=_MAX_FAILURES)

    def closed(self, mono_ns: int) -> bool:
        """Whether there were too many failures within the last minute."""
        return len(self._failures) == _MAX_FAILURES and mono_ns - self._failures[0] < _FAILURES_NS

    def failed(self, mono_ns: int) -> None:
        """Note a wrong token."""
        self._failures.append(mono_ns)
