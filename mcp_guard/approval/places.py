"""Paths and addresses as bounds of grants: read strictly, and not at all where they could be read in two ways. Pure."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import urlsplit

_MAX = 2048
_UNPLAIN = re.compile(r"%[0-9A-Fa-f]{2}|[$`*?<>|\"\x00-\x1f\x7f]")
"""What a server might decode, expand or cut."""
_DRIVE = re.compile(r"[A-Za-z]:[\\/](?![\\/])")
_HOLDERS = frozenset({"home", "homes", "users", "volumes"})
"""Folders, at any depth, whose own folders are as wide as a disk: each holds a person, or is one."""
_LEAST = {"usr": 3, "var": 3, "private": 3, "net": 3, "export": 3, "mnt": 3, "cygdrive": 3, "media": 4, "run": 5}
"""How many names a folder has at least that begins with this one: systems and disks lie below."""
_SYSTEM = frozenset({"proc", "dev", "sys"})
"""Below these a path names a process or a device, and may lead anywhere."""
_SHORT = re.compile(r"~[0-9]")
"""As in `GIT~1`: a second name of a file on Windows."""
_LOCAL_PART = re.compile(r"[A-Za-z0-9._+-]{1,64}")
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+")
_SCHEMES = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address leads: the host exactly, in ASCII and lower case."""

    form: str
    """mail, host, http or https."""
    host: str
    port: int | None = None

    def __str__(self) -> str:
        host = self.host if self.port is None else f"{self.host}:{self.port}"
        if self.form == "mail":
            return f"addresses @{host}"
        return host if self.form == "host" else f"{self.form}://{host}"


def folder_of(path: str) -> str | None:
    """The folder that holds what a plain absolute path names; None for other paths, and where it is too wide.

    Too wide: the root, a folder right below it, a home folder wherever homes lie, a disk, and what the system makes up
    (/proc, /dev, /sys). A folder in one with a leading dot steers other programs, so it is none either.
    """
    parts = _parts(path)
    if parts is None or len(parts) < 2:  # noqa: PLR2004 - a drive or "", and a name
        return None
    drive, *names = parts[:-1]
    least = 1 if drive else _LEAST.get(names[0], 2) if names else 2
    holders = [index for index, name in enumerate(names) if name.lower() in _HOLDERS]
    wide = len(names) < least or any(len(names) <= index + 2 for index in holders)
    if wide or (not drive and names[0] in _SYSTEM) or any(map(_steers, names)):
        return None
    return "/".join([drive, *names])


def inside(folder: str, path: str) -> bool:
    """Whether a plain absolute path names something below `folder`, as spelled, with case.

    Names with a leading dot (.git, .ssh, .env) below the folder are not in it: they steer other programs.
    """
    parts, within = _parts(path), _parts(folder)
    if parts is None or within is None or len(parts) <= len(within) or parts[: len(within)] != within:
        return False
    return not any(map(_steers, parts[len(within) :]))


def same_place(path: str, other: str) -> bool:
    """Whether two plain absolute paths are spelled alike, whatever slashes they use."""
    parts = _parts(path)
    return parts is not None and parts == _parts(other)


def _steers(name: str) -> bool:
    return unicodedata.normalize("NFKC", name).lstrip().startswith(".")


def _hidden(path: str) -> bool:
    """Whether it climbs in disguise, or holds what no screen shows: format, surrogate, control, unassigned."""
    return ".." in unicodedata.normalize("NFKC", path) or any(
        unicodedata.category(character)[0] == "C" for character in path
    )


def _parts(path: str) -> list[str] | None:
    """Drive (or "") and names of an absolute path; None where it is relative, climbs, or can be read in two ways."""
    if len(path) > _MAX or _UNPLAIN.search(path) or _SHORT.search(path) or _hidden(path):
        return None
    windows = _DRIVE.match(path) is not None
    rest = path[2:].replace("\\", "/") if windows else path
    plain = rest.startswith("/") and not rest.startswith("//") and "\\" not in rest
    if not plain or (windows and ":" in rest) or unicodedata.normalize("NFKC", rest).count("/") != rest.count("/"):
        return None
    names = [name for name in rest.split("/") if name not in {"", "."}]
    # Windows drops dots and spaces at the end of a name.
    if any(not name.strip(" .") or (windows and name[-1] in " .") for name in names):
        return None
    return [path[0].upper() + ":" if windows else "", *names]


def place_of(text: str) -> Place | None:
    """Where a mail address, an http(s) URL or a bare host leads; None where that is not beyond doubt."""
    if len(text) > _MAX or any(c.isspace() or unicodedata.category(c)[0] == "C" for c in text) or "\\" in text:
        return None
    if "://" in text:
        return _of_url(text)
    if "@" in text:
        local, _, domain = text.rpartition("@")
        host = _host(domain)
        return Place("mail", host) if host and _LOCAL_PART.fullmatch(local) else None
    host = _host(text)
    return Place("host", host) if host else None


def _of_url(text: str) -> Place | None:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    host = _host(parts.hostname or "")
    if parts.scheme not in _SCHEMES or host is None or "@" in parts.netloc or parts.netloc.endswith(":"):
        return None
    return Place(parts.scheme, host, port)


def _host(text: str) -> str | None:
    """A host in ASCII and lower case; None where two readers could see two hosts in it."""
    name = text.lower()
    if not name.isascii():
        try:
            ascii_form = name.encode("idna").decode("ascii")
            # ß, joiners and wide letters are mapped by some readers and kept by others.
            if ascii_form.encode("ascii").decode("idna") != unicodedata.normalize("NFC", name):
                return None
        except UnicodeError:
            return None
        name = ascii_form
    return name if _HOST.fullmatch(name) else None
