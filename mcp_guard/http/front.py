"""Serve the guard over streamable HTTP on loopback (security.md S18, S34).

The order of the wrappers is the argument: who may speak (bearer token) comes before what is said (strict reader),
and both before the SDK sees a byte. Host and Origin are checked by the SDK against this very address.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import logging
import secrets
import signal
import socket
import sys
from collections.abc import Generator
from hashlib import sha256
from pathlib import Path

import anyio
import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_guard.errors import ConfigError
from mcp_guard.system import write_new_private
from mcp_guard.wire.http import StrictBody

_TOKEN_BYTES = 32


def parse_address(text: str) -> tuple[str, int]:
    """Split `HOST:PORT`.

    Raises:
        ConfigError: not of that form, or not a loopback address.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdigit() or int(port) > 65_535:  # noqa: PLR2004 - the highest port
        raise ConfigError("--http takes HOST:PORT", hint="for example --http 127.0.0.1:8750")
    if host != "localhost" and not _is_loopback(host):
        raise ConfigError(
            f"{host} is not a loopback address; this version serves loopback only",
            hint="use 127.0.0.1, and put a proxy with its own authentication in front for other machines",
        )
    return host, int(port)


def bearer_token(path: Path) -> str:
    """The token of this data folder, made on first use in a file of mode 0600.

    Raises:
        ConfigError: the file cannot be read or made.
    """
    try:
        if not path.exists():
            write_new_private(path, secrets.token_urlsafe(_TOKEN_BYTES).encode())
        token = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"the token file {path} cannot be read or made: {error.strerror}") from error
    if len(token) < _TOKEN_BYTES or not token.isascii():
        raise ConfigError(f"the token file {path} is damaged", hint="delete it; a new token is made at the next start")
    return token.decode("ascii")


class BearerOnly:
    """Lets requests through that carry the token; answers 401 to all others."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._digest = sha256(token.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "http" and not self._admits(scope):
            body = {"error": "unauthorized", "hint": "send the bearer token from the token file of the data folder"}
            response = JSONResponse(body, status_code=401, headers={"WWW-Authenticate": "Bearer"})
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(values) != 1 or not values[0].lower().startswith(b"bearer "):
            return False
        return hmac.compare_digest(sha256(values[0][7:].strip()).digest(), self._digest)


def protected(app: ASGIApp, *, token: str | None) -> ASGIApp:
    """Wrap the MCP endpoint: the token first, then the strict reader."""
    strict = StrictBody(app)
    return strict if token is None else BearerOnly(strict, token)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        ConfigError: the port is taken, or the address is not of this machine.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}", hint="where another program uses the port, choose another one"
        ) from error


async def serve_app(app: ASGIApp, listener: socket.socket) -> None:
    """Run until the scope is cancelled or the caller's signals end it.

    Access logs are off: URLs and clients are in the audit log.
    """
    logging.getLogger("mcp.server").setLevel(logging.WARNING)  # below that it writes session ids, which authorise
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="error",  # its warnings are of what clients send, and name packages to install
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        ws="none",
    )
    server = QuietServer(config)
    async with anyio.create_task_group() as group:
        group.start_soon(_end_on_signal, server, group.cancel_scope)
        await server.serve(sockets=[listener])
        group.cancel_scope.cancel()


class QuietServer(uvicorn.Server):
    """Leaves signals alone: uvicorn raises them again at its end, which would kill the guard before it has drained."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """See `uvicorn.Server.capture_signals`."""
        yield


async def _end_on_signal(server: uvicorn.Server, scope: anyio.CancelScope) -> None:
    if sys.platform == "win32":
        return
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if server.should_exit:
                scope.cancel()  # asked twice: waits for no connection
            server.should_exit = True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
