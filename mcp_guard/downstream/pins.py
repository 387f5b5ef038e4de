"""Which servers and tools are the ones that were accepted; everything else is quarantined (security.md S21 to S23).

Trust on first use: a server that is not in `guard.lock` is accepted as it is, and the log says so. From then on a
changed or new tool, changed instructions or another program is held back, for every session and across restarts, until
`mcp-guard pins accept`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import anyio
from anyio import to_thread
from pydantic import JsonValue

from mcp_guard.downstream import report
from mcp_guard.downstream.copies import Copies, CopyStore
from mcp_guard.downstream.definition import Listing, Program
from mcp_guard.downstream.lockfile import Lock, LockFile, Quarantine, ServerPin
from mcp_guard.downstream.program import observe
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.downstream.shadows import frozen_names, only, shadows
from mcp_guard.downstream.snapshot import (
    STARTS,
    Snapshot,
    covers,
    deviations,
    held_back,
    pin_of,
    program_deviations,
    snapshot_of,
    with_names,
    with_old_programs,
    with_seen_resources,
)
from mcp_guard.downstream.verdicts import Verdicts
from mcp_guard.errors import ConfigError, QuarantinedError
from mcp_guard.model import MaskedText, Record

Log = Callable[[str], None]
Note = Callable[[Record], Awaitable[object]]
"""Writes to the audit log; raises AuditUnavailableError."""


class Pins(Verdicts):
    """The lock as one process sees it.

    Args:
        file: `guard.lock`.
        copies: The texts behind it.
        servers: Those of this process, in the order of the configuration.
        mask: Masks text irreversibly.
        log: The guard's log.
        alone: Whether one server is served under plain names whatever its `names` says.

    Raises:
        ConfigError: the lock is not usable.
    """

    def __init__(
        self,
        file: LockFile,
        copies: CopyStore,
        servers: Mapping[str, ResolvedServer],
        *,
        mask: Callable[[str], MaskedText],
        log: Log,
        alone: bool = False,
    ) -> None:
        lock = file.read() or file.fresh()
        super().__init__(lock, dict(servers) if alone else frozen_names(servers, lock, log))
        self._file, self._copies, self._mask, self._log, self._alone = file, copies, mask, log, alone
        self._known_before = frozenset(lock.servers)
        self._turn = anyio.Lock()
        self._note: Note | None = None
        self._accepted_elsewhere: list[str] = []

    def record_to(self, note: Note) -> None:
        """Record acceptance and quarantine there from now on."""
        self._note = note

    def reload(self) -> bool:
        """Read the lock again if somebody else changed it; True when it may say something else now.

        Costs one look at the file's times. A lock that is gone keeps what was read; one that is broken holds back
        everything until it is mended.
        """
        stamp = self._file.stamp()
        if stamp is None or stamp == self._file.seen:
            return False
        try:
            found, self._unusable = self._file.read(), ""
        except ConfigError as error:
            self._log(error.message)
            self._unusable = report.BROKEN_LOCK
            self.generation += 1
            return True
        if found is not None:
            self._accepted_elsewhere += [
                name
                for name, pin in found.servers.items()
                if name in self._servers and name in self._lock.servers and pin.accepted_by != "first use"
                if pin != self._lock.servers[name] and pin.quarantine != self._lock.servers[name].quarantine
            ]
            self._take(found)
        return True

    async def record_accepted(self) -> None:
        """Record what was accepted by the command line since the last time.

        Raises:
            AuditUnavailableError: it cannot be recorded.
        """
        while self._accepted_elsewhere:
            # Taken off only when it is recorded; a server may have left the lock since.
            name = self._accepted_elsewhere[0]
            pin = self._lock.servers.get(name)
            if pin is not None:
                record = self._record_of("server.accepted", name, pin.quarantine, by=self._mask(pin.accepted_by))
                await self._recorded(record)
            self._accepted_elsewhere = self._accepted_elsewhere[1:]

    async def before_start(self, server: ResolvedServer) -> Program | None:
        """Look at the program files before a server is started or connected; None where they do not matter.

        Raises:
            QuarantinedError: they are not the accepted ones; it must not be started.
            DownstreamUnavailableError: its program is not found.
        """
        if server.pins != "program":
            return None
        program = await to_thread.run_sync(observe, server)
        async with self._turn:
            record = await to_thread.run_sync(self._judge_program, server, program)
        await self._recorded(record)
        if self._unusable:
            hint = f"`{report.mending(server.name, self._unusable)}` says how to mend it"
            raise QuarantinedError(f"quarantined and not started: {self._unusable}", hint=hint)
        self._refuse_program(server, "quarantined and not started")
        return program

    def _refuse_program(self, server: ResolvedServer, what: str) -> None:
        pin = self._lock.servers.get(server.name)
        held = STARTS & set(self._held(server.name, pin).server) if pin is not None else set()
        if held and server.pins == "program":
            hint = f"`mcp-guard pins diff {server.name}` shows it, `mcp-guard pins accept {server.name}` starts it"
            raise QuarantinedError(f"{what}: its {report.causes(held)} changed since it was accepted", hint=hint)

    async def listed(
        self, server: ResolvedServer, listing: Listing, *, first: bool, program: Program | None = None
    ) -> None:
        """Judge what a link of this server listed, before any of it is offered.

        Args:
            server: The server.
            listing: Everything it offers.
            first: Whether it was just started; its files are then looked at once more. They could have been exchanged
                between the look and the start.
            program: Its files as they were just before the start.

        Raises:
            AuditUnavailableError: it cannot be recorded.
            QuarantinedError: another program may have been started; the link is to be ended.
        """
        if server.pins == "off":
            return
        async with self._turn:
            found, swapped = program or Program(), False
            if first and server.pins == "program":
                found = await to_thread.run_sync(observe, server)
                swapped = program is not None and not program.same_files(found)
            snapshot = await to_thread.run_sync(snapshot_of, server, listing, found, self._mask)
            record = await to_thread.run_sync(partial(self._judge, server, snapshot, swapped=swapped))
        await self._recorded(record)
        if first and swapped and server.name not in self._lock.servers:
            hint = (
                f"see what writes to it; then start a new session, or look at it with `mcp-guard trust {server.name}`"
            )
            raise QuarantinedError("quarantined and ended: its program files changed while it started", hint=hint)
        if first:
            self._refuse_program(server, "quarantined and ended")

    def accept(
        self, server: ResolvedServer, listing: Listing, *, by: str = "review", program: Program | None = None
    ) -> None:
        """Pin exactly this, whatever was pinned before, and lift every quarantine of this server.

        Args:
            server: The server.
            listing: What a person looked at.
            by: Who.
            program: Its files as they were when it was started for that look; None looks at them now.

        Raises:
            ConfigError: the lock is not usable, or cannot be written.
        """
        program = (program or observe(server)) if server.pins == "program" else Program()
        snapshot = snapshot_of(server, listing, program, self._mask)
        made = self._new_pin(server, snapshot, by)

        def step(lock: Lock) -> Lock:
            old = lock.servers.get(server.name)
            pin = made if old is None else with_seen_resources(with_old_programs(made, old), old)
            return lock.with_server(server.name, pin).with_install(self._file.install)

        try:
            self._take(self._file.change(step, missing=self._lock))
        except OSError as error:
            raise report.not_written(self._file.path, error) from error
        self._unsaved.pop(server.name, None)
        self._copies.save(server.name, Copies(accepted=snapshot, latest=snapshot))

    def name_this_install(self) -> None:
        """Let this data folder's reviewers accept without a terminal; for whoever was at one, or sets up first.

        Raises:
            ConfigError: the lock is not usable, or cannot be written.
        """
        try:
            self._take(self._file.change(lambda lock: lock.with_install(self._file.install), missing=self._lock))
        except OSError as error:
            raise report.not_written(self._file.path, error) from error

    def _judge_program(self, server: ResolvedServer, program: Program) -> Record | None:
        self.reload()
        pin = self._lock.servers.get(server.name)
        if pin is None:
            return None
        found, held = (
            Quarantine(server=program_deviations(pin, list(server.written), program)),
            self._held(server.name, pin),
        )
        if found.empty and not STARTS & set(held.server):
            return None
        copies = self._copies.load(server.name)
        snapshot = (copies.latest or copies.accepted or Snapshot(written=[])).with_program(server, program)
        if not covers(held, found):
            return self._hold(server, found, snapshot)
        self._keep(server, snapshot, offered=not found.empty)
        return None

    def _judge(self, server: ResolvedServer, snapshot: Snapshot, *, swapped: bool) -> Record | None:
        self.reload()
        pin = self._lock.servers.get(server.name)
        if swapped:
            self._log(f"{server.name}: its program files changed while it started")
        if pin is None and swapped:
            # Nothing says which of the two programs listed this, so neither is pinned.
            return self._record_of("server.quarantined", server.name, Quarantine(server=["files"]))
        if pin is None:
            return self._first_contact(server, snapshot)
        if pin.names is None and not self._alone:
            self._change(server, lambda lock: with_names(lock, server))
        found, held = deviations(pin, snapshot), self._held(server.name, pin)
        found = found.joined(only(shadows(server, snapshot, self._servers, self._lock, self._lock.servers), found, pin))
        if swapped:
            found = found.joined(Quarantine(server=["files"]))
        if not covers(held, found):
            return self._hold(server, found, snapshot)
        if not held.empty:
            self._keep(server, snapshot, offered=not found.empty)
        return None

    def _first_contact(self, server: ResolvedServer, snapshot: Snapshot) -> Record | None:
        pin = self._new_pin(server, snapshot, "first use")
        owners = self._known_before.intersection(self._lock.servers)
        shadowing = shadows(server, snapshot, self._servers, self._lock, owners)
        rest = {
            "tools": {name: tool for name, tool in pin.tools.items() if name not in shadowing.tools},
            "others": {key: item for key, item in pin.others.items() if key not in shadowing.others},
        }
        pin = pin.model_copy(update={**rest, "quarantine": shadowing})

        def step(lock: Lock) -> Lock:
            # Another guard may have been first: then its word counts, and this is one more look.
            known = lock.servers.get(server.name)
            return lock.with_server(server.name, pin) if known is None else held_back(lock, server.name, snapshot)

        if not self._change(server, step):
            return None
        kept = self._lock.servers[server.name]
        accepted = kept.command_digest == pin.command_digest and kept.tools == pin.tools
        if accepted:
            self._copies.save(
                server.name, Copies(accepted=snapshot, latest=snapshot, offered=None if shadowing.empty else snapshot)
            )
            self._log(f"{server.name}: accepted on first use, {report.count(len(pin.tools), 'tool')} pinned")
        for line in report.summary(kept.quarantine, self._mask, most=report.MOST_LOGGED):
            self._log(f"{server.name}: quarantined: {line}")
        return self._record_of("server.pinned", server.name, kept.quarantine, tools=len(kept.tools))

    def _hold(self, server: ResolvedServer, found: Quarantine, snapshot: Snapshot) -> Record:
        def step(lock: Lock) -> Lock:
            pin = lock.servers.get(server.name)
            if pin is None:
                return lock
            return lock.with_server(server.name, pin.model_copy(update={"quarantine": pin.quarantine.joined(found)}))

        # In memory first: what cannot be written is held back all the same.
        self._unsaved[server.name] = self._unsaved.get(server.name, Quarantine()).joined(found)
        self.generation += 1
        if self._change(server, step):
            self._unsaved.pop(server.name)
        self._keep(server, snapshot, offered=True)
        for line in report.summary(found, self._mask, most=report.MOST_LOGGED):
            self._log(f"{server.name}: quarantined: {line}; see `mcp-guard pins diff {server.name}`")
        return self._record_of("server.quarantined", server.name, found)

    def _keep(self, server: ResolvedServer, snapshot: Snapshot, *, offered: bool) -> None:
        kept = self._copies.load(server.name)
        new = Copies(accepted=kept.accepted, offered=snapshot if offered else kept.offered, latest=snapshot)
        if new != kept:
            self._copies.save(server.name, new)

    def _change(self, server: ResolvedServer, step: Callable[[Lock], Lock]) -> bool:
        try:
            self._take(self._file.change(step, missing=self._lock))
        except (OSError, ConfigError) as error:
            told = error if isinstance(error, ConfigError) else report.not_written(self._file.path, error)
            self._log(f"{server.name}: its tools are held back: {told.message}; {told.hint}")
            return False
        return True

    def _take(self, lock: Lock) -> None:
        self._lock = lock
        self.generation += 1

    def _new_pin(self, server: ResolvedServer, snapshot: Snapshot, by: str) -> ServerPin:
        pin = pin_of(snapshot, self._mask, accepted_by=by)
        return pin if self._alone else pin.model_copy(update={"names": server.names})

    def _record_of(self, kind: str, server: str, held: Quarantine, **more: JsonValue) -> Record:
        what = [self._mask(line) for line in report.summary(held, self._mask, most=report.MOST_RECORDED)]
        return Record(
            kind,
            tool=server,
            outcome="ok" if held.empty else "quarantined",
            fields={"server": server, "quarantined": list[JsonValue](what), **more},
        )

    async def _recorded(self, record: Record | None) -> None:
        if record is not None and self._note is not None:
            await self._note(record)
