"""A downstream server as a child process: spawned without a shell, stopped for sure, its stderr kept away from hosts.

Source: decisions.md D20, D29; faults F1 to F6; threats S4, S39.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import cast

import anyio

from mcp_guard.downstream.patient import PatientPump
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.downstream.stderr import StderrKeeper
from mcp_guard.errors import DownstreamUnavailableError, WireError
from mcp_guard.model import JsonDict
from mcp_guard.system import death_wrapper, kill_group
from mcp_guard.wire.lines import TooLong
from mcp_guard.wire.reader import DOWNSTREAM
from mcp_guard.wire.streams import Inbox, Outbox

MAX_BAD_LINES = 20
BAD_LINES_WINDOW_S = 10.0
"""So many unreadable lines in so many seconds end the link (fault F4)."""

MAX_UNFINISHED = 2 * DOWNSTREAM.line_bytes
"""Bytes of one line after which no end of it is awaited."""

_EXIT_GRACE_S = 1.5
_TERM_GRACE_S = 1.0
_KILL_GRACE_S = 1.0
_DRAIN_S = 0.5
"""After the exit, what the child had written may still be in the pipe."""

_NOT_INHERITED = frozenset({
    "LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GCONV_PATH", "BASH_ENV", "ENV",
    "NODE_OPTIONS", "NODE_PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT",
    "PERL5OPT", "PERL5LIB", "RUBYOPT", "RUBYLIB",
    "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "DOTNET_STARTUP_HOOKS",
})  # fmt: skip
ESSENTIAL = frozenset(
    {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"}
    if sys.platform != "win32"
    else {
        "APPDATA", "COMSPEC", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATH", "PATHEXT", "PROCESSOR_ARCHITECTURE",
        "PROGRAMFILES", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "TMP", "USERNAME", "USERPROFILE", "WINDIR",
    }
)  # fmt: skip
"""Variables that programs need to run at all."""

_NOT_INHERITED_PREFIXES = ("DYLD_", "MCP_GUARD_")

Log = Callable[[str], None]
"""Takes one line of already masked or constant text."""


def child_env(
    inherited: Mapping[str, str],
    extra: Mapping[str, str],
    *,
    withheld: Collection[str] = (),
    minimal: bool = False,
) -> dict[str, str]:
    """Environment of a child: inherited, less loader variables, the guard's own and those `withheld`, plus `extra`.

    Args:
        inherited: Of the guard.
        extra: From the configuration.
        withheld: Names of variables that belong to other servers.
        minimal: Team mode: inherit only what every program needs.

    Source: decisions.md D29.
    """
    kept = {
        name: value
        for name, value in inherited.items()
        if name not in _NOT_INHERITED
        and not name.startswith(_NOT_INHERITED_PREFIXES)
        and name not in withheld
        and (not minimal or name.upper() in ESSENTIAL)
    }
    return {**kept, **extra}


class _ChildProtocol(asyncio.SubprocessProtocol):
    def __init__(self, server: str, stderr: StderrKeeper, log: Log) -> None:
        self._server = server
        self._log = log
        self._stderr = stderr
        self._bad: deque[float] = deque(maxlen=MAX_BAD_LINES)
        self._transport: asyncio.SubprocessTransport | None = None
        self._pauses: set[str] = set()
        self._pump = PatientPump(
            DOWNSTREAM,
            accept=self._accept,
            refuse=self._refuse,
            busy=lambda busy: self._pause("a long line", on=busy),
            broken=lambda error: self._give_up(f"a message could not be read ({type(error).__name__})"),
        )
        self.bad_lines = 0
        self.inbox = Inbox(
            pause=lambda: self._pause("the session lags", on=True),
            resume=lambda: self._pause("the session lags", on=False),
        )
        self.outbox: Outbox | None = None
        self.exited = anyio.Event()
        self.ended = anyio.Event()
        """Set when nothing more can come from the child."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's process transport is no asyncio.SubprocessTransport by inheritance.
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            if not self.ended.is_set():
                self._pump.feed(data)
                if self._pump.unfinished > MAX_UNFINISHED:
                    self._give_up("one line has no end")
        else:
            self._stderr.feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if fd == 0 and self.outbox is not None:
            self.outbox.break_off()
        elif fd == 1:
            self._pump.finish()
            self._pump.when_done(self.end)
        else:
            self._stderr.finish()

    def process_exited(self) -> None:
        self.exited.set()
        if self.outbox is not None:
            self.outbox.break_off()
        # A grandchild may hold the pipe open for ever, so its end is not awaited.
        asyncio.get_running_loop().call_later(_DRAIN_S, self._pump.when_done, self.end)

    def pause_writing(self) -> None:
        if self.outbox is not None:
            self.outbox.pause()

    def resume_writing(self) -> None:
        if self.outbox is not None:
            self.outbox.resume()

    def end(self) -> None:
        """No more messages."""
        self.inbox.end()
        self.ended.set()

    def _accept(self, message: JsonDict) -> None:
        self.inbox.put(message)

    def _refuse(self, error: WireError, line: bytes | TooLong) -> None:
        self.bad_lines += 1
        size, tag = _describe(line)
        self._log(f"{self._server}: unreadable line on stdout: {error.message}; {size} bytes, sha256 {tag}")
        now = asyncio.get_running_loop().time()
        self._bad.append(now)
        if len(self._bad) == MAX_BAD_LINES and now - self._bad[0] <= BAD_LINES_WINDOW_S:
            self._give_up("too many unreadable lines")

    def _give_up(self, why: str) -> None:
        if self.ended.is_set():
            return
        self._log(f"{self._server}: closed: {why}")
        if self.outbox is not None:
            self.outbox.break_off()
        self._pause("closed", on=True)  # for good: no other reason that ends lets it be read again
        self.end()

    def _pause(self, why: str, *, on: bool) -> None:
        (self._pauses.add if on else self._pauses.discard)(why)
        pipe = self._transport.get_pipe_transport(1) if self._transport is not None else None
        if pipe is not None and not pipe.is_closing():
            reading = cast("asyncio.ReadTransport", pipe)
            (reading.pause_reading if self._pauses else reading.resume_reading)()


