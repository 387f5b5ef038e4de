"""Which arguments lead into the guard's own files (decisions.md D32): data, keys, configuration, host configurations.

A tool that can write those could approve its own calls or drop its own rules. Paths are judged as the system would
open them: after symlinks, `..`, `~`, variables, percent-encoding, file URLs, and whatever the case of letters.
A folder *above* them may still be listed or read; what a tool does to a whole tree is a matter of its risk.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from pydantic import JsonValue

from mcp_guard.config.load import LoadedConfig
from mcp_guard.config.secretfiles import FOLDER
from mcp_guard.manifest.find import is_path

_MAX_PATH = 4096
"""Characters. Longer text is no path, and is only searched for protected paths as they are spelled."""
_MAX_CANDIDATES = 20_000
"""Spellings that are resolved for one call; above that the call counts as leading inside (fail closed)."""
_WORDS = re.compile(r"""[\s"'`=:,;|<>()\[\]{}&]+""")
"""What separates paths in a command line."""
_DRIVE = re.compile(r"/[A-Za-z]:/")


class OwnFiles:
    """Tells whether arguments lead into protected files or folders."""

    def __init__(
        self, protected: Sequence[Path], *, cwds: Mapping[str, Path], home: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Args are bound for the life of a configuration.

        Args:
            protected: Files and folders, absolute. They need not exist yet, but the folder they lie in should: its
                links are followed now.
            cwds: Working directory of each server's process, by the server's name.
            home: What `~` stands for.
            env: For `$NAME` in arguments; default: HOME alone.
        """
        self._inside = _Inside(protected)
        self._cwds = cwds
        self._home = home
        self._env = {"HOME": str(home), "USERPROFILE": str(home)} if env is None else env

    def touched_by(self, server: str, value: JsonValue) -> bool:
        """Whether any text in `value`, keys included, leads into a protected place.

        Args:
            server: Name in guard.yaml; relative paths are read against its working directory.
            value: Arguments, or a resource's URI.
        """
        inside = self._inside
        cwd = self._cwds.get(server) or Path.cwd()
        seen: set[str] = set()
        for text in _texts(value):
            if len(text) > _MAX_PATH and inside.spelled_in(text):
                return True
            for spelling in self._spellings(text):
                if spelling in seen:
                    continue
                seen.add(spelling)
                if len(seen) > _MAX_CANDIDATES or inside.holds(cwd / spelling):
                    return True
        return False

    def _spellings(self, text: str) -> Iterator[str]:
        if len(text) <= _MAX_PATH:
            yield from self._paths(text)
        # Inside longer text (a command line) only what looks like a path: every word would be a lookup.
        for word in dict.fromkeys(_WORDS.split(text[: 64 * _MAX_PATH])):
            if word != text and len(word) <= _MAX_PATH and any(c in word for c in "/\\~$%"):
                yield from self._paths(word)

    def _paths(self, text: str) -> Iterator[str]:
        once = unquote(text)
        for form in dict.fromkeys((text, once, unquote(once))):
            path = form.partition("\0")[0]
            if path.lower().startswith("file:"):
                path = _of_file_url(path)
            if not path or "://" in path:
                continue
            path = self._expand(path)
            yield path
            if "\\" in path:
                yield path.replace("\\", "/")

    def _expand(self, path: str) -> str:
        if path == "~" or path.startswith(("~/", "~\\")):
            return str(self._home) + path[1:]
        if path.startswith("~"):
            return str(Path(self._home.parent, path[1:]))
        if "$" in path:
            return re.sub(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?", lambda m: self._env.get(m[1], m[0]), path)
        return path


class _Inside:
    """The protected places, as they are spelled and as they are on the disk."""

    def __init__(self, protected: Sequence[Path]) -> None:
        self._roots = {_fold(text) for path in protected for text in (str(path), os.path.realpath(path))}
        self._files = {identity for path in protected if (identity := _identity(path)) is not None}

    def holds(self, path: Path) -> bool:
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):
            return False  # no system call can open it either
        folded = _fold(real)
        if any(folded == root or folded.startswith(root + "/") for root in self._roots):
            return True
        return _identity(Path(real)) in self._files if self._files else False

    def spelled_in(self, text: str) -> bool:
        folded = _fold(text)
        return any(root in folded for root in self._roots)


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, which a hard link or a bind mount shares."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else None


def _fold(path: str) -> str:
    # Everywhere, not only where the file system ignores case: a false alarm costs nothing here.
    return unicodedata.normalize("NFC", path).casefold().replace("\\", "/").rstrip("/")


def _of_file_url(url: str) -> str:
    rest = url[5:].partition("?")[0].partition("#")[0]
    if rest.startswith("//"):
        rest = "/" + rest[2:].partition("/")[2]  # the host is empty, localhost, or not ours to tell
    return rest[1:] if _DRIVE.match(rest) else rest


def _texts(value: JsonValue) -> Iterator[str]:
    pending: list[JsonValue] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            pending += item


def guard_files(loaded: LoadedConfig) -> list[Path]:
    """The guard's own files and folders: data with keys, configuration, lock, own manifests, files with secrets."""
    servers = loaded.config.servers.values()
    names = [*loaded.config.manifests, *(s.manifest for s in servers if s.manifest is not None)]
    return [
        loaded.data_dir,
        loaded.path,
        loaded.folder / "guard.lock",
        loaded.folder / FOLDER,
        *(loaded.folder / Path(name).expanduser() for name in names if is_path(name)),
        *loaded.files,
    ]
