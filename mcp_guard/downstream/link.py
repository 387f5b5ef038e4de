"""One client session with one downstream server, owned by one task.

What happens to a call when its client gives up: before the first byte is written, nothing is sent. Afterwards the
request is not abandoned: the server gets `notifications/cancelled`, the guard waits two seconds for an answer that
is on its way, and otherwise reports that the outcome is unknown (ARCHITECTURE.md, "One call", step 5).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import anyio
import httpx2
import mcp_types as types
from mcp import MCPError
from mcp.client.session import ClientRequestContext, ClientSession, IncomingMessage, ListRootsFnT
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import (
    ListenNotSupportedError,
    PromptsListChanged,
    ResourcesListChanged,
    SubscriptionLost,
    ToolsListChanged,
    listen,
)
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.message import SessionMessage
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from mcp_guard import __version__
from mcp_guard.downstream.announced import ListKind
from mcp_guard.downstream.process import ChildProcess, Log
from mcp_guard.downstream.remote import StrictClient
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.downstream.session import MARK, RAW, LinkDispatcher, RequestMark, negotiate
from mcp_guard.errors import DownstreamUnavailableError, GuardError, OutcomeUnknownError
from mcp_guard.model import JsonDict, RawResult
from mcp_guard.ports import ProgressSink
from mcp_guard.wire.reader import DOWNSTREAM
from mcp_guard.wire.streams import SENT, Sent, mark_sent

CANCEL_GRACE_S: Final = 2.0
"""How long an answer may still come after the client cancelled."""

_EXIT_CODE_S: Final = 0.2
_SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
_INTERNAL_ERROR: Final = -32603
_INVALID_RESULT: Final = "the downstream server sent a result that does not fit the protocol"
_WANTS_INPUT: Final = "the downstream server asked for input, which the guard does not relay yet"
_TERMINATED: Final = "Session terminated"
_LOST: Final = ("Connection closed", "SSE stream ended", "SSE stream failed")

ListRoots = Callable[[], Awaitable[list[JsonDict]]]
"""The roots of the client, for local servers only."""


class _MarkingWriter:
    """The SDK's HTTP write stream; notes that a request was handed over."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def send(self, item: SessionMessage, /) -> None:
        """See `Outbox.send`."""
        mark_sent(item)
        await self._inner.send(item)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


class _Pending:
    """One request on its way. `result` or `error` is set when `done` is."""

    def __init__(self) -> None:
        self.sent = Sent()
        self.mark = RequestMark()
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.result: RawResult | None = None
        self.error: GuardError | None = None

    def outcome(self) -> RawResult:
        """The result; raises the error."""
        if self.result is None:
            raise self.error or OutcomeUnknownError("the call ended without an answer")
        return self.result


