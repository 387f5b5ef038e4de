"""Which arguments lead into a folder that git takes orders from: configuration and hooks name programs that it runs.

A folder is git's by its name, `.git`, also where that is a file that names another folder; or by what lies in it, since
git takes any folder with `HEAD`, `objects` and `refs` for a repository.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import JsonValue

from mcp_guard.manifest.spelling import MAX_PATH, Spellings, fold, neighbours, of_process, texts_in

_MAX_CANDIDATES = 20_000
"""Spellings that are resolved for one call; above that the call counts as leading inside (fail closed)."""
_NAMES = frozenset({".git", "git~1", "commondir"})
"""Folded. The second is the short name of the first on Windows; the third makes git read another folder's files."""
_HOLDS = ("objects", "refs", "HEAD")
"""What git looks for in a folder."""


class GitFolders:
    """Tells whether arguments lead into a folder of git's own files."""

    def __init__(self, *, cwds: Mapping[str, Path], home: Path, env: Mapping[str, str] | None = None) -> None:
        """As for `OwnFiles`.

        Args:
            cwds: Working directory of each server's process, by the server's name.
            home: What `~` stands for.
            env: For `$NAME` in arguments; default: HOME alone.
        """
        self._cwds = cwds
        self._spellings = Spellings(home, env)

    def led_into_by(self, server: str, value: JsonValue) -> bool:
        """Whether any text in `value`, keys included, leads to or into such a folder, as spelled or once resolved.

        Args:
            server: Name in guard.yaml; relative paths are read against its working directory.
            value: What may name a place; content would give false alarms.
        """
        cwd = self._cwds.get(server) or Path.cwd()
        seen: set[str] = set()
        known: dict[str, int] = {}
        for path in self._paths(cwd, value):
            if path not in seen:
                seen.add(path)
                full = os.path.join(cwd, of_process(path, cwd))  # noqa: PTH118 - pathlib is slower
                if len(seen) > _MAX_CANDIDATES or _is_gits(full, known):
                    return True
        return any(len(text) > MAX_PATH and "/.git" in fold(text) for text in texts_in(value))

    def _paths(self, cwd: Path, value: JsonValue) -> Iterator[str]:
        for text in texts_in(value):
            yield from self._spellings.of(text)
        for texts in neighbours(value):
            paths = list(dict.fromkeys(self._spellings.plain(text) for text in texts))
            for folder in [path for path in paths if os.path.isdir(cwd / path)]:  # noqa: PTH112 - never raises
                yield from (f"{folder}/{path}" for path in paths if path is not folder)


def _is_gits(path: str, known: dict[str, int]) -> bool:
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError):
        real = path  # no system call can open it either
    parts = f"{path}/{real}".replace(os.sep, "/").split("/")
    return any(map(_named, parts)) or _in_repository(real, known)


def _named(part: str) -> bool:
    """Whether a file system may take this name for one of git's: some ignore case, dots at the end, marks."""
    seen = "".join(c for c in fold(part) if unicodedata.category(c) != "Cf")
    return seen.partition(":")[0].rstrip(". ") in _NAMES


def _in_repository(path: str, known: dict[str, int]) -> bool:
    """Whether a folder on this path is a repository by what it holds, or would be with what the path adds to it."""
    below = ""
    while True:
        if path not in known:
            known[path] = sum(1 << n for n, name in enumerate(_HOLDS) if os.path.lexists(f"{path}/{name}"))
        added = sum(1 << n for n, name in enumerate(_HOLDS) if fold(below) == fold(name))
        if known[path] | added == 2 ** len(_HOLDS) - 1:
            return True
        parent, below = os.path.split(path)
        if parent == path:
            return False
        path = parent
