"""Where a path ends once links are followed. Looks at each part of a path once in a call, and at a bounded number."""

from __future__ import annotations

import itertools
import ntpath
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from mcp_guard.manifest.spelling import MAX_PATH, fold

_STEPS = 300_000
"""What one question about a call may cost: a part of a path counts 1, a look at the disk 4. Only steps count, so the
answer is the same on a busy machine. A step is less than a microsecond."""
_LONG_STEPS = 30_000
"""The same for what is mentioned in long texts together, apart from what may be a path as a whole."""
_SHORT_STEPS = 100_000
"""For what is mentioned in short texts together."""
_EACH_SHORT = 30_000
"""For one of these, so that none takes what the next one needs."""
_SLOW_SECONDS = 5.0
"""In all, on a disk that does not answer."""
_UNTIMED_STEPS = 2_000
"""Between two looks at the clock. An everyday call needs none, however slow the disk is."""
_MAX_NAMES = 20_000
"""Of one folder that are read at once; beyond, each name is looked up."""
_MAX_ALL_NAMES = 60_000
_LOOK = 4
_MAX_LINKS = 40
"""As the kernel."""
_MAX_PART = 255
"""Characters of a name. Nobody can open a longer one, so it is no link."""
_PROCESS = re.compile(
    r"/proc/(?P<who>self|thread-self|\d+)(?P<task>/task/\d+)?(?:/(?P<link>cwd|root)|(?P<open>/fd/\d+))?"
)
_DEVICE = re.compile(r"[/\\]{2}[?.][/\\](?P<unc>UNC[/\\])?", re.IGNORECASE)
_SHARE = re.compile(r"[/\\]{2}[^/\\]+[/\\](?P<drive>[A-Za-z])\$(?=[/\\]|$)")

Identity = tuple[int, int]


class SpentError(Exception):
    """More would have to be looked at than one call may cost."""


@dataclass(frozen=True, slots=True)
class Real:
    """Where a path ends."""

    path: str
    folded: str
    marked: bool
    """Whether it lies in, or is, what has a marked identity; or nobody can say where it leads."""
    folder: bool
    """Whether it is a folder."""


@dataclass(frozen=True, slots=True)
class _Entry:
    exists: bool
    link: str | None
    marked: bool
    folder: bool = False


