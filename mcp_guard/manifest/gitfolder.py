"""Which arguments lead into a folder that git takes orders from: configuration and hooks name programs that it runs.

A folder is git's by its name, `.git`, also where that is a file that names another folder; or by what lies in it, since
git takes any folder with `HEAD`, `objects` and `refs` for a repository.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from mcp_guard.manifest.disk import Disk, Real
from mcp_guard.manifest.protect import cost
from mcp_guard.manifest.spelling import MAX_PATH, Spellings, distinct, fold, may_mention
from mcp_guard.manifest.starts import Firsts, Starts, joined

_NAMES = frozenset({".git", "git~1", "commondir"})
"""Folded. The second is the short name of the first on Windows; the third makes git read another folder's files."""
_SPELLED = re.compile(r"/\.git(?![\w-])")
_MENTIONED = re.compile(r"/\.git(?![\w-])|(?<![\w.-])\.git/")
_HOLDS = ("HEAD", "objects", "refs")
"""What git looks for in a folder."""
_HELD = {name.casefold(): name for name in _HOLDS}


class GitFolders:
    """Tells whether arguments lead into a folder of git's own files."""

    def __init__(
        self,
        *,
        cwds: Mapping[str, Path],
        home: Path,
        env: Mapping[str, str] | None = None,
        named: Callable[[str], Sequence[str]] = lambda _server: (),
    ) -> None:
        """As for `OwnFiles`.

        Args:
            cwds: Working directory of each server's process, by the server's name.
            home: What `~` stands for.
            env: For `$NAME` in arguments; default: HOME alone.
            named: See `Starts`.
        """
        self._starts = Starts(cwds, home, named)
        self._spellings = Spellings(home, env)

    def led_into_by(self, server: str, value: JsonValue, disk: Disk | None = None) -> bool:
        """Whether any text in `value`, keys included, leads to or into such a folder, as spelled or once resolved.

        Args:
            server: Name in guard.yaml; relative paths are read against its working directory and where it may look.
            value: What may name a place; content would give false alarms.
            disk: Of this call.

        Raises:
            SpentError: it has too many texts that may be paths.
        """
        disk = disk or Disk(self._starts.cwd(server))
        texts, folders = distinct(value), set[str]()
        return (
            any(self._is_gits(server, path, disk, folders) for path in self._named(texts, disk))
            or self._mentioned(server, texts, disk)
            or any(self._is_gits(server, path, disk, set()) for path in joined(value, folders, self._spellings, disk))
        )

    def _named(self, texts: list[str], disk: Disk) -> Iterator[str]:
        for text in texts:
            disk.spend(cost(text))
            yield from self._spellings.whole(text)

    def _mentioned(self, server: str, texts: list[str], disk: Disk) -> bool:
        """In the words of longer texts; who runs out of time only searches them."""

        def found(text: str) -> bool:
            disk.spend(cost(text))
            return any(self._is_gits(server, path, disk, set()) for path in self._spellings.in_words(text))

        gits, unread = disk.look_through(filter(may_mention, texts), found)
        return (
            gits
            or any(_MENTIONED.search(fold(self._spellings.written_out(text))) for text in unread)
            or any(_SPELLED.search(fold(text)) for text in texts if len(text) > MAX_PATH)
        )

    @staticmethod
    def _firsts(disk: Disk) -> Firsts:
        return Firsts.kept(
            disk, GitFolders, lambda end: None if _names_git(end.path) or _in_repository(end, disk) else _HELD
        )

    def _is_gits(self, server: str, path: str, disk: Disk, folders: set[str]) -> bool:
        if _names_git(path):
            return True
        for start in self._firsts(disk).of(self._starts.of(server, path), path):
            for end in disk.ends(start, path):
                if _names_git(end.path) or _in_repository(end, disk):
                    return True
                if end.folder:
                    folders.add(path)
        return False


def _names_git(path: str) -> bool:
    if path.isascii():
        lower = path.lower()
        if "git" not in lower and "commondir" not in lower:
            return False
    return any(map(_named, path.replace(os.sep, "/").split("/")))


def _named(part: str) -> bool:
    """Whether a file system may take this name for one of git's: some ignore case, dots at the end, marks."""
    seen = "".join(c for c in fold(part) if unicodedata.category(c) != "Cf")
    return seen.partition(":")[0].rstrip(". ") in _NAMES


def _in_repository(end: Real, disk: Disk) -> bool:
    """Whether a folder on this path is a repository by what it holds, or would be with what the path adds to it."""
    path, below = end.path.rstrip(os.sep), ""
    while True:
        if all(below == name or disk.holds(path, name) for name in _HOLDS):
            return True
        path, above, below = path.rpartition(os.sep)
        if not above:
            return False
        below = _HELD.get(below.casefold(), below)
