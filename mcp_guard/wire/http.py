"""The strict reader in front of an ASGI app: what the SDK would read leniently never reaches it (decisions.md D3)."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_guard.errors import WireError
from mcp_guard.wire.reader import FRONT, INVALID_REQUEST, dump_json, error_message, parse_message

_TOO_LARGE = 413
_BAD_REQUEST = 400


class StrictBody:
    """Runs `parse_message` over each POST body before `app` sees it.

    A refused body is answered with a JSON-RPC error: HTTP 413 above the size limit, else 400. Source: threats S1 to S5.
    """

    def __init__(self, app: ASGIApp, *, limit: int = FRONT.line_bytes) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = await self._read(receive)
        if body is None:
            return
        if len(body) > self._limit:
            await _refuse(send, _TOO_LARGE, WireError("the body is too large", rpc=INVALID_REQUEST))
            return
        try:
            parse_message(body)
        except WireError as error:
            await _refuse(send, _BAD_REQUEST, error)
            return
        await self._app(scope, _replayed(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body, or a little more than the limit of it; None when the client went away."""
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk: bytes = message.get("body", b"")
            chunks.append(chunk)
            size += len(chunk)
            if size > self._limit or not message.get("more_body", False):
                return b"".join(chunks)


def _replayed(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


async def _refuse(send: Send, status: int, error: WireError) -> None:
    body = dump_json(error_message(error.request_id, error.rpc, error.message))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == _TOO_LARGE:
        # The rest of the body was not read, so the connection cannot carry another request.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
