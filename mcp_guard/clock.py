"""Time, ids and randomness, injected everywhere so that tests own them (decisions.md D18)."""

from __future__ import annotations

import base64
import os
import secrets
import time
from typing import Protocol


class Clock(Protocol):
    """Wall and monotonic time, both in nanoseconds."""

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since 1970-01-01 UTC."""
        ...

    def mono_ns(self) -> int:
        """Monotonic clock, nanoseconds from an unspecified origin."""
        ...


class Ids(Protocol):
    """Sources of identifiers."""

    def new(self, prefix: str) -> str:
        """Return `prefix` + "_" + 128 random bits in 26 lower-case base32 characters."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now_ns(self) -> int:
        """See `Clock`."""
        return time.time_ns()

    def mono_ns(self) -> int:
        """See `Clock`."""
        return time.monotonic_ns()


class RandomIds:
    """Ids from the operating system's randomness."""

    def new(self, prefix: str) -> str:
        """See `Ids`."""
        return f"{prefix}_{base64.b32encode(secrets.token_bytes(16)).decode().rstrip('=').lower()}"


def iso(ns: int) -> str:
    """Format wall nanoseconds as ISO 8601 UTC with milliseconds: 2026-11-21T12:00:00.000Z."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1_000_000:03d}Z"


BOOT_ID = base64.b32encode(os.urandom(10)).decode().lower()
"""Identifies this process's monotonic clock; monotonic values of two boots never compare."""
