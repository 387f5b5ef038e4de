"""The guard's MCP server: every handler turns SDK params into a `Call` and an `Answer` back into a result.

No exception but `MCPError` leaves a handler: the SDK would send the text of any other to an older client.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import anyio
import mcp_types as types
import structlog
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from mcp_guard import __version__, records
from mcp_guard.canon import digest
from mcp_guard.clock import Ids
from mcp_guard.errors import ApprovalPendingError, GuardError, InternalError, InvalidArgumentsError
from mcp_guard.manifest.starts import Roots
from mcp_guard.model import (
    Answer,
    Call,
    CallContext,
    CallKind,
    JsonDict,
    Principal,
    RawArguments,
    Suspended,
    Target,
)
from mcp_guard.pipeline import Pipeline
from mcp_guard.ports import MaskingPort
from mcp_guard.question import AskClient, PromptAnswer
from mcp_guard.server import answers
from mcp_guard.server.front import (
    Context,
    SdkFront,
    brought,
    call_context,
    is_modern,
    question,
)

_log = structlog.get_logger(__name__)

_STATE_TTL_S = 86_400.0
_MAX_WAIT_S = 45.0
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

warnings.simplefilter("ignore", MCPDeprecationWarning)


class CatalogPort(Protocol):
    """What the edge needs of the catalogue."""

    async def resolve(self, kind: CallKind, name: str, principal: Principal) -> Target:
        """The target behind an exposed name or URI; raises UnknownTargetError and its kin."""
        ...

    async def resolve_completion(self, ref: JsonDict, principal: Principal) -> Target:
        """The target of a completion, by the prompt or template that it refers to."""
        ...

    async def listing(self, key: str, principal: Principal) -> list[JsonDict]:
        """Masked definitions: `tools`, `resources`, `resourceTemplates` or `prompts`."""
        ...


class WaitPort(Protocol):
    """What `guard_approval_wait` needs of the desk."""

    async def wait(self, approval_id: str, principal: Principal, timeout_s: float) -> Suspended | Answer:
        """Await the outcome of an own request."""
        ...


@dataclass(frozen=True)
class Edge:
    """The parts behind the handlers, and the facts about this front."""

    name: str
    """`id` of the configuration; the audience of sealed states."""
    pipeline: Pipeline
    catalog: CatalogPort
    desk: WaitPort
    masking: MaskingPort
    ids: Ids
    principal: Callable[[Context], Principal]
    owner_key: str
    """`Principal.key` of everybody behind this front."""
    transport: Literal["stdio", "http"]
    state_keys: list[bytes]
    deciding: str
    """How people get to a call that waits: `answers.how_to_decide`."""
    host: str = ""
    prompts: bool = True
    fronts: dict[str, ServerSession] = field(default_factory=dict)
    """Sessions of older clients by session id, for list changes."""
    bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)
    arrived: anyio.Event = field(default_factory=anyio.Event)
    """Set when the first client of an older era has initialized."""
    roots: Roots = field(default_factory=Roots)
    """What local servers were told of them."""

    async def list_roots(self) -> list[JsonDict]:
        """The roots of the client, once it has initialized; for local downstream servers (decisions.md D29)."""
        await self.arrived.wait()
        if not self.fronts:
            return []
        found = await next(iter(self.fronts.values())).list_roots()
        self.roots.note(str(root.uri) for root in found.roots)
        return [root.model_dump(mode="json", by_alias=True, exclude_none=True) for root in found.roots]


def build_server(edge: Edge, instructions: str, offers: Callable[[str], bool] = lambda _kind: True) -> Server[Any]:
    """Make the SDK server. Its only middleware is the seal of `requestState` (decisions.md D2).

    Args:
        edge: The parts behind it.
        instructions: Masked.
        offers: Whether any downstream offers `resources`, `prompts` or `completions`; what none offers is not declared.
    """
    handlers = Handlers(edge)
    server: Server[Any] = Server(
        "mcp-guard",
        version=__version__,
        instructions=instructions,
        on_list_tools=handlers.lister("tools"),
        on_call_tool=handlers.call_tool,
        on_list_resources=handlers.lister("resources") if offers("resources") else None,
        on_list_resource_templates=handlers.lister("resourceTemplates") if offers("resources") else None,
        on_read_resource=handlers.read_resource if offers("resources") else None,
        on_list_prompts=handlers.lister("prompts") if offers("prompts") else None,
        on_get_prompt=handlers.get_prompt if offers("prompts") else None,
        on_completion=handlers.complete if offers("completions") else None,
        on_subscriptions_listen=ListenHandler(edge.bus),
        # No header is mirrored from arguments, so there is nothing to validate (security.md S28).
        get_tool_input_schema=lambda _name: None,
    )
    server.add_notification_handler("notifications/initialized", types.NotificationParams, handlers.initialized)
    security = RequestStateSecurity(keys=edge.state_keys, ttl=_STATE_TTL_S)
    # Instead of the SDK's own list: its tracing puts the text of errors into spans.
    server.middleware[:] = [RequestStateBoundary(security, default_audience=edge.name)]
    return server


async def announce_changes(edge: Edge) -> None:
    """Tell every client that the lists changed: on the bus for modern ones, as notifications for older ones."""
    for event in (ToolsListChanged(), ResourcesListChanged(), PromptsListChanged()):
        await edge.bus.publish(event)
    for key, session in list(edge.fronts.items()):
        try:
            await session.send_tool_list_changed()
            await session.send_resource_list_changed()
            await session.send_prompt_list_changed()
        except Exception as error:  # noqa: BLE001 - a client that is gone must not keep the others from hearing it
            _log.info("client_gone", error=type(error).__name__)
            edge.fronts.pop(key, None)


class Handlers:
    """One method per MCP method."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._session = edge.ids.new("ses")

    async def initialized(self, ctx: Context, _params: types.NotificationParams) -> None:
        """Remember the session while it lasts, so that list changes reach it."""
        key = _session_header(ctx) or ""
        self._edge.fronts[key] = ctx.session
        # The SDK tells the end of a session in no other way.
        ctx.session._connection.exit_stack.callback(self._edge.fronts.pop, key, None)  # noqa: SLF001
        self._edge.arrived.set()

    def lister(self, key: str) -> Callable[[Context, types.PaginatedRequestParams | None], Awaitable[Any]]:
        """A list handler for `tools`, `resources`, `resourceTemplates` or `prompts`."""

        async def handle(ctx: Context, _params: types.PaginatedRequestParams | None) -> JsonDict:
            call_id = self._edge.ids.new("call")
            try:
                with _no_foreign_text(ctx.method):
                    items = await self._edge.catalog.listing(key, self._edge.principal(ctx))
            except GuardError as error:
                answers.raise_rpc(error, call_id=call_id)
            if key == "tools":
                items = [_for_era(tool, modern=is_modern(ctx)) for tool in items] + [_WAIT_DEFINITION]
            return answers.listing(key, items, modern=is_modern(ctx))

        return handle

    async def call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> Any:
        """tools/call: refusals and tickets are results that the model can read."""
        call_id, resumed = self._edge.ids.new("call"), brought(ctx, params)
        arguments: JsonDict = dict(params.arguments or {})
        try:
            with _no_foreign_text(ctx.method):
                if params.name == answers.WAIT_TOOL:
                    return await self._wait(ctx, call_id, arguments)
                return await self._walk(ctx, call_id, CallKind.TOOL, params.name, arguments, resumed)
        except GuardError as error:
            return answers.refusal(error, call_id=call_id)

    async def read_resource(self, ctx: Context, params: types.ReadResourceRequestParams) -> Any:
        """resources/read."""
        uri = str(params.uri)
        return await self._other(ctx, params, CallKind.RESOURCE, uri, {"uri": uri})

    async def get_prompt(self, ctx: Context, params: types.GetPromptRequestParams) -> Any:
        """prompts/get."""
        return await self._other(ctx, params, CallKind.PROMPT, params.name, dict(params.arguments or {}))

    async def complete(self, ctx: Context, params: types.CompleteRequestParams) -> Any:
        """completion/complete: goes where the prompt or template goes."""
        ref = params.ref
        name = ref.name if isinstance(ref, types.PromptReference) else str(ref.uri)
        arguments: JsonDict = {
            "ref": ref.model_dump(by_alias=True, mode="json", exclude_none=True),
            "argument": params.argument.model_dump(by_alias=True, mode="json", exclude_none=True),
        }
        if params.context is not None:
            arguments["context"] = params.context.model_dump(by_alias=True, mode="json", exclude_none=True)
        return await self._other(ctx, params, CallKind.COMPLETION, name, arguments)

    async def _other(self, ctx: Context, params: Any, kind: CallKind, name: str, arguments: JsonDict) -> Any:
        call_id, resumed = self._edge.ids.new("call"), brought(ctx, params)
        try:
            with _no_foreign_text(ctx.method):
                return await self._walk(ctx, call_id, kind, name, arguments, resumed)
        except GuardError as error:
            answers.raise_rpc(error, call_id=call_id)

    async def _walk(
        self,
        ctx: Context,
        call_id: str,
        kind: CallKind,
        name: str,
        arguments: JsonDict,
        resumed: tuple[str, PromptAnswer | None] | None,
    ) -> Any:
        principal, context = self._edge.principal(ctx), self._context(ctx)
        try:
            target = await self._resolve(kind, name, arguments, principal)
        except GuardError as error:
            await self._refused(call_id, principal, context, name, error)
            raise
        call = Call(call_id, target, RawArguments(arguments), principal, context, _forwarded_meta(ctx))
        front = SdkFront(ctx, prompts=self._edge.prompts, resumed=resumed)
        step = await self._edge.pipeline.handle(call, front)
        return self._present(ctx, call, step)

    async def _resolve(self, kind: CallKind, name: str, arguments: JsonDict, principal: Principal) -> Target:
        ref = arguments.get("ref")
        if kind is CallKind.COMPLETION and isinstance(ref, dict):
            return await self._edge.catalog.resolve_completion(ref, principal)
        return await self._edge.catalog.resolve(kind, name, principal)

    def _present(self, ctx: Context, call: Call, step: Answer | Suspended | AskClient) -> Any:
        if isinstance(step, AskClient):
            return question(step.prompt)
        tool = call.target.kind is CallKind.TOOL
        if isinstance(step, Suspended):
            deciding = self._edge.deciding
            result = answers.ticket(step, call_id=call.call_id, target=call.target, deciding=deciding)
            if tool:
                return result
            said = f"this call waits for approval; repeat it later. {deciding}"
            raise MCPError(ApprovalPendingError.rpc_code, said, result["_meta"])
        notice = self._edge.masking.announce(step.notes)
        return answers.answer_result(step, call_id=call.call_id, notice=notice, modern=is_modern(ctx), tool=tool)

    async def _wait(self, ctx: Context, call_id: str, arguments: JsonDict) -> Any:
        ticket, timeout = arguments.get("ticket"), arguments.get("timeout_s", _MAX_WAIT_S)
        if not isinstance(ticket, str) or isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise InvalidArgumentsError(f"{answers.WAIT_TOOL} takes a ticket (string) and perhaps timeout_s (number)")
        seconds = min(max(float(timeout), 0.0), _MAX_WAIT_S)
        principal, context = self._edge.principal(ctx), self._context(ctx)
        try:
            step = await self._edge.desk.wait(ticket, principal, seconds)
        except GuardError as error:
            await self._refused(call_id, principal, context, answers.WAIT_TOOL, error)
            raise
        if isinstance(step, Suspended):
            return answers.ticket(step, call_id=call_id, target=None, deciding=self._edge.deciding)
        await self._edge.pipeline.note(records.picked_up(call_id, principal, context, ticket=ticket, answer=step))
        notice = self._edge.masking.announce(step.notes)
        return answers.answer_result(step, call_id=call_id, notice=notice, modern=is_modern(ctx), tool=True)

    async def _refused(
        self, call_id: str, principal: Principal, context: CallContext, name: str, error: GuardError
    ) -> None:
        mask = self._edge.masking.text
        record = records.unresolved(call_id, principal, context, name=name, error=error, mask=mask)
        await self._edge.pipeline.note(record)

    def _context(self, ctx: Context) -> CallContext:
        header = _session_header(ctx)
        # The id itself authorises requests, so only a digest of it is recorded.
        session = f"ses_{digest('session', header)[:26]}" if header else self._session
        return call_context(ctx, transport=self._edge.transport, session=session, host=self._edge.host)


