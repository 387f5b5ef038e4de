"""A real guard process with real downstream servers, driven by real clients."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar, overload

import anyio
import mcp_types as types
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from pydantic import TypeAdapter

from mcp_guard.approval.review import ApprovalReview
from mcp_guard.audit.query import Entry, tail
from mcp_guard.audit.slots import installed_vkeys
from mcp_guard.audit.verify import Outcome, verify
from mcp_guard.cli.approvals import open_review
from mcp_guard.config.load import load_config
from mcp_guard.keystore import KeyStore
from tests import quick

_T = TypeVar("_T")
_POLL_S = 0.02
ANY_RESULT: Any = TypeAdapter(dict[str, Any])

HERE = Path(__file__).parent
LEAKY = HERE / "leaky_server.py"

POSITIONS = (
    "description", "text", "keyed", "structured", "meta", "error", "error_data", "exception", "progress", "stderr",
    "embedded", "resource", "resource_description", "prompt", "prompt_description", "instructions", "schema",
    "default", "title", "hint", "link", "content_meta", "prompt_argument", "template", "completion", "log",
    "meta_key",
)  # fmt: skip


PEOPLE = {
    "email": "wilhelmina.harker@example.net",
    "card": "4539578763621486",
    "ssn": "536-90-4399",
    "iban": "DE89370400440532013000",
    "phone": "+44 20 7946 0958",
}
"""Personal data of nobody, one of each kind."""


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

    def __post_init__(self) -> None:
        self.env.setdefault("XDG_DATA_HOME", str(self.folder / "user-data"))  # not that of who tests

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
        return quick.command([*args, "--config", str(self.path)], env=full, cwd=self.folder)

    def reviewer(self, name: str = "rita") -> str:
        """Register a reviewer, as a person in a terminal; returns the token."""
        if sys.platform == "win32":  # no pseudo-terminals: only the first one, before anything is asked
            done = self.cli("reviewer", "add", name, "--json")
            code, output = done.returncode, done.stdout
        else:
            code, output = self.terminal("reviewer", "add", name, "--json")
        assert code == 0, output
        return str(json.loads(output)["token"])

    def approve(self, ticket: str, *args: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        """Approve by the fingerprint, without a terminal."""
        mark = self.json("approvals", "show", ticket)["fingerprint"]
        return self.cli("approvals", "approve", ticket, "--fingerprint", mark, *args, token=token)

    def terminal(self, *args: str, typed: str = "") -> tuple[int, str]:
        """Run a command of the guard on a pseudo-terminal with this typed; returns the exit code and what it wrote."""
        if sys.platform == "win32":
            raise OSError("there are no pseudo-terminals")
        import pty

        ours, theirs = pty.openpty()
        os.write(ours, typed.encode())
        command = [sys.executable, "-m", "mcp_guard.cli.main", *args, "--config", str(self.path)]
        env = {**os.environ, **self.env}
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=self.folder) as process:
            os.close(theirs)
            output = b""
            try:
                while chunk := os.read(ours, 4096):
                    output += chunk
            except OSError:
                pass  # Linux: the other side has closed
            finally:
                os.close(ours)
        return process.returncode, output.decode()

    def json(self, *args: str, token: str | None = None) -> Any:
        done = self.cli(*args, "--json", token=token)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def everything_written(self) -> bytes:
        """All bytes of all files below the data folder, and what is packed in the log's payloads."""
        files = [path for path in sorted(self.data.rglob("*")) if path.is_file()]
        return b"".join([*(path.read_bytes() for path in files), *self._unpacked()])

    def _unpacked(self) -> Iterator[bytes]:
        for file in self.data.rglob("audit/*/*.db"):
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
                for (data,) in db.execute("SELECT data FROM payload"):
                    with contextlib.suppress(zlib.error):
                        yield zlib.decompress(data)

    def records(self) -> list[Entry]:
        """The whole record."""
        return tail(self.data / "audit", 100_000)

    def verified(self) -> bool:
        """Whether the record holds and lacks nothing; `mcp-guard audit verify` asks the same."""
        folder = self.data / "audit"
        report = verify(folder, installed_vkeys(folder, KeyStore(self.data / "keys")))
        return report.outcome is Outcome.OK and report.dropped == 0

    def executions(self, server: str = "leaky") -> list[dict[str, Any]]:
        """What the leaking server did, with the execution id of each."""
        file = self.folder / f"{server}.effects"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def effects(self, server: str = "leaky") -> list[dict[str, Any]]:
        """What the leaking server did: tool and arguments."""
        return [{"tool": one["tool"], "arguments": one["arguments"]} for one in self.executions(server)]

    def count(self, tool: str, server: str = "leaky") -> int:
        """How often the leaking server ran this."""
        return sum(1 for one in self.executions(server) if one["tool"] == tool)

    def release(self, server: str = "leaky") -> None:
        """Let the calls of `slow` end."""
        (self.folder / f"{server}.effects.release").touch()


def leaky(folder: Path, name: str = "leaky") -> dict[str, Any]:
    """Configuration of the leaking server."""
    secrets = folder / f"{name}.secrets"
    secrets.write_text(json.dumps({**planted(), "people": json.dumps(PEOPLE)}), encoding="utf-8")
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


def recorded(parameters: StdioServerParameters, out: Path) -> StdioServerParameters:
    """The same process, with all bytes that its client receives also in `out`, and its stderr in `out`.err."""
    script = 'out="$0"; "$@" 2>>"$out.err" | tee -a "$out"'
    command = [str(out), parameters.command, *parameters.args]
    return parameters.model_copy(update={"command": "/bin/sh", "args": ["-c", script, *command]})


@asynccontextmanager
async def connected(
    guard: Guard, *extra: str, mode: str = "auto", record: Path | None = None, **client: Any
) -> AsyncIterator[Client]:
    """A client on a new guard process over stdio; `record` keeps what it receives, see `recorded`."""
    parameters = guard.params(*extra)
    if record is not None:
        parameters = recorded(parameters, record)
    async with Client(parameters, mode=mode, cache=None, **client) as found:
        yield found


async def raw_call(
    client: Client,
    name: str,
    arguments: dict[str, Any],
    *,
    round_two: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """tools/call without the SDK's own checks of the result.

    `round_two` holds `requestState` and `inputResponses` of a call that comes back; `more` goes to the session.
    """
    params = types.CallToolRequestParams.model_validate({"name": name, "arguments": arguments, **(round_two or {})})
    request = types.CallToolRequest(params=params)
    found: dict[str, Any] = await client.session.send_request(request, ANY_RESULT, **more)
    return found


@overload
async def until(check: Callable[[], Coroutine[Any, Any, _T]], within_s: float = ...) -> _T: ...


@overload
async def until(check: Callable[[], _T], within_s: float = ...) -> _T: ...


async def until(check: Callable[[], Any], within_s: float = 15.0) -> Any:
    """Ask again and again, up to a deadline, until the answer is true; return it."""
    with anyio.fail_after(within_s):
        while True:
            answer = check()
            found = await answer if isinstance(answer, Awaitable) else answer
            if found:
                return found
            await anyio.sleep(_POLL_S)


@asynccontextmanager
async def reviewing(guard: Guard) -> AsyncIterator[ApprovalReview]:
    """The control plane on this guard's data folder, as a second process would use it."""
    async with open_review(load_config(guard.path, env={**os.environ, **guard.env})) as review:
        yield review


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
        self.process.kill()
        await self.process.wait()
