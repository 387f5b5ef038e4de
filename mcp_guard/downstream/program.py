"""Which program a command starts, and what its files are (security.md S22: a new binary behind the same command)."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final

from mcp_guard.downstream.definition import Program, Stamp
from mcp_guard.downstream.process import child_env, find_program
from mcp_guard.downstream.server import ResolvedServer

_LAUNCHERS: Final = frozenset({
    "npx", "npm", "bunx", "pnpm", "yarn", "uvx", "uv", "pipx", "docker", "podman", "env", "cargo", "go", "dotnet",
})  # fmt: skip
"""Start something else, and change with every update of the system: their path counts, their bytes do not."""
_INTERPRETERS: Final = re.compile(r"python[\d.]*|pythonw|py|pypy[\d.]*|node|deno|bun|ruby|perl|php|java|lua|"
                                  r"sh|bash|zsh|dash|fish|cmd|powershell|pwsh")  # fmt: skip
"""The first file that follows is the program."""
_CODE: Final = frozenset({
    ".py", ".pyz", ".pyw", ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jar", ".rb", ".pl", ".php", ".lua",
    ".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat", ".cmd", ".exe", ".com", ".dll", ".so", ".dylib", ".wasm",
})  # fmt: skip
"""Files that are programs wherever they stand. Others are data: a database among the arguments changes all the time."""
_NO_FILE: Final = frozenset({"-m", "-c", "-e", "--eval", "-p", "--print"})
"""What follows is a module or code, and no file is the program."""
_UNREADABLE: Final = "unreadable"


def observe(server: ResolvedServer) -> Program:
    """Look up and hash the program files that a server's command line names. Reads them whole: not on the event loop.

    What these files load is not looked at, nor what a launcher such as npx fetches: there, pin the version.

    Raises:
        DownstreamUnavailableError: the command is not found.
    """
    if not server.local:
        return Program()
    env = child_env(os.environ, server.env, withheld=server.withheld, minimal=not server.inherit)
    path = find_program(server, env)
    told = server.command[0] if os.path.dirname(server.command[0]) else path  # noqa: PTH120 - "./x" and "x" differ here
    files = {name: _look(file) for name, file in _files(server, told, path)}
    return Program(told, {name: sha for name, (sha, _) in files.items()}, {name: of for name, (_, of) in files.items()})


def _files(server: ResolvedServer, told: str, path: str) -> Iterator[tuple[str, Path]]:
    """Names and files. A relative path is named as it is written: hosts start the guard in different folders."""
    name = PurePath(path).name.lower().removesuffix(".exe")
    interpreter = _INTERPRETERS.fullmatch(name) is not None
    if not interpreter and name.removesuffix(".cmd") not in _LAUNCHERS:
        yield told, Path(path)
    wanted = interpreter
    for argument in server.command[1:]:
        text = argument.partition("=")[2] if argument.startswith("-") else argument
        file = (server.cwd or Path.cwd()) / Path(text)
        if text and "\0" not in text and _is_file(file):
            if file.suffix.lower() in _CODE or (wanted and not argument.startswith("-")):
                yield text, file
            wanted = wanted and argument.startswith("-")
        wanted = wanted and argument not in _NO_FILE


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or not a name
        return False


def _look(path: Path) -> tuple[str, Stamp]:
    """Digest and stamp of a file, of the very one that was opened."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            return hashlib.file_digest(file, "sha256").hexdigest(), (*_stamp(found), *_stamp(path.lstat()))
    except OSError:
        # May be executed, but not read; the same in every run.
        return _UNREADABLE, _stamp_of(path)


def _stamp_of(path: Path) -> Stamp:
    try:
        return (*_stamp(path.stat()), *_stamp(path.lstat()))
    except OSError:
        return ()


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
