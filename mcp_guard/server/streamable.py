"""The SDK's streamable HTTP endpoint, told on which address it may be spoken to."""

from __future__ import annotations

from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

MCP_PATH = "/mcp"
MAX_SESSIONS = 256
"""Sessions of older clients at a time."""
SESSION_IDLE_S = 1800.0
"""Seconds after which an idle session ends."""
MAX_BODY = 4 * 1024 * 1024
"""Bytes of one request (decisions.md D3)."""


def streamable_app(server: Server[Any], *, host: str, port: int) -> ASGIApp:
    """The dual-era endpoint at `/mcp`. Host and Origin must name this very address (security.md S18, S34)."""
    names = sorted({host, "127.0.0.1", "localhost", "[::1]"})
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[f"{name}:{port}" for name in names],
        allowed_origins=[f"http://{name}:{port}" for name in names],
    )
    return server.streamable_http_app(
        streamable_http_path=MCP_PATH,
        host=host,
        transport_security=security,
        max_request_body_size=MAX_BODY,
        max_sessions=MAX_SESSIONS,
        session_idle_timeout=SESSION_IDLE_S,
    )
