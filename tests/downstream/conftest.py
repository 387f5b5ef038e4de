"""Real downstream servers for the tests of this folder."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from starlette.types import ASGIApp

from mcp_guard.downstream.link import LinkOptions
from mcp_guard.downstream.server import ResolvedServer

FIXTURES = Path(__file__).parent / "fixtures"

MakeServer = Callable[..., ResolvedServer]
Serve = Callable[..., Any]


@pytest.fixture(autouse=True)
def data_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder of the guard: not the one of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("data-home") / "mcp-guard"
    monkeypatch.setattr("mcp_guard.downstream.lockfile.user_data_dir", lambda: folder)
    return folder


@pytest.fixture
def raw() -> MakeServer:
    """A server that misbehaves in the way `mode` names."""

    def make(mode: str = "good", **changes: Any) -> ResolvedServer:
        command = (sys.executable, "-S", "-E", str(FIXTURES / "raw_server.py"), mode)
        settings: dict[str, Any] = {"name": "raw", "identity": "id", "start_timeout_s": 5.0, "call_timeout_s": 5.0}
        return ResolvedServer(command=command, **{**settings, **changes})

    return make


@pytest.fixture
def sdk() -> MakeServer:
    """A well-behaved server on the SDK, which speaks both eras."""

    def make(**changes: Any) -> ResolvedServer:
        settings: dict[str, Any] = {
            "name": "sdk",
            "identity": "id",
            "command": (sys.executable, str(FIXTURES / "sdk_server.py")),
        }
        return ResolvedServer(**{**settings, **changes})

    return make


@pytest.fixture
def sdk_app() -> ASGIApp:
    """The same server for HTTP, in this process."""
    spec = importlib.util.spec_from_file_location("sdk_server", FIXTURES / "sdk_server.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    app: ASGIApp = module.build().streamable_http_app(host="127.0.0.1")
    return app


@pytest.fixture
def serve() -> Serve:
    """Serves an ASGI app on loopback while the block runs; gives its address."""

    @asynccontextmanager
    async def serving(app: ASGIApp, port: int = 0) -> AsyncIterator[str]:
        listener = socket.create_server(("127.0.0.1", port))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True

    return serving


@pytest.fixture
def log() -> list[str]:
    """What went to the guard's log."""
    return []


@pytest.fixture
def options(log: list[str]) -> Callable[..., LinkOptions]:
    """Options of a link that logs to `log` and masks nothing."""

    async def ignore(_: str) -> None:
        return None

    def make(**changes: Any) -> LinkOptions:
        settings: dict[str, Any] = {"mask_text": str, "log": log.append, "on_changed": ignore}
        return LinkOptions(**{**settings, **changes})

    return make
