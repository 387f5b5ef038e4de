"""A child's stderr: masked line by line, at a bounded rate, into the guard's log (fault F5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mcp_guard.errors import GuardError
from mcp_guard.wire.lines import LineCutter, TooLong

BYTES_PER_SECOND = 64 * 1024
_LINE_BYTES = 8 * 1024


class StderrKeeper:
    """Keeps 64 kB/s and counts the rest. Reading never stops, so a flood never blocks the child."""

    def __init__(self, server: str, mask_text: Callable[[str], str], log: Callable[[str], None]) -> None:
        self._server = server
        self._mask = mask_text
        self._log = log
        self._cutter = LineCutter(_LINE_BYTES)
        self._window = 0.0
        self._kept = 0
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        """A chunk has arrived."""
        for line in self._cutter.feed(data):
            self._line(line)

    def finish(self) -> None:
        """The child closed its stderr."""
        for line in self._cutter.finish():
            self._line(line)
        self._report()

    def _line(self, line: bytes | TooLong) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._window >= 1.0:
            self._report()
            self._window, self._kept = now, 0
        size = line.length if isinstance(line, TooLong) else len(line)
        if isinstance(line, TooLong) or self._kept + size > BYTES_PER_SECOND:
            self._dropped += size
            return
        self._kept += size
        if line.strip():
            self._log(f"{self._server}: stderr: {self._masked(line)}")

    def _masked(self, line: bytes) -> str:
        try:
            return self._mask(line.decode("utf-8", errors="replace"))
        except GuardError:
            return "[a line that could not be masked]"

    def _report(self) -> None:
        if self._dropped:
            self._log(f"{self._server}: stderr: {self._dropped} bytes dropped, above 64 kB/s or 8 kB a line")
            self._dropped = 0
