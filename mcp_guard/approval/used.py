"""A second witness of what was sent, outside the database: one file for each used approval.

Rows can be set back by whoever can write the database, or by a backup put back. These files say what was sent
independently of it, so that one signed approval does not run twice (I1).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import structlog

from mcp_guard.system import make_private_dir, sync_dir, write_new_private

_log = structlog.get_logger(__name__)

_KEEP_NS = 7 * 86_400 * 1_000_000_000
"""How long a witness outlives its approval. The signed approval itself ends earlier, so this is only a margin."""


class Used:
    """The folder of witnesses: `<approval id>`, holding the wall nanoseconds at which the signed approval ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, approval_id: str, ends_ns: int) -> bool:
        """Note for good that this approval is used; durable when it returns True.

        False means: do not send. It was used before, or it could not be noted.
        """
        try:
            make_private_dir(self._folder)
            write_new_private(self._folder / approval_id, str(ends_ns).encode())
            sync_dir(self._folder)
        except FileExistsError:
            return False
        except OSError as error:
            _log.error("approval_use_not_noted", approval=approval_id, errno=error.errno)
            return False
        return True

    def holds(self, approval_id: str) -> bool:
        """Whether this approval was used. What cannot be looked at counts as used."""
        try:
            (self._folder / approval_id).lstat()
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def sweep(self, now_ns: int) -> None:
        """Remove witnesses of approvals that ended long ago. One that cannot be read stays."""
        try:
            witnesses = list(self._folder.iterdir())
        except OSError:  # there are none yet; or `holds` says of all that they were used
            return
        for path in witnesses:
            with contextlib.suppress(OSError, ValueError):
                if int(path.read_bytes()) + _KEEP_NS < now_ns:
                    path.unlink()
