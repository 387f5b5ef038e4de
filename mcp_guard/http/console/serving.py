"""The page on its port: whichever process binds first serves it, the others wait for their turn."""

from __future__ import annotations

import socket

import anyio
import structlog
import uvicorn

from mcp_guard.errors import GuardError
from mcp_guard.http.console.app import build_page
from mcp_guard.http.console.parts import PageParts
from mcp_guard.http.front import QuietServer

_log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
_TAKE_OVER_S = 3.0
"""Seconds between two attempts to bind a port that is taken."""


def bind(port: int) -> socket.socket | None:
    """A socket that listens on loopback; None when the port is taken."""
    try:
        return socket.create_server((HOST, port))
    except OSError:
        return None


async def serve_page(
    parts: PageParts, listener: socket.socket, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled. Closes the listener."""
    config = uvicorn.Config(
        build_page(parts),
        log_config=None,
        log_level="critical",  # the gate logs what breaks; the server would repeat what clients and errors say
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
    )
    server = QuietServer(config)
    task_status.started()
    with listener:
        try:
            await server.serve(sockets=[listener])
        finally:
            with anyio.CancelScope(shield=True):
                server.force_exit = True  # streams stay open for hours; nobody waits for them
                if server.started:
                    await server.shutdown(sockets=[listener])


async def keep_serving(parts: PageParts) -> None:
    """Serve the page as soon as the port is free, for ever. Whatever breaks here never ends the guard."""
    while True:
        listener = bind(parts.port)
        if listener is not None:
            _log.debug("console_served", port=parts.port)
            try:
                await serve_page(parts, listener)
            except GuardError as error:
                _log.warning("console_ended", error=error.code)
            except Exception as error:  # noqa: BLE001 - the boundary: the page is a convenience, the guard is not
                _log.error("console_broke", error=type(error).__name__)
        await anyio.sleep(_TAKE_OVER_S)