class _Budget:
    """Steps, and a time that no disk takes which is well."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self._timed = steps - _UNTIMED_STEPS
        self._until = time.monotonic() + _SLOW_SECONDS

    def spend(self, steps: int) -> None:
        self.left -= steps
        late = False
        if self.left < self._timed:
            self._timed = self.left - _UNTIMED_STEPS
            late = time.monotonic() > self._until
        if late or self.left < 0:
            raise SpentError


class Disk:
    """What one call sees of the file system. Nothing is remembered from one call to the next."""

    def __init__(
        self, cwd: str, marked: Collection[Identity] = frozenset(), *, windows: bool = os.name == "nt"
    ) -> None:
        """Begin with a full budget.

        Args:
            cwd: What `/proc/self/cwd` is to the server.
            marked: Identities of protected files and folders.
            windows: Whether paths are those of Windows.
        """
        self._cwd = cwd
        self._marked = marked
        self.windows = windows
        self._normal = ntpath.normpath if windows else os.path.normpath
        self._entries: dict[str, _Entry] = {"": _Entry(True, None, False, True)}
        self._reals: dict[str, Real] = {}
        self._begun: dict[str, str] = {}
        self._budget = _Budget(_STEPS)
        self._unlisted = _MAX_ALL_NAMES
        self.kept: dict[object, object] = {}
        """What those that ask keep for this call."""

    def spend(self, steps: int) -> None:
        """Take from the budget.

        Raises:
            SpentError: nothing is left.
        """
        self._budget.spend(steps)

    def refill(self) -> None:
        """Begin a new question with a full budget; what was seen stays."""
        self._budget = _Budget(_STEPS)

    def look_through(self, texts: Iterable[str], found: Callable[[str], bool]) -> tuple[bool, list[str]]:
        """Look into texts with budgets of their own, short ones first.

        Args:
            texts: Of the call.
            found: Whether a text has what is looked for; may spend.

        Returns:
            Whether one has, and the texts that were not looked through to the end.
        """
        usual, left, unread = self._budget, {True: _SHORT_STEPS, False: _LONG_STEPS}, list[str]()
        try:
            for text in sorted(texts, key=len):
                short = len(text) <= MAX_PATH
                self._budget = _Budget(given := min(left[short], _EACH_SHORT))
                try:
                    if found(text):
                        return True, []
                except SpentError:
                    unread.append(text)
                left[short] -= given - max(self._budget.left, 0)
        finally:
            self._budget = usual
        return False, unread

    def names(self, folder: str) -> frozenset[str] | None:
        """The folded names in a folder, resolved. None where each has to be looked up."""
        if folder.startswith(("/proc", "//", "\\\\")):
            return None  # threads are not listed; other machines are not touched
        most = min(_MAX_NAMES, self._unlisted)
        try:
            with os.scandir(folder) as entries:
                found = [fold(entry.name) for entry in itertools.islice(entries, most + 1)]
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()
        except (OSError, ValueError):
            return None
        self._unlisted -= min(len(found), most)
        return frozenset(found) if len(found) <= most else None

    def ends(self, start: str, path: str) -> Iterator[Real]:
        """Where a path ends from a folder, for programs that follow each link and for those that drop `x/..` as text.

        Raises:
            SpentError: see `spend`.
        """
        full = path if path[:1] == "/" else f"{start}/{path}"
        if self.windows:
            full = ntpath.join(start, path)
        found = self._reals.get(full)
        if found is None:
            self.spend(1)
            found = self._on_windows(full) if self.windows else self._from(start, path)
            self._reals[full] = found
        yield found
        if ".." in full and (plain := self._normal(full)) != full:
            yield from self.ends(start, plain)

    def _from(self, start: str, path: str) -> Real:
        if path[:1] == "/":
            return self._walk("", path)
        begun = self._begun.get(start)
        if begun is None:
            begun = self._begun[start] = self._walk("", start).path.rstrip("/")
        return self._walk(begun, path)

    def holds(self, folder: str, name: str) -> bool:
        """Whether a folder, resolved, has an entry of this name.

        Raises:
            SpentError: see `spend`.
        """
        if self.windows:
            self.spend(_LOOK)
            return folder[:1] not in {"\\", "/"} and os.path.lexists(f"{folder}/{name}")  # on this machine
        return self._entry(folder, f"{folder}/{name}", name).exists

    def _walk(self, at: str, path: str) -> Real:
        """From a resolved folder; what does not exist is taken as it is written."""
        ahead = path.split("/")[::-1]
        self.spend(len(ahead))
        links = 0
        while ahead:
            part = ahead.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                at = at.rpartition("/")[0]
                continue
            full = f"{at}/{part}"
            entry = self._entry(at, full, part)
            if entry.link is None or links >= _MAX_LINKS:
                at = full
                continue
            links += 1
            self.spend(1 + entry.link.count("/"))
            if entry.link.startswith("/"):
                at = ""
            ahead += entry.link.split("/")[::-1]
        opened = at.startswith("/proc/") and _PROCESS.fullmatch(at)  # by the server itself, as its standard output
        entry = self._entries[at]
        return Real(at or "/", fold(at), entry.marked and not opened, entry.folder)

    def _entry(self, folder: str, path: str, name: str) -> _Entry:
        entry = self._entries.get(path)
        if entry is None:
            around = self._entries.get(folder)
            if len(name) > _MAX_PART or (around is not None and not around.exists):
                entry = _Entry(False, None, around is not None and around.marked)
            else:
                self.spend(_LOOK)
                entry = self._of_process(path) if path.startswith("/proc/") else None
                entry = entry or self._look(path, marked=around is not None and around.marked)
            self._entries[path] = entry
        return entry

    def _look(self, path: str, *, marked: bool) -> _Entry:
        try:
            found = os.lstat(path)
            link = os.readlink(path) if stat.S_ISLNK(found.st_mode) else None  # noqa: PTH115 - as text
        except (OSError, ValueError):
            return _Entry(False, None, marked)
        same = (found.st_dev, found.st_ino) in self._marked
        return _Entry(True, link, marked or (link is None and same), stat.S_ISDIR(found.st_mode))

    def _of_process(self, path: str) -> _Entry | None:
        """The links of a process as the server would follow them: they lead elsewhere for the guard."""
        found = _PROCESS.fullmatch(path)
        if found is None:
            return None
        if found["link"] == "root":
            return _Entry(True, "/", False)
        if found["link"] == "cwd":
            return _Entry(True, self._link_of(path, found["who"]), False)
        if found["open"]:
            return None if found["who"].isdigit() else _Entry(True, None, True)
        if found["who"] == "thread-self" and not found["task"]:
            return _Entry(True, "/proc/self/task/1", False)
        return _Entry(True, None, False)

    def _on_windows(self, path: str) -> Real:
        """As `real`, less of what is on another machine: the guard itself would connect to it."""
        self.spend(10 * _LOOK)
        device = _DEVICE.match(path)
        if device is not None:
            path = ("//" if device["unc"] else "") + path[device.end() :]
        share = _SHARE.match(path)
        if share is not None:
            path = f"{share['drive']}:{path[share.end() :]}"
        if path[:2].replace("\\", "/") == "//":
            text = ntpath.normpath(path)
            return Real(text, _without_streams(fold(text)), False, False)
        try:
            path = os.path.realpath(path)
        except (OSError, ValueError):
            return Real(path, _without_streams(fold(path)), False, False)
        folder = os.path.isdir(path)  # noqa: PTH112 - as text
        return Real(path, _without_streams(fold(path)), self._is_marked(path), folder)

    def _is_marked(self, path: str) -> bool:
        """Whether it or a folder around it is a marked one under another name: moved, bound, or linked hard."""
        parent = os.path.dirname(path)  # noqa: PTH120 - as text
        while parent != path:
            self.spend(_LOOK)
            if identity(path) in self._marked:
                return True
            path, parent = parent, os.path.dirname(parent)  # noqa: PTH120 - as text
        return False

    def _link_of(self, path: str, who: str) -> str:
        if not who.isdigit():
            return self._cwd
        try:
            return os.readlink(path)  # noqa: PTH115 - as text
        except OSError:
            return self._cwd  # of another user, or of a number that only the server knows


def identity(path: str) -> Identity | None:
    """Device and inode, which a hard link or a bind mount shares."""
    try:
        found = os.stat(path)  # noqa: PTH116 - as text: this runs for each path of each call
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else None


def _without_streams(folded: str) -> str:
    """As Windows reads names: dots and blanks at the end do not count, and after a colon stands a part of the file."""
    drive, rest = folded[:2], folded[2:]
    return (drive + "/".join(part.partition(":")[0].rstrip(". ") for part in rest.split("/"))).rstrip("/")
