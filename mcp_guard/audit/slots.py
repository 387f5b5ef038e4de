"""Who writes where: the installation's name, its signing key, and the slot that a process holds for its lifetime."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_guard.audit.checkpoint import Signer
from mcp_guard.audit.schema import log_files
from mcp_guard.clock import Ids
from mcp_guard.errors import AuditUnavailableError
from mcp_guard.keystore import KeyStore
from mcp_guard.system import FileLock, make_private_dir, write_new_private

_MAX_SLOTS = 100
_INSTALL_FILE = "install-id"
_KEY = "checkpoint"
_INSTALL = re.compile(r"install_[a-z0-9]{26}")


@dataclass(frozen=True, slots=True)
class Slot:
    """A folder that one process writes to."""

    name: str
    folder: Path
    lock: FileLock

    def release(self) -> None:
        """Let the next process have it."""
        self.lock.release()


def take_slot(folder: Path) -> Slot:
    """Lock the first slot that no living process holds.

    Raises:
        AuditUnavailableError: all are held.
        OSError: the folder cannot be written.
    """
    for number in range(_MAX_SLOTS):
        name = f"{number:02d}"
        make_private_dir(folder / name)
        lock = FileLock(folder / name / "lock")
        if lock.try_acquire():
            return Slot(name, folder / name, lock)
    raise AuditUnavailableError("every slot of the audit log is in use", hint="stop guard processes that are not used")


def install_name(folder: Path, ids: Ids) -> str:
    """Name under which this installation signs: `mcp-guard/<install id>`; the id is made once.

    Raises:
        AuditUnavailableError: the file with the id is damaged.
        OSError: the folder cannot be written.
    """
    make_private_dir(folder)
    path = folder / _INSTALL_FILE
    if not path.exists():
        # Written aside and linked into place: a second process never reads half an id.
        aside = folder / f".{_INSTALL_FILE}.{os.getpid()}.{os.urandom(4).hex()}"
        write_new_private(aside, ids.new("install").encode())
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
        aside.unlink()
    return read_install_name(folder)


def read_install_name(folder: Path) -> str:
    """Name under which the installation of an existing audit folder signs.

    Raises:
        AuditUnavailableError: the file with the id is damaged.
        OSError: there is none, or it cannot be read.
    """
    text = (folder / _INSTALL_FILE).read_bytes().decode("ascii", errors="replace")
    if not _INSTALL.fullmatch(text):
        raise AuditUnavailableError("the file with the id of this installation is damaged", hint="restore install-id")
    return f"mcp-guard/{text}"


def require_key(folder: Path, keys: KeyStore) -> None:
    """Refuse to go on with a log whose key is gone: a new key would make every older record look forged (fault F19).

    Raises:
        AuditUnavailableError: there are records, and no key.
        OSError: the folder cannot be read.
    """
    if not keys.has(_KEY) and folder.is_dir() and log_files(folder):
        raise AuditUnavailableError(
            "the key that signed this log is missing",
            hint="restore the keys folder of the data folder from a backup, or move the audit folder away",
        )


def signer_for(name: str, keys: KeyStore) -> Signer:
    """The signer of this installation, with all keys of the ring `checkpoint`.

    Raises:
        ConfigError: the key cannot be read or made.
    """
    return Signer(name, [Ed25519PrivateKey.from_private_bytes(key) for key in keys.ring(_KEY)])


def installed_vkeys(folder: Path, keys: KeyStore) -> tuple[str, ...]:
    """Public keys by which the log in `folder` is verified on the machine that wrote it; none when its key is gone.

    Raises:
        AuditUnavailableError: the file with the installation's id is damaged.
        ConfigError: the key cannot be read.
        OSError: there is no log.
    """
    name = read_install_name(folder)
    return signer_for(name, keys).vkeys if keys.has(_KEY) else ()
