"""One write transaction on approval requests. Every transition leaves one event and one outbox row in it (I7)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import aiosqlite
import anyio

from mcp_guard.approval.grantrows import GrantRow, grant_rows_of
from mcp_guard.approval.machine import Conflict, Event, Invalidate, State, Step, Tick, Void, apply
from mcp_guard.approval.rows import Request, ReviewerRow, SignedDecision, columns_of, intact_of, request_of
from mcp_guard.errors import InternalError
from mcp_guard.model import JsonDict

Parameters = Mapping[str, str | int | bytes | None] | tuple[str | int | bytes | None, ...]

_INSERT = """
INSERT INTO approval(id, state, version, round, owner, lookup, action_digest, expires_ns, use_within_ns, holder,
    use_by_ns, exec_id, sent, ended_ns, decided_by, reason, nonce, call_id, session, server, tool, risk, rule,
    policy_digest, min_assurance, run, created_ns, view, payload, delivered, result)
VALUES (:id, :state, :version, :round, :owner, :lookup, :action_digest, :expires_ns, :use_within_ns, :holder,
    :use_by_ns, :exec_id, :sent, :ended_ns, :decided_by, :reason, :nonce, :call_id, :session, :server, :tool, :risk,
    :rule, :policy_digest, :min_assurance, :run, :created_ns, :view, :payload, :delivered, :result)
"""

_UPDATE = """
UPDATE approval SET state = :state, version = :version, round = :round, use_by_ns = :use_by_ns, exec_id = :exec_id,
    sent = :sent, ended_ns = :ended_ns, decided_by = :decided_by, reason = :reason, result = :result
WHERE id = :id AND state = :old_state AND version = :old_version
"""

_INSERT_GRANT = """
INSERT INTO standing_grant(id, approval, owner, server, tool, created_ns, expires_ns, uses, revoked_ns, revoked_by,
    revoked_how, revoked_mac, payload, statement, signature, created_recorded, revoked_recorded)
VALUES (:id, :approval, :owner, :server, :tool, :created_ns, :expires_ns, :uses, :revoked_ns, :revoked_by,
    :revoked_how, :revoked_mac, :payload, :statement, :signature, :created_recorded, :revoked_recorded)
"""

_USE_GRANT = """
UPDATE standing_grant SET uses = uses + 1
WHERE id = :id AND uses < :max AND revoked_ns IS NULL AND expires_ns > :now
"""

_FORGET = """
UPDATE approval SET payload = x'', result = NULL, view = CASE WHEN json_valid(view) THEN json_object(
    'requester', json_extract(view, '$.requester'), 'verified', json_extract(view, '$.verified'),
    'client', json_extract(view, '$.client'), 'server', json_extract(view, '$.server'),
    'tool', json_extract(view, '$.tool'), 'kind', json_extract(view, '$.kind'),
    'environment', json_extract(view, '$.environment'), 'risk', json_extract(view, '$.risk'),
    'rule', json_extract(view, '$.rule')) ELSE '{}' END
WHERE id IN (
    SELECT id FROM (
        SELECT id, coalesce(ended_ns, created_ns) AS ended,
            sum(length(payload) + coalesce(length(result), 0)) OVER (ORDER BY ended_ns DESC, rowid DESC) AS newer
        FROM approval WHERE state NOT IN ('pending', 'approved', 'executing', 'unknown') AND length(payload) > 0)
    WHERE (ended <= :old OR (ended <= :settled AND newer > :most))
        AND id NOT IN (SELECT approval FROM outbox WHERE sent_ns IS NULL) LIMIT :some)
