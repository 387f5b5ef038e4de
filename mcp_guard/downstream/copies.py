"""The texts behind `guard.lock`, for readable diffs: sealed, since definitions may hold secrets.

Only for showing and accepting. What is offered is decided by the digests in `guard.lock` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from mcp_guard.downstream.snapshot import Snapshot
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

    def load(self, server: str) -> Copies:
        """What is kept of a server; empty where nothing usable is."""
        try:
            sealed = (self.folder / f"{server}.sealed").read_bytes()
            return Copies.model_validate_json(self._keys.open(_KEY, sealed, bound_to=_bound(server)))
        except (OSError, GuardError, ValidationError):
            return Copies()

    def save(self, server: str, copies: Copies) -> bool:
        """Replace what is kept; False when it cannot be written."""
        try:
            make_private_dir(self.folder)
            sealed = self._keys.seal(_KEY, copies.model_dump_json().encode(), bound_to=_bound(server))
            replace_private(self.folder / f"{server}.sealed", sealed)
        except (OSError, GuardError, ValueError):
            return False
        return True


def _bound(server: str) -> str:
    return f"pins:{server}"
