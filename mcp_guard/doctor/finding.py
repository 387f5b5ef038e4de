"""What a check may say. Codes, their levels and what mends them are one table, documented in docs/doctor.md."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from mcp_guard.approval.prompt import visible
from mcp_guard.model import JsonDict


class Level(StrEnum):
    """How bad a finding is, the least first."""

    OK = "ok"
    NOTE = "note"
    """Good to know; the exit code stays 0."""
    WARNING = "warning"
    """Works, but not as safely or as well as it should."""
    PROBLEM = "problem"
    """Does not work, or does not protect."""

    @property
    def rank(self) -> int:
        """0 for ok up to 3 for a problem."""
        return tuple(Level).index(self)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding. `mend` is a command or an edit; its `{names}` are filled in by the check."""

    level: Level
    mend: str


_COMMAND: Final = re.compile(r"\bmcp-guard (?:(?:approvals|audit|pins) )?[a-z]+\b(?: --[a-z]+\b)*")

OK: Final = "ok"
"""Code of what is fine."""

_NOTE, _WARNING, _PROBLEM = Level.NOTE, Level.WARNING, Level.PROBLEM

KINDS: Final[dict[str, Kind]] = {
    OK: Kind(Level.OK, ""),
    "check-failed": Kind(_WARNING, "run `mcp-guard doctor` again; if it stays, report it with this text"),
    # configuration
    "config-missing": Kind(_PROBLEM, "mcp-guard wrap (takes over the servers of your hosts), or mcp-guard init"),
    "config-invalid": Kind(_PROBLEM, "edit {path}, then run mcp-guard check"),
    "reference-unresolved": Kind(_WARNING, "{how}"),
    "plain-secret": Kind(_WARNING, "put it into a file that you alone can read, and write ${{file:PATH}} in its place"),
    "secret-unused": Kind(_NOTE, "remove from {path} what nothing else reads"),
    "secret-short": Kind(_NOTE, "use a longer secret where the server lets you"),
    "double-wrapped": Kind(_PROBLEM, "remove servers.{server} from {path}"),
    "file-writable": Kind(_PROBLEM, "chmod {mode} {path}"),
    "file-readable": Kind(_PROBLEM, "chmod {mode} {path}"),
    "file-owner": Kind(_PROBLEM, "sudo chown {user} {path}"),
    # hosts
    "host-bypass": Kind(_PROBLEM, "mcp-guard wrap {which}, then restart {host}"),
    "host-left": Kind(_WARNING, "{how}"),
    "host-suspect": Kind(_PROBLEM, "look at it, and correct it in {path} or remove it there; then restart {host}"),
    "host-stale": Kind(
        _PROBLEM,
        "correct it in {path}, or run mcp-guard unwrap {which} and mcp-guard wrap {which}; then restart {host}",
    ),
    "host-twice": Kind(_WARNING, "remove one of the two entries from {path}, then restart {host}"),
    "host-secret": Kind(_WARNING, "{how}"),
    "host-unreadable": Kind(_NOTE, "open {path} in {host} and let it write the file anew"),
    "host-none": Kind(_NOTE, "mcp-guard wrap"),
    "host-silent": Kind(_NOTE, "mcp-guard console (open requests, in the browser), or mcp-guard approvals ls"),
    # programs
    "program-missing": Kind(_PROBLEM, "{how}"),
    "program-broken": Kind(_PROBLEM, "{how}"),
    "program-old": Kind(_WARNING, "{how}"),
    "program-off-path": Kind(_NOTE, "write `command: {found}` for the server {server} in {path}"),
    # servers
    "servers-none": Kind(_NOTE, "mcp-guard wrap"),
    "server-failed": Kind(_PROBLEM, "mend what it says, then run mcp-guard check --connect"),
    "server-slow": Kind(_WARNING, "run mcp-guard check --connect, which waits longer; a first start may download it"),
    "server-quarantined": Kind(_PROBLEM, "{how}"),
    "tools-unreviewed": Kind(_NOTE, "mcp-guard trust {server}"),
    "tools-quarantined": Kind(_WARNING, "mcp-guard pins diff {server}"),
    "pins-unusable": Kind(_PROBLEM, "restore {path} from a backup or version control"),
    "server-left-out": Kind(_NOTE, "nothing to do: the host that has it starts it"),
    "startup-slow": Kind(_NOTE, "set `disabled: true` for servers that you do not need"),
    "startup-failed": Kind(_PROBLEM, "run mcp-guard serve in a terminal: it says on stderr why"),
    # data
    "data-unusable": Kind(_PROBLEM, "make {path} a folder that you can write, or set data_dir to another one"),
    "disk-full": Kind(_PROBLEM, "free some space on the disk of {path}"),
    "disk-low": Kind(_WARNING, "free some space on the disk of {path}"),
    "data-large": Kind(_NOTE, "keep it, or move old months of {path} to an archive while no guard runs"),
    "store-damaged": Kind(_PROBLEM, "stop your hosts, move {path} and its -wal file away; open requests are lost"),
    "store-unreadable": Kind(_PROBLEM, "make it and its folder readable and writable for you: chmod u+rw {path}"),
    "store-newer": Kind(_PROBLEM, "update the guard to the version that wrote {path}"),
    "store-locked": Kind(_WARNING, "quit your hosts; if it stays, end the guard process that hangs"),
    "key-unusable": Kind(_PROBLEM, "restore {path} from a backup"),
    "key-missing": Kind(_PROBLEM, "restore {path} from a backup"),
    "holders-stale": Kind(_NOTE, "nothing to do: the next guard that starts takes its requests over"),
    # record
    "record-tampered": Kind(_PROBLEM, "mcp-guard audit verify (keep a copy of {path} before anything else)"),
    "record-unverifiable": Kind(_WARNING, "mcp-guard audit verify"),
    "record-unreadable": Kind(_PROBLEM, "mcp-guard audit verify (names the file; restore it from a backup)"),
    "record-long": Kind(_NOTE, "mcp-guard audit verify"),
    "record-unlinked": Kind(_PROBLEM, "restart the host that runs it, and find out what removed the file"),
    "slots-many": Kind(_WARNING, "quit hosts that you do not use"),
    # machine
    "sqlite-old": Kind(Level.OK, "nothing to do; a newer Python brings a newer SQLite"),
    "sqlite-too-old": Kind(_PROBLEM, "install the guard with a Python that has SQLite 3.37 or later"),
    "clock-behind": Kind(_WARNING, "set the clock of this machine (turn on network time)"),
    "console-port": Kind(
        _WARNING, "end that program, or set console.port in {path} to a free port; then restart your hosts"
    ),
    "notify-missing": Kind(_WARNING, "pip install 'mcp-guard[notify]'"),
    "notify-off": Kind(_NOTE, "pip install 'mcp-guard[notify]'"),
}
"""By code. Codes are stable: scripts branch on them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check says. Made by `find` and `fine`, so that every code is in `KINDS`."""

    code: str
    text: str
    mend: str = ""
    detail: tuple[str, ...] = ()
    """Lines to show below, such as the masked end of a server's stderr."""

    @property
    def level(self) -> Level:
        """How bad it is, by its code."""
        return KINDS[self.code].level

    def data(self) -> JsonDict:
        """As `--json` prints it."""
        return {
            "code": self.code,
            "level": self.level.value,
            "text": self.text,
            "mend": self.mend,
            "detail": [*self.detail],
        }