"""

_DUE = """
SELECT * FROM approval
WHERE (state = 'pending' AND expires_ns <= :now) OR (state = 'approved' AND coalesce(use_by_ns, 0) <= :now)
"""


async def fetch(db: aiosqlite.Connection, sql: str, parameters: Parameters = ()) -> list[dict[str, Any]]:
    """Rows as dicts by column name."""
    # Shielded: a cancelled read would leave its statement open, and with it an old snapshot.
    with anyio.CancelScope(shield=True):
        async with db.execute(sql, parameters) as cursor:
            names = [column[0] for column in cursor.description]
            rows = list(await cursor.fetchall())
    return [dict(zip(names, row, strict=True)) for row in rows]


class Transaction:
    """What may be done to requests between BEGIN and COMMIT. Made by `ApprovalStore.write`."""

    def __init__(self, db: aiosqlite.Connection, now_ns: int) -> None:
        self._db = db
        self.now_ns = now_ns
        """Wall nanoseconds that never run backwards, also over restarts."""

    async def get(self, approval_id: str) -> Request | None:
        """The request with this id."""
        return _one(await fetch(self._db, "SELECT * FROM approval WHERE id = ?", (approval_id,)))

    async def live(self, owner: str, lookup: str) -> Request | None:
        """The live request for identical calls of this owner; there is at most one (I6)."""
        sql = "SELECT * FROM approval WHERE owner = ? AND lookup = ? AND state IN ('pending', 'approved', 'executing')"
        return _one(await fetch(self._db, sql, (owner, lookup)))

    async def last(self, owner: str, lookup: str) -> Request | None:
        """The latest request for identical calls of this owner, in any state."""
        sql = "SELECT * FROM approval WHERE owner = ? AND lookup = ? ORDER BY created_ns DESC, rowid DESC LIMIT 1"
        return _one(await fetch(self._db, sql, (owner, lookup)))

    async def count_open(self, owner: str) -> int:
        """How many live requests this owner has."""
        sql = "SELECT count(*) AS n FROM approval WHERE owner = ? AND state IN ('pending', 'approved', 'executing')"
        return int((await fetch(self._db, sql, (owner,)))[0]["n"])

    async def open_bytes(self, owner: str) -> int:
        """How much the live requests of this owner hold, as it is kept."""
        sql = """SELECT coalesce(sum(length(payload)), 0) AS n FROM approval
                 WHERE owner = ? AND state IN ('pending', 'approved', 'executing')"""
        return int((await fetch(self._db, sql, (owner,)))[0]["n"])

    async def forget(self, *, old_ns: int, settled_ns: int, most: int, some: int) -> int:
        """Delete the details of requests that are over and whose events are in the record; how many it were.

        Row, decisions, digests and events stay, and with them every proof that it ran once at most.

        Args:
            old_ns: Of those that ended by then, wall nanoseconds.
            settled_ns: Of those that ended by then, where newer ones hold more than `most`.
            most: Bytes that the details of all requests which are over may take.
            some: At most so many at once.
        """
        return await self._change(_FORGET, {"old": old_ns, "settled": settled_ns, "most": most, "some": some})

    async def insert(self, request: Request, detail: JsonDict) -> None:
        """T1.

        Raises:
            InternalError: there is a live one already; the caller looked in this same transaction.
        """
        if request.row.state is not State.PENDING:
            raise InternalError("a new approval request is pending")
        try:
            await self._db.execute(_INSERT, columns_of(request))
        except sqlite3.IntegrityError:
            raise InternalError("two live approval requests for one call") from None
        await self._note(request, "T1", "", request.row.owner, detail)

    async def step(
        self,
        request: Request,
        event: Event,
        *,
        actor: str,
        detail: JsonDict | None = None,
        result: bytes | None = None,
    ) -> Request | Conflict:
        """Apply an event by compare-and-set on state and version. `actor` is who caused it, `detail` is masked."""
        step = apply(request.row, event, self.now_ns)
        if not isinstance(step, Step):
            return step
        after = replace(request, row=step.row, result=result or request.result)
        columns = {**columns_of(after), "old_state": request.row.state.value, "old_version": request.row.version}
        if await self._change(_UPDATE, columns) != 1:
            return Conflict("lost", request.row)
        await self._note(after, step.transition, request.row.state.value, actor, detail or {})
        return after

    async def void(self, request: Request, why: Void) -> Request | Conflict:
        """T12."""
        return await self.step(request, Invalidate(why), actor="guard", detail={"reason": why.value})

    async def expire_due(self) -> None:
        """T10 and T11 for everything whose time is over; done in every transaction (security.md S13)."""
        for request in intact_of(await fetch(self._db, _DUE, {"now": self.now_ns})):
            await self.step(request, Tick(), actor="clock")

    async def add_decision(self, request: Request, signed: SignedDecision) -> None:
        """Keep a signed statement."""
        await self._db.execute(
            "INSERT INTO decision(approval, round, statement, signature) VALUES (?, ?, ?, ?)",
            (request.row.id, request.row.round, signed.statement, signed.signature),
        )

    async def deliver(self, approval_id: str) -> None:
        """Mark the outcome as handed out, so that the next identical call is a new request (S7)."""
        await self._db.execute("UPDATE approval SET delivered = 1 WHERE id = ?", (approval_id,))

    async def count_call(self, request: Request) -> None:
        """One more equal call attached to this request."""
        await self._db.execute("UPDATE approval SET calls = calls + 1 WHERE id = ?", (request.row.id,))

    async def grant(self, grant_id: str) -> GrantRow | None:
        """The grant with this id."""
        found = grant_rows_of(await fetch(self._db, "SELECT * FROM standing_grant WHERE id = ?", (grant_id,)))
        return found[0] if found else None

    async def add_grant(self, row: GrantRow) -> None:
        """Keep a grant that was given."""
        await self._db.execute(_INSERT_GRANT, asdict(row))

    async def use_grant(self, grant_id: str, max_uses: int, approval_id: str) -> int | None:
        """Take one use for this request; its number from 1 on, or None when none is left."""
        taken = await self._change(_USE_GRANT, {"id": grant_id, "max": max_uses, "now": self.now_ns})
        if taken != 1:
            return None
        number = int((await fetch(self._db, "SELECT uses FROM standing_grant WHERE id = ?", (grant_id,)))[0]["uses"])
        # A number that was taken before: the counter was set back from outside. Then there is no use.
        kept = await self._change(
            "INSERT INTO grant_use VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (grant_id, number, approval_id)
        )
        return number if kept == 1 else None

    async def grant_lives(self, grant_id: str, *, uses_below: int | None = None) -> bool:
        """Whether this grant is neither revoked nor over, and was used less often than this where it is given."""
        sql = """SELECT 1 FROM standing_grant WHERE id = ?1 AND revoked_ns IS NULL AND expires_ns > ?2
                 AND (?3 IS NULL OR uses < ?3)"""
        return bool(await fetch(self._db, sql, (grant_id, self.now_ns, uses_below)))

    async def revoke_grant(self, row: GrantRow) -> None:
        """Keep who revoked a grant, how, and when."""
        sql = """UPDATE standing_grant SET revoked_ns = ?, revoked_by = ?, revoked_how = ?, revoked_mac = ?
                 WHERE id = ?"""
        await self._db.execute(sql, (row.revoked_ns, row.revoked_by, row.revoked_how, row.revoked_mac, row.id))

    async def ask_once(self, approval_id: str, until_ns: int) -> bool:
        """Whether the caller is the one to ask about a pending request: nobody else does until this moment."""
        sql = "UPDATE approval SET asked_until_ns = ?1 WHERE id = ?2 AND state = 'pending' AND asked_until_ns <= ?3"
        return await self._change(sql, (until_ns, approval_id, self.now_ns)) == 1

    async def asked_until(self, approval_id: str, until_ns: int) -> None:
        """Until when nobody asks about this request again."""
        await self._db.execute("UPDATE approval SET asked_until_ns = ? WHERE id = ?", (until_ns, approval_id))

    async def mark_grant_recorded(self, row: GrantRow) -> None:
        """That the grant was given, and revoked if it was, is in the audit log."""
        sql = "UPDATE standing_grant SET created_recorded = 1, revoked_recorded = ? WHERE id = ?"
        await self._db.execute(sql, (int(row.revoked_ns is not None), row.id))

    async def hold(self, request: Request, holder: str) -> Request | None:
        """Make another process the holder, by compare-and-set; None when somebody else was first."""
        version = request.row.version + 1
        changed = await self._change(
            "UPDATE approval SET holder = :holder, version = :version WHERE id = :id AND version = :old_version",
            {"holder": holder, "version": version, "id": request.row.id, "old_version": request.row.version},
        )
        return replace(request, row=replace(request.row, holder=holder, version=version)) if changed == 1 else None

    async def mark_sent(self, events: Iterable[int]) -> None:
        """Outbox rows of these events are in the audit log."""
        sql = "UPDATE outbox SET sent_ns = ? WHERE event IN (SELECT value FROM json_each(?))"
        await self._db.execute(sql, (self.now_ns, json.dumps(list(events))))

    async def untouched(self) -> bool:
        """Whether nobody was registered and nothing was ever asked here."""
        sql = "SELECT (SELECT count(*) FROM approval) + (SELECT count(*) FROM reviewer) AS n"
        return int((await fetch(self._db, sql))[0]["n"]) == 0

    async def add_reviewer(self, row: ReviewerRow) -> bool:
        """Register a reviewer; False when the name is taken."""
        sql = "INSERT INTO reviewer VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT DO NOTHING"
        return await self._change(sql, (row.name, row.token_hash, row.created_ns, row.added_by, row.mac)) == 1

    async def mark_recorded(self, name: str) -> None:
        """The registration of this reviewer is in the audit log."""
        await self._db.execute("UPDATE reviewer SET recorded_ns = ? WHERE name = ?", (self.now_ns, name))

    async def forget_console_event(self, seq: int) -> None:
        """What happened at the page is in the audit log."""
        await self._db.execute("DELETE FROM console_event WHERE seq = ?", (seq,))

    async def _note(self, request: Request, transition: str, old: str, actor: str, detail: JsonDict) -> None:
        async with self._db.execute(
            "INSERT INTO event(approval, at_ns, transition, old, new, actor, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                request.row.id,
                self.now_ns,
                transition,
                old,
                request.row.state.value,
                actor,
                json.dumps(detail, ensure_ascii=True),
            ),
        ) as cursor:
            seq = cursor.lastrowid
        await self._db.execute("INSERT INTO outbox VALUES (?, ?, NULL)", (seq, request.row.id))

    async def _change(self, sql: str, parameters: Parameters) -> int:
        async with self._db.execute(sql, parameters) as cursor:
            return cursor.rowcount


def _one(found: list[dict[str, Any]]) -> Request | None:
    return request_of(found[0]) if found else None
