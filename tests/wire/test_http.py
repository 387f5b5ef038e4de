"""The strict reader in front of an ASGI app."""

from __future__ import annotations

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcp_guard.wire.http import StrictBody

SEEN: list[bytes] = []


async def endpoint(request: Request) -> Response:
    SEEN.append(await request.body())
    return JSONResponse({"ok": True})


def client(limit: int = 1000) -> httpx2.AsyncClient:
    app = StrictBody(Starlette(routes=[Route("/", endpoint, methods=["GET", "POST"])]), limit=limit)
    SEEN.clear()
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://guard")


async def test_a_good_body_reaches_the_app_unchanged() -> None:
    """decisions.md D3."""
    body = b' {"jsonrpc":"2.0","id":1,"method":"ping"} '
    async with client() as http:
        assert (await http.post("/", content=body)).json() == {"ok": True}
        assert (await http.get("/")).status_code == 200
    assert [body, b""] == SEEN


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"jsonrpc":"2.0","id":3,"id":3,"method":"ping"}', 400, -32700),
        (b'{"jsonrpc":"2.0","id":3,"method":"ping","params":{"x":1e400}}', 400, -32600),
        (b'[{"jsonrpc":"2.0","id":3,"method":"ping"}]', 400, -32600),
        (b"", 400, -32700),
        (b"x" * 2000, 413, -32600),
    ],
)
async def test_a_bad_body_is_answered_and_the_app_never_sees_it(body: bytes, status: int, code: int) -> None:
    """security.md S1 to S5 on HTTP."""
    async with client() as http:
        answer = await http.post("/", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert SEEN == []
