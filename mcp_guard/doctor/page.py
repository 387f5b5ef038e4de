"""The page on which people decide: whether its port is there for it."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from mcp_guard.doctor.finding import Finding, find, fine
from mcp_guard.doctor.keys import ring
from mcp_guard.doctor.setup import Setup
from mcp_guard.http.console.probe import serves_here

_HOST: Final = "127.0.0.1"
_WAIT_S: Final = 1.0


@dataclass(frozen=True, slots=True, repr=False)
class _Key:
    """One key as it lies there: a `KeyStore` would make what is missing."""

    key: bytes

    def secret(self, name: str) -> bytes:  # noqa: ARG002 - as `Keys` wants it
        """The key, whatever it is asked for."""
        return self.key


def port(setup: Setup) -> list[Finding]:
    """Whether somebody else has the port: then no guard of this guard.yaml serves the page."""
    if setup.loaded is None:
        return []
    number = setup.loaded.config.console.port
    if not _taken(number):
        return [fine(f"port {number} is free for the page")]
    try:
        ours = any(serves_here(_Key(key), number) for key in ring(setup.loaded.data_dir / "keys", "lookup"))
    except OSError:
        ours = False  # `keys` says what is wrong with them
    if ours:
        return [fine(f"a guard serves the page on port {number}")]
    text = f"Port {number} is taken by another program, or by the guard of another guard.yaml: the page is not served."
    return [find("console-port", text, path=setup.loaded.path)]


def _taken(number: int) -> bool:
    try:
        with socket.create_connection((_HOST, number), timeout=_WAIT_S):
            return True
    except OSError:
        return False
