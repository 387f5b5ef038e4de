"""A real guard process with real downstream servers, driven by real clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import anyio
import mcp_types as types
from mcp import Client
from mcp.client.stdio import StdioServerParameters

HERE = Path(__file__).parent
LEAKY = HERE / "leaky_server.py"

POSITIONS = (
    "description", "text", "keyed", "structured", "meta", "error", "error_data", "exception", "progress", "stderr",
    "embedded", "resource", "resource_description", "prompt", "prompt_description", "instructions",
)  # fmt: skip


def planted() -> dict[str, str]:
    """One secret of a known shape for each position; unmistakable, so that any copy of it is a leak."""
    return {
        name: f"ghp_{name.replace('_', '').ljust(16, 'x')[:16]}{index:02d}Zq7Kp2Lm9Rt4Vb6Nc1"[:40].ljust(40, "8")
        for index, name in enumerate(POSITIONS)
    }


@dataclass
class Guard:
    """One guard.yaml in its own folder, and how to run things against it."""

    folder: Path
    config: dict[str, Any]
    env: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.folder / "guard.yaml"

    @property
    def data(self) -> Path:
        return self.folder / "guard-data"

    def write(self) -> None:
        self.path.write_text(json.dumps(self.config), encoding="utf-8")
        self.path.chmod(0o600)

    def params(self, *extra: str) -> StdioServerParameters:
        return StdioServerParameters(
            command=sys.executable,
            args=["-m", "mcp_guard.cli.main", "serve", "--config", str(self.path), *extra],
            env={**os.environ, **self.env},
            cwd=self.folder,
        )

    def cli(
        self, *args: str, token: str | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the guard without a terminal."""
        full = {**os.environ, **self.env, **(env or {})}
        if token is not None:
            full["MCP_GUARD_REVIEWER_TOKEN"] = token
        command = [sys.executable, "-m", "mcp_guard.cli.main", *args, "--config", str(self.path)]
        return subprocess.run(
            command, capture_output=True, text=True, env=full, cwd=self.folder, stdin=subprocess.DEVNULL, check=False
        )

    def reviewer(self, name: str = "rita") -> str:
        """Register a reviewer; returns the token."""
        done = self.cli("reviewer", "add", name, "--json")
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["token"])

    def json(self, *args: str, token: str | None = None) -> Any:
        done = self.cli(*args, "--json", token=token)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def everything_written(self) -> bytes:
        """All bytes of all files below the data folder."""
        return b"".join(path.read_bytes() for path in sorted(self.data.rglob("*")) if path.is_file())

    def effects(self, server: str = "leaky") -> list[dict[str, Any]]:
        file = self.folder / f"{server}.effects"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def leaky(folder: Path, name: str = "leaky") -> dict[str, Any]:
    """Configuration of the leaking server."""
    secrets = folder / f"{name}.secrets"
    secrets.write_text(json.dumps(planted()), encoding="utf-8")
    return {"command": sys.executable, "args": [str(LEAKY), str(secrets), str(folder / f"{name}.effects")]}


def basic(folder: Path, **more: Any) -> Guard:
    """A guard in front of the leaking server: reads allowed, deletes ask, drops denied."""
    config = {
        "version": 1,
        "id": "test",
        "data_dir": "./guard-data",
        "servers": {"leaky": leaky(folder)},
        "rules": [
            {"id": "allow-all", "match": {"server": "leaky"}, "effect": "allow", "reason": "a test server"},
            {"id": "ask-delete", "match": {"tool": "delete_*"}, "effect": "require_approval"},
            {"id": "never-drop", "match": {"tool": "drop_*"}, "effect": "deny"},
        ],
        "approvals": {"hold_s": 0.3},
        **more,
    }
    guard = Guard(folder, config)
    guard.write()
    return guard


@asynccontextmanager
async def connected(guard: Guard, *extra: str, mode: str = "auto", **client: Any) -> AsyncIterator[Client]:
    """A client on a new guard process over stdio."""
    async with Client(guard.params(*extra), mode=mode, cache=None, **client) as found:
        yield found


async def raw_call(client: Client, name: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    """tools/call without the SDK's own checks of the result."""
    from pydantic import TypeAdapter

    request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=arguments))
    raw: Any = TypeAdapter(dict[str, Any])
    found: dict[str, Any] = await client.session.send_request(request, raw, **more)
    return found


def text_of(result: Mapping[str, Any]) -> str:
    return "\n".join(block.get("text", "") for block in result.get("content", []))


class RawGuard:
    """A guard process spoken to in plain JSON lines, so that it can be killed."""

    def __init__(self, guard: Guard, *extra: str) -> None:
        self._guard, self._extra, self._next = guard, extra, 0

    async def __aenter__(self) -> Self:
        params = self._guard.params(*self._extra)
        self.process = await anyio.open_process(
            [params.command, *params.args], env=params.env, cwd=params.cwd, stderr=subprocess.PIPE
        )
        self._buffer = b""
        await self.request(
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
        )
        await self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        with anyio.CancelScope(shield=True):
            if self.process.returncode is None:
                self.process.kill()
            await self.process.aclose()

    async def send(self, message: dict[str, Any] | bytes) -> None:
        assert self.process.stdin
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self.process.stdin.send(data + b"\n")

    async def receive(self) -> dict[str, Any]:
        assert self.process.stdout
        while b"\n" not in self._buffer:
            self._buffer += await self.process.stdout.receive()
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return its response; messages of other kinds are dropped."""
        self._next += 1
        await self.send({"jsonrpc": "2.0", "id": self._next, "method": method, "params": params})
        wanted = self._next
        with anyio.fail_after(30):
            while True:
                message = await self.receive()
                if message.get("id") == wanted and "method" not in message:
                    return message

    async def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return await self.request("tools/call", {"name": name, "arguments": arguments})

    async def kill(self) -> None:
        """kill -9, as a power cut for the process."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
