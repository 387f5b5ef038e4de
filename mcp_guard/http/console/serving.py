"""The page on its port: whichever process binds first serves it, the others wait for their turn."""

from __future__ import annotations

import socket

import anyio
import structlog
import uvicorn
from anyio import to_thread

from mcp_guard.errors import GuardError
from mcp_guard.http.console.app import build_page
from mcp_guard.http.console.parts import PageParts
from mcp_guard.http.console.probe import serves_here
from mcp_guard.http.front import QuietServer

_log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
_TAKE_OVER_S = 3.0
"""Seconds between two attempts to bind a port that is taken."""
_LOOK_S = 60.0
"""Seconds between two looks at the guard that has the port."""
_AGAIN_S = 600.0
"""Seconds between two lines about a strange program that has it."""
_SURE = 2


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
    taken = _Taken(parts)
    while True:
        listener = bind(parts.port)
        if listener is None:
            await taken.look()
        else:
            taken = _Taken(parts)
            _log.debug("console_served", port=parts.port)
            try:
                await serve_page(parts, listener)
            except GuardError as error:
                _log.warning("console_ended", error=error.code)
            except Exception as error:  # noqa: BLE001 - the boundary: the page is a convenience, the guard is not
                _log.error("console_broke", error=type(error).__name__)
        await anyio.sleep(_TAKE_OVER_S)


class _Taken:
    """The port while somebody else has it. Another guard of this data folder is as good; of others the log tells."""

    def __init__(self, parts: PageParts) -> None:
        self._parts = parts
        self._strange = 0
        self._next = float("-inf")

    async def look(self) -> None:
        """Ask who it is, where it is time for that, and say so. Twice first: who is busy may answer late."""
        now = anyio.current_time()
        if now < self._next:
            return
        port = self._parts.port
        if await to_thread.run_sync(serves_here, self._parts.keys, port):
            self._strange, self._next = 0, now + _LOOK_S
            return
        self._strange += 1
        if self._strange >= _SURE:
            self._next = now + _AGAIN_S
            _log.warning(
                "console_port_taken",
                text=f"another program has port {port}, so the page where people decide is not served; set "
                "console.port in guard.yaml to a free port. Until then decide with `mcp-guard approvals ls`.",
            )
