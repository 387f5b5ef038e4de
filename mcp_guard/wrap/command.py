"""Whether an entry of a host starts the guard: read from its command, since names in a file are anybody's (S40)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

OURS = "mcp-guard"
_MODULES = frozenset({"mcp_guard", "mcp_guard.cli.main"})
_PYTHON = re.compile(r"python[\d.]*w?|py")
_PYTHON_FLAGS = re.compile(r"-[IEsSuBPOq]+|-3[\d.]*")
_PACKAGE = re.compile(r"mcp[-_]guard(?:\[[\w,-]+\])?(?:(?:==|@)[\w.]+)?")
_QUIET = frozenset({"-q", "--quiet", "--offline", "--isolated", "--refresh", "--no-progress", "--no-config"})
_WITH_VALUE = frozenset({"--python", "-p", "--spec", "--from"})
_PACKAGE_OPTIONS = frozenset({"--spec", "--from"})
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=.*", re.DOTALL)
_LOADERS = ("LD_", "DYLD_", "PYTHON", "NODE_OPTIONS", "UV_", "PIP_", "PIPX_")
"""Variables by which another program's code is loaded instead."""


def is_guard(fields: Mapping[str, Any]) -> bool:
    """Whether an entry starts the guard, and not a program of another name with the guard's name among its words."""
    command, args = fields.get("command"), fields.get("args")
    env = fields.get("env")
    words = [command, *(args if isinstance(args, list) else [])]
    if not all(isinstance(word, str) for word in words) or any(map(_loads_other_code, env or ())):
        return False
    return _serves(words)


def guard_is_gone(fields: Mapping[str, Any]) -> bool:
    """Whether the program of an entry is named by its path and cannot be started from there."""
    command = Path(str(fields.get("command", "")))
    return command.is_absolute() and not (command.is_file() and os.access(command, os.X_OK))


def _loads_other_code(variable: object) -> bool:
    return str(variable).upper().startswith(_LOADERS)


def _serves(words: Sequence[str]) -> bool:
    """Whether a command line is `mcp-guard serve …`, started in one of the ways that people do."""
    rest: Sequence[str] | None = words
    for start in (_behind_shell, _behind_env, _behind_runner, _behind_program):
        rest = start(rest) if rest is not None else None
    return rest is not None and rest[:1] == ["serve"]


def _name(word: str) -> str:
    """Name of a program; empty for one in a folder that depends on where the host stands."""
    path = PureWindowsPath(word) if "\\" in word or PureWindowsPath(word).drive else PurePosixPath(word)
    if {"/", "\\"} & set(word) and not path.is_absolute():
        return ""
    return re.sub(r"\.(exe|cmd|bat)$", "", path.name.lower())


def _behind_shell(words: Sequence[str]) -> Sequence[str]:
    return words[2:] if _name(words[0]) == "cmd" and words[1:2] in (["/c"], ["/C"]) else words


def _behind_env(words: Sequence[str]) -> Sequence[str] | None:
    if not words or _name(words[0]) != "env":
        return words
    for number, word in enumerate(words[1:], start=1):
        assigned = _ASSIGNMENT.fullmatch(word)
        if assigned is None:
            return words[number:]
        if _loads_other_code(assigned[1]):
            return None
    return None


def _behind_runner(words: Sequence[str]) -> Sequence[str] | None:
    """The command that `uvx`, `uv tool run` or `pipx run` starts; None when they could fetch another package."""
    name = _name(words[0]) if words else ""
    skipped = {"uvx": 1, "uv": 3, "pipx": 2}.get(name, 0)
    if not skipped:
        return words
    if list(words[1:skipped]) not in ([], ["tool", "run"], ["run"]) or len(words) <= skipped:
        return None
    rest = list(words[skipped:])
    while rest and rest[0].startswith("-"):
        option, sign, value = rest.pop(0).partition("=")
        if option in _WITH_VALUE:
            value = value if sign else rest.pop(0) if rest else ""
            if option in _PACKAGE_OPTIONS and not _PACKAGE.fullmatch(value):
                return None
        elif option not in _QUIET:
            return None
    return [OURS, *rest[1:]] if rest and _PACKAGE.fullmatch(rest[0]) else None


def _behind_program(words: Sequence[str]) -> Sequence[str] | None:
    if not words:
        return None
    name, rest = _name(words[0]), list(words[1:])
    if name == OURS:
        return rest
    if not _PYTHON.fullmatch(name):
        return None
    while rest and _PYTHON_FLAGS.fullmatch(rest[0]):
        rest.pop(0)
    return rest[2:] if rest[:1] == ["-m"] and rest[1:2] and rest[1] in _MODULES else None
