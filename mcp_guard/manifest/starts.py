"""From which folders a server may read a relative path: its own, those it was started for, the client's, and home."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import JsonValue

from mcp_guard.manifest.disk import Disk, Real
from mcp_guard.manifest.spelling import Spellings, fold, looks_like_path, neighbours

_MAX_NAMED = 16
"""Folders of one server."""
_MAX_ROOTS = 64
_IN_TEXT = re.compile(r"""[\s"',;=\[\]{}()]+""")
"""What separates folders in an argument of a command line, or in the value of a variable."""
_SEVERAL = re.compile(rf"""[,;"'\n]|{re.escape(os.pathsep)}.*[/\\]""")
"""What a list of folders has and one folder hardly ever."""
_MAX_TEXT = 4096
_NEAR = tuple(
    f".{end}"
    for end in (
        *("localhost", "localdomain", "local", "internal", "lan", "home.arpa", "home", "corp", "intra", "intranet"),
        *("box", "test", "example", "invalid"),
    )
)
"""Ends of names that may be those of this machine: nobody can register them."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_INNER = re.compile(
    r"(?<![0-9a-z])(\d{1,3})[.-](\d{1,3})[.-](\d{1,3})[.-](\d{1,3})(?![0-9a-z])|(?<![0-9a-z])([0-9a-f]{8})\."
)
"""An address in a name, as services have it that lead each such name to the address in it."""
_FEW = 256
"""Parts of paths that are looked up in the folders, before the names in these folders are read."""


class Starts:
    """Where relative paths start."""

    def __init__(
        self, cwds: Mapping[str, Path], home: Path, named: Callable[[str], Sequence[str]] = lambda _server: ()
    ) -> None:
        """Bind the folders.

        Args:
            cwds: Working directory of each server's process, by the server's name.
            home: The user's.
            named: By the server's name, further folders, absolute, from which it may read relative paths.
        """
        self._cwds = {name: str(cwd) for name, cwd in cwds.items()}
        self._home = str(home)
        self._named = named
        self._known: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {}

    def cwd(self, server: str) -> str:
        """The working directory of a server."""
        return self._cwds.get(server) or os.getcwd()  # noqa: PTH109 - as text

    def of(self, server: str, path: str, *, changes: bool = False, home: bool = True) -> Sequence[str]:
        """Where a path may start.

        Args:
            server: Name in guard.yaml.
            path: As it is spelled; an absolute one starts nowhere else.
            changes: Whether it is looked at as a folder that is changed as a whole: then a mere name, which may be
                that of a table, names no folder of the system or of the user's home, if nothing says so.
            home: Whether the user's home counts where nothing says that the server works there.
        """
        given, usual = self._given(server)
        usual = usual if home else given
        if path[:1] == "/" or (os.name == "nt" and os.path.isabs(path)):  # noqa: PTH117 - as text
            return given[:1]
        if not changes:
            return usual
        name = path.removeprefix("./").rstrip("/")
        if "/" in name or "\\" in name or name == "..":
            return usual
        without = {"/"} if looks_like_path(path) else {"/", self._home}
        return tuple(start for start in given if start not in without)

    def _given(self, server: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The folders of a server, its working directory first; the same with the user's home."""
        named = tuple(self._named(server))
        known = self._known.get(server)
        if known is None or known[0] != named:
            given = tuple(dict.fromkeys((self.cwd(server), *named)))
            known = self._known[server] = (named, given, tuple(dict.fromkeys((*given, self._home))))
        return known[1:]


