"""Time and ids that tests own."""

from __future__ import annotations


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self, start_ns: int = 1_790_000_000_000_000_000) -> None:
        self._now = start_ns
        self._mono = 1_000_000_000

    def now_ns(self) -> int:
        """See `Clock`."""
        return self._now

    def mono_ns(self) -> int:
        """See `Clock`."""
        return self._mono

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._now += int(seconds * 1e9)
        self._mono += int(seconds * 1e9)

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, also backwards."""
        self._now += int(seconds * 1e9)


class CountingIds:
    """Predictable ids: prefix_00000000000000000000000001 and so on."""

    def __init__(self) -> None:
        self._n = 0

    def new(self, prefix: str) -> str:
        """See `Ids`."""
        self._n += 1
        return f"{prefix}_{self._n:026d}"
