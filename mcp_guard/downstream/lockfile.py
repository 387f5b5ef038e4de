"""`guard.lock`: what each server was when it was accepted (decisions.md D14; security.md S21, S22).

Readable JSON beside guard.yaml, sorted, with digests instead of texts: descriptions may hold secrets. Several guards
write it, so each change is made on the file as it is then, under a lock, and put in place at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import jiter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcp_guard.canon import digest, keyed_digest
from mcp_guard.config.load import user_data_dir
from mcp_guard.errors import ConfigError
from mcp_guard.system import FileLock, make_private_dir, replace_private, writers_of

LOCK_NAME: Final = "guard.lock"
MAX_BYTES: Final = 64 * 1024 * 1024
"""Larger than any lock the guard writes: 100 servers of 5000 tools."""

_LOCKS: Final = ".locks"
"""Folder of the empty files by which writers exclude each other, beside the data folders; no id begins with a dot."""
_WRITER: Final = ".writer"
"""End of the name of such a file beside the lock, where that folder cannot be used. `manifest.protect` knows it too."""
_WAIT_S: Final = 5.0
_POLL_S: Final = 0.01
_SHORT: Final = 16

Stamp = tuple[int, int, int]
"""Modification time, size, inode."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ToolPin(_Model):
    """One accepted tool."""

    digest: str
    """`catalog.definition_digest`."""
    fields: dict[str, str] = {}
    """Short digests by field: tells what changed without telling what it was."""


class Quarantine(_Model):
    """What is held back until a person accepts it; it stays when the server goes back to what it was."""

    server: list[str] = []
    """Why the whole server is held back: command, program, files, server_info."""
    instructions: bool = False
    tools: dict[str, list[str]] = {}
    """By tool: the fields that changed, or `new`, or `shadows NAME`."""
    others: dict[str, list[str]] = {}
    """The same of prompts, resources and templates, by `others.item_key`."""

    @property
    def empty(self) -> bool:
        """Whether nothing is held back."""
        return not (self.server or self.instructions or self.tools or self.others)

    def joined(self, other: Quarantine) -> Quarantine:
        """Both together."""
        return Quarantine(
            server=sorted({*self.server, *other.server}),
            instructions=self.instructions or other.instructions,
            tools=_joined(self.tools, other.tools),
            others=_joined(self.others, other.others),
        )


def _joined(one: dict[str, list[str]], other: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: sorted({*one.get(name, ()), *other.get(name, ())}) for name in sorted({*one, *other})}


class ServerPin(_Model):
    """One accepted server."""

    names: Literal["plain", "prefixed"] | None = None
    """How its tools are named; None while it was only served alone, where names are plain anyway."""
    command: str
    """Command line or URL as written, masked, for reading."""
    command_digest: str
    """Digest over it, unmasked."""
    programs: list[str] = []
    """Paths that the command may be found at. More than one where hosts have different PATHs."""
    files: dict[str, str] = {}
    """SHA-256 of the program files that the command line names, by the path as it is written there."""
    server_info: str = ""
    """Name and version that the server says it has, masked."""
    instructions: str = ""
    """Digest; empty where there were none."""
    tools: dict[str, ToolPin] = {}
    others: dict[str, ToolPin] = {}
    """Prompts, resources and templates, by `others.item_key`."""
    accepted_by: str = "first use"
    quarantine: Quarantine = Quarantine()


class Lock(_Model):
    """The whole file."""

    version: Literal[1] = 1
    installs: list[str] = []
    """Data folders (`install_of`) from which a token, or whoever sets up first, may accept without a terminal. Another
    data folder has its own reviewers and its own beginning, and anybody can make one."""
    servers: dict[str, ServerPin] = Field(default_factory=dict)

    def with_server(self, name: str, pin: ServerPin) -> Lock:
        """A copy with this server."""
        return self.model_copy(update={"servers": {**self.servers, name: pin}})

    def with_install(self, install: str) -> Lock:
        """A copy that names this data folder."""
        return self.model_copy(update={"installs": sorted({*self.installs, install} - {""})})


