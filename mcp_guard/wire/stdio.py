"""The guard's own stdio: event-loop pipes with the strict reader inside (decisions.md D20).

While it serves, fd 0 is the null device and fd 1 is stderr, so that a stray print of the guard or of a library cannot
reach the wire. Every line gets an answer or reaches the session: a bad one is answered here, never dropped.
"""

from __future__ import annotations

import asyncio
import os
import queue
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from mcp.shared.dispatcher import coerce_request_id

from mcp_guard.errors import OverloadedError, WireError
from mcp_guard.model import JsonDict
from mcp_guard.wire.lines import TooLong
from mcp_guard.wire.pump import Pump
from mcp_guard.wire.reader import FRONT, INVALID_REQUEST, dump_json, error_message, readable_id
from mcp_guard.wire.streams import ByteSink, Inbox, Outbox

MAX_IN_FLIGHT = 1000
"""Requests of one client that are not answered yet; more are refused with -32015."""

_FIRST_FREE_FD = 3
_READ_BYTES = 1 << 16

OnFirst = Callable[[JsonDict], None]


class _FrontProtocol(asyncio.Protocol):
    """Read side of the client connection."""

    def __init__(self, on_first: OnFirst | None) -> None:
        self._on_first = on_first
        self._in_flight: set[str | int] = set()
        self._transport: asyncio.ReadTransport | None = None
        self._pump = Pump(FRONT, accept=self._accept, refuse=self._refuse)
        self.inbox = Inbox(pause=self._pause, resume=self._resume)
        self.outbox: Outbox | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.ReadTransport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pump.feed(data)

    def eof_received(self) -> bool | None:
        self._pump.finish()
        return None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature; why it ended does not matter
        self.inbox.end()

    def answered(self, request_id: str | int) -> None:
        """A response left; its id may be used again."""
        self._in_flight.discard(coerce_request_id(request_id))

    def _accept(self, message: JsonDict) -> None:
        if self._on_first is not None:
            first, self._on_first = self._on_first, None
            first(message)
        request_id = readable_id(message)
        if message.get("method") == "notifications/cancelled":
            self._forget_cancelled(message)
        if "method" in message and request_id is not None:
            key = coerce_request_id(request_id)
            if key in self._in_flight:
                # The SDK would overwrite the first request of this id, and treats "7" and 7 as one (threat S5).
                self._reply(request_id, INVALID_REQUEST, "a request with this id is in flight")
                return
            if len(self._in_flight) >= MAX_IN_FLIGHT:
                self._reply(request_id, OverloadedError.rpc_code, "too many requests are in flight")
                return
            self._in_flight.add(key)
        self.inbox.put(message)

    def _forget_cancelled(self, message: JsonDict) -> None:
        # The SDK answers no cancelled request, so nothing else would free the id.
        params = message.get("params")
        request_id = params.get("requestId") if isinstance(params, dict) else None
        if isinstance(request_id, str | int) and not isinstance(request_id, bool):
            self._in_flight.discard(coerce_request_id(request_id))

    def _refuse(self, error: WireError, line: bytes | TooLong) -> None:  # noqa: ARG002 - the line is not for the log
        self._reply(error.request_id, error.rpc, error.message)

    def _reply(self, request_id: str | int | None, code: int, text: str) -> None:
        if self.outbox is not None:
            self.outbox.write(dump_json(error_message(request_id, code, text)))

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


class _WriteProtocol(asyncio.BaseProtocol):
    """Write side of the client connection: only its flow control."""

    def __init__(self) -> None:
        self.outbox: Outbox | None = None

    def pause_writing(self) -> None:
        if self.outbox is not None:
            self.outbox.pause()

    def resume_writing(self) -> None:
        if self.outbox is not None:
            self.outbox.resume()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self.outbox is not None:
            self.outbox.break_off()


