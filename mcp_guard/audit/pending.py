"""Records on their way into the log, and the callers that wait for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from mcp_guard.audit.record import Prepared
from mcp_guard.errors import AuditUnavailableError
from mcp_guard.model import Receipt


class Pending:
    """A record on its way, and who waits for it."""

    __slots__ = ("done", "error", "prepared", "receipt")

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.done = anyio.Event()
        self.receipt: Receipt | None = None
        self.error: AuditUnavailableError | None = None

    def settle(self, receipt: Receipt) -> None:
        """It is durable."""
        self.receipt = receipt
        self.done.set()

    def fail(self, error: AuditUnavailableError) -> None:
        """It will not become durable."""
        self.error = error
        self.done.set()


def split(batch: Sequence[Pending], known: Mapping[tuple[str, str], Receipt]) -> tuple[list[Pending], list[Pending]]:
    """What is to be written, and what exists or is in the same batch before."""
    fresh: list[Pending] = []
    twins: list[Pending] = []
    claimed = set(known)
    for pending in batch:
        key = pending.prepared.once_key
        (twins if key in claimed else fresh).append(pending)
        if key is not None:
            claimed.add(key)
    return fresh, twins
