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
_CHANGES_FOLDER = frozenset({"cd", "pushd", "chdir", "-C"})
_MAX_TEXT = 64 * _MAX_PATH
"""Characters of a text whose words are looked at."""
_MAX_DECODED = 8
_MAX_JOINED = 64
"""Texts of one object that are tried together."""
_UP = r"(?:/+(?:\.|[^/.][^/]*/+\.\.))*"
_PROCESS = re.compile(rf"/proc{_UP}/+(?:self|thread-self|\d+){_UP}(?:/+task/+\d+{_UP})?/+(?P<link>cwd|root)(?=/|$)")
_QUOTES = str.maketrans("", "", "'\"\\")
_TOPS = frozenset({"/", ""})
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
        cwd = self._cwds.get(server) or Path.cwd()
        seen: dict[str, bool] = {}
        for text in _texts(value):
            if len(text) > _MAX_PATH and self._inside.spelled_in(text):
                return True
            if any(self._leads_inside(cwd, spelling, seen) for spelling in self._spellings(text)):
                return True
        return any(self._leads_inside(cwd, joined, seen) for joined in self._joined(value, seen))

    def _leads_inside(self, cwd: Path, spelling: str, seen: dict[str, bool]) -> bool:
        """Look at a path once; `seen` then tells whether a protected place lies below it."""
        if spelling in seen:
            return False
        if len(seen) >= _MAX_CANDIDATES:
            return True
        inside, seen[spelling] = self._inside.look(os.path.join(cwd, _of_process(spelling, cwd)))  # noqa: PTH118 - pathlib is slower
        return inside

    def _joined(self, value: JsonValue, seen: Mapping[str, bool]) -> Iterator[str]:
        """A folder above a protected place in one argument, with what stands in another one."""
        for texts in _neighbours(value):
            paths = list(dict.fromkeys(self._plain(text) for text in texts))
            for folder in [path for path in paths if seen.get(path)]:
                yield from (f"{folder}/{path}" for path in paths if path is not folder)

    def _plain(self, text: str) -> str:
        path = _decoded(text)[-1].partition("\0")[0]
        return self._expand(_of_file_url(path) if path[:5].lower() == "file:" else path)

    def _spellings(self, text: str) -> Iterator[str]:
        if len(text) <= _MAX_PATH:
            yield from self._paths(text)
        # Inside longer text (a command line) only what looks like a path: every word would be a lookup.
        yield from self._of_words(text, _WORDS.split(text[:_MAX_TEXT]))
        if len(text) <= _MAX_PATH and any(c in text for c in "'\"\\"):
            bare = text.translate(_QUOTES)  # as a shell reads it
            yield from self._of_words(text, [bare, *_WORDS.split(bare)])

    def _of_words(self, text: str, words: list[str]) -> Iterator[str]:
        folder, left = "", 0
        for before, word in zip(["", *words], words, strict=False):
            if before in _CHANGES_FOLDER:
                folder, left = word, _MAX_JOINED
            if word == text or not 0 < len(word) <= _MAX_PATH:
                continue
            if folder and left > 0:
                left -= 1
                yield from self._paths(f"{folder}/{word}")
            if any(c in word for c in "/\\~$%"):
                yield from self._paths(word)

    def _paths(self, text: str) -> Iterator[str]:
        for form in _decoded(text):
            path = form.partition("\0")[0]
            if path[:5].lower() == "file:":
                path = _of_file_url(path)
            for start in (path, path[1:]) if path[:1] == "@" else (path,):
                if start:
                    expanded = self._expand(start)
                    yield expanded
                    if "\\" in expanded:
                        yield expanded.replace("\\", "/")

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
        self._above = {"/".join(root.split("/")[:n]) for root in self._roots for n in range(1, root.count("/") + 1)}
        self._files = {identity for path in protected if (identity := _identity(path)) is not None}

    def look(self, path: str) -> tuple[bool, bool]:
        """Whether a path leads inside, and whether a protected place lies below it."""
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):
            return False, False  # no system call can open it either
        folded = _fold(real)
        if any(folded == root or folded.startswith(root + "/") for root in self._roots):
            return True, False
        if folded in self._above:
            return False, True
        return bool(self._files) and self._shares_identity(real), False

    def _shares_identity(self, real: str) -> bool:
        """Whether it or a folder around it is a protected one under another name: moved, bound, or linked hard."""
        while real not in _TOPS:
            if _identity(real) in self._files:
                return True
            parent = os.path.dirname(real)  # noqa: PTH120 - as text: this runs for each path of each call
            if parent == real:
                return False
            real = parent
        return False

    def spelled_in(self, text: str) -> bool:
        folded = _fold(text)
        return any(root in folded for root in self._roots)


def _identity(path: Path | str) -> tuple[int, int] | None:
    """Device and inode, which a hard link or a bind mount shares."""
    try:
        found = os.stat(path)  # noqa: PTH116 - as text: this runs for each path of each call
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


def _of_process(path: str, cwd: Path) -> str:
    """A path through the links of a process, whichever it is, as the server would follow them from its own folder."""
    for _ in range(_MAX_DECODED):
        found = _PROCESS.search(path) if "proc" in path else None
        if found is None:
            break
        path = (str(cwd) if found["link"] == "cwd" else "") + path[found.end() :]
    return path or "/"


def _decoded(text: str) -> list[str]:
    """The text, and what percent-decoding makes of it, again and again."""
    forms = [text]
    while "%" in forms[-1] and len(forms) <= _MAX_DECODED:
        once = unquote(forms[-1])
        if once == forms[-1]:
            break
        forms.append(once)
    return forms


def _neighbours(value: JsonValue) -> Iterator[list[str]]:
    """For each object with several members: the short texts in it, also in lists of it. A bounded number of each."""
    pending: list[JsonValue] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
        elif isinstance(item, dict):
            pending += item.values()
            if len(item) > 1:
                texts = [text for part in item.values() for text in (part if isinstance(part, list) else [part])]
                yield [t for t in texts if isinstance(t, str) and 0 < len(t) <= _MAX_PATH and "\n" not in t][
                    :_MAX_JOINED
                ]


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