class Link:
    """A live session. Made by `open_link`; `request` may be called from any task while that block runs."""

    def __init__(
        self, server: ResolvedServer, session: ClientSession, dispatcher: LinkDispatcher, tasks: anyio.abc.TaskGroup
    ) -> None:
        self.server = server
        self.session = session
        self.dispatcher = dispatcher
        self._tasks = tasks
        self.ended = anyio.Event()
        """Set when the session can no longer be used."""

    @property
    def modern(self) -> bool:
        """Whether it speaks 2026-07-28 or later."""
        return self.session.protocol_version in MODERN_PROTOCOL_VERSIONS

    async def request(
        self, request: types.ClientRequest, *, timeout_s: float, progress: ProgressSink | None = None
    ) -> RawResult:
        """Send one request and return what the server answered, unvalidated beyond the protocol's shapes.

        Raises:
            DownstreamUnavailableError: nothing was sent.
            OutcomeUnknownError: it was sent and no answer came.
        """
        pending = _Pending()
        try:
            self._tasks.start_soon(self._perform, request, pending, timeout_s, progress)
        except RuntimeError:
            # The block of `open_link` has been left since the caller got this link.
            raise self._failure(pending, "its session ended") from None
        try:
            await pending.done.wait()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._give_up(pending)
            if not pending.sent.yes:
                raise
        return pending.outcome()

    async def _give_up(self, pending: _Pending) -> None:
        if pending.sent.yes and pending.mark.request_id is not None:
            with anyio.move_on_after(CANCEL_GRACE_S):
                note = {"requestId": pending.mark.request_id, "reason": "the client cancelled"}
                await self.dispatcher.notify("notifications/cancelled", note)
                await pending.done.wait()
        pending.scope.cancel()
        await pending.done.wait()

    async def _perform(
        self, request: types.ClientRequest, pending: _Pending, timeout_s: float, progress: ProgressSink | None
    ) -> None:
        SENT.set(pending.sent)
        MARK.set(pending.mark)
        reason = "its session ended"
        try:
            with pending.scope, anyio.move_on_after(timeout_s) as deadline:
                raw = await self.session.send_request(request, RAW, progress_callback=_progress(progress))
                pending.result = _accepted(request.method, {**raw, **pending.mark.items})
            if deadline.cancelled_caught:
                reason = f"no answer within {timeout_s:g} s"
            elif pending.scope.cancelled_caught:
                reason = "cancelled by the client"
        except MCPError as error:
            if not self.server.local and error.message == _TERMINATED:
                # HTTP 404: the server forgot the session, so it did not run the call. A new link makes a new one.
                pending.sent.yes = False
                self.ended.set()
            elif not self._lost(error):
                pending.result = RawResult(error=error.error.model_dump(mode="json", exclude_unset=True))
        except ValidationError:
            pending.result = RawResult(error=_error(_INVALID_RESULT))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, httpx2.HTTPError, OSError):
            reason = "its transport broke"
        except (RuntimeError, ValueError):
            reason = "its session does not accept requests"
        finally:
            if pending.result is None:
                pending.error = self._failure(pending, reason)
            pending.done.set()

    def _lost(self, error: MCPError) -> bool:
        # -32000 is also what many servers answer on purpose, so the SDK's own texts decide.
        return error.code == types.CONNECTION_CLOSED and error.message.startswith(_LOST)

    def _failure(self, pending: _Pending, reason: str) -> GuardError:
        if pending.sent.yes:
            return OutcomeUnknownError(f"the call was sent to {self.server.name} and has no answer: {reason}")
        return DownstreamUnavailableError(f"{self.server.name} cannot be reached: {reason}; nothing was sent")


def _accepted(method: str, raw: dict[str, Any]) -> RawResult:
    kind = raw.get("resultType", "complete")
    if kind != "complete":
        text = _WANTS_INPUT if kind == "input_required" else _INVALID_RESULT
        if method == "tools/call":
            return RawResult(result={"content": [{"type": "text", "text": text}], "isError": True})
        return RawResult(error=_error(text))
    meta = raw.get("_meta")
    if isinstance(meta, dict) and _SERVER_INFO in meta:
        rest = {key: value for key, value in meta.items() if key != _SERVER_INFO}
        raw = {**raw, "_meta": rest} if rest else {key: value for key, value in raw.items() if key != "_meta"}
    return RawResult(result=raw)


def _progress(sink: ProgressSink | None) -> ProgressFnT | None:
    if sink is None:
        return None

    async def report(progress: float, total: float | None, message: str | None) -> None:
        await sink(progress, total, message)

    return report


def _error(text: str) -> JsonDict:
    return {"code": _INTERNAL_ERROR, "message": text}


class LinkOptions:
    """What a link needs besides its server."""

    def __init__(
        self,
        *,
        mask_text: Callable[[str], str],
        log: Log,
        on_changed: Callable[[ListKind], Awaitable[None]],
        roots: ListRoots | None = None,
        legacy: bool = False,
    ) -> None:
        self.mask_text = mask_text
        self.log = log
        self.on_changed = on_changed
        """Called when the server says that a list changed."""
        self.roots = roots
        self.legacy = legacy


@asynccontextmanager
async def open_link(server: ResolvedServer, options: LinkOptions) -> AsyncIterator[Link]:
    """Start or connect the server and agree on a protocol revision. Enter and leave it in one task.

    Raises:
        DownstreamUnavailableError: it cannot be started, did not answer in time, or speaks no common revision.
    """
    try:
        opened = _open_child(server, options) if server.local else _open_remote(server)
        async with (
            opened as (read, write, ended),
            anyio.create_task_group() as tasks,
            _session(server, read, write, options) as (session, dispatcher),
        ):
            link = Link(server, session, dispatcher, tasks)
            tasks.start_soon(_watch, link, ended)
            tasks.start_soon(_listen, link, options)
            yield link
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _cause(server, group) from group


