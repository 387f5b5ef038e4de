"""Live pages: one look at the store serves all streams, and a stream says only that something changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

from mcp_guard.approval.inbox import Inbox, Mark
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.errors import GuardError

MAX_STREAMS = 24
"""Open streams of one page; a browser tab holds one."""
_LOOK_S = 0.1
"""Seconds between two looks at the store while somebody watches."""
_ANEW_S = 2.0
"""Seconds after which it is read anew without a commit: requests expire by the clock, and so do sessions."""
_PING_S = 15.0


class Live:
    """Where the lists stand, and the streams that tell of it."""

    def __init__(self, store: ApprovalStore, inbox: Inbox) -> None:
        self._store = store
        self._inbox = inbox
        self._mark = Mark(0, 0)
        self._version = -1
        self._looked = self._read = float("-inf")
        self._gate = anyio.Lock()
        self._streams = 0

    def reserve(self, bound: int) -> bool:
        """Take a place for a stream; False when there are so many already. Whoever got one gives it back."""
        if self._streams >= bound:
            return False
        self._streams += 1
        return True

    def leave(self) -> None:
        """Give a place back."""
        self._streams -= 1

    async def mark(self) -> Mark:
        """Where the lists stand, at most 0.1 s ago."""
        async with self._gate:
            now = anyio.current_time()
            if now - self._looked < _LOOK_S:
                return self._mark
            self._looked = now
            version = await self._store.version()
            if version != self._version or now - self._read > _ANEW_S:
                self._version, self._read = version, now
                self._mark = await self._inbox.mark(self._store.now_ns())
        return self._mark

    async def stream(self, signed_in: Callable[[], Awaitable[bool]]) -> AsyncIterator[str]:
        """Server-sent events as long as the session lasts: `change` at first and with every transition, then `end`."""
        seen: Mark | None = None
        version = self._version
        checked = said = float("-inf")
        while True:
            try:
                mark, now = await self.mark(), anyio.current_time()
                if version != self._version or now - checked > _ANEW_S:
                    version, checked = self._version, now
                    if not await signed_in():
                        break
            except GuardError:
                break  # the browser comes back by itself
            if mark != seen:
                seen, said = mark, now
                yield f"event: change\ndata: {json.dumps({'waiting': mark.waiting})}\n\n"
            elif now - said > _PING_S:
                said = now
                yield ": still here\n\n"
            await anyio.sleep(_LOOK_S)
        yield "event: end\ndata: {}\n\n"
