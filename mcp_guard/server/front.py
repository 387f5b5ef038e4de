"""The client's side of one call: who asks, over which session, and how to reach the person there."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any, Literal, cast

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from mcp_guard.approval.channels import elicitation
from mcp_guard.model import (
    CallContext,
    ClientInfo,
    JsonDict,
    MaskedText,
    Principal,
)
from mcp_guard.question import Prompt, PromptAnswer

PROMPT_KEY = "approval"
"""Key of the guard's question in `inputRequests` and of its answer in `inputResponses`."""

PAGE_KEY = "page"
"""Key of the invitation to open the page. What comes back under it decides nothing."""

JUSTIFICATION = "io.mcp-guard/justification"
"""Key in `_meta` of a call under which an agent may say why it wants it. Reviewers see it as unverified."""

_JUSTIFICATION_CHARS = 500
_ELICITATION_SINCE = "2025-06-18"
_ADDRESSES_SINCE = "2025-11-25"
_TITLES_SINCE = "2025-11-25"
_OPENED = PromptAnswer("dismissed")
"""Consent to open the page is not an approval, and not wanting to open it is not a denial."""
_GONE = (MCPError, NoBackChannelError, ValidationError, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""How a client fails that cannot or will not be asked."""

Context = ServerRequestContext[Any, Any]


def is_modern(ctx: Context) -> bool:
    """Whether the request is of the stateless era (2026-07-28 on)."""
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def client_info(ctx: Context) -> ClientInfo | None:
    """What the client says of itself, cut to 100 characters a field; recorded, never compared."""
    params = ctx.session.client_params
    if params is None:
        return None
    return ClientInfo(params.client_info.name[:100], params.client_info.version[:100])


def can_prompt(ctx: Context) -> bool:
    """Whether a form may be sent: declared, known to the revision, and a way to send it."""
    capabilities = ctx.session.client_capabilities
    declared = capabilities.elicitation if capabilities else None
    if declared is None or (declared.form is None and declared.url is not None):
        return False
    if is_modern(ctx):
        return True
    return ctx.protocol_version >= _ELICITATION_SINCE and ctx.session.can_send_request


def can_open(ctx: Context) -> bool:
    """Whether the user may be asked to open an address: declared, known to the revision, and a way to ask."""
    capabilities = ctx.session.client_capabilities
    declared = capabilities.elicitation if capabilities else None
    if declared is None or declared.url is None:
        return False
    return is_modern(ctx) or (ctx.protocol_version >= _ADDRESSES_SINCE and ctx.session.can_send_request)


class SdkFront:
    """`mcp_guard.ports.Front` over the SDK's request context."""

    def __init__(self, ctx: Context, *, prompts: bool, resumed: tuple[str, PromptAnswer | None] | None = None) -> None:
        self._ctx = ctx
        self.era: Literal["legacy", "modern"] = "modern" if is_modern(ctx) else "legacy"
        self.can_prompt = prompts and can_prompt(ctx)
        self.can_open = prompts and can_open(ctx)
        self.resumed = resumed

    async def ask(self, prompt: Prompt) -> PromptAnswer | None:
        """See `Front.ask`."""
        titled = self._ctx.protocol_version >= _TITLES_SINCE
        answer = await self._elicit(request_of(prompt, modern=False, titled=titled))
        return _read(prompt, answer) if answer else None

    async def over(self, prompt: Prompt) -> None:
        """See `Front.over`."""
        with contextlib.suppress(*_GONE):
            await self._ctx.session.send_elicit_complete(prompt.approval_id, related_request_id=self._ctx.request_id)

    async def _elicit(self, request: types.ElicitRequest) -> types.ElicitResult | None:
        try:
            return await self._ctx.session.send_request(
                request,
                types.ElicitResult,
                metadata=ServerMessageMetadata(related_request_id=self._ctx.request_id),
            )
        except _GONE:
            return None

    async def progress(self, done: float, total: float | None, message: MaskedText | None) -> None:
        """See `Front.progress`."""
        with contextlib.suppress(MCPError, NoBackChannelError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._ctx.session.report_progress(done, total, message)


def request_of(prompt: Prompt, *, modern: bool, titled: bool) -> types.ElicitRequest:
    """The question as an elicitation request; newer revisions have no id for an address, and titles for choices."""
    if prompt.url:
        shown = None if modern else prompt.approval_id
        params = types.ElicitRequestURLParams(message=prompt.message, url=prompt.url, elicitation_id=shown)
        return types.ElicitRequest(params=params)
    schema = elicitation.form_schema(prompt, titled=titled)
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=prompt.message, requested_schema=schema))


def question(prompt: Prompt) -> types.InputRequiredResult:
    """Modern era: the question as the result of the call that asks it."""
    key = PAGE_KEY if prompt.url else PROMPT_KEY
    return types.InputRequiredResult(
        input_requests={key: request_of(prompt, modern=True, titled=True)},
        request_state=seal_state(prompt.approval_id, key, prompt.again),
    )


def brought(ctx: Context, params: Any) -> tuple[str, PromptAnswer | None] | None:
    """The request that this round comes back to, and the answer it brings. Only an opened state counts.

    And only an answer to what was asked: who was shown an address has answered no form.
    """
    state = open_state(getattr(params, "request_state", None)) if is_modern(ctx) else None
    if state is None:
        return None
    approval_id, asked, again = state
    answer = (getattr(params, "input_responses", None) or {}).get(asked)
    if answer is None:
        return approval_id, None
    if asked == PROMPT_KEY and isinstance(answer, types.ElicitResult):
        said = elicitation.read_answer(answer.action, dict(answer.content or {}))
        return approval_id, replace(said, again=again)
    return approval_id, _OPENED


def _read(prompt: Prompt, answer: types.ElicitResult) -> PromptAnswer:
    return _OPENED if prompt.url else elicitation.read_answer(answer.action, dict(answer.content or {}))


def seal_state(approval_id: str, asked: str, again: int = 0) -> str:
    """Plain state; `RequestStateBoundary` encrypts it and binds it to method, name, arguments and audience."""
    return json.dumps({"a": approval_id, "q": asked, "n": again})


def open_state(state: str | None) -> tuple[str, str, int] | None:
    """Approval id, question and `Prompt.again` of a state that the boundary has opened; None where it is not ours."""
    if state is None:
        return None
    try:
        value = json.loads(state)
        return str(value["a"]), str(value["q"]), int(value.get("n", 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def call_context(ctx: Context, *, transport: Literal["stdio", "http"], session: str, host: str) -> CallContext:
    """Circumstances of the call."""
    said = cast("JsonDict", ctx.meta or {}).get(JUSTIFICATION)
    return CallContext(
        transport=transport,
        protocol=ctx.protocol_version,
        session=session,
        host=host,
        justification=said[:_JUSTIFICATION_CHARS] if isinstance(said, str) else "",
    )


def stdio_principal(subject: str, label: str, ctx: Context) -> Principal:
    """On stdio nobody proves who he is: the OS user and the configured label (decisions.md D36)."""
    return Principal("os", subject, label, verified=False, client=client_info(ctx))


def token_principal(subject: str, label: str, ctx: Context) -> Principal:
    """Behind the generated bearer token: whoever can read this user's token file."""
    return Principal("local-token", subject, label, verified=True, client=client_info(ctx))