@asynccontextmanager
async def _session(
    server: ResolvedServer, read: Any, write: Any, options: LinkOptions
) -> AsyncIterator[tuple[ClientSession, LinkDispatcher]]:
    async def on_message(message: IncomingMessage) -> None:
        if (kind := _LIST_CHANGED.get(type(message))) is not None:
            await options.on_changed(kind)

    dispatcher = LinkDispatcher(read, write)
    session = ClientSession(
        dispatcher=dispatcher,
        client_info=types.Implementation(name="mcp-guard", version=__version__),
        list_roots_callback=_roots_callback(options.roots if server.local else None),
        message_handler=on_message,
    )
    async with session:
        dispatcher.version = await _started(server, session, options)
        yield session, dispatcher


def _cause(server: ResolvedServer, group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error behind the groups that task groups wrap around it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return DownstreamUnavailableError(
            f"{server.name} cannot be reached: no connection to its url", hint="check url and network; is it running?"
        )
    if isinstance(error, httpx2.HTTPError | OSError):
        return DownstreamUnavailableError(f"{server.name} is gone: its transport broke ({type(error).__name__})")
    return error


_LIST_CHANGED: Final[dict[type, ListKind]] = {
    types.ToolListChangedNotification: "tools",
    types.ResourceListChangedNotification: "resources",
    types.PromptListChangedNotification: "prompts",
    ToolsListChanged: "tools",
    ResourcesListChanged: "resources",
    PromptsListChanged: "prompts",
}
"""As older servers say it, and modern ones."""


async def _started(server: ResolvedServer, session: ClientSession, options: LinkOptions) -> str:
    with anyio.move_on_after(server.start_timeout_s):
        try:
            return await negotiate(session, legacy=options.legacy)
        except MCPError as error:
            if error.code == types.CONNECTION_CLOSED:
                raise DownstreamUnavailableError(f"{server.name} ended before it was ready") from error
            raise DownstreamUnavailableError(f"{server.name} refused to start a session (code {error.code})") from error
    raise DownstreamUnavailableError(
        f"{server.name} did not start within {server.start_timeout_s:g} s", hint="raise start_timeout_s of this server"
    )


async def _watch(link: Link, ended: Callable[[], Awaitable[None]] | None) -> None:
    if ended is not None:
        await ended()
        link.ended.set()


async def _listen(link: Link, options: LinkOptions) -> None:
    """Modern era: subscribe to changes of lists that the server says may change."""
    caps = link.session.server_capabilities
    tools = bool(caps and caps.tools and caps.tools.list_changed)
    prompts = bool(caps and caps.prompts and caps.prompts.list_changed)
    resources = bool(caps and caps.resources and caps.resources.list_changed)
    if not link.modern or not (tools or prompts or resources):
        return
    subscription = listen(
        link.session, tools_list_changed=tools, prompts_list_changed=prompts, resources_list_changed=resources
    )
    try:
        async with subscription as events:
            async for event in events:
                if (kind := _LIST_CHANGED.get(type(event))) is not None:
                    await options.on_changed(kind)
    except (MCPError, SubscriptionLost, ListenNotSupportedError, TimeoutError):
        options.log(f"{link.server.name}: does not report changes of its lists")


def _roots_callback(roots: ListRoots | None) -> ListRootsFnT | None:
    if roots is None:
        return None

    async def answer(context: ClientRequestContext) -> types.ListRootsResult:  # noqa: ARG001 - the SDK's signature
        return types.ListRootsResult.model_validate({"roots": await roots()})

    return answer


_Opened = tuple[Any, Any, Callable[[], Awaitable[None]] | None]


@asynccontextmanager
async def _open_child(server: ResolvedServer, options: LinkOptions) -> AsyncIterator[_Opened]:
    child = await ChildProcess.spawn(server, mask_text=options.mask_text, log=options.log)
    try:
        yield child.inbox, child.outbox, child.wait_ended
    except BaseExceptionGroup as group:
        # Its pipe ends a moment before the system tells its exit code.
        code = await child.exit_code(_EXIT_CODE_S)
        if code is not None and group.subgroup(DownstreamUnavailableError) is not None:
            how = f"exited with code {code}" if code >= 0 else f"was ended by signal {-code}"
            raise DownstreamUnavailableError(f"{server.name} {how} before it was ready") from group
        raise
    finally:
        await child.stop()


@asynccontextmanager
async def _open_remote(server: ResolvedServer) -> AsyncIterator[_Opened]:
    read_timeout = max(server.call_timeout_s, server.start_timeout_s) + CANCEL_GRACE_S
    async with (
        StrictClient(server.headers, read_timeout_s=read_timeout) as client,
        streamable_http_client(server.url or "", http_client=client, max_sse_event_size=DOWNSTREAM.line_bytes) as (
            read,
            write,
        ),
    ):
        yield read, _MarkingWriter(write), None
