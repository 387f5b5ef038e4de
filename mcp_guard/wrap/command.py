"""Whether an entry of a host starts the guard: read from its command, since names in a file are anybody's (S40)."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Installation:
    """What starts the guard that looks at an entry."""

    programs: tuple[str, ...]
    """Paths of its `mcp-guard`."""
    python: str
    """Path of its interpreter."""
    path: str
    """Folders in which it finds programs."""

    @classmethod
    def running(cls) -> Installation:
        """The one that runs now."""
        beside = shutil.which(OURS, path=str(Path(sys.executable).parent))
        script = Path(sys.argv[0]).absolute()
        named = [str(script)] if script.name.startswith(OURS) and script.is_file() else []
        folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if Path(folder).is_absolute()]
        return cls((*named, *([beside] if beside else [])), sys.executable, os.pathsep.join(folders))

    def same(self, program: str) -> bool:
        """Whether a program is the `mcp-guard` of this installation, or its interpreter."""
        if any(_same_file(program, one) for one in self.programs):
            return True
        # Interpreters of many environments are links to one file: their folder tells them apart.
        return bool(_PYTHON.fullmatch(_name(program))) and _same_file(Path(program).parent, Path(self.python).parent)


def other_program(fields: Mapping[str, Any], here: Installation) -> str:
    """Why an entry that `is_guard` does not start this installation; empty when it does, or when nothing is there.

    A project's file is anybody's, and so is a folder of that project with a program of our name in it.
    """
    args = fields.get("args")
    words = [fields["command"], *(args if isinstance(args, list) else [])]
    inner = _behind_env(_behind_shell(words)) or words
    path = next(_paths_given(fields, words), here.path)
    for word in dict.fromkeys((words[0], inner[0])):
        program, usual = shutil.which(word, path=path), shutil.which(_name(word), path=here.path)
        if program is None:
            continue  # it starts nothing
        guards_own = _name(word) == OURS or _PYTHON.fullmatch(_name(word))
        if not (here.same(program) if guards_own else usual is not None and _same_file(program, usual)):
            return f"is another program, or of another installation: {program}"
    if _PYTHON.fullmatch(_name(inner[0])) and not _leaves_out_its_folder(inner[1:]):
        return "takes the module from the folder in which its host stands: add -P before -m"
    return ""


def _paths_given(fields: Mapping[str, Any], words: Sequence[str]) -> Iterator[str]:
    """What an entry sets PATH to, the last word first."""
    for word in reversed(words):
        assigned = _ASSIGNMENT.fullmatch(word)
        if assigned and assigned[1].upper() == "PATH":
            yield word.partition("=")[2]
    env = fields.get("env")
    yield from (str(value) for name, value in (env or {}).items() if str(name).upper() == "PATH")


def _leaves_out_its_folder(words: Sequence[str]) -> bool:
    """Whether an interpreter is told, before its module, not to look for it where it stands."""
    flags = [word for word in words[: [*words, "-m"].index("-m")] if _PYTHON_FLAGS.fullmatch(word)]
    return any({"P", "I"} & set(flag) for flag in flags)


def _same_file(one: str | Path, other: str | Path) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


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