def _session_header(ctx: Context) -> str | None:
    return ctx.request.headers.get("mcp-session-id") if ctx.request is not None else None


@contextmanager
def _no_foreign_text(method: str) -> Iterator[None]:
    """Whatever is not ours becomes an InternalError with constant text; the log gets its type."""
    try:
        yield
    except (GuardError, MCPError):
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: no foreign text may reach a client
        _log.error("handler_failed", method=method, error=type(error).__name__)
        raise InternalError("the guard failed on this request; nothing about it is shown") from None


def _forwarded_meta(ctx: Context) -> JsonDict:
    # Nobody judges, masks or shows `_meta`, so only what cannot carry anything passes: where a trace goes on.
    trace = cast("JsonDict", ctx.meta or {}).get("traceparent")
    return {"traceparent": trace} if isinstance(trace, str) and _TRACEPARENT.fullmatch(trace) else {}


def _for_era(tool: JsonDict, *, modern: bool) -> JsonDict:
    """Older revisions fail the whole list on an output schema that is not an object (MCP 2025-11-25, Output Schema)."""
    schema = tool.get("outputSchema")
    if modern or schema is None or (isinstance(schema, dict) and schema.get("type") == "object"):
        return tool
    return {key: value for key, value in tool.items() if key != "outputSchema"}


_WAIT_DEFINITION: JsonDict = {
    "name": answers.WAIT_TOOL,
    "title": "Wait for an approval",
    "description": (
        "Waits for a call that the guard suspended until a human decides, and returns its outcome. "
        "Give the ticket from the suspended call's result. It cannot approve anything."
    ),
    "inputSchema": {
        "type": "object",
        "properties": {
            "ticket": {"type": "string", "description": "Id of the approval request: apr_…"},
            "timeout_s": {"type": "number", "minimum": 0, "maximum": _MAX_WAIT_S, "description": "Seconds to wait"},
        },
        "required": ["ticket"],
        "additionalProperties": False,
    },
    "annotations": {"readOnlyHint": True, "idempotentHint": True, "openWorldHint": False},
}
