"""Is the process on the port a guard of this data folder? A one-time code must never reach anybody else.

The path and the answer hang on a key of the folder and on the port, so a process that merely relays the question to
a guard on another port cannot answer it, and learns nothing about the paths of the page.
"""

from __future__ import annotations

import hmac
import http.client
import secrets
from typing import Protocol

from mcp_guard.canon import keyed_digest

_KEY = "lookup"
_PREFIX_CHARS = 16
_WAIT_S = 2.0
_MAX_ANSWER = 128


class Keys(Protocol):
    """Whoever has the keys of a data folder; a `KeyStore`, or one that makes none."""

    def secret(self, name: str) -> bytes:
        """The current key of this name."""
        ...


def probe_path(keys: Keys) -> str:
    """First part of the probe's path; not the one of the page."""
    return f"/{keyed_digest(keys.secret(_KEY), 'console', 'probe')[:_PREFIX_CHARS]}/"


def proof(keys: Keys, port: int, challenge: str) -> str:
    """What only a guard of this folder on this port answers."""
    return keyed_digest(keys.secret(_KEY), "console-proof", [port, challenge])


def serves_here(keys: Keys, port: int) -> bool:
    """Whether a guard of this data folder serves the page on this port."""
    challenge = secrets.token_hex(16)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_WAIT_S)
    try:
        connection.request("GET", probe_path(keys) + challenge)
        answer = connection.getresponse().read(_MAX_ANSWER)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return hmac.compare_digest(answer, proof(keys, port, challenge).encode())
