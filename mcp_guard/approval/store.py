"""Approval requests in SQLite, shared by every guard process and the command line (decisions.md D7)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp_guard.approval.grantrows import GrantRow, grant_rows_of
from mcp_guard.approval.machine import LIVE, State
from mcp_guard.approval.rows import (
    DETAILS_DAYS,
    Request,
    ReviewerRow,
    SignedDecision,
    StoredEvent,
    event_of,
    intact_of,
    request_of,
)
from mcp_guard.approval.transaction import Transaction, fetch
from mcp_guard.clock import Clock
from mcp_guard.storage.sqlite import Database

DOMAIN = "mcp_guard.approval"
"""Package whose migrations the database needs."""
_DAY_NS = 86_400 * 1_000_000_000
_SETTLED_NS = 3_600 * 1_000_000_000
"""As long as this an outcome waits to be fetched, however much others take."""
_MAX_CLOSED = 256 * 1024 * 1024
"""Bytes of details of requests that are over; beyond it those of the oldest go first."""
_SOME = 50


class ApprovalStore:
    """Reads and write transactions. Time in it never runs backwards, whatever the wall clock does."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._now = 0
        self._mono = clock.mono_ns()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """One write transaction, in which everything whose time is over has expired first.

        Do not raise in it for a refusal: that would take the expiry back. Return the error and raise it outside.

        Raises:
            StoreUnavailableError: the store is locked or broken; nothing was changed.
        """
        async with self._db.write() as db:
            high = (await fetch(db, "SELECT high_ns FROM approval_clock"))[0]["high_ns"]
            now = self.now_ns(high)
            await db.execute("UPDATE approval_clock SET high_ns = ?", (now,))
            transaction = Transaction(db, now)
            await transaction.expire_due()
            yield transaction

    def now_ns(self, high: int = 0) -> int:
        """Wall nanoseconds, at least `high`; where the wall clock was set back, monotonic time goes on from there."""
        mono = self._clock.mono_ns()
        self._now = max(self._clock.now_ns(), high, self._now + mono - self._mono if self._now else 0)
        self._mono = mono
        return self._now

    @property
    def folder(self) -> Path:
        """The data folder that holds the store."""
        return self._db.path.parent

    async def version(self) -> int:
        """A number that changes with every commit, of whatever process."""
        return await self._db.data_version()

    async def get(self, approval_id: str) -> Request | None:
        """The request with this id, as last committed."""
        async with self._db.read() as db:
            found = await fetch(db, "SELECT * FROM approval WHERE id = ?", (approval_id,))
        return request_of(found[0]) if found else None

    async def requests(self, states: Iterable[State] | None = None, *, limit: int = 200) -> list[Request]:
        """Requests in these states (default: all), newest first."""
        sql = """SELECT * FROM approval WHERE state IN (SELECT value FROM json_each(?))
                 ORDER BY created_ns DESC, rowid DESC LIMIT ?"""
        wanted = State if states is None else states
        return await self._requests(sql, json.dumps([state.value for state in wanted]), limit)

    async def approved(self, holder: str) -> list[Request]:
        """Approved requests which this process is to carry out, oldest first."""
        sql = "SELECT * FROM approval WHERE state = 'approved' AND holder = ? ORDER BY created_ns"
        return await self._requests(sql, holder)

    async def live_call_ids(self) -> frozenset[str]:
        """Calls that still wait for a decision or an outcome."""
        found = await self._requests(
            "SELECT * FROM approval WHERE state IN (SELECT value FROM json_each(?))", json.dumps(sorted(LIVE))
        )
        return frozenset(request.call_id for request in found)

    async def unattended(self, holder: str) -> list[Request]:
        """Requests of other holders which are live, or whose events are not in the audit log yet."""
        sql = """SELECT * FROM approval WHERE holder <> ?1 AND (state IN ('pending', 'approved', 'executing')
                 OR id IN (SELECT approval FROM outbox WHERE sent_ns IS NULL))"""
        return await self._requests(sql, holder)

    async def any_open(self, holder: str) -> bool:
        """Whether this process holds a request that waits for a decision or to be carried out."""
        sql = "SELECT 1 FROM approval WHERE state IN ('pending', 'approved') AND holder = ? LIMIT 1"
        async with self._db.read() as db:
            return bool(await fetch(db, sql, (holder,)))

    async def any_due(self) -> bool:
        """Whether anything waits for T10 or T11."""
        sql = """SELECT 1 FROM approval WHERE (state = 'pending' AND expires_ns <= ?1)
                 OR (state = 'approved' AND coalesce(use_by_ns, 0) <= ?1) LIMIT 1"""
        async with self._db.read() as db:
            return bool(await fetch(db, sql, (self.now_ns(),)))

    async def forget(self) -> None:
        """Delete the details of requests that are long over (docs/limits.md), a few in each transaction."""
        while True:
            async with self.write() as transaction:
                now = transaction.now_ns
                done = await transaction.forget(
                    old_ns=now - DETAILS_DAYS * _DAY_NS, settled_ns=now - _SETTLED_NS, most=_MAX_CLOSED, some=_SOME
                )
            if done < _SOME:
                return

    async def events(self, approval_id: str) -> list[StoredEvent]:
        """All transitions of a request, in order."""
        async with self._db.read() as db:
            found = await fetch(db, "SELECT * FROM event WHERE approval = ? ORDER BY seq", (approval_id,))
        return [event_of(columns) for columns in found]

    async def unsent(self, holder: str, approval_id: str | None = None) -> list[StoredEvent]:
        """Events that are not in the audit log yet: of one request, or of all that this process holds."""
        sql = """SELECT event.* FROM outbox JOIN event ON event.seq = outbox.event
                 JOIN approval ON approval.id = outbox.approval
                 WHERE outbox.sent_ns IS NULL AND approval.holder = ?1 AND (?2 IS NULL OR approval.id = ?2)
                 ORDER BY event.seq LIMIT 500"""
        async with self._db.read() as db:
            return [event_of(columns) for columns in await fetch(db, sql, (holder, approval_id))]

    async def decisions(self, approval_id: str) -> list[SignedDecision]:
        """Signed statements about a request, latest first."""
        sql = "SELECT statement, signature FROM decision WHERE approval = ? ORDER BY seq DESC"
        async with self._db.read() as db:
            return [SignedDecision(c["statement"], c["signature"]) for c in await fetch(db, sql, (approval_id,))]

    async def reviewers(self, *, unrecorded: bool = False) -> list[ReviewerRow]:
        """Rows of reviewers by name; `unrecorded`: only those that are not in the audit log yet."""
        sql = """SELECT name, token_hash, created_ns, added_by, mac FROM reviewer
                 WHERE recorded_ns IS NULL OR NOT ? ORDER BY name"""
        async with self._db.read() as db:
            return [ReviewerRow(**columns) for columns in await fetch(db, sql, (int(unrecorded),))]

    async def grants(self, *, unrecorded: bool = False) -> list[GrantRow]:
        """Rows of grants, newest first; `unrecorded`: only those with something that is not in the audit log yet."""
        sql = """SELECT * FROM standing_grant WHERE NOT ?1 OR created_recorded = 0
                 OR (revoked_ns IS NOT NULL AND revoked_recorded = 0) ORDER BY created_ns DESC, rowid DESC LIMIT 500"""
        async with self._db.read() as db:
            return grant_rows_of(await fetch(db, sql, (int(unrecorded),)))

    async def grant(self, grant_id: str) -> GrantRow | None:
        """The grant with this id."""
        async with self._db.read() as db:
            found = grant_rows_of(await fetch(db, "SELECT * FROM standing_grant WHERE id = ?", (grant_id,)))
        return found[0] if found else None

    async def open_grants(
        self, owner: str | None = None, server: str | None = None, tool: str | None = None
    ) -> list[GrantRow]:
        """Grants that are not over, oldest first: of this owner for this tool, or all."""
        sql = """SELECT * FROM standing_grant WHERE revoked_ns IS NULL AND expires_ns > ?1
                 AND (?2 IS NULL OR (owner = ?2 AND server = ?3 AND tool = ?4)) ORDER BY created_ns, rowid"""
        async with self._db.read() as db:
            return grant_rows_of(await fetch(db, sql, (self.now_ns(), owner, server, tool)))

    async def grant_use(self, approval_id: str) -> tuple[str, int] | None:
        """Grant and number of the use by which this request was approved."""
        async with self._db.read() as db:
            found = await fetch(db, "SELECT grant_id, number FROM grant_use WHERE approval = ?", (approval_id,))
        return (found[0]["grant_id"], found[0]["number"]) if found else None

    async def console_events(self) -> list[dict[str, Any]]:
        """What happened at the page and is not in the audit log yet, oldest first."""
        async with self._db.read() as db:
            return await fetch(db, "SELECT * FROM console_event ORDER BY seq LIMIT 500")

    async def others_waiting(self, request: Request) -> int:
        """How many other requests of this owner for this tool wait, under the same rule."""
        sql = """SELECT count(*) AS n FROM approval WHERE state = 'pending' AND id <> ? AND owner = ?
                 AND server = ? AND tool = ? AND rule = ?"""
        values = (request.row.id, request.row.owner, request.server, request.tool, request.rule)
        async with self._db.read() as db:
            return int((await fetch(db, sql, values))[0]["n"])

    async def pending(self, holder: str) -> list[Request]:
        """Requests of this process that wait for a decision, oldest first."""
        sql = "SELECT * FROM approval WHERE state = 'pending' AND holder = ? ORDER BY created_ns"
        return await self._requests(sql, holder)

    async def _requests(self, sql: str, *parameters: str | int) -> list[Request]:
        async with self._db.read() as db:
            return intact_of(await fetch(db, sql, parameters))
