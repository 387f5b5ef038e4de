"""Wakes whoever waits for a change of an approval request in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class Wake:
    """One signal for all waiters, and a count of the calls attached to each request.

    Take `signal` first, then look at the store, then wait: so no change is missed.
    """

    def __init__(self) -> None:
        self.signal = anyio.Event()
        self._attached: Counter[str] = Counter()

    def ring(self) -> None:
        """Something was committed, here or in another process."""
        self.signal.set()
        self.signal = anyio.Event()

    def attached(self, approval_id: str | None = None) -> bool:
        """Whether a call waits for this request (None: for any)."""
        return bool(self._attached) if approval_id is None else self._attached[approval_id] > 0

    @contextmanager
    def attach(self, approval_id: str) -> Iterator[None]:
        """A call waits for this request as long as the block lasts."""
        self._attached[approval_id] += 1
        self.ring()
        try:
            yield
        finally:
            self._attached[approval_id] -= 1
            self._attached += Counter()  # drops what nobody waits for any more