class Firsts:
    """The starts that count for a relative path, by its first part: from the others it would lead to nothing."""

    def __init__(self, disk: Disk, wanted: Callable[[Real], Iterable[str] | None]) -> None:
        """Bind what is looked for.

        Args:
            disk: Of one call.
            wanted: For a start, where it ends: folded names that count although they may not exist; None for all.
        """
        self._disk = disk
        self._wanted = wanted
        self._few = _FEW
        self._known: dict[Sequence[str], tuple[Sequence[str], dict[str, list[str]]]] = {}

    @classmethod
    def kept(cls, disk: Disk, owner: object, wanted: Callable[[Real], Iterable[str] | None]) -> Firsts:
        """The one of this call that serves `owner`, made where there is none yet."""
        found = disk.kept.get(owner)
        if not isinstance(found, cls):
            found = disk.kept[owner] = cls(disk, wanted)
        return found

    def of(self, starts: Sequence[str], path: str) -> Sequence[str]:
        """Those of the starts that count for a path."""
        first = path.partition("/")[0]
        if first[:1] in {"", "."} or "~" in first or ".." in path:
            return starts
        if self._disk.windows:
            if "\\" in path or first[1:2] == ":":
                return starts
            first = first.partition(":")[0].rstrip(". ")
        if self._few > 0:
            self._few -= len(starts) * (1 + path.count("/"))
            return starts
        known = self._known.get(starts)
        if known is None:
            known = self._known[starts] = self._read(starts)
        always, by_name = known
        return by_name.get(fold(first), always)

    def _read(self, starts: Sequence[str]) -> tuple[Sequence[str], dict[str, list[str]]]:
        always: list[str] = []
        found: dict[str, list[str]] = {}
        for start in starts:
            end = next(self._disk.ends(start, "."))
            wanted, names = self._wanted(end), self._disk.names(end.path)
            if wanted is None or names is None:
                always.append(start)
                continue
            for name in names.union(wanted):
                found.setdefault(name, []).append(start)
        for name, some in found.items():
            found[name] = some + always
        return always, found


def joined(value: JsonValue, folders: Collection[str], spellings: Spellings, disk: Disk) -> Iterator[str]:
    """Each of these folders that stands in one argument, with what stands in another one."""
    for texts in neighbours(value) if folders else ():
        disk.spend(2 * len(texts))
        paths = list(dict.fromkeys(spellings.plain(text) for text in texts))
        for folder in [path for path in paths if path in folders]:
            yield from (f"{folder}/{path}" for path in paths if path is not folder)


class Roots:
    """The client's roots, as local servers were told of them: they may read relative paths from each."""

    def __init__(self) -> None:
        self.folders: tuple[str, ...] = ()

    def note(self, uris: Iterable[str]) -> None:
        """Remember roots; who was told of earlier ones may still use them."""
        spellings = Spellings(Path.home())
        found = (spellings.plain(uri) for uri in uris if uri[:5].lower() == "file:")
        self.folders = tuple(dict.fromkeys((*found, *self.folders)))[:_MAX_ROOTS]


def folders_named(texts: Iterable[str], cwd: Path, spellings: Spellings) -> tuple[str, ...]:
    """The folders that are named in a server's arguments and environment, with links as they are.

    Args:
        texts: Arguments and values.
        cwd: Its working directory.
        spellings: For `~` and variables.
    """
    found: dict[str, None] = {}
    for path in _paths(texts, spellings):
        full = os.path.normpath(cwd / path)
        # What does not exist yet may become a folder; a file, as that of a program, does not.
        later = os.path.isabs(path) and _SEVERAL.search(full) is None and not os.path.exists(full)  # noqa: PTH110, PTH117
        if later or os.path.isdir(full):  # noqa: PTH112 - as text
            found[full] = None
        if len(found) >= _MAX_NAMED:
            break
    found.pop("/", None)  # an absolute path is looked at anyhow
    return tuple(found)


def _paths(texts: Iterable[str], spellings: Spellings) -> Iterator[str]:
    for text in texts:
        for whole in (text, text.partition("=")[2]):
            if 0 < len(whole) <= _MAX_TEXT and not whole.startswith("-"):
                yield from spellings.whole(whole)
        for word in _IN_TEXT.split(text[:_MAX_TEXT]):
            for part in word.split(os.pathsep):
                if part != text and looks_like_path(part) and not part.startswith("//"):  # of an address
                    yield spellings.plain(part)


def is_elsewhere(url: str) -> bool:
    """Whether an address is that of another machine, outside of the own network, as far as its text tells."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    try:
        return _is_public(ipaddress.ip_address(host))
    except ValueError:
        return _is_public_name(host)


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global
    return address.is_global


def _is_public_name(host: str) -> bool:
    spelled_number = not host.rpartition(".")[2][:1].isalpha()  # `127.1` is an address too
    if "." not in host or "$" in host or spelled_number or host.endswith(_NEAR):
        return False
    own = socket.gethostname().lower()
    if own and own.partition(".")[0] in host.split("."):
        return False
    return all(_is_public_inside(*found.groups()) for found in _INNER.finditer(host))


def _is_public_inside(*parts: str | None) -> bool:
    *decimal, whole = parts
    try:
        number = ".".join(part or "" for part in decimal) if whole is None else int(whole, 16)
        return ipaddress.IPv4Address(number).is_global
    except ValueError:
        return True
