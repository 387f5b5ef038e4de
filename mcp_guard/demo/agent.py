"""The scripted agent: a real MCP client that owns the guard's process, so that it can be killed on purpose."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage

from mcp_guard.system import kill_group

APPROVAL_META = "io.mcp-guard/approval"
WAIT_TOOL = "guard_approval_wait"
_EXIT_GRACE_S = 5.0
_CALL_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent got for one call."""

    error: bool
    text: str
    structured: dict[str, Any] = field(default_factory=dict)
    ticket: dict[str, Any] | None = None
    """The guard's `_meta` about a call that waits for a person."""
    everything: str = ""
    """The whole answer as JSON text."""


class Agent:
    """One client connected to one guard process."""

    def __init__(self, client: Client, process: Process) -> None:
        self._client = client
        self._process = process

    async def call(self, tool: str, **arguments: Any) -> Answer:
        """Call a tool; an error of the protocol is an answer too."""
        try:
            result = await self._client.call_tool(tool, arguments, read_timeout_seconds=_CALL_TIMEOUT_S)
        except MCPError as error:
            return Answer(error=True, text=error.error.message, everything=error.error.message)
        text = "\n".join(part.text for part in result.content if isinstance(part, types.TextContent))
        ticket = (result.meta or {}).get(APPROVAL_META)
        return Answer(
            error=bool(result.is_error),
            text=text,
            structured=result.structured_content if isinstance(result.structured_content, dict) else {},
            ticket=ticket if isinstance(ticket, dict) else None,
            everything=result.model_dump_json(by_alias=True),
        )

    async def wait_for(self, ticket: str) -> Answer:
        """Wait with the guard's own tool until the request is settled."""
        while True:
            answer = await self.call(WAIT_TOOL, ticket=ticket, timeout_s=30)
            if answer.ticket is None or answer.ticket.get("state") not in {"pending", "executing", "approved"}:
                return answer

    async def tool_names(self) -> list[str]:
        """Names of the tools that are offered."""
        return [tool.name for tool in (await self._client.list_tools()).tools]

    async def kill_guard(self) -> None:
        """`kill -9`, and wait until the process is gone."""
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def connected(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> AsyncIterator[Agent]:
    """Start a guard and connect to it as an agent without a prompt of its own. Ends the process, whatever happens."""
    with (cwd / "guard.log").open("ab") as log:
        process = await anyio.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=cwd, env=env, start_new_session=True
        )
    try:
        info = types.Implementation(name="demo-agent", version="1")
        async with Client(_streams(process), mode="legacy", client_info=info) as client:
            yield Agent(client, process)
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)


@asynccontextmanager
async def _streams(process: Process) -> AsyncIterator[Any]:
    """The process's pipes as an SDK transport: one JSON message per line."""
    to_client, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](16)
    outgoing, from_client = anyio.create_memory_object_stream[SessionMessage](16)
    assert process.stdin is not None  # noqa: S101 - opened with pipes
    assert process.stdout is not None  # noqa: S101 - opened with pipes
    async with anyio.create_task_group() as tasks, to_client, incoming, outgoing, from_client:
        tasks.start_soon(_read, TextReceiveStream(process.stdout), to_client)
        tasks.start_soon(_write, from_client, process.stdin)
        yield incoming, outgoing
        tasks.cancel_scope.cancel()


async def _read(source: TextReceiveStream, sink: Any) -> None:
    rest = ""
    # A guard that was killed on purpose ends the stream, and a client that left ends the sink: both are the end.
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        async with sink:
            async for chunk in source:
                *lines, rest = (rest + chunk).split("\n")
                for line in lines:
                    await sink.send(SessionMessage(types.jsonrpc_message_adapter.validate_json(line, by_name=False)))


async def _write(source: Any, sink: Any) -> None:
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        async with source:
            async for item in source:
                text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                await sink.send(text.encode() + b"\n")


async def _end(process: Process) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError, anyio.BrokenResourceError):
            await process.stdin.aclose()
    with anyio.move_on_after(_EXIT_GRACE_S):
        await process.wait()
    if process.returncode is None:
        kill_group(process.pid, force=True)
        await process.wait()
    await process.aclose()


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON, None when it is not JSON."""
        try:
            return json.loads(self.out)
        except ValueError:
            return None


async def run_command(command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> Ran:
    """Run a command without any terminal, as a process of its own."""
    done = await anyio.run_process(
        command,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        env=dict(os.environ if env is None else env),
        check=False,
        start_new_session=True,
    )
    return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