class _ThreadSink:
    """Writes from a thread, where the loop cannot poll the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="mcp-guard-stdout")
        self._thread.start()

    def write(self, data: bytes) -> None:
        """See `ByteSink`."""
        self._queue.put(data)

    def is_closing(self) -> bool:
        """See `ByteSink`."""
        return self._closing

    def close(self) -> None:
        """Write what is queued and stop."""
        self._closing = True
        self._queue.put(None)
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError:
                self._closing = True
                return


@asynccontextmanager
async def stdio_front(on_first: OnFirst | None = None) -> AsyncIterator[tuple[Inbox, Outbox]]:
    """The client on fd 0 and 1, as the (read, write) pair for `mcp.server.lowlevel.Server.run`.

    Args:
        on_first: Called once, from the event loop, with the first message that the strict reader accepted; the app
            starts downstreams with the capabilities in it. Must not raise or block.

    Yields:
        The streams. The read stream ends when the client closes its side.
    """
    with _claimed(0, os.devnull, os.O_RDONLY) as read_fd, _claimed(1, None, os.O_WRONLY) as write_fd:
        async with serve_fds(read_fd, write_fd, on_first) as streams:
            yield streams


@asynccontextmanager
async def serve_fds(
    read_fd: int, write_fd: int, on_first: OnFirst | None = None
) -> AsyncIterator[tuple[Inbox, Outbox]]:
    """Same as `stdio_front` over two descriptors, which stay open and blocking afterwards."""
    protocol = _FrontProtocol(on_first)
    async with _writer(write_fd) as (sink, flow):
        outbox = Outbox(sink, on_answer=protocol.answered)
        protocol.outbox = outbox
        if flow is not None:
            flow.outbox = outbox
        async with _reading(read_fd, protocol):
            try:
                yield protocol.inbox, outbox
            finally:
                outbox.flush()


@asynccontextmanager
async def _writer(fd: int) -> AsyncIterator[tuple[ByteSink, _WriteProtocol | None]]:
    if not _pollable(fd):
        sink = _ThreadSink(fd)
        try:
            yield sink, None
        finally:
            sink.close()
        return
    # A duplicate: asyncio closes what it is given, and the descriptor belongs to the caller.
    file = os.fdopen(os.dup(fd), "wb", 0)
    transport, flow = await asyncio.get_running_loop().connect_write_pipe(_WriteProtocol, file)
    try:
        yield transport, flow
    finally:
        transport.close()
        await _drained(transport)
        _block_again(fd)


async def _drained(transport: asyncio.WriteTransport) -> None:
    # close() writes on what is buffered; a client that no longer reads gets two seconds.
    for _ in range(200):
        if not transport.get_write_buffer_size():
            await asyncio.sleep(0)
            return
        await asyncio.sleep(0.01)
    transport.abort()


@asynccontextmanager
async def _reading(fd: int, protocol: _FrontProtocol) -> AsyncIterator[None]:
    if not _pollable(fd):
        stop = _read_in_thread(fd, protocol)
        try:
            yield
        finally:
            stop.set()
        return
    file = os.fdopen(os.dup(fd), "rb", 0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, file)
    try:
        yield
    finally:
        transport.close()
        await asyncio.sleep(0)
        _block_again(fd)


def _block_again(fd: int) -> None:
    # The event loop made the open file non-blocking for everybody who shares it, a terminal for example.
    if sys.platform != "win32":
        os.set_blocking(fd, True)


def _read_in_thread(fd: int, protocol: _FrontProtocol) -> threading.Event:
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def deliver(data: bytes) -> None:
        if stop.is_set():
            return
        if data:
            protocol.data_received(data)
        else:
            protocol.eof_received()
            protocol.connection_lost(None)

    def run() -> None:
        data = b"?"
        while data and not stop.is_set():
            try:
                data = os.read(fd, _READ_BYTES)
            except OSError:
                data = b""
            try:
                loop.call_soon_threadsafe(deliver, data)
            except RuntimeError:
                return  # the loop is gone

    threading.Thread(target=run, daemon=True, name="mcp-guard-stdin").start()
    return stop


def _pollable(fd: int) -> bool:
    # Plain files and /dev/null cannot be polled; Windows cannot poll anonymous pipes.
    mode = os.fstat(fd).st_mode
    return sys.platform != "win32" and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd))


@contextmanager
def _claimed(fd: int, path: str | None, flags: int) -> Iterator[int]:
    """Move the wire off a standard descriptor; what others use under that number is `path`, or stderr.

    Source: the same precaution as in the SDK 2.3 (`mcp/server/stdio.py`).
    """
    private = os.dup(fd)
    if private < _FIRST_FREE_FD:
        os.close(private)
        raise OSError("a standard descriptor is closed")
    diversion = os.open(path, flags) if path is not None else os.dup(2)
    try:
        os.dup2(diversion, fd)
    finally:
        os.close(diversion)
    try:
        yield private
    finally:
        os.dup2(private, fd)
        os.close(private)
