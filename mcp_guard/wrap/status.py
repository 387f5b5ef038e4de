"""Which servers of which hosts go through the guard, and which go around it (security.md S40)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mcp_guard.config.hostfile import at, is_blank, parse_host_file, read_bytes, starts_the_guard
from mcp_guard.config.load import CONFIG_VARIABLE, user_config_file
from mcp_guard.errors import ConfigError
from mcp_guard.wrap.command import Installation, guard_is_gone, is_guard, other_program
from mcp_guard.wrap.entries import Left, read_entry
from mcp_guard.wrap.locate import HostFile, Machine, find_files

State = Literal["wrapped", "bypassing", "disabled"]

_SUSPECT = "it looks like mcp-guard, but "
_OTHER_CODE = "may start other code: look at it by hand"


@dataclass(frozen=True, slots=True)
class EntryState:
    """One server in a host's file."""

    name: str
    """As the host's file has it: show it through `approval.prompt.visible`."""
    project: str
    """For Claude Code's own list of projects: the project's folder, else empty."""
    state: State
    config: str = ""
    """Of a wrapped one: the guard.yaml it names with --config; empty when it takes the default one."""
    server: str = ""
    """Of a wrapped one: the server it names with --server; empty when it offers all."""
    broken: str = ""
    """Of a wrapped one: why it cannot start the guard; empty when nothing is known against it."""
    config_gone: bool = False
    """Of a wrapped one: whether it is guard.yaml that is gone."""
    program_gone: bool = False
    """Of a wrapped one: whether it is the program that is gone."""
    suspect: bool = False
    """It looks like mcp-guard, but starts another program, another installation, or has it load other code."""
    why_left: str = ""
    """Of one that is not wrapped: why `wrap` leaves it as it is; empty when it would take it."""


@dataclass(frozen=True, slots=True)
class HostState:
    """What a host's file has."""

    host: str
    title: str
    path: Path
    shared: bool
    """Whether the file belongs to a project."""
    found: bool
    problem: str = ""
    """Why the file could not be read; empty otherwise."""
    entries: tuple[EntryState, ...] = ()

    def having(self, state: State) -> tuple[EntryState, ...]:
        """The entries in a state."""
        return tuple(entry for entry in self.entries if entry.state == state)


def survey(machine: Machine | None = None, files: Sequence[HostFile] | None = None) -> list[HostState]:
    """Look at the files of all known hosts, and of the project in the working folder. Changes nothing.

    Args:
        machine: Where to look; default: this one.
        files: Look at these instead.
    """
    chosen = find_files(machine or Machine(), project=True) if files is None else files
    return [_look(file) for file in chosen]


def _look(file: HostFile) -> HostState:
    if not file.path.exists():
        return HostState(file.host, file.title, file.path, file.shared, found=False)
    try:
        raw = read_bytes(file.path)
        data = {} if is_blank(raw, file.path) else parse_host_file(raw, file.path)
    except ConfigError as error:
        return HostState(file.host, file.title, file.path, file.shared, found=True, problem=error.message)
    entries = tuple(
        entry_state(str(name), entry, place[1] if len(place) == len(("projects", "", "mcpServers")) else "")
        for place in file.blocks(data)
        for name, entry in at(data, place).items()
    )
    return HostState(file.host, file.title, file.path, file.shared, found=True, entries=entries)


def entry_state(name: str, entry: Any, project: str = "") -> EntryState:
    """Whether an entry of a host starts this guard."""
    fields: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    off = fields.get("disabled") is True or fields.get("enabled") is False
    if not starts_the_guard(fields):
        found = read_entry(name, entry, remote=False)
        why = found.why if isinstance(found, Left) else ""
        return EntryState(name, project, "disabled" if off else "bypassing", why_left=why)
    other = other_program(fields, Installation.running()) if is_guard(fields) else _OTHER_CODE
    if other:
        return EntryState(name, project, "disabled" if off else "bypassing", suspect=True, why_left=_SUSPECT + other)
    args = fields.get("args")
    words = [word for word in args if isinstance(word, str)] if isinstance(args, list) else []
    state: State = "disabled" if off else "wrapped"
    config, server = _option(words, "--config"), _option(words, "--server")
    path = Path(config).expanduser() if config else user_config_file()
    gone = path.is_absolute() and not path.is_file() and (bool(config) or CONFIG_VARIABLE not in fields.get("env", {}))
    broken = f"{path.name} is not where it looks for it: {path.parent}" if gone else ""
    lost = guard_is_gone(fields)
    if lost:
        broken = "the mcp-guard that it starts is gone"
    return EntryState(
        *(name, project, state, config, server, broken), config_gone=gone and bool(config), program_gone=lost
    )


def _option(words: Sequence[str], option: str) -> str:
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word == option:
            return value
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return ""
