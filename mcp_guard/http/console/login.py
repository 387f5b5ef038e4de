"""Signing in and out: a one-time link from `mcp-guard console`, or a reviewer's token in a form.

Opening a link signs nobody in: scanners and previews open links. The button on it does (security.md S18).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mcp_guard.approval.consolelog import How
from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.clock import SystemClock
from mcp_guard.http.console.access import PageError, Throttle, forget, form_of, keep, read_form
from mcp_guard.http.console.render import page
from mcp_guard.model import Assurance

if TYPE_CHECKING:
    from mcp_guard.http.console.app import Pages

_NEXT = re.compile(r"(requests/apr_[a-z0-9]{1,64}(/all)?|grants|history|audit)?")
"""Where a person may be taken after signing in: pages of this program alone."""
_FORM = re.compile(r"(requests/apr_[a-z0-9]{1,64}|grants)/.{1,80}")
"""Forms, and pages between, of what can be looked at."""


class Login:
    """The pages before one is signed in."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._parts = pages.parts
        self._clock = SystemClock()
        self._throttle = Throttle()

    def form(self, request: Request, *, status: int = 200, wrong: str = "") -> Response:
        """Ask who it is."""
        there = request.url.path.removeprefix(self._pages.root)
        form = _FORM.fullmatch(there)
        there = form[1] if form and not _NEXT.fullmatch(there) else there
        there = there if _NEXT.fullmatch(there) else ""
        return page("login.html", status, root=self._pages.root, there=there, wrong=wrong)

    async def get(self, request: Request) -> Response:
        """The form by itself."""
        return self.form(request)

    async def post(self, request: Request) -> Response:
        """Sign in with a reviewer's token."""
        fields = await read_form(request)
        there = fields.get("next", "")
        name = await self._parts.review.reviewers.verify(fields.get("token", "").strip())
        if name is None:
            if not await self._refuse("token"):
                raise PageError(429, "Too many wrong tokens", "Wait a minute and try again.")
            return self.form(request, status=401, wrong="This token is not registered here.")
        secret = await self._parts.signin.open(Reviewer(name, Assurance.A2, "console"))
        return self._in(secret, there if _NEXT.fullmatch(there) else "")

    async def link(self, request: Request) -> Response:
        """A one-time link was opened: show the button, and use nothing up."""
        return page("link.html", root=self._pages.root, code=request.path_params["code"])

    async def use_link(self, request: Request) -> Response:
        """The button of a one-time link."""
        secret = await self._parts.signin.use(request.path_params["code"])
        if secret is None:
            await self._refuse("link")
            raise PageError(
                410, "This link is used up or too old", "Make a new one in a terminal with: mcp-guard console"
            )
        return self._in(secret, "")

    async def out(self, request: Request) -> Response:
        """Sign out."""
        session, _ = await form_of(request, self._parts.signin)
        await self._parts.signin.close(session)
        response = RedirectResponse(f"{self._pages.root}login", status_code=303)
        forget(response, self._pages.root)
        return response

    async def _refuse(self, how: How) -> bool:
        """Note that somebody was not let in; False when that happened too often of late to be noted."""
        now = self._clock.mono_ns()
        if self._throttle.closed(now):
            return False
        self._throttle.failed(now)
        await self._parts.signin.refused(how)
        return True

    def _in(self, secret: str, there: str) -> Response:
        response = RedirectResponse(self._pages.root + there, status_code=303)
        keep(response, secret, self._pages.root)
        return response
