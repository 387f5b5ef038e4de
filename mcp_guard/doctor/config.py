"""The configuration itself: plain secrets, a guard in front of a guard, files that others may read or change."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcp_guard.config.hostfile import starts_the_guard
from mcp_guard.config.load import LoadedConfig
from mcp_guard.config.secretfiles import FOLDER, SecretFiles
from mcp_guard.doctor.finding import Finding, count, find, fine, told
from mcp_guard.doctor.setup import Setup
from mcp_guard.manifest.find import is_path
from mcp_guard.system import user_name

_SHOWN = 5
_MAX_FILES = 2000
"""Files whose modes are looked at."""


def describe(setup: Setup) -> list[Finding]:
    """What the configuration holds, where it is valid."""
    if setup.loaded is None:
        return []
    config = setup.loaded.config
    return [fine(f"{count(len(config.servers), 'server')} and {count(len(config.rules), 'rule')}")]


def plain_secrets(setup: Setup) -> list[Finding]:
    """Secrets that stand in guard.yaml itself."""
    if setup.loaded is None:
        return []
    found = []
    for name, server in setup.loaded.config.servers.items():
        collected = SecretFiles()
        collected.move_from(name, server.model_dump())
        keys = [path.removeprefix(f"{FOLDER}/{name}.") for path in collected.files]
        if keys:
            what = "a secret" if len(keys) == 1 else f"{len(keys)} secrets"
            text = f"Server {name} has {what} in plain text in {setup.loaded.path.name} ({', '.join(keys)})."
            found.append(find("plain-secret", text))
    return found or [fine("no plain secrets")]


def unused_secrets(setup: Setup) -> list[Finding]:
    """Files in the folder of secrets that guard.yaml does not name: left over from servers that are gone."""
    folder = None if setup.path is None else setup.path.parent / FOLDER
    if setup.path is None or setup.loaded is None or folder is None or not folder.is_dir():
        return []
    text = setup.path.read_text(encoding="utf-8", errors="replace")
    files = sorted(file.name for file in folder.iterdir() if file.is_file())[:_MAX_FILES]
    unused = [name for name in files if f"{FOLDER}/{name}" not in text and not name.startswith(".")]
    if not unused:
        return []
    many = f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
    told_of = f"{', '.join(unused[:_SHOWN])}{many}"
    return [find("secret-unused", f"{count(len(unused), 'file')} of secrets not in use: {told_of}.", path=folder)]


def double_wrapped(setup: Setup) -> list[Finding]:
    """A server of the guard that is a guard: every call would be asked for and recorded twice, or never end."""
    if setup.loaded is None:
        return []
    return [
        find("double-wrapped", f"Server {name} starts the guard itself.", server=name, path=setup.loaded.path)
        for name, server in setup.loaded.config.servers.items()
        if not server.disabled and starts_the_guard(server.model_dump())
    ]


@dataclass(frozen=True, slots=True)
class _Watched:
    path: Path
    what: str
    secret: bool
    """Whether others must not read it."""


def file_modes(setup: Setup) -> list[Finding]:
    """Who else may change or read the guard's files. On Windows modes do not tell."""
    if sys.platform == "win32" or setup.path is None:
        return []
    found: list[Finding] = []
    for watched in _watched(setup):
        try:
            found += _judged(watched, watched.path.stat(), setup.machine.home)
        except OSError:
            continue  # not there: whether it has to be, other checks say
    return found or [fine("files are private")]


def _judged(watched: _Watched, status: os.stat_result, home: Path) -> list[Finding]:
    folder = stat.S_ISDIR(status.st_mode)
    where = f"{watched.what} {told(watched.path, home)}"
    mode = ("700" if folder else "600") if watched.secret else ("go-w")
    if sys.platform != "win32" and status.st_uid not in {os.getuid(), 0}:
        return [find("file-owner", f"{where} belongs to another user.", user=user_name(), path=watched.path)]
    # A sticky folder such as /tmp is writable for all, and lets nobody replace a file of somebody else.
    others = "everybody" if status.st_mode & 0o002 else "the group" if status.st_mode & 0o020 else ""
    if others and not (folder and status.st_mode & stat.S_ISVTX):
        return [find("file-writable", f"{where} can be changed by {others}.", mode=mode, path=watched.path)]
    readers = "everybody" if status.st_mode & 0o004 else "the group" if status.st_mode & 0o040 else ""
    if watched.secret and readers:
        return [find("file-readable", f"{where} can be read by {readers}.", mode=mode, path=watched.path)]
    return []


def _watched(setup: Setup) -> Iterator[_Watched]:
    path = setup.path
    if path is None:
        return
    yield _Watched(path, "The configuration", secret=False)
    yield _Watched(path.parent, "The folder of the configuration", secret=False)
    yield _Watched(path.with_name("guard.lock"), "The pins file", secret=False)
    yield _Watched(path.parent / FOLDER, "The folder of secrets", secret=True)
    if setup.loaded is not None:
        yield from _named(setup.loaded)


def _named(loaded: LoadedConfig) -> Iterator[_Watched]:
    for file in loaded.files:
        yield _Watched(file, "The secret file", secret=True)
    named = [server.manifest or "" for server in loaded.config.servers.values()]
    own = [*loaded.config.manifests, *(name for name in named if is_path(name))]
    manifests = [loaded.folder / Path(name).expanduser() for name in own]
    manifests += sorted((loaded.folder / "manifests").glob("*.yaml"))[:_MAX_FILES]
    for file in manifests:
        yield _Watched(file, "The manifest", secret=False)
    yield from _data_files(loaded.data_dir)


def _data_files(folder: Path) -> Iterator[_Watched]:
    """The data folder; what lies in a private folder is reached by nobody else, so only its own mode counts."""
    yield _Watched(folder, "The data folder", secret=True)
    keys = folder / "keys"
    yield _Watched(keys, "The folder of keys", secret=True)
    if os.access(keys, os.R_OK | os.X_OK):
        for key in sorted(keys.glob("*.key"))[:_MAX_FILES]:
            yield _Watched(key, "The key file", secret=True)