def _describe(line: bytes | TooLong) -> tuple[int, str]:
    if isinstance(line, TooLong):
        return line.length, "-"
    return len(line), hashlib.sha256(line).hexdigest()[:16]


class ChildProcess:
    """One running child and its pair of streams."""

    def __init__(self, transport: asyncio.SubprocessTransport, protocol: _ChildProtocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self.pid = transport.get_pid()
        self.inbox = protocol.inbox
        self.outbox = Outbox(cast("asyncio.WriteTransport", transport.get_pipe_transport(0)))
        protocol.outbox = self.outbox

    @classmethod
    async def spawn(cls, server: ResolvedServer, *, mask_text: Callable[[str], str], log: Log) -> ChildProcess:
        """Start the server's command as the leader of its own process group.

        Args:
            server: A local server.
            mask_text: Masks one line of its stderr before `log` sees it.
            log: The guard's log.

        Raises:
            DownstreamUnavailableError: it cannot be started; the message says why.
        """
        env = child_env(os.environ, server.env, withheld=server.withheld, minimal=not server.inherit)
        argv = [find_program(server, env), *server.command[1:]]
        keeper = StderrKeeper(server.name, mask_text, log)
        protocol = _ChildProtocol(server.name, keeper, log)
        try:
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: protocol, *death_wrapper(), *argv, env=env, cwd=server.cwd, start_new_session=True
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "an argument is not usable"
            raise DownstreamUnavailableError(f"{server.name} cannot be started: {reason}") from error
        return cls(transport, protocol)

    @property
    def bad_lines(self) -> int:
        """Lines on its stdout that were refused."""
        return self._protocol.bad_lines

    async def exit_code(self, wait_s: float) -> int | None:
        """Exit code, negative for a signal; None when it still runs after `wait_s` seconds."""
        await self._exits_within(wait_s)
        return self._transport.get_returncode()

    async def wait_ended(self) -> None:
        """Return when nothing more can come from it."""
        await self._protocol.ended.wait()

    async def stop(self) -> None:
        """Close its stdin, wait, TERM its group, wait, KILL its group. Takes at most 5 s and cannot be cancelled."""
        with anyio.CancelScope(shield=True):
            await self.outbox.aclose()
            await self.inbox.aclose()
            stdin = self._transport.get_pipe_transport(0)
            if stdin is not None:
                stdin.close()
            if not await self._exits_within(_EXIT_GRACE_S):
                kill_group(self.pid, force=False)
                await self._exits_within(_TERM_GRACE_S)
            # Also after a clean exit: children of the child live in the same group.
            kill_group(self.pid, force=True)
            await self._exits_within(_KILL_GRACE_S)
            with contextlib.suppress(PermissionError, ProcessLookupError):
                self._transport.close()
            self._protocol.end()
            await asyncio.sleep(0)

    async def _exits_within(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self._protocol.exited.wait()
        return self._protocol.exited.is_set()


def find_program(server: ResolvedServer, env: Mapping[str, str]) -> str:
    """Absolute path of the command, looked up on the PATH that the child will have.

    Raises:
        DownstreamUnavailableError: there is none.
    """
    command = server.command[0]
    if server.cwd is not None and not server.cwd.is_dir():
        raise DownstreamUnavailableError(f"{server.name} cannot be started: its cwd is not a folder")
    if os.path.dirname(command):  # noqa: PTH120 - "./x" and "x" differ here, which pathlib does not keep
        command = os.path.join(server.cwd or "", command)  # noqa: PTH118 - relative to the child's cwd, not normalised
    found = shutil.which(command, path=env.get("PATH"))
    if found is None:
        raise DownstreamUnavailableError(
            f"{server.name} cannot be started: its command is not found, or is not executable",
            hint="give the absolute path of the program in `command`, or install it",
        )
    return os.path.abspath(found)  # noqa: PTH100 - keeps symbolic links: programs look at their own name
