"""How often a server may make the guard read its lists again (docs/limits.md)."""

from __future__ import annotations

from typing import Final

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


class Pace:
    """The first change after a quiet time is looked at at once. While more are announced, the pauses double."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._pause = 0.0

    def wait_s(self, now: float) -> float:
        """Seconds until lists that changed may be read again."""
        return max(0.0, self._last + self._pause - now)

    def listed(self, began: float, ended: float) -> None:
        """They were read again, since a change was announced; it may have taken long."""
        quiet = began - self._last > 2 * max(self._pause, FIRST_PAUSE_S)
        self._pause = FIRST_PAUSE_S if quiet else min(2 * self._pause, LONGEST_PAUSE_S)
        self._last = ended
