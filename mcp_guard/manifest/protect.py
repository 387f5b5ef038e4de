"""Which arguments lead into the guard's own files (decisions.md D32): data, keys, configuration, host configurations.

A tool that can write those could approve its own calls or drop its own rules. Paths are judged as the system would
open them: after symlinks, `..`, `~`, variables, percent-encoding, file URLs, and whatever the case of letters.
A folder *above* them may still be listed or read; a change of it as a whole is asked for, since who moves a folder of
their own in its place brings another configuration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from mcp_guard.config.hosts import PROJECT_FILES
from mcp_guard.config.load import LoadedConfig, user_config_file, user_data_dir
from mcp_guard.config.secretfiles import FOLDER
from mcp_guard.manifest.disk import Disk, Real, SpentError, identity
from mcp_guard.manifest.find import is_path
from mcp_guard.manifest.spelling import (
    MAX_PATH,
    MAX_VEILED,
    Query,
    Spellings,
    Vague,
    distinct,
    fold,
    is_veiled,
    may_mention,
    neighbours,
    texts_in,
)
from mcp_guard.manifest.starts import Firsts, Starts, joined
from mcp_guard.manifest.user import FOLDER as MANIFESTS

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
        named: Callable[[str], Sequence[str]] = lambda _server: (),
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
            named: See `Starts`.
        """
        self._inside = _Inside(protected, project, home)
        self._starts = Starts(cwds, home, named)
        self._spellings = Spellings(home, env)

    def disk(self, server: str) -> Disk:
        """What one call of a server sees of the file system; for all that is asked about this call."""
        return Disk(self._starts.cwd(server), self._inside.identities)

    def touched_by(self, server: str, value: JsonValue, disk: Disk | None = None) -> bool:
        """Whether any text in `value`, keys included, leads into a protected place.

        Args:
            server: Name in guard.yaml; relative paths are read against its working directory and where it may look.
            value: Arguments, or a resource's URI.
            disk: Of this call.

        Raises:
            SpentError: it has too many texts that may be paths.
        """
        disk = disk or self.disk(server)
        texts, around = distinct(value), set[str]()
        return (
            self._named(server, value, texts, disk, around)
            or self._mentioned(server, texts, disk)
            # Longer text is no path, and is searched for protected paths as they are spelled.
            or any(self._inside.spelled_in(text) for text in texts if len(text) > MAX_PATH)
            or any(self._is_inside(server, path, disk) for path in joined(value, around, self._spellings, disk))
        )

    def _named(self, server: str, value: JsonValue, texts: list[str], disk: Disk, around: set[str]) -> bool:
        """As a whole; `around` then has the folders around something protected."""
        for text in texts:
            disk.spend(cost(text))
            if is_veiled(text):
                raise SpentError
            for path in self._spellings.whole(text):
                if self._is_inside(server, path, disk, around) and (
                    "/" in path
                    or self._is_inside(server, path, disk, home=False)
                    or not (isinstance(text, Query) or self._is_placed(server, value, text, disk))
                ):
                    return True
        return False

    def _is_placed(self, server: str, value: JsonValue, name: str, disk: Disk) -> bool:
        """Whether a mere name stands beside a folder each time: then it is a name in there, or a pattern."""
        beside = 0
        for texts in neighbours(value):
            disk.spend(2 * len(texts))
            if name in texts and any(self._is_other_folder(server, text, disk) for text in texts):
                beside += texts.count(name)
        return beside == sum(text == name for text in texts_in(value))

    def _is_other_folder(self, server: str, text: str, disk: Disk) -> bool:
        """Whether a text is the absolute path of a folder, above which nothing of the user's is protected."""
        path = self._spellings.plain(text)
        ends = list(disk.ends(self._starts.cwd(server), path)) if os.path.isabs(path) else []  # noqa: PTH117 - as text
        return any(end.folder and self._inside.below(end) != "own" and not self._inside.holds(end) for end in ends)

    def _mentioned(self, server: str, texts: list[str], disk: Disk) -> bool:
        """In the words of longer texts. These may be long lists or code, so who runs out of time only searches them."""
        seen: set[str] = set()

        def found(text: str) -> bool:
            disk.spend(cost(text))
            for path in self._spellings.in_words(text):
                if path not in seen and self._is_inside(server, path, disk):
                    return True
                seen.add(path)
            return False

        inside, unread = disk.look_through(filter(may_mention, texts), found)
        return inside or any(self._is_spelled(text) for text in unread)

    def _is_spelled(self, text: str) -> bool:
        return self._inside.spelled_in(text) or self._inside.mentioned_in(self._spellings.written_out(text))

    def _firsts(self, disk: Disk) -> Firsts:
        return Firsts.kept(disk, self, self._inside.names_below)

    def _is_inside(
        self, server: str, path: str, disk: Disk, around: set[str] | None = None, *, home: bool = True
    ) -> bool:
        for start in self._firsts(disk).of(self._starts.of(server, path, home=home), path):
            for end in disk.ends(start, path):
                if self._inside.holds(end):
                    return True
                if around is not None and self._inside.below(end):
                    around.add(path)
        return False

    def below(self, server: str, value: JsonValue, disk: Disk | None = None) -> bool:
        """Whether a protected place lies below a folder that any text in `value` names from its beginning to its end.

        Args:
            server: As for `touched_by`.
            value: What may name a place that is changed; content would give false alarms.
            disk: Of this call.

        Raises:
            SpentError: see `touched_by`.
        """
        disk = disk or self.disk(server)
        around: set[str] = set()
        for text in distinct(value):
            disk.spend(cost(text))
            vague = isinstance(text, Vague) and not text.says_place()
            if any(self._is_above(server, path, disk, around, vague=vague) for path in self._spellings.whole(text)):
                return True
        return any(
            self._is_above(server, path, disk, set(), vague=True)
            for path in joined(value, around, self._spellings, disk)
        )

    def _is_above(self, server: str, path: str, disk: Disk, around: set[str], *, vague: bool = False) -> bool:
        for start in self._firsts(disk).of(self._starts.of(server, path, changes=True), path):
            for end in disk.ends(start, path):
                if vague and self._inside.is_around_home(end):
                    around.add(path)
                    continue
                below = self._inside.below(end)
                if below == "own" or self._inside.holds(end):
                    return True
                if below:
                    around.add(path)
        return False


