"""Plan what `wrap` changes: each host's file, guard.yaml, and the files with secrets. Writes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp_guard.config.hostfile import at, is_blank, parse_host_file, read_bytes, says_something_twice
from mcp_guard.config.hosts import COMBINED
from mcp_guard.config.problems import spell
from mcp_guard.errors import ConfigError
from mcp_guard.model import JsonDict
from mcp_guard.wrap.command import is_guard
from mcp_guard.wrap.edit import Change, apply_changes
from mcp_guard.wrap.entries import Found, Left, new_members, read_entry
from mcp_guard.wrap.jsonc import Place
from mcp_guard.wrap.locate import FROM_A_WINDOW, HostFile
from mcp_guard.wrap.servers import Servers
from mcp_guard.wrap.status import entry_state

_NOT_COMBINED = frozenset({"cwd", "envFile"})
"""Members of an entry that one entry for all servers cannot keep."""


_NAMES = 12
"""In one sentence."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to wrap."""

    config: Path
    """Absolute path of guard.yaml, which need not exist."""
    command: Sequence[str]
    """How a host starts this guard; the first word is absolute."""
    path: str = ""
    """PATH for hosts that start from a window."""
    combined: bool = False
    remote: bool = False
    """Whether remote servers without a credential are wrapped too."""


@dataclass(frozen=True, slots=True, repr=False)
class FilePlan:
    """What becomes of one host's file. May hold secrets: shows its path only."""

    file: HostFile
    before: bytes
    after: bytes
    changes: tuple[Change, ...]
    names: tuple[str, ...]
    """The host's names of the servers that go behind the guard."""

    def __repr__(self) -> str:
        return f"FilePlan({self.file.path})"


@dataclass(slots=True, repr=False)
class WrapPlan:
    """All that `wrap` would do."""

    options: Options
    servers: Servers
    files: list[FilePlan] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """For the user: what stays as it is, and why. Names in it are the hosts'; never a value."""

    def __repr__(self) -> str:
        return f"WrapPlan({self.files})"


def plan_wrap(files: Sequence[HostFile], options: Options, *, named: bool) -> WrapPlan:
    """Plan to wrap the servers of some files.

    Args:
        files: They need not exist.
        options: How.
        named: Whether the user named the one file: then one that cannot be used is an error and not a note.

    Raises:
        ConfigError: guard.yaml is not valid, or the named file cannot be used.
    """
    plan = WrapPlan(options, Servers.load(options.config))
    seen: set[str] = set()
    for file in files:
        real = os.path.realpath(file.path)
        if real in seen or not (named or file.path.exists()):
            continue  # a link to one that is wrapped already is wrapped with it
        seen.add(real)
        try:
            found = _plan_file(file, plan, named=named)
        except ConfigError as error:
            if named:
                raise
            plan.notes.append(f"{file.path}: {error.message}; it was left as it is")
            continue
        if found is not None:
            plan.files.append(found)
    plan.servers.name_tools(only_one=options.combined)
    if plan.files:
        plan.servers.writes()  # what cannot be added is told before anybody is asked
    return plan


def _plan_file(file: HostFile, plan: WrapPlan, *, named: bool) -> FilePlan | None:
    raw = read_bytes(file.path)
    data = {} if is_blank(raw, file.path) else parse_host_file(raw, file.path)
    changes: list[Change] = []
    names: list[str] = []
    known = plan.servers.copy()
    places = file.blocks(data)
    if places and says_something_twice(raw, file.path, places):
        what = f"{file.path.name} says something twice, and hosts differ in which of both they take"
        raise ConfigError(what, hint="remove one of them; it was left as it is")
    if named and not any(at(data, place) for place in places):
        plan.notes.append(f"{file.path}: there are no servers in it")
    for place in places:
        found = dict(_entries(place, data, file, plan))
        # Claude Code's own list of projects: one entry for all servers would show each of them in each project.
        combined = plan.options.combined and place[0] != "projects"
        block = _Block(file, place, at(data, place), plan)
        changes += [] if combined else block.moved()
        changes += block.as_one(found) if combined else block.one_by_one(found)
        names += block.names
    if not changes:
        return None
    try:
        _writable(file.path)
        after = apply_changes(file, raw, changes)
    except ConfigError:
        plan.servers.restore(known)
        raise
    return FilePlan(file, raw, after, tuple(changes), tuple(names))


def _writable(path: Path) -> None:
    target = Path(os.path.realpath(path))
    if not (os.access(target, os.W_OK) and os.access(target.parent, os.W_OK)):
        raise ConfigError(f"{path} is not writable for you", hint="change its owner or mode, or wrap another host")


def _entries(place: Place, data: Mapping[str, Any], file: HostFile, plan: WrapPlan) -> list[tuple[str, Found]]:
    kept = []
    for name, entry in at(data, place).items():
        found = read_entry(name, entry, remote=plan.options.remote)
        if isinstance(found, Found):
            kept.append((name, found))
        elif not found.wrapped:
            plan.notes.append(_note(file, name, found))
    states = [entry_state(name, entry) for name, entry in at(data, place).items()]
    plan.notes += [_note(file, state.name, Left(state.why_left)) for state in states if state.suspect]
    gone = [state.name for state in states if state.config_gone]
    if gone:
        names = listed([spell((name,)) for name in gone])
        plan.notes.append(f"{file.title}: {names}: the guard.yaml is gone; run mcp-guard unwrap, then wrap again")
    return kept


