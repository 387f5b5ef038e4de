"""Problems of a configuration, collected so that all are told at once, with file, line and path, never a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mcp_guard.config.schema import GuardConfig
from mcp_guard.errors import ConfigError

Place: TypeAlias = tuple[str | int, ...]
"""Keys and indexes from the root of a document. In a `Finding`, a rule may be named by its id."""

_SHOWN_KEY = 64
_SHOWN_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem before its line is known."""

    place: Place
    what: str
    """What is wrong: constant text, key names, names of variables. Never a value."""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem with its line."""

    file: str
    line: int
    path: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        where = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}: {where}{self.what}{hint}"


Check: TypeAlias = Callable[[GuardConfig, Path], Iterable[Finding]]
"""A check of another part over the parsed file and the folder it lies in; it looks only, and raises nothing."""


def spell(place: Place) -> str:
    """Write a place as `rules[0].match.tool`. Keys are shortened, and their unprintable characters hidden."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            key = "".join(c if c.isprintable() else "?" for c in step[:_SHOWN_KEY])
            text += f".{key}" if text else key
    return text


def line_of(lines: Mapping[Place, int], place: Place) -> int:
    """Line of a place, or of the nearest place around it that is in the file."""
    while place not in lines and place:
        place = place[:-1]
    return lines.get(place, 1)


def config_error(problems: Iterable[Problem]) -> ConfigError:
    """One error that lists all problems, in the order of the file."""
    unique = sorted({(p.file, p.line, p.path, str(p)) for p in problems})
    count = "1 problem" if len(unique) == 1 else f"{len(unique)} problems"
    shown = "\n".join(text for *_, text in unique[:_SHOWN_PROBLEMS])
    return ConfigError(f"{count}:\n{shown}")


def fail(problems: Iterable[Problem]) -> None:
    """Raise one ConfigError that lists all problems; do nothing when there are none.

    Raises:
        ConfigError: there is at least one problem.
    """
    listed = list(problems)
    if listed:
        raise config_error(listed)
