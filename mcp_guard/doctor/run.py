"""Running all checks: side by side, each within its time, and one that breaks is a finding itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

import anyio

from mcp_guard.config.load import config_words
from mcp_guard.doctor import config, data, hosts, keys, machine, page, programs, record, servers, startup, store, tools
from mcp_guard.doctor.finding import Finding, Level, find, with_option
from mcp_guard.doctor.setup import Load, Machine, Setup, take_in
from mcp_guard.model import JsonDict

T = TypeVar("T")

GROUPS: Final = ("configuration", "hosts", "programs", "servers", "data", "record", "machine")

LOAD_S: Final = 3.0
"""Time to load the configuration, with the secrets that it refers to."""

CHECK_S: Final = 8.0
"""Time of all checks that only look. They run side by side, and beside the start of the servers."""

PROBE_S: Final = 12.0
"""Time in which a server has to be ready; stopping it takes up to 5 s more."""

STARTUP_S: Final = 7.0
"""Together: at most 29 s."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at, in a thread of its own."""

    group: str
    name: str
    run: Callable[[Setup], list[Finding]]


CHECKS: Final = (
    Check("configuration", "its content", config.describe),
    Check("configuration", "plain secrets", config.plain_secrets),
    Check("configuration", "secrets without use", config.unused_secrets),
    Check("configuration", "a guard behind the guard", config.double_wrapped),
    Check("configuration", "file modes", config.file_modes),
    Check("hosts", "files of hosts", hosts.look),
    Check("hosts", "unanswered questions", hosts.forgotten),
    Check("programs", "commands", programs.missing_programs),
    Check("programs", "the PATH of hosts", programs.off_path),
    Check("programs", "versions", programs.versions),
    Check("servers", "pins", tools.pins),
    Check("data", "the data folder", data.usable),
    Check("data", "sizes", data.sizes),
    Check("data", "approvals.db", store.database),
    Check("data", "its lock", store.lock),
    Check("data", "keys", keys.keys),
    Check("data", "holders", store.stale_holders),
    Check("record", "verification", record.holds),
    Check("record", "slots", record.slots),
    Check("record", "removed files", record.unlinked),
    Check("machine", "versions", machine.versions),
    Check("machine", "clock", machine.clock),
    Check("machine", "the page's port", page.port),
    Check("machine", "notifications", machine.notifications),
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, by group."""

    setup: Setup
    groups: dict[str, list[Finding]]
    """In the order of `GROUPS`; inside of each the worst first."""

    @property
    def findings(self) -> list[Finding]:
        """All of them."""
        return [finding for group in self.groups.values() for finding in group]

    @property
    def worst(self) -> Level:
        """The worst level."""
        return max((finding.level for finding in self.findings), key=lambda level: level.rank, default=Level.OK)

    @property
    def unusable(self) -> bool:
        """Whether there is no configuration that a guard could run with."""
        return self.setup.loaded is None

    def data(self) -> JsonDict:
        """As `--json` prints it."""
        levels = [finding.level for finding in self.findings]
        loaded = self.setup.loaded
        return {
            "config": None if self.setup.path is None else str(self.setup.path),
            "data_dir": None if loaded is None else str(loaded.data_dir),
            "worst": self.worst.value,
            "counts": {level.value: levels.count(level) for level in Level},
            "groups": {name: [finding.data() for finding in found] for name, found in self.groups.items()},
        }


class _Job(Generic[T]):
    """Work in a thread that may be left behind: a dead network disk must not keep the whole command."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._done: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, timeout_s: float) -> T:
        """What the work returned; raises what it raised, or TimeoutError."""
        self._thread.join(timeout_s)
        if self._error is not None:
            raise self._error
        if not self._done:
            raise TimeoutError
        return self._done[0]

    def _run(self) -> None:
        try:
            self._done.append(self._work())
        except Exception as error:  # noqa: BLE001 - boundary: a check that breaks is a finding (`result`)
            self._error = error


def diagnose(
    found_on: Machine, path: Path | None, load: Load, *, quick: bool = False, checks: Sequence[Check] = CHECKS
) -> Diagnosis:
    """Run all checks. Changes nothing; takes at most 30 s.

    Args:
        found_on: The machine.
        path: guard.yaml, None when there is none.
        load: Loads it.
        quick: Start no server and no guard.
        checks: Those that only look.
    """
    groups: dict[str, list[Finding]] = {name: [] for name in GROUPS}
    try:
        setup, findings = _Job(lambda: take_in(found_on, path, load)).result(LOAD_S)
    except Exception as error:  # noqa: BLE001 - boundary: see `broken`
        setup, findings = Setup(found_on, path), [broken("the configuration", error)]
    groups["configuration"] += findings
    deadline = time.monotonic() + CHECK_S
    jobs = [(check, _Job(lambda check=check: check.run(setup))) for check in checks]  # type: ignore[misc]
    if not quick:
        groups["servers"] += anyio.run(_start_servers, setup)
    for check, job in jobs:
        groups[check.group] += _result(check.name, job, deadline)
    option = "" if path is None else config_words(path, found_on.env)
    for found in groups.values():
        found[:] = [with_option(finding, option) for finding in found]
        found.sort(key=lambda finding: -finding.level.rank)
    return Diagnosis(setup, groups)


def _result(name: str, job: _Job[list[Finding]], deadline: float) -> list[Finding]:
    try:
        return job.result(max(deadline - time.monotonic(), 0.0))
    except Exception as error:  # noqa: BLE001 - boundary: see `broken`
        return [broken(name, error)]


def broken(name: str, error: Exception) -> Finding:
    """A check that could not be made is told; only the type of its error, whose text may quote anything."""
    why = "took too long" if isinstance(error, TimeoutError) else f"failed ({type(error).__name__})"
    return find("check-failed", f"The check of {name} {why}.")


async def _start_servers(setup: Setup) -> list[Finding]:
    try:
        return await _servers(setup)
    except Exception as error:  # noqa: BLE001 - boundary: see `broken`
        return [broken("servers", error)]


async def _servers(setup: Setup) -> list[Finding]:
    loaded = setup.loaded
    if loaded is None:
        return []
    if not any(not server.disabled for server in loaded.config.servers.values()):
        return [find("servers-none", "No server is configured, so the guard has nothing to guard.")]
    missing = {program.server for program in programs.programs_of(setup) if program.found is None}
    names = [name for name in loaded.servers if name not in missing]
    if not names:
        return []
    probes = await servers.probe(loaded, names, timeout_s=PROBE_S)
    findings = servers.judge(probes)
    findings += tools.review(loaded, probes)
    if setup.complete:
        slowest = max((probe.ready_s for probe in probes.values() if probe.ready_s is not None), default=None)
        measured = await startup.measure(setup.machine, loaded.path, timeout_s=STARTUP_S)
        findings += startup.judge(measured, slowest)
    return findings
