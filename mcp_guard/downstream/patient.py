"""Reading a server's long lines without keeping all other calls waiting (docs/limits.md)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from mcp_guard.errors import WireError
from mcp_guard.model import JsonDict
from mcp_guard.wire.lines import TooLong
from mcp_guard.wire.pump import Pump, Refused
from mcp_guard.wire.reader import Limits, parse_message

LONG_LINE: Final = 256 * 1024
"""Bytes above which a message is parsed on a worker thread."""


class PatientPump(Pump):
    """Parses long lines on a worker thread and keeps the order: what follows waits.

    Args:
        limits: See `Pump`.
        accept: See `Pump`.
        refuse: See `Pump`.
        busy: Told when it begins to wait for the thread, and when it no longer does: nothing more should be read.
        broken: Told what kept a line from being handled, such as a lack of memory; what follows the line is dropped.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        accept: Callable[[JsonDict], None],
        refuse: Refused,
        busy: Callable[[bool], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        super().__init__(limits, accept=accept, refuse=refuse)
        self._busy, self._broken = busy, broken
        self._waiting: deque[bytes | TooLong] = deque()
        self._parsing = False
        self._then: list[Callable[[], None]] = []

    def when_done(self, then: Callable[[], None]) -> None:
        """Call this once everything that was fed is accepted or refused."""
        if self._parsing:
            self._then.append(then)
        else:
            then()

    def _line(self, line: bytes | TooLong) -> None:
        if self._parsing:
            self._waiting.append(line)
        elif isinstance(line, bytes) and len(line) > LONG_LINE:
            parsing = asyncio.get_running_loop().run_in_executor(None, self._parse, line)
            self._parsing = True
            self._busy(True)
            parsing.add_done_callback(partial(self._parsed, line))
        else:
            super()._line(line)

    def _parse(self, line: bytes) -> JsonDict | WireError:
        try:
            return parse_message(line, self._limits)
        except WireError as error:
            return error

    def _parsed(self, line: bytes, parsing: asyncio.Future[JsonDict | WireError]) -> None:
        if parsing.cancelled():
            return  # the loop is closing
        self._parsing = False
        try:
            self._handle(line, parsing.result())
        except BaseException as error:
            self._waiting.clear()
            self._broken(error)
            if not isinstance(error, Exception):
                raise
        finally:
            # Whatever happened, nobody waits for this line any more.
            if not self._parsing:
                self._busy(False)
                done, self._then = self._then, []
                for then in done:
                    then()

    def _handle(self, line: bytes, found: JsonDict | WireError) -> None:
        if isinstance(found, WireError):
            self._refuse(found, line)
        else:
            self._accept(found)
        while self._waiting and not self._parsing:
            self._line(self._waiting.popleft())
