"""The client's side of one call: who asks, over which session, and how to reach the person there."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Literal

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from mcp_guard.approval.channels import elicitation
from mcp_guard.model import CallContext, ClientInfo, MaskedText, Principal, Prompt, PromptAnswer

PROMPT_KEY = "approval"
"""Key of the guard's question in `inputRequests` and of its answer in `inputResponses`."""

_ELICITATION_SINCE = "2025-06-18"

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


class SdkFront:
    """`mcp_guard.ports.Front` over the SDK's request context."""

    def __init__(self, ctx: Context, *, prompts: bool, resumed: tuple[str, PromptAnswer | None] | None = None) -> None:
        self._ctx = ctx
        self.era: Literal["legacy", "modern"] = "modern" if is_modern(ctx) else "legacy"
        self.can_prompt = prompts and can_prompt(ctx)
        self.resumed = resumed

    async def ask(self, prompt: Prompt) -> PromptAnswer:
        """See `Front.ask`. A client that cannot or will not show the form has dismissed it."""
        try:
            answer = await self._ctx.session.send_request(
                form_request(prompt),
                types.ElicitResult,
                metadata=ServerMessageMetadata(related_request_id=self._ctx.request_id),
            )
        except (MCPError, NoBackChannelError, ValidationError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return PromptAnswer("dismissed")
        return elicitation.read_answer(answer.action, dict(answer.content or {}))

    async def progress(self, done: float, total: float | None, message: MaskedText | None) -> None:
        """See `Front.progress`."""
        with contextlib.suppress(MCPError, NoBackChannelError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._ctx.session.report_progress(done, total, message)


def form_request(prompt: Prompt) -> types.ElicitRequest:
    """The form as an elicitation request."""
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=prompt.message, requested_schema=elicitation.form_schema(prompt))
    )


def seal_state(approval_id: str) -> str:
    """Plain state; `RequestStateBoundary` encrypts it and binds it to method, name, arguments and audience."""
    return json.dumps({"a": approval_id})


def open_state(state: str | None) -> str | None:
    """Approval id of a state that the boundary has opened, or None when there is none or it is not ours."""
    if state is None:
        return None
    try:
        return str(json.loads(state)["a"])
    except (ValueError, KeyError, TypeError):
        return None


def call_context(ctx: Context, *, transport: Literal["stdio", "http"], session: str, host: str) -> CallContext:
    """Circumstances of the call."""
    return CallContext(transport=transport, protocol=ctx.protocol_version, session=session, host=host)


def stdio_principal(subject: str, label: str, ctx: Context) -> Principal:
    """On stdio nobody proves who he is: the OS user and the configured label (decisions.md D36)."""
    return Principal("os", subject, label, verified=False, client=client_info(ctx))


def token_principal(subject: str, label: str, ctx: Context) -> Principal:
    """Behind the generated bearer token: whoever can read this user's token file."""
    return Principal("local-token", subject, label, verified=True, client=client_info(ctx))
