"""The pair of streams between an asyncio transport and the SDK: bounded, with back-pressure both ways."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol, Self

import anyio
import anyio.lowlevel
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCRequest, JSONRPCResponse

from mcp_guard.model import JsonDict
from mcp_guard.wire import reader

_HIGH_WATER = 64
"""Parsed messages that wait for the session before reading pauses."""

_JOIN_BYTES = 1 << 16
"""Bytes that are joined at most; more go to the transport at once, so that its back-pressure is felt."""

_INTERNAL_ERROR = -32603


class Sent:
    """Set once the bytes of a request were handed to the transport."""

    __slots__ = ("yes",)

    def __init__(self) -> None:
        self.yes = False


SENT: ContextVar[Sent | None] = ContextVar("mcp_guard_wire_sent", default=None)
"""Mark of the request that the current task is sending. The SDK writes a request in the task that called it."""


def mark_sent(item: SessionMessage) -> None:
    """Note that the current task's request left. The cancellation that may follow it is not the request."""
    sent = SENT.get()
    if sent is not None and isinstance(item.message, JSONRPCRequest):
        sent.yes = True


class ByteSink(Protocol):
    """What `Outbox` writes to: an asyncio write transport, or a thread behind a plain file."""

    def write(self, data: bytes) -> None:
        """Take over the bytes without blocking."""
        ...

    def is_closing(self) -> bool:
        """Whether nothing more will be written."""
        ...


class Inbox:
    """Receive side: `put` from loop callbacks, read by the SDK's session as a stream."""

    def __init__(self, *, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._items: deque[SessionMessage | Exception] = deque()
        self._wake = anyio.Event()
        self._ended = False
        self._closed = False
        self._paused = False
        self._pause = pause
        self._resume = resume

    def put(self, message: JsonDict) -> None:
        """Queue a parsed message; pauses the peer when the session lags."""
        if self._closed:
            return
        self._items.append(reader.to_session_message(message))
        self._wake.set()
        if len(self._items) >= _HIGH_WATER and not self._paused:
            self._paused = True
            self._pause()

    def end(self) -> None:
        """The peer's stream has ended; what is queued is still delivered."""
        self._ended = True
        self._wake.set()

    @property
    def ended(self) -> bool:
        """Whether the peer's stream has ended."""
        return self._ended

    async def receive(self) -> SessionMessage | Exception:
        """Next message.

        Raises:
            anyio.EndOfStream: the peer is gone.
            anyio.ClosedResourceError: this side was closed.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        while not self._items:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._ended:
                raise anyio.EndOfStream
            self._wake = anyio.Event()
            await self._wake.wait()
        item = self._items.popleft()
        if self._paused and not self._items:
            self._paused = False
            self._resume()
        return item

    async def aclose(self) -> None:
        """Stop receiving. What the peer still writes is dropped, so that it does not block on a full pipe."""
        self._closed = True
        self._items.clear()
        self._wake.set()
        if self._paused:
            self._paused = False
            self._resume()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()


class Outbox:
    """Send side: messages of one loop turn are joined into one write; `send` waits while the pipe is full."""

    def __init__(self, sink: ByteSink, *, on_answer: Callable[[str | int], None] | None = None) -> None:
        self._sink = sink
        self._on_answer = on_answer
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._scheduled = False
        self._open = anyio.Event()
        self._open.set()
        self._broken = False
        self._closed = False

    def pause(self) -> None:
        """The transport's buffer is full."""
        if self._open.is_set():
            self._open = anyio.Event()

    def resume(self) -> None:
        """The transport's buffer has room."""
        self._open.set()

    def break_off(self) -> None:
        """The peer no longer reads."""
        self._broken = True
        self._open.set()

    async def send(self, item: SessionMessage, /) -> None:
        """Queue one message.

        Raises:
            anyio.BrokenResourceError: the peer is gone.
            anyio.ClosedResourceError: this side was closed.
        """
        self._check()
        data = self._encode(item)
        if not self._open.is_set():
            await self._open.wait()
            self._check()
        self.write(data)
        mark_sent(item)
        if not self._open.is_set():
            await self._open.wait()

    def write(self, data: bytes) -> None:
        """Queue raw bytes: whole lines."""
        if self._closed or self._broken:
            return
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= _JOIN_BYTES:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Hand what is queued to the transport."""
        self._scheduled = False
        data, self._buffer, self._buffered = b"".join(self._buffer), [], 0
        if data and not self._broken and not self._sink.is_closing():
            self._sink.write(data)

    async def aclose(self) -> None:
        """Flush and accept nothing more."""
        if not self._closed:
            self.flush()
            self._closed = True
            self._open.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self._broken or self._sink.is_closing():
            raise anyio.BrokenResourceError

    def _encode(self, item: SessionMessage) -> bytes:
        message = item.message
        answered = message.id if isinstance(message, JSONRPCResponse | JSONRPCError) else None
        try:
            data = reader.dump(item)
        except ValueError:
            # A request that cannot be written is its sender's error; an answer must never become silence.
            if answered is None:
                raise
            data = reader.dump_json(reader.error_message(answered, _INTERNAL_ERROR, "the answer has no JSON form"))
        if answered is not None and self._on_answer is not None:
            self._on_answer(answered)
        return data