def _note(file: HostFile, name: str, left: Left) -> str:
    return f"{file.title}: {spell((name,))} stays as it is: {left.why}"


@dataclass(slots=True)
class _Block:
    """One block of servers of a file."""

    file: HostFile
    place: Place
    entries: Mapping[str, Any]
    plan: WrapPlan
    names: list[str] = field(default_factory=list)

    def moved(self) -> list[Change]:
        """Entries whose guard is gone from where it was: they start this one. A project's may be another machine's."""
        changes = []
        for name, entry in self.entries.items():
            rest = [] if self.file.shared or not isinstance(entry, dict) else _gone(entry)
            args = [*self.plan.options.command[1:], *rest]
            if rest and (entry["command"], entry["args"]) != (self.plan.options.command[0], args):
                values: JsonDict = {"command": self.plan.options.command[0], "args": [*args]}
                changes.append(Change((*self.place, name), values))
                self.plan.notes.append(f"{self.file.title}: the guard of {spell((name,))} is gone; it gets this one")
        return changes

    def one_by_one(self, found: Mapping[str, Found]) -> list[Change]:
        """An entry for each server, under its old name (decisions.md D14)."""
        changes = []
        for name, one in found.items():
            server, variables = self.plan.servers.take(name, one, self.file.host)
            command = [*self._serve, "--server", server]
            self._say_if_renamed(name, server)
            values, removed = new_members(self.entries[name], command, self._env(variables), one.passed_on)
            changes.append(Change((*self.place, name), values, removed))
            self.names.append(name)
        return changes

    def as_one(self, found: Mapping[str, Found]) -> list[Change]:
        """One entry for all servers."""
        variables: dict[str, str] = {}
        passed_on: list[str] = []
        for name, one in found.items():
            entry = self.entries[name]
            own = sorted(_NOT_COMBINED & set(entry))
            if own or entry.get("disabled") is True or entry.get("enabled") is False:
                why = f"one entry for all cannot keep {' and '.join(own)}" if own else "it is switched off"
                self.plan.notes.append(_note(self.file, name, Left(why)))
                continue
            server, more = self.plan.servers.take(name, one, self.file.host)
            self._say_if_renamed(name, server)
            variables |= more
            passed_on += one.passed_on
            self.names.append(name)
        if not self.names:
            return []
        name = self._free_entry()
        before = self.entries.get(name)
        entry = dict(before) if isinstance(before, dict) else {}
        typed = any("type" in self.entries[name] for name in self.names)
        earlier = entry.get("env")
        env = {**(earlier if isinstance(earlier, dict) else {}), **self._env(variables)}
        values, _ = new_members({"type": "stdio"} | entry if typed else entry, self._serve, env, passed_on)
        return [Change(self.place, {name: {**entry, **values}}, frozenset(self.names))]

    def _say_if_renamed(self, name: str, server: str) -> None:
        if server != name:
            self.plan.notes.append(f"{self.file.title}: {spell((name,))} is called {server} in guard.yaml")

    def _free_entry(self) -> str:
        """The name of the one entry: that of an earlier one for the same guard.yaml, or a free one."""
        name, number = COMBINED, 2
        while name in self.entries and name not in self.names:
            entry = self.entries[name]
            if isinstance(entry, dict) and entry.get("args") == self._serve[1:]:
                break
            name, number = f"{COMBINED}-{number}", number + 1
        return name

    @property
    def _serve(self) -> list[str]:
        return [*self.plan.options.command, "serve", "--config", str(self.plan.options.config)]

    def _env(self, variables: Mapping[str, str]) -> dict[str, str]:
        path = self.plan.options.path
        windowed = self.file.host in FROM_A_WINDOW or self.file.host == "file"
        return ({"PATH": path} if windowed and path else {}) | dict(variables)


def _gone(entry: Mapping[str, Any]) -> list[str]:
    """The arguments from `serve` on of an entry whose guard is not where it says; empty when it is."""
    args = entry.get("args")
    if not is_guard(entry) or not isinstance(args, list) or "serve" not in args:
        return []
    command = Path(entry["command"])
    return [str(word) for word in args[args.index("serve") :]] if command.is_absolute() and not command.exists() else []


def listed(names: Sequence[str]) -> str:
    """Names in one sentence, and how many more there are."""
    rest = len(names) - _NAMES
    return ", ".join(names) if rest <= 1 else f"{', '.join(names[:_NAMES])} and {rest} more"


def usable_path(env: Mapping[str, str]) -> str:
    """PATH without its relative folders, in which anybody's project could bring a program."""
    folders = [part for part in env.get("PATH", "").split(os.pathsep) if Path(part).is_absolute()]
    return os.pathsep.join(dict.fromkeys(folders))