def install_of(key: bytes) -> str:
    """The name of a data folder, by a secret key of it: nobody else can take that name."""
    return keyed_digest(key, "install", "")[:_SHORT]


def writer_files(path: Path) -> tuple[Path, Path]:
    """The empty files by which writers of a lock exclude each other: the first, or the second where it cannot be.

    The first lies among the user's own: the folder of the lock may be under version control. It is the same for all
    data folders, and for all links to the lock.
    """
    real = Path(os.path.realpath(path))
    name = digest("lock", os.fsencode(os.path.normcase(real)).hex())
    return user_data_dir() / _LOCKS / f"{name}.lock", real.with_name(f".{real.name}{_WRITER}")


def _acquired(lock: FileLock) -> bool | None:
    """None where the file cannot be opened or made."""
    try:
        make_private_dir(lock.path.parent)
        return lock.try_acquire()
    except OSError:
        return None


class LockFile:
    """The file, and how it is changed.

    Args:
        path: `guard.lock`.
        install: Name of the data folder (`install_of`); empty for a file that is only read.
    """

    def __init__(self, path: Path, install: str = "") -> None:
        self.path = path
        self.install = install
        self.seen: Stamp | None = None
        """Stamp of what was read or written last."""

    def stamp(self) -> Stamp | None:
        """Changes whenever the file does; None where there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def read(self) -> Lock | None:
        """The file; None where there is none.

        Raises:
            ConfigError: it cannot be read, is not valid, or anybody may write to it.
        """
        self.seen = self.stamp()
        try:
            text = self._text()
            return Lock.model_validate(jiter.from_json(text, catch_duplicate_keys=True, allow_inf_nan=False))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(f"it cannot be read ({error.strerror})") from error
        except ValidationError as error:
            place = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"][:1]) or "the file"
            raise self._unusable(f"{place} is not as the guard wrote it") from None
        except ValueError:
            raise self._unusable("the file is not as the guard wrote it") from None

    def fresh(self) -> Lock:
        """What counts as the file where there is none: who makes it is named in it."""
        return Lock().with_install(self.install)

    def _text(self) -> bytes:
        # Not to be kept waiting by a pipe that somebody put in its place.
        fd = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise self._unusable("it is not a regular file")
            if writers_of(fd) == "anyone":
                raise ConfigError(f"everybody on this machine may write to {self.path}", hint=f"chmod go-w {self.path}")
            if found.st_size > MAX_BYTES:
                raise self._unusable("it is too large")
            with os.fdopen(os.dup(fd), "rb") as file:
                return file.read(MAX_BYTES)
        finally:
            os.close(fd)

    def change(self, step: Callable[[Lock], Lock], *, missing: Lock) -> Lock:
        """Change the file as it is now, with nobody between; returns what it holds then.

        Args:
            step: Pure; the lock as it is → as it should be.
            missing: What counts as the file where there is none, such as `fresh()`.

        Raises:
            ConfigError: it is not usable.
            OSError: it cannot be written.
        """
        now = self.read()
        if now is not None and step(now) == now:
            return now  # nothing to write, also where nothing could be
        with self._alone():
            now = self.read()
            wanted = step(now or missing)
            if wanted != now:
                self._write(wanted)
                self.seen = self.stamp()
            return wanted

    def _write(self, lock: Lock) -> None:
        text = json.dumps(lock.model_dump(exclude_defaults=True) | {"version": 1}, indent=2, sort_keys=True)
        replace_private(self.path, text.encode() + b"\n")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        own, beside = (FileLock(path) for path in writer_files(self.path))
        end = time.monotonic() + _WAIT_S
        lock, taken = own, _acquired(own)
        if taken is None:
            lock, taken = beside, beside.try_acquire()
        while not taken:
            if time.monotonic() > end:
                raise OSError(None, f"another guard keeps {self.path.name} locked")
            time.sleep(_POLL_S)
            taken = lock.try_acquire()
        try:
            yield
        finally:
            lock.release()

    def _unusable(self, why: str) -> ConfigError:
        return ConfigError(
            f"{self.path} is not usable: {why}",
            hint="restore it from a backup or version control; without it, every server is accepted anew as it is now",
        )
