"""Which arguments lead into the guard's own files (decisions.md D32): data, keys, configuration, host configurations.

A tool that can write those could approve its own calls or drop its own rules. Paths are judged as the system would
open them: after symlinks, `..`, `~`, variables, percent-encoding, file URLs, and whatever the case of letters.
A folder *above* them may still be listed or read; a change of it as a whole is asked for, since who moves a folder of
their own in its place brings another configuration.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from mcp_guard.config.hosts import PROJECT_FILES
from mcp_guard.config.load import LoadedConfig, user_config_file, user_data_dir
from mcp_guard.config.secretfiles import FOLDER
from mcp_guard.manifest.find import is_path
from mcp_guard.manifest.spelling import MAX_PATH, Spellings, fold, neighbours, of_process, texts_in
from mcp_guard.manifest.user import FOLDER as MANIFESTS

_MAX_CANDIDATES = 20_000
"""Spellings that are resolved for one call; above that the call counts as leading inside (fail closed)."""
_TOPS = frozenset({"/", ""})

Below = Literal["", "project", "own"]
"""What lies below a folder: nothing protected; host files of the folder that is worked in; others."""
Seen = dict[str, Below]


class OwnFiles:
    """Tells whether arguments lead into protected files or folders."""

    def __init__(
        self,
        protected: Sequence[Path],
        *,
        cwds: Mapping[str, Path],
        home: Path,
        env: Mapping[str, str] | None = None,
        project: Path | None = None,
    ) -> None:
        """Args are bound for the life of a configuration.

        Args:
            protected: Files and folders, absolute. They need not exist yet, but the folder they lie in should: its
                links are followed now.
            cwds: Working directory of each server's process, by the server's name.
            home: What `~` stands for.
            env: For `$NAME` in arguments; default: HOME alone.
            project: The folder that is worked in. The host files in it are protected too, but it may be changed as a
                whole.
        """
        self._inside = _Inside(protected, project)
        self._cwds = cwds
        self._spellings = Spellings(home, env)

    def touched_by(self, server: str, value: JsonValue) -> bool:
        """Whether any text in `value`, keys included, leads into a protected place.

        Args:
            server: Name in guard.yaml; relative paths are read against its working directory.
            value: Arguments, or a resource's URI.
        """
        cwd = self._cwds.get(server) or Path.cwd()
        seen: Seen = {}
        for text in texts_in(value):
            # Longer text is no path, and is only searched for protected paths as they are spelled.
            if len(text) > MAX_PATH and self._inside.spelled_in(text):
                return True
            if any(self._leads_inside(cwd, spelling, seen) for spelling in self._spellings.of(text)):
                return True
        return any(self._leads_inside(cwd, joined, seen) for joined in self._joined(value, seen))

    def below(self, server: str, value: JsonValue) -> bool:
        """Whether a protected place lies below a folder that any text in `value` names from its beginning to its end.

        Args:
            server: As for `touched_by`.
            value: What may name a place that is changed; content would give false alarms.
        """
        cwd = self._cwds.get(server) or Path.cwd()
        seen: Seen = {}
        texts = [text for text in texts_in(value) if len(text) <= MAX_PATH]
        paths = itertools.chain.from_iterable(self._spellings.whole(text) for text in texts)
        if any(self._leads_inside(cwd, path, seen) for path in paths):
            return True
        if any(self._leads_inside(cwd, joined, seen) for joined in self._joined(value, dict(seen))):
            return True
        return "own" in seen.values()

    def _leads_inside(self, cwd: Path, spelling: str, seen: Seen) -> bool:
        """Look at a path once; `seen` then tells what lies below it."""
        if spelling in seen:
            return False
        if len(seen) >= _MAX_CANDIDATES:
            return True
        inside, seen[spelling] = self._inside.look(os.path.join(cwd, of_process(spelling, cwd)))  # noqa: PTH118 - pathlib is slower
        return inside

    def _joined(self, value: JsonValue, seen: Seen) -> Iterator[str]:
        """A folder above a protected place in one argument, with what stands in another one."""
        for texts in neighbours(value):
            paths = list(dict.fromkeys(self._spellings.plain(text) for text in texts))
            for folder in [path for path in paths if seen.get(path)]:
                yield from (f"{folder}/{path}" for path in paths if path is not folder)


class _Inside:
    """The protected places, as they are spelled and as they are on the disk."""

    def __init__(self, protected: Sequence[Path], project: Path | None) -> None:
        shared = [] if project is None else [project / name for name in PROJECT_FILES]
        own, shared_roots = _folded(protected), _folded(shared)
        self._roots = own | shared_roots
        self._aside = tuple(
            {f"{folder}/.{name}." for folder, _, name in (root.rpartition("/") for root in self._roots)}
        )
        """How files begin that are put in the place of a protected one once they are written."""
        self._above: dict[str, Below] = dict.fromkeys(_above(shared_roots), "own")
        for folder in _folded([] if project is None else [project]):
            self._above.update(dict.fromkeys([folder, *_above({folder})], "project"))
        self._above.update(dict.fromkeys(_above(own), "own"))
        self._files = {identity for path in [*protected, *shared] if (identity := _identity(path)) is not None}

    def look(self, path: str) -> tuple[bool, Below]:
        """Whether a path leads inside, and what lies below it."""
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):
            return False, ""  # no system call can open it either
        folded = fold(real)
        if folded.startswith(self._aside) or any(
            folded == root or folded.startswith(root + "/") for root in self._roots
        ):
            return True, ""
        if folded in self._above:
            return False, self._above[folded]
        return bool(self._files) and self._shares_identity(real), ""

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
        folded = fold(text)
        return any(root in folded for root in self._roots)


def _folded(paths: Sequence[Path]) -> set[str]:
    return {fold(text) for path in paths for text in (str(path), os.path.realpath(path))}


def _above(roots: set[str]) -> Iterator[str]:
    return ("/".join(root.split("/")[:n]) for root in roots for n in range(1, root.count("/") + 1))


def _identity(path: Path | str) -> tuple[int, int] | None:
    """Device and inode, which a hard link or a bind mount shares."""
    try:
        found = os.stat(path)  # noqa: PTH116 - as text: this runs for each path of each call
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else None


def guard_files(loaded: LoadedConfig) -> list[Path]:
    """The guard's own files and folders: data with keys, configuration, lock, manifests, files with secrets.

    And the user's folders of the guard, for all ids: a version control system in one would bring another guard.yaml.
    """
    servers = loaded.config.servers.values()
    names = [*loaded.config.manifests, *(s.manifest for s in servers if s.manifest is not None)]
    return [
        loaded.data_dir,
        loaded.path,
        loaded.folder / "guard.lock",
        loaded.folder / FOLDER,
        loaded.folder / MANIFESTS,
        *(loaded.folder / Path(name).expanduser() for name in names if is_path(name)),
        *loaded.files,
        user_config_file().parent,
        user_data_dir(),
    ]
