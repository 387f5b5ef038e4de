"""From which folders a server may read a relative path: its own, those it was started for, the client's, and home."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mcp_guard.manifest.spelling import Spellings, looks_like_path

_MAX_NAMED = 16
"""Folders of one server."""
_MAX_ROOTS = 64
_IN_TEXT = re.compile(r"""[\s"',;=\[\]{}()]+""")
"""What separates folders in an argument of a command line, or in the value of a variable."""
_SEVERAL = re.compile(rf"""[,;"'\n]|{re.escape(os.pathsep)}.*[/\\]""")
"""What a list of folders has and one folder hardly ever."""
_MAX_TEXT = 4096
_NEAR = (".localhost", ".localdomain", ".local", ".internal", ".lan", ".home.arpa")
"""Ends of names that may be those of this machine."""


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

    def of(self, server: str, path: str, *, changes: bool = False) -> Sequence[str]:
        """Where a path may start.

        Args:
            server: Name in guard.yaml.
            path: As it is spelled; an absolute one starts nowhere else.
            changes: Whether it is looked at as a folder that is changed as a whole: then a mere name, which may be
                that of a table, names no folder of the system or of the user's home, if nothing says so.
        """
        given, usual = self._given(server)
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
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        spelled_number = not host.rpartition(".")[2][:1].isalpha()  # `127.1` is an address too
        return "." in host and "$" not in host and not spelled_number and not host.endswith(_NEAR)
