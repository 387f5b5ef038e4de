"""From bytes to messages: one pump per peer, used by the front and by every child."""

from __future__ import annotations

from collections.abc import Callable

from mcp_guard.errors import WireError
from mcp_guard.model import JsonDict
from mcp_guard.wire.lines import LineCutter, TooLong
from mcp_guard.wire.reader import INVALID_REQUEST, Limits, parse_message

Refused = Callable[[WireError, bytes | TooLong], None]
"""Told of every line that was refused, with the line. Must not raise, and must not log its content."""


class Pump:
    """Cuts, parses, and hands each line to exactly one of `accept` and `refuse`. Blank lines are skipped."""

    def __init__(self, limits: Limits, *, accept: Callable[[JsonDict], None], refuse: Refused) -> None:
        self._limits = limits
        self._cutter = LineCutter(limits.line_bytes)
        self._accept = accept
        self._refuse = refuse

    def feed(self, data: bytes) -> None:
        """A chunk has arrived."""
        for line in self._cutter.feed(data):
            self._line(line)

    @property
    def unfinished(self) -> int:
        """Bytes of the line that has not ended yet."""
        return self._cutter.unfinished

    def finish(self) -> None:
        """The stream has ended; an unfinished last line counts as a line."""
        for line in self._cutter.finish():
            self._line(line)

    def _line(self, line: bytes | TooLong) -> None:
        if isinstance(line, TooLong):
            self._refuse(WireError("the line is too long", rpc=INVALID_REQUEST), line)
        elif line.strip():
            try:
                message = parse_message(line, self._limits)
            except WireError as error:
                self._refuse(error, line)
            else:
                self._accept(message)
