"""The HTTP client of remote downstream servers: bounded, strict, and silent about the front's credentials.

Source: decisions.md D3; threats S32, S33. Only the headers of the configuration are sent; redirects stay within the
origin (the SDK's rule).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import httpx2
import jiter
from anyio import to_thread

from mcp_guard.downstream.patient import LONG_LINE
from mcp_guard.errors import WireError
from mcp_guard.wire.lines import LineCutter, TooLong
from mcp_guard.wire.reader import DOWNSTREAM, dump_json, error_message, parse_message
from mcp_guard.wire.streams import SENT

UNREADABLE: Final = "the downstream server sent an answer that is not a strict JSON-RPC message"

_CONNECT_TIMEOUT_S = 10.0
_INTERNAL_ERROR = -32603


class StrictClient(httpx2.AsyncClient):
    """Reads every answer through the strict reader before the SDK does."""

    def __init__(self, headers: Mapping[str, str], *, read_timeout_s: float) -> None:
        super().__init__(
            # identity: a compressed answer could be a bomb, and nothing here would count its real size.
            headers={**headers, "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(_CONNECT_TIMEOUT_S, read=read_timeout_s),
        )

    async def send(self, request: httpx2.Request, **kwargs: Any) -> httpx2.Response:
        """See `httpx2.AsyncClient.send`."""
        try:
            response = await super().send(request, **kwargs)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            sent = SENT.get()
            if sent is not None:
                sent.yes = False  # no connection, so no byte of this request left
            raise
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError("the downstream server ignored Accept-Encoding: identity")
        if not isinstance(response.stream, httpx2.AsyncByteStream):
            raise httpx2.RemoteProtocolError("the answer cannot be read strictly")
        if kind == "text/event-stream":
            response.stream = _StrictEvents(response.stream)
        elif kind == "application/json":
            response.stream = await _strict_body(request, response.stream)
            response.headers.pop("content-length", None)
        else:
            response.stream = _Capped(response.stream)
        return response


class _Capped(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > DOWNSTREAM.line_bytes:
                raise httpx2.RemoteProtocolError("the answer is too large")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Bytes(httpx2.AsyncByteStream):
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data


async def _strict_body(request: httpx2.Request, stream: httpx2.AsyncByteStream) -> _Bytes:
    capped = _Capped(stream)
    try:
        body = b"".join([chunk async for chunk in capped])
        if body.strip():
            await _readable(body)
    except (WireError, httpx2.RemoteProtocolError):
        body = dump_json(error_message(_request_id(request), _INTERNAL_ERROR, UNREADABLE))
    finally:
        await capped.aclose()
    return _Bytes(body)


async def _readable(data: bytes) -> None:
    """Raises WireError where it is no strict message. A long one is read on a worker thread, as `patient` does."""
    if len(data) > LONG_LINE:
        await to_thread.run_sync(parse_message, data, DOWNSTREAM)
    else:
        parse_message(data, DOWNSTREAM)


def _request_id(request: httpx2.Request) -> str | int | None:
    # The body is one that the SDK wrote, so it parses; a GET has none.
    sent = jiter.from_json(request.content) if request.content else None
    found = sent.get("id") if isinstance(sent, dict) else None
    return found if isinstance(found, str | int) else None


class _StrictEvents(httpx2.AsyncByteStream):
    """Server-sent events; an event that the strict reader refuses ends the stream before the SDK sees it."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner
        self._cutter = LineCutter(DOWNSTREAM.line_bytes)
        self._data: list[bytes] = []

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            for line in self._cutter.feed(chunk):
                await self._line(line)
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _line(self, line: bytes | TooLong) -> None:
        if isinstance(line, TooLong) or b"\r" in line:
            raise httpx2.RemoteProtocolError("a line of the event stream is not usable")
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line:
            data, self._data = b"\n".join(self._data), []
            if data:
                try:
                    await _readable(data)
                except WireError:
                    raise httpx2.RemoteProtocolError(UNREADABLE) from None
