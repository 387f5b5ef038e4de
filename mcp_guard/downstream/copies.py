"""The texts behind `guard.lock`, for readable diffs: sealed, since definitions may hold secrets.

Only for showing and accepting. What is offered is decided by the digests in `guard.lock` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from mcp_guard.downstream.snapshot import Snapshot
from mcp_guard.downstream.steps import json_in_steps
from mcp_guard.errors import GuardError
from mcp_guard.keystore import KeyStore
from mcp_guard.system import make_private_dir, replace_private

_KEY: Final = "catalogue"


class Copies(BaseModel):
    """What is kept of one server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accepted: Snapshot | None = None
    offered: Snapshot | None = None
    """The latest that differs from what was accepted."""
    latest: Snapshot | None = None
    """What it offered last, also where that is the accepted one again."""


class CopyStore:
    """Files `<folder>/<server>.sealed`. Losing one costs the diff; the server is then accepted from a live listing."""

    def __init__(self, folder: Path, keys: KeyStore) -> None:
        self.folder = folder
        self._keys = keys
        self._known: dict[str, tuple[tuple[int, ...], Copies]] = {}
        """What was written last, while the file is that one."""

    def load(self, server: str) -> Copies:
        """What is kept of a server; empty where nothing usable is."""
        stamp = self._stamp(server)
        known = self._known.get(server)
        if stamp is not None and known is not None and known[0] == stamp:
            return known[1]
        return self._read(server)

    def _read(self, server: str) -> Copies:
        try:
            sealed = (self.folder / f"{server}.sealed").read_bytes()
            return Copies.model_validate_json(self._keys.open(_KEY, sealed, bound_to=_bound(server)))
        except (OSError, GuardError, ValidationError):
            return Copies()

    def save(self, server: str, copies: Copies) -> bool:
        """Replace what is kept; False when it cannot be written."""
        try:
            make_private_dir(self.folder)
            fields = {name: None if part is None else dict(part) for name, part in copies}
            sealed = self._keys.seal(_KEY, json_in_steps(fields, 3), bound_to=_bound(server))
            replace_private(self.folder / f"{server}.sealed", sealed)
        except (OSError, GuardError, ValueError):
            return False
        stamp = self._stamp(server)
        if stamp is not None:
            self._known[server] = stamp, copies
        return True

    def _stamp(self, server: str) -> tuple[int, ...] | None:
        try:
            found = (self.folder / f"{server}.sealed").stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _bound(server: str) -> str:
    return f"pins:{server}"