def find(code: str, text: str, *, detail: Sequence[str] = (), **names: object) -> Finding:
    """A finding; hidden characters are made visible, paths are quoted for a shell.

    Args:
        code: One of `KINDS`.
        text: A plain sentence without values of the configuration.
        detail: Masked lines.
        names: What the `mend` of this code names.
    """
    mend = KINDS[code].mend.format(**{key: quoted(value) for key, value in names.items()})
    return Finding(code, visible(text), visible(mend), tuple(visible(line) for line in detail))


def with_option(finding: Finding, option: str) -> Finding:
    """The same with an option for each command of the guard in its mend.

    Args:
        finding: Any.
        option: As `config_words` gave it, with its space; empty for none.
    """
    return replace(finding, mend=_COMMAND.sub(lambda command: command[0] + option, finding.mend)) if option else finding


def fine(text: str) -> Finding:
    """Something is as it should be; the fewer words the better, since a group is one line."""
    return Finding(OK, visible(text))


def told(path: PurePath, home: PurePath | None = None) -> str:
    """A path as a sentence names it: from the home folder where it lies there."""
    if home is not None and path.is_relative_to(home):
        return os.path.join("~", path.relative_to(home))  # noqa: PTH118 - text, not a path to open
    return str(path)


def count(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def quoted(value: object) -> str:
    """A value as a command takes it: a path as one word of a shell."""
    if isinstance(value, PurePath):
        return shlex.quote(str(value)) if sys.platform != "win32" else f'"{value}"'
    return str(value)
