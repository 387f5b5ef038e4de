"""The gate of commands that only look, such as `check --connect`: what is not the accepted program is not started.

Reads `guard.lock` and writes nothing.
"""

from __future__ import annotations

from anyio import to_thread

from mcp_guard.downstream import report
from mcp_guard.downstream.accepted import Anything
from mcp_guard.downstream.definition import Listing, Program
from mcp_guard.downstream.lockfile import Lock, LockFile
from mcp_guard.downstream.program import observe
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.downstream.snapshot import STARTS, program_deviations
from mcp_guard.errors import ConfigError, QuarantinedError

_NOT_WRITTEN_YET = "start a session through the guard, which writes down what changed; then look with `{command}`"


class OnlyLooking(Anything):
    """Implements `Gate`.

    Args:
        file: `guard.lock`. One that is not usable holds back every server with pins.
    """

    def __init__(self, file: LockFile) -> None:
        self._unusable = ""
        try:
            self._lock = file.read() or Lock()
        except ConfigError:
            self._lock, self._unusable = Lock(), report.BROKEN_LOCK

    def judge(self, server: ResolvedServer) -> Program | None:
        """Look at the program files of a server; None where nothing is pinned of them. Not on the event loop.

        Raises:
            QuarantinedError: they are not the accepted ones, or were not at an earlier look.
            DownstreamUnavailableError: its program is not found.
        """
        if server.pins == "off":
            return None
        program = observe(server) if server.pins == "program" else None
        pin = self._lock.servers.get(server.name)
        known = set(pin.quarantine.server) if pin is not None else set[str]()
        found = set(program_deviations(pin, list(server.written), program)) if pin is not None and program else set()
        held = STARTS & (known | found) if program is not None else set()
        if held or self._unusable:
            why = self._unusable or f"its {report.causes(held)} changed since it was accepted"
            self._refuse(server, f"quarantined and not started: {why}", recorded=found <= known)
        return program

    async def before_start(self, server: ResolvedServer) -> Program | None:
        """See `Gate`."""
        return await to_thread.run_sync(self.judge, server)

    async def listed(
        self, server: ResolvedServer, listing: Listing, *, first: bool, program: Program | None = None
    ) -> None:
        """See `Gate`."""
        del listing  # who looks judges it
        if not first or program is None:
            return
        if not program.same_files(await to_thread.run_sync(observe, server)):
            self._refuse(server, "quarantined and ended: its program files changed while it started", recorded=False)

    def _refuse(self, server: ResolvedServer, text: str, *, recorded: bool) -> None:
        command = report.mending(server.name, self._unusable)
        hint = f"`{command}` shows it, `mcp-guard pins accept {server.name}` starts it"
        if self._unusable:
            hint = f"`{command}` says how to mend it"
        elif not recorded:
            hint = _NOT_WRITTEN_YET.format(command=command)
        raise QuarantinedError(text, hint=hint)
