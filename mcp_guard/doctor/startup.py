"""How long a host waits for the guard: a real guard over stdio, from its start to its first answers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

import anyio
from anyio.abc import Process

from mcp_guard import __version__
from mcp_guard.approval.prompt import clip
from mcp_guard.doctor.finding import Finding, find, fine
from mcp_guard.doctor.servers import STDERR_CHARACTERS
from mcp_guard.doctor.setup import Machine
from mcp_guard.system import kill_group
from mcp_guard.wire.lines import LineCutter, TooLong

SLOW_S: Final = 3.0
"""What the guard may add. Hosts give up after 10 to 60 s."""

_LINE_BYTES: Final = 32 * 1024 * 1024
_STOP_S: Final = 2.0
_LOG_BYTES: Final = 4096
_LOG_LINES: Final = 3
_INITIALIZE: Final = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "mcp-guard doctor", "version": __version__},
}


@dataclass(frozen=True, slots=True)
class Startup:
    """Seconds since the process was started."""

    initialize_s: float | None
    """To the answer of `initialize`; None: it did not come."""
    tools_s: float | None
    """To the answer of `tools/list`."""
    stderr: tuple[str, ...] = ()
    """The end of what the guard wrote there; it masks that itself."""


async def measure(machine: Machine, config: Path, *, timeout_s: float) -> Startup:
    """Start a guard on a data folder that is thrown away, as a host that sees it for the first time.

    Args:
        machine: The machine.
        config: guard.yaml, absolute; the guard runs in its folder, so that nothing of the current one is started.
        timeout_s: How long to wait for its answers.
    """
    with tempfile.TemporaryDirectory(prefix="mcp-guard-doctor-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "stderr"
        with log.open("xb") as stderr:
            command = [*machine.serve_aside, str(config), str(Path(folder) / "data")]
            times = await _measure(command, replace(machine, cwd=config.parent), stderr, timeout_s)
        lines = log.read_bytes()[-_LOG_BYTES:].decode("utf-8", errors="replace").splitlines()
    first, second = [*times, None, None][:2]
    return Startup(first, second, tuple(clip(line, STDERR_CHARACTERS) for line in lines[-_LOG_LINES:]))


async def _measure(command: Sequence[str], machine: Machine, stderr: BinaryIO, timeout_s: float) -> list[float]:
    times: list[float] = []
    started = anyio.current_time()
    process = await anyio.open_process(
        command, env=dict(machine.env), cwd=machine.cwd, stderr=stderr, start_new_session=True
    )
    try:
        with anyio.move_on_after(timeout_s):
            await _ask(process, started, times)
    finally:
        await _stop(process)
    return times


async def _ask(process: Process, started: float, times: list[float]) -> None:
    lines = _Lines(process)
    try:
        for number, (method, params) in enumerate((("initialize", _INITIALIZE), ("tools/list", {})), start=1):
            await _send(process, {"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            await lines.answer(number)
            times.append(anyio.current_time() - started)
            await _send(process, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # it ended: what it did not answer is missing from `times`


async def _send(process: Process, message: dict[str, object]) -> None:
    if process.stdin is not None:
        await process.stdin.send(json.dumps(message).encode() + b"\n")


class _Lines:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._cutter = LineCutter(_LINE_BYTES)

    async def answer(self, number: int) -> None:
        """Read until the answer of this request has come."""
        while self._process.stdout is not None:
            for line in self._cutter.feed(await self._process.stdout.receive()):
                if not isinstance(line, TooLong) and _answers(line, number):
                    return


def _answers(line: bytes, number: int) -> bool:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and message.get("id") == number and "result" in message


async def _stop(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.stdin is not None:
            await process.stdin.aclose()
        with anyio.move_on_after(_STOP_S):
            await process.wait()
        if process.returncode is None:
            kill_group(process.pid, force=True)
        await process.aclose()


def judge(startup: Startup, slowest_s: float | None) -> list[Finding]:
    """Whether the guard starts, and what it adds to its slowest server.

    Args:
        startup: As measured.
        slowest_s: Seconds in which the slowest server is ready when it is started directly, None when none was.
    """
    if startup.initialize_s is None:
        detail = tuple(f"stderr: {line}" for line in startup.stderr)
        return [find("startup-failed", "A guard that was started on trial did not answer.", detail=detail)]
    said = f"the guard answers in {startup.initialize_s:.1f} s"
    if startup.tools_s is None:
        return [fine(said), find("startup-slow", "The first list of tools takes longer than this check waits.")]
    added = startup.tools_s - (slowest_s or 0.0)
    beside = "" if slowest_s is None else f" (its slowest server alone: {slowest_s:.1f} s)"
    listed = f"lists tools in {startup.tools_s:.1f} s{beside}"
    if startup.initialize_s > SLOW_S or added > SLOW_S:
        return [find("startup-slow", f"Starting is slow: {said} and {listed}.")]
    return [fine(f"{said}, {listed}")]
