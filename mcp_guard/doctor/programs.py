"""The programs that servers are started with: on the PATH here, on the PATH of a host with a window, new enough."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mcp_guard.config.schema import ServerConfig
from mcp_guard.doctor import hosts
from mcp_guard.doctor.finding import Finding, count, find, fine
from mcp_guard.doctor.setup import Setup
from mcp_guard.downstream.process import child_env

OLDEST_NODE: Final = 18
"""Major version below which current npm servers do not run."""

WINDOW_PATH: Final = {
    "darwin": "/usr/bin:/bin:/usr/sbin:/sbin",
    "linux": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
"""PATH of programs that were not started from a shell. Windows has one for all."""

_RUN_S: Final = 4.0
_INSTALL: Final = {
    "node": f"install Node.js {OLDEST_NODE} or later from nodejs.org",
    "npx": f"install Node.js {OLDEST_NODE} or later from nodejs.org; npx comes with it",
    "npm": f"install Node.js {OLDEST_NODE} or later from nodejs.org; npm comes with it",
    "uvx": "install uv (docs.astral.sh/uv); uvx comes with it",
    "uv": "install uv (docs.astral.sh/uv)",
    "docker": "install Docker and start it",
    "podman": "install Podman",
    "bunx": "install Bun from bun.sh; bunx comes with it",
    "deno": "install Deno from deno.com",
}
_NODE = frozenset({"node", "npx", "npm"})
_VERSION = re.compile(r"v?(\d+)\.")


@dataclass(frozen=True, slots=True)
class Program:
    """The program of one local server."""

    server: str
    command: str
    found: str | None
    """Absolute path, None when there is none."""
    path: str | None
    """PATH of the child."""
    elsewhere: bool
    """Whether the configuration says itself where to look: an absolute command, or a PATH of its own."""

    @property
    def name(self) -> str:
        """`npx` for /usr/bin/npx and npx.cmd."""
        stem = re.split(r"[/\\]", self.command)[-1]
        return re.sub(r"\.(exe|cmd|bat|ps1)$", "", stem, flags=re.IGNORECASE)


def programs_of(setup: Setup) -> list[Program]:
    """The programs of all local servers that are to run and whose references are known."""
    if setup.loaded is None:
        return []
    folder = setup.loaded.folder
    return [
        _program(name, server, setup.machine.env, folder)
        for name, server in setup.loaded.servers.items()
        if server.command is not None
    ]


def _program(name: str, server: ServerConfig, env: Mapping[str, str], folder: Path) -> Program:
    command = server.command or ""
    path = child_env(env, server.env).get("PATH")
    spelled = bool(os.path.dirname(command))  # noqa: PTH120 - "./x" and "x" differ here
    cwd = folder / Path(server.cwd).expanduser() if server.cwd else folder
    found = shutil.which(str(cwd / command) if spelled else command, path=path)
    return Program(name, command, found, path, elsewhere=spelled or "PATH" in server.env)


def missing_programs(setup: Setup) -> list[Finding]:
    """Commands that are not there, each with what to install."""
    programs = programs_of(setup)
    found = [
        find("program-missing", f"Server {p.server} needs {p.name}, which is not on the PATH.", how=_how(p))
        for p in programs
        if p.found is None
    ]
    found += [
        find("program-missing", f"Server {p.server} needs node, which is not on the PATH.", how=_INSTALL["node"])
        for p in programs
        if p.found and p.name in {"npx", "npm"} and shutil.which("node", path=p.path) is None
    ]
    there = sum(p.found is not None for p in programs)
    return found or ([fine(f"{count(there, 'command')} found")] if programs else [])


def _how(program: Program) -> str:
    return _INSTALL.get(program.name, f"install it, or write its absolute path at servers.{program.server}.command")


def off_path(setup: Setup) -> list[Finding]:
    """Commands that a shell finds, and a host that was started from a menu does not."""
    usual = WINDOW_PATH.get(setup.machine.platform)
    if usual is None or setup.loaded is None:
        return []
    paths = {path or usual for path in hosts.paths_of_windows(setup)}
    return [
        find(
            "program-off-path",
            f"Server {p.server}: a host started from a menu may not find {p.name}, since its PATH is shorter.",
            found=Path(p.found),
            server=p.server,
            path=setup.loaded.path,
        )
        for p in programs_of(setup)
        if p.found is not None and not p.elsewhere and any(shutil.which(p.command, path=path) is None for path in paths)
    ]


def versions(setup: Setup) -> list[Finding]:
    """Runtimes that are there but too old, or do not run."""
    programs = [p for p in programs_of(setup) if p.found]
    findings: list[Finding] = []
    for path in {p.path for p in programs if p.name in _NODE}:
        if (node := shutil.which("node", path=path)) is not None:
            findings += _node(node, setup.machine.env)
    for program in {p.found: p for p in programs if p.name == "docker"}.values():
        findings += _docker(program.found or "", setup.machine.env)
    return findings


def _node(node: str, env: Mapping[str, str]) -> list[Finding]:
    said = _output([node, "--version"], env)
    version = _VERSION.match(said or "")
    if version is None:
        return [find("program-broken", "Node.js is installed but does not run.", how=_INSTALL["node"])]
    if int(version[1]) < OLDEST_NODE:
        text = f"Node.js {version[1]} is too old for current servers."
        return [find("program-old", text, how=_INSTALL["node"])]
    return [fine(f"Node.js {version[1]}")]


def _docker(docker: str, env: Mapping[str, str]) -> list[Finding]:
    if _output([docker, "info", "--format", "{{.ServerVersion}}"], env) is None:
        return [find("program-broken", "Docker is installed but does not answer.", how="start Docker")]
    return [fine("Docker runs")]


def _output(command: list[str], env: Mapping[str, str]) -> str | None:
    """What a program prints; None when it fails, hangs or cannot be started."""
    try:
        done = subprocess.run(
            command, capture_output=True, env=dict(env), stdin=subprocess.DEVNULL, timeout=_RUN_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout[:200].decode("utf-8", errors="replace")
