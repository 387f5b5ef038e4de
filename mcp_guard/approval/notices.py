"""When people are told that calls wait, or that a tool is held back, and how often: never more than needed."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import anyio
import structlog

from mcp_guard.approval.machine import State
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.errors import GuardError
from mcp_guard.model import Record

Tell: TypeAlias = Callable[[int], Awaitable[None]]
"""Tells people how many calls wait. May take its time; a failure is its own business."""

PATIENCE_S = 10.0
"""Somebody who has a form before the eyes is not told at once."""
_QUIET_S = 15.0
"""At least this long between two notices."""

_HELD_QUIET_S = 600.0
"""At least this long between two notices about changes: a server that changes all day is no news."""
_HELD = frozenset({"server.pinned", "server.quarantined"})

_log = structlog.get_logger(__name__)


class HeldBack:
    """Tells people that something changed and is in quarantine: else only the agent would hear of it."""

    def __init__(self, tell: Callable[[], Awaitable[None]], *, quiet_s: float = _HELD_QUIET_S) -> None:
        self._tell = tell
        self._quiet_s = quiet_s
        self._ring = anyio.Event()

    def noticing(self, append: Callable[[Record], Awaitable[object]]) -> Callable[[Record], Awaitable[object]]:
        """`append`, and a notice where the record says that something is held back."""

        async def noted(record: Record) -> object:
            done = await append(record)
            if record.type in _HELD and record.outcome == "quarantined":
                self._ring.set()
            return done

        return noted

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._ring.wait()
            self._ring = anyio.Event()
            try:
                await self._tell()
            except Exception as error:  # noqa: BLE001 - the boundary: a notice that fails stops nothing
                _log.warning("notice_failed", error=type(error).__name__)
            await anyio.sleep(self._quiet_s)


class Notices:
    """Notices about the requests that this process opened; other processes tell about theirs."""

    def __init__(self, store: ApprovalStore, tell: Tell, *, quiet_s: float = _QUIET_S) -> None:
        self._store = store
        self._tell = tell
        self._quiet_s = quiet_s
        self._due: dict[str, float] = {}
        self._added = anyio.Event()

    def expect(self, approval_id: str, after_s: float) -> None:
        """Tell people of this request, if it is still open after so many seconds."""
        self._due[approval_id] = anyio.current_time() + after_s
        self._added.set()

    async def run(self) -> None:
        """Work until cancelled."""
        told: frozenset[str] = frozenset()
        quiet_until = -math.inf
        while True:
            due = await self._next(quiet_until)
            told = await self._open(due | told)
            if due & told:
                quiet_until = anyio.current_time() + self._quiet_s
                await self._safely(len(told))

    async def _next(self, quiet_until: float) -> frozenset[str]:
        """The requests whose time has come, once there are any."""
        while True:
            self._added = anyio.Event()
            at = max(min(self._due.values(), default=math.inf), quiet_until)
            with anyio.CancelScope(deadline=at) as waiting:
                await self._added.wait()
            if waiting.cancelled_caught and self._due:
                now = anyio.current_time()
                due = frozenset(key for key, time in self._due.items() if time <= now)
                self._due = {key: time for key, time in self._due.items() if key not in due}
                return due

    async def _open(self, approval_ids: Iterable[str]) -> frozenset[str]:
        """Those of them that still wait for a decision."""
        found = set()
        for approval_id in approval_ids:
            try:
                request = await self._store.get(approval_id)
            except GuardError as error:
                _log.warning("notice_skipped", approval=approval_id, error=error.code)
                continue
            if request is not None and request.row.state is State.PENDING:
                found.add(approval_id)
        return frozenset(found)

    async def _safely(self, waiting: int) -> None:
        try:
            await self._tell(waiting)
        except Exception as error:  # noqa: BLE001 - the boundary: a notice that fails stops no call
            _log.warning("notice_failed", error=type(error).__name__)
