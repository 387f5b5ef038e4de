"""Where hosts keep their servers on this machine, and what kind of file each of them is."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp_guard.config.hostfile import at, server_blocks
from mcp_guard.config.hosts import server_files
from mcp_guard.errors import UsageError

TITLES = {
    "claude-desktop": "Claude Desktop",
    "claude-code": "Claude Code",
    "cursor": "Cursor",
    "vscode": "VS Code",
    "codex": "Codex",
    "windsurf": "Windsurf",
    "file": "File",
}
"""Host → name for people."""

FROM_A_WINDOW = frozenset({"claude-desktop", "cursor", "vscode", "windsurf"})
"""Hosts that start from a window: they do not have the PATH of the user's shell."""

_BLOCKS = {
    "claude-desktop": ("mcpServers",),
    "cursor": ("mcpServers",),
    "windsurf": ("mcpServers",),
    "vscode": ("servers",),
    "codex": ("mcp_servers",),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides where files lie; the real one unless a test says otherwise."""

    home: Path = field(default_factory=Path.home)
    platform: str = sys.platform
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    cwd: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True, slots=True)
class HostFile:
    """One file in which a host keeps servers."""

    host: str
    """Key of `TITLES`."""
    path: Path
    shared: bool = False
    """Whether it belongs to a project, and so goes to others with it."""

    @property
    def title(self) -> str:
        """The host's name for people."""
        return TITLES[self.host]

    @property
    def toml(self) -> bool:
        """Whether it is TOML; JSON with comments otherwise."""
        return self.path.suffix == ".toml"

    def blocks(self, data: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """Where the blocks of servers stand in the parsed file."""
        if self.path.name == "settings.json":
            return [place for place in (("mcp", "servers"),) if isinstance(at(data, place), dict)]
        found = server_blocks(data)
        if self.host == "claude-code":
            return [place for place in found if place[-1] == "mcpServers"]
        return [place for place in found if self.host == "file" or place == _BLOCKS[self.host]]


def find_files(machine: Machine, *, project: bool) -> list[HostFile]:
    """Files of known hosts, whether they exist or not.

    Args:
        machine: Where to look.
        project: Whether the files of the project in the working folder are listed as well.
    """
    folder = machine.cwd if project else None
    found = server_files(machine.home, machine.platform, folder, machine.env)
    return list({file.path: HostFile(file.host, file.path, file.shared) for file in found}.values())


def file_at(path: Path, machine: Machine) -> HostFile:
    """The file that the user named: as the host's whose file it is, else any file with servers."""
    path = machine.cwd / path.expanduser()
    if ".." in path.parts:
        path = Path(os.path.realpath(path.parent)) / path.name
    files = find_files(machine, project=True)
    known = {os.path.realpath(file.path): file for file in files if file.path.exists()}
    known |= {str(file.path): file for file in files}
    found = known.get(str(path)) or known.get(os.path.realpath(path))
    if found is not None:
        return found
    for file in find_files(Machine(machine.home, machine.platform, machine.env, path.parent), project=True):
        if file.path == path:
            return file
    folders = {".cursor": "cursor", ".vscode": "vscode", ".codex": "codex"}
    names = {"claude_desktop_config.json": "claude-desktop", ".mcp.json": "claude-code", ".claude.json": "claude-code"}
    host = names.get(path.name) or folders.get(path.parent.name) or "file"
    shared = path.name == ".mcp.json" or (path.parent.name in folders and path.parent.parent != machine.home)
    return HostFile(host, path, shared)


def chosen_files(hosts: list[str], file: Path | None, machine: Machine, *, project: bool) -> list[HostFile]:
    """The files that a command is about: one that was named, or those of some hosts, or of all.

    Raises:
        UsageError: a host is not known, or a host and a file are named.
    """
    if file is not None:
        if hosts:
            raise UsageError("give hosts or --file, not both")
        return [file_at(file, machine)]
    known = [name for name in TITLES if name != "file"]
    for name in hosts:
        if name not in known:
            raise UsageError("no such host", hint=f"known are: {', '.join(known)}; or give --file PATH")
    return [found for found in find_files(machine, project=project) if not hosts or found.host in hosts]
