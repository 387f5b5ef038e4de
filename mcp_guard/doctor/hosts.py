"""Hosts: which of their servers go around the guard, and which of their guards cannot start (security.md S40)."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_guard.approval.prompt import visible
from mcp_guard.config.hostfile import at, parse_host_file, read_bytes
from mcp_guard.config.secretfiles import SecretFiles
from mcp_guard.doctor.finding import Finding, Level, count, find, fine, quoted, told
from mcp_guard.doctor.setup import Setup
from mcp_guard.doctor.store import FILE, peek
from mcp_guard.errors import ConfigError
from mcp_guard.manifest.hosts import known_hosts
from mcp_guard.wrap.entries import Left, read_entry
from mcp_guard.wrap.locate import FROM_A_WINDOW, HostFile, Machine, find_files
from mcp_guard.wrap.status import EntryState, HostState, survey

_SHOWN = 6
"""Names in one sentence."""
_NAME = 60
"""Characters of a name that a client gave itself."""
_UNANSWERED = 2
_SWALLOWED = """
SELECT DISTINCT name FROM asked_client WHERE channel = 'form' AND answered_ns IS NULL AND unanswered >= ? LIMIT 5
"""


@dataclass(frozen=True, slots=True, repr=False)
class _Host:
    """One file of a host, and the entries in it as they are written. Holds secrets: shows nothing."""

    state: HostState
    fields: Mapping[tuple[str, str], Mapping[str, Any]]
    """By project and name."""

    def of(self, entry: EntryState) -> Mapping[str, Any]:
        """How an entry is written."""
        return self.fields.get((entry.project, entry.name), {})


def look(setup: Setup) -> list[Finding]:
    """All that can be said of the files of hosts."""
    present = _present(setup)
    findings: list[Finding] = []
    for host in present:
        findings += [*_unreadable(host, setup), *_around(host, setup), *_stale(host, setup), *_twice(host)]
        findings += [*_secrets(host), *_silent(host)]
    if all(finding.level is Level.NOTE for finding in findings):
        findings += _summary(present)
    return findings


def paths_of_windows(setup: Setup) -> list[str]:
    """The PATH in each entry of the guard in a host that is started from a menu; empty where it has none."""
    found = []
    for host in _present(setup):
        if host.state.host in FROM_A_WINDOW:
            found += [_path_in(host.of(entry)) or "" for entry in host.state.having("wrapped")]
    return found


def _present(setup: Setup) -> list[_Host]:
    machine = setup.machine
    where = Machine(machine.home, machine.platform, machine.env, machine.cwd)
    hosts = [_read(file, where) for file in find_files(where, project=True)]
    return [host for host in hosts if host.state.found]


def _path_in(fields: Mapping[str, Any]) -> str | None:
    env = fields.get("env")
    path = env.get("PATH") if isinstance(env, dict) else None
    return path if isinstance(path, str) else None


def _read(file: HostFile, machine: Machine) -> _Host:
    state = survey(machine, [file])[0]
    if not state.found or state.problem:
        return _Host(state, {})
    try:
        data = parse_host_file(read_bytes(file.path), file.path)
    except ConfigError:
        return _Host(state, {})  # empty, or changed since; `state` tells
    fields: dict[tuple[str, str], Mapping[str, Any]] = {}
    for place in file.blocks(data):
        block = at(data, place)
        project = place[1] if len(place) == len(("projects", "", "mcpServers")) else ""
        fields |= {(project, str(name)): entry for name, entry in block.items() if isinstance(entry, dict)}
    return _Host(state, fields)


def _silent(host: _Host) -> list[Finding]:
    """Hosts that are known to show no questions: their user has to be asked elsewhere."""
    known = [entry for entry in known_hosts().hosts if entry.id == host.state.host]
    if not host.state.having("wrapped") or not known or known[0].form is not False:
        return []
    return [find("host-silent", f"{host.state.title} shows no questions: calls that need you wait elsewhere.")]


def forgotten(setup: Setup) -> list[Finding]:
    """Clients at which nobody ever answered a question, as the guards of this data folder saw it."""
    path = None if setup.data_dir is None else setup.data_dir / FILE
    if path is None or not path.exists():
        return []
    try:
        with closing(peek(path)) as db:
            rows = db.execute(_SWALLOWED, (_UNANSWERED,)).fetchall()
    except sqlite3.Error:
        return []  # an older file has no such table; whether the file is sound, `store` says
    return [
        find("host-silent", f"Nobody ever answered a question at {visible(str(name))[:_NAME]}: it may not show any.")
        for (name,) in rows
    ]


def _summary(present: list[_Host]) -> list[Finding]:
    wrapped = sorted({host.state.title for host in present if host.state.having("wrapped")})
    if wrapped:
        return [fine(f"{', '.join(wrapped)}: every server behind the guard")]
    if any(host.state.entries for host in present):
        return [find("host-none", "No host starts the guard.")]
    return [find("host-none", "No host on this machine has any server, so none starts the guard.")]


def _unreadable(host: _Host, setup: Setup) -> list[Finding]:
    state = host.state
    if not state.problem:
        return []
    text = f"{state.title}: {told(state.path, setup.machine.home)} cannot be read."
    return [find("host-unreadable", text, host=state.title, path=state.path)]


def _around(host: _Host, setup: Setup) -> list[Finding]:
    """Servers that a host starts by itself, beside the guard or instead of it."""
    state = host.state
    unguarded = [entry for entry in state.having("bypassing") if not entry.suspect]
    around = [entry for entry in unguarded if not _stays(entry, host)]
    suspects = [entry for entry in state.having("bypassing") if entry.suspect]
    found = []
    where = told(state.path, setup.machine.home)
    if around:
        beside = "beside the guard" if state.having("wrapped") else "without the guard"
        text = f"{state.title} starts {_names(around)} {beside} ({where}): those calls are not guarded."
        found.append(find("host-bypass", text, which=_which(host, around), host=state.title))
    reasons = dict.fromkeys(entry.why_left for entry in unguarded if entry not in around)
    found += [_left([entry for entry in unguarded if entry.why_left == why], why, host, where) for why in reasons]
    for entry in suspects:
        text = f"{state.title} has an entry {visible(entry.name)} ({where}): {entry.why_left}."
        found.append(find("host-suspect", text, path=state.path, host=state.title))
    return found


def _stays(entry: EntryState, host: _Host) -> bool:
    """Whether `wrap` leaves it as it is, also when it is told to take remote ones."""
    return bool(entry.why_left) and isinstance(read_entry(entry.name, host.of(entry), remote=True), Left)


def _left(entries: list[EntryState], why: str, host: _Host, where: str) -> Finding:
    """Servers that the guard could not reach: it must not be told that `wrap` helps."""
    state, path = host.state, quoted(host.state.path)
    verb = "starts" if any("command" in host.of(entry) for entry in entries) else "reaches"
    text = f"{state.title} {verb} {_names(entries)} without the guard ({where}), and wrap leaves it so: {why}."
    instead = "correct it"
    if "SSE" in why:
        instead = "write the server's streamable HTTP address there, if its maker has one"
    elif "log in" in why or "logs in" in why:
        instead = "give it a token of its own in `headers`, if its maker has such"
    which = _which(host, entries)
    return find("host-left", text, how=f"in {path}, {instead}, then mcp-guard wrap {which}; or remove it there")


def _which(host: _Host, around: list[EntryState]) -> str:
    """What `wrap` has to be told to take these servers; without it, it leaves some alone."""
    remote = any("url" in fields and not fields.get("headers") for fields in map(host.of, around))
    return host.state.host + " --project" * host.state.shared + " --remote" * remote


def _names(entries: list[EntryState]) -> str:
    names = [visible(entry.name) for entry in entries[:_SHOWN]]
    return ", ".join(names) + (f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else "")


def _stale(host: _Host, setup: Setup) -> list[Finding]:
    """Entries of the guard that cannot start it: moved installations, moved configurations, servers that are gone."""
    state = host.state
    lines = [
        f"the entry {visible(entry.name)} {why}"
        for entry in state.having("wrapped")
        for why in _broken(entry, host.of(entry), setup)
    ]
    if not lines:
        return []
    what = lines[0] if len(lines) == 1 else f"{len(lines)} entries cannot start the guard"
    detail = lines if len(lines) > 1 else ()
    text = f"{state.title}: {what}."
    return [find("host-stale", text, detail=detail, path=state.path, which=state.host, host=state.title)]


def _broken(entry: EntryState, fields: Mapping[str, Any], setup: Setup) -> Iterator[str]:
    command = fields.get("command")
    search = _path_in(fields) or setup.machine.env.get("PATH")
    if isinstance(command, str) and shutil.which(command, path=search) is None:
        yield "starts an mcp-guard that is not there"
    config = setup.machine.cwd / Path(entry.config).expanduser() if entry.config else None
    if config is not None and not config.is_file():
        yield "names a guard.yaml that is not there"
    elif entry.server and _is_ours(config, setup) and setup.loaded is not None:
        server = setup.loaded.config.servers.get(entry.server)
        if server is None or server.disabled:
            yield f"names the server {visible(entry.server)}, which guard.yaml does not run"


def _is_ours(config: Path | None, setup: Setup) -> bool:
    if config is None or setup.path is None:
        return config is None
    try:
        return config.samefile(setup.path)
    except OSError:
        return False


def _twice(host: _Host) -> list[Finding]:
    """The same server offered twice: the model sees every tool double."""
    wrapped = [entry for entry in host.state.having("wrapped") if not entry.project]
    alone = {(entry.config, entry.server) for entry in wrapped}
    combined = {entry.config for entry in wrapped if not entry.server}
    seen = Counter((entry.config, entry.server) for entry in wrapped)
    double = [key for key in alone if seen[key] > 1 or (key[1] and key[0] in combined)]
    if not double:
        return []
    text = f"{host.state.title} has two entries of the guard that offer the same tools."
    return [find("host-twice", text, path=host.state.path, host=host.state.title)]


def _secrets(host: _Host) -> list[Finding]:
    state = host.state
    collected = SecretFiles()
    found: set[tuple[str, str]] = set()
    for (project, name), fields in host.fields.items():
        before = len(collected.files)
        collected.move_from(name, fields)
        found |= {(project, name)} if len(collected.files) > before else set()
    number = len(collected.files)
    if not number:
        return []
    text = f"{state.title} has {count(number, 'secret')} in plain text in its configuration."
    with_one = [entry for entry in state.entries if (entry.project, entry.name) in found]
    takes = [entry for entry in with_one if entry.state != "wrapped" and not (entry.suspect or _stays(entry, host))]
    if takes:
        return [find("host-secret", text, how=f"mcp-guard wrap {_which(host, takes)} (moves it into a private file)")]
    return [find("host-secret", text, how=f"take it out of {quoted(state.path)} by hand: wrap leaves that entry alone")]
