"""Which guard process carries a request out, and whether it still lives.

Every process holds a lock on a file of its own; the system releases the lock when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from mcp_guard.clock import Ids
from mcp_guard.errors import StoreUnavailableError
from mcp_guard.system import FileLock, make_private_dir

_ID = re.compile(r"hld_[a-z0-9]{1,64}")


class Holders:
    """This process as a holder, and its view of the others."""

    def __init__(self, folder: Path, ids: Ids) -> None:
        self.id = ids.new("hld")
        self.folder = folder
        self._lock = FileLock(self._path(self.id))

    def open(self) -> None:
        """Take the own lock; before this the process may not hold any request.

        Raises:
            StoreUnavailableError: the folder cannot be written.
        """
        try:
            make_private_dir(self.folder)
            taken = self._lock.try_acquire()
        except OSError as error:
            raise StoreUnavailableError(f"the folder of holder locks cannot be used: {error.strerror}") from error
        if not taken:
            raise StoreUnavailableError("the lock of this process is held by another one")

    def close(self) -> None:
        """Give up everything this process holds: others may adopt it."""
        self._lock.release()
        with contextlib.suppress(OSError):  # an empty file left behind tells nobody anything wrong
            self._path(self.id).unlink(missing_ok=True)

    def alive(self, holder: str) -> bool:
        """Whether that process lives. One that cannot be told apart from a living one counts as alive."""
        if holder == self.id:
            return self._lock.held
        if not _ID.fullmatch(holder):
            return False
        path = self._path(holder)
        lock = FileLock(path)
        try:
            path.lstat()
            if not lock.try_acquire():
                return True
        except FileNotFoundError:
            return False
        except OSError:
            return True
        lock.release()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return False

    def _path(self, holder: str) -> Path:
        return self.folder / f"{holder}.lock"