class _Inside:
    """The protected places, as they are spelled and as they are on the disk."""

    def __init__(self, protected: Sequence[Path], project: Path | None, home: Path) -> None:
        shared = [] if project is None else [project / name for name in PROJECT_FILES]
        own, shared_roots = _folded(protected), _folded(shared)
        self._roots = own | shared_roots
        # What begins so is put in the place of a protected file once it is written.
        aside = {f"{folder}/.{name}." for folder, _, name in (root.rpartition("/") for root in self._roots)}
        self._held = re.compile(f"(?:{_any_of(sorted(self._roots))})(?:/|$)|{_any_of(sorted(aside))}")
        self._above: dict[str, Below] = dict.fromkeys(_above(shared_roots), "own")
        for folder in _folded([] if project is None else [project]):
            self._above.update(dict.fromkeys([folder, *_above({folder})], "project"))
        self._above.update(dict.fromkeys(_above(own), "own"))
        self._spelled = re.compile(_any_of(sorted(self._roots)))
        self._around_home = {*_folded([home]), *_above(_folded([home]))}
        self._mentioned = _relative(self._roots, {*_folded([home]), *_folded([] if project is None else [project])})
        found = (identity(str(path)) for path in [*protected, *shared])
        self.identities = frozenset(one for one in found if one is not None)

    def holds(self, end: Real) -> bool:
        """Whether a path leads inside."""
        return end.marked or self._held.match(end.folded) is not None

    def below(self, end: Real) -> Below:
        """What lies below it."""
        return self._above.get(end.folded, "")

    def is_around_home(self, end: Real) -> bool:
        """Whether it is the user's home or a folder above, as the root of the file system."""
        return end.folded in self._around_home

    def names_below(self, start: Real) -> Iterable[str] | None:
        """Of a folder: names in it that lead to something protected. None where all do."""
        if self.holds(start):
            return None
        around = f"{start.folded}/"
        return {root[len(around) :].partition("/")[0] for root in self._roots if root.startswith(around)}

    def mentioned_in(self, text: str) -> bool:
        """Whether a protected path stands in a text, in full or from home or the folder that is worked in."""
        folded = fold(text)
        return self._spelled.search(folded) is not None or self._mentioned.search(folded) is not None

    def spelled_in(self, text: str) -> bool:
        """Whether a protected path stands in a text, as it is written."""
        return self._spelled.search(fold(text)) is not None


def cost(text: str) -> int:
    """Steps that reading a text takes, apart from looks at the disk."""
    return 4 + (len(text) >> 2 if len(text) <= MAX_VEILED and "%" in text else len(text) >> 9)


def _relative(roots: set[str], starts: set[str]) -> re.Pattern[str]:
    """What begins like a relative path to one of the roots. A mere name only where dots say that it is a path."""
    tails = {root[len(start) + 1 :] for root in roots for start in starts if root.startswith(f"{start}/")}
    longer = _any_of(sorted(tail for tail in tails if "/" in tail))
    names = _any_of(sorted(tail for tail in tails if "/" not in tail))
    return re.compile(rf"(?<![\w./\\-])(?:(?:\.\.?/)*(?:{longer})|(?:\.\.?/)+(?:{names}))(?![\w-])")


def _any_of(texts: list[str]) -> str:
    """A pattern for any of these texts, in which what they begin with in common is looked for once."""
    if not texts:
        return "(?!)"
    common = os.path.commonprefix(texts)  # noqa: RUF071 - of texts, not of their folders
    rests = [text[len(common) :] for text in texts]
    grouped = [[rest for rest in rests if rest[:1] == first] for first in sorted({rest[:1] for rest in rests} - {""})]
    if not grouped:
        return re.escape(common)
    return f"{re.escape(common)}(?:{'|'.join(map(_any_of, grouped))}){'?' if '' in rests else ''}"


def _folded(paths: Sequence[Path]) -> set[str]:
    return {fold(text) for path in paths for text in (str(path), os.path.realpath(path))}


def _above(roots: set[str]) -> Iterator[str]:
    return ("/".join(root.split("/")[:n]) for root in roots for n in range(1, root.count("/") + 1))


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
        loaded.folder / ".guard.lock.writer",
        loaded.folder / FOLDER,
        loaded.folder / MANIFESTS,
        *(loaded.folder / Path(name).expanduser() for name in names if is_path(name)),
        *loaded.files,
        user_config_file().parent,
        user_data_dir(),
    ]
