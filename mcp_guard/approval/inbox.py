"""Lists of requests for people: short rows, a page at a time; a thousand waiting ones cost no more than fifty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mcp_guard.approval.transaction import fetch
from mcp_guard.storage.sqlite import Database

Box = Literal["waiting", "closed"]
PAGE = 50
"""Requests on one page."""
_WHERE = {"waiting": "state = 'pending' AND expires_ns > :now", "closed": "state <> 'pending'"}
_MAX_TEXT = 200
"""Characters of one text in a list; all of them may come from servers and agents."""
_MAX_ALIKE = 200
"""Requests that are closed by one press."""


def _bounded(text: str) -> str:
    """SQL for a text of at most so many characters, and a note of how many more there are."""
    return f"""CASE WHEN length({text}) > {_MAX_TEXT}
        THEN substr({text}, 1, {_MAX_TEXT}) || ' +' || (length({text}) - {_MAX_TEXT}) || ' more' ELSE {text} END"""


_SHOWN = {name: f"json_extract(view, '$.requester.{name}')" for name in ("subject", "label")}
_SHOWN |= {name: f"json_extract(view, '$.{name}')" for name in ("client", "resource", "environment")}
_TEXTS = ("state", "server", "tool", "risk", "decided_by", "reason")
_COLUMNS = ", ".join(
    [
        "id, min_assurance, created_ns, expires_ns, ended_ns, calls",
        *(f"{_bounded(name)} AS {name}" for name in _TEXTS),
        *(f"CASE WHEN json_valid(view) THEN {_bounded(field)} END AS {name}" for name, field in _SHOWN.items()),
    ]
)
_DECIDED = """coalesce((SELECT max(at_ns) FROM event WHERE event.approval = approval.id
    AND transition IN ('T2', 'T4', 'T5', 'T9')), ended_ns, created_ns)"""
"""By a grant, by a person, or withdrawn."""
_ORDER = {"waiting": "created_ns", "closed": _DECIDED}
_ALIKE = """ AND (owner, server, tool, rule) = (SELECT owner, server, tool, rule FROM approval WHERE id = :like)"""


@dataclass(frozen=True, slots=True)
class Summary:
    """One request in a list. Nothing is decided by it: the columns of a row only repeat what is sealed."""

    id: str
    state: str
    server: str
    tool: str
    risk: str
    min_assurance: int
    created_ns: int
    expires_ns: int
    ended_ns: int | None
    settled_ns: int
    """When it was decided, or ended without a decision; while it waits, when it was asked."""
    decided_by: str
    reason: str
    resource: str | None
    environment: str | None
    subject: str | None
    label: str | None
    client: str | None
    calls: int
    """Identical calls that one answer serves."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What changes when a list does: the last transition there was, and how many requests wait."""

    transition: int
    waiting: int


class Inbox:
    """Reads lists of requests. Times in wall nanoseconds."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def count(self, box: Box, now_ns: int, like: str | None = None) -> int:
        """How many requests there are. `like`: only those of its requester, tool and rule."""
        sql = f"SELECT count(*) AS n FROM approval WHERE {_where(box, like)}"  # noqa: S608 - constant text
        async with self._db.read() as db:
            return int((await fetch(db, sql, _values(now_ns, like)))[0]["n"])

    async def page(
        self, box: Box, now_ns: int, number: int, *, like: str | None = None, size: int = PAGE
    ) -> list[Summary]:
        """Page `number` (from 1), newest first: waiting ones by when they were asked, closed ones by the decision.

        `like`: as `count`.
        """
        # The views of the rows are read of one page alone.
        order = _ORDER[box]
        sql = f"""SELECT {_COLUMNS}, {order} AS settled_ns FROM approval WHERE rowid IN (
                SELECT rowid FROM approval WHERE {_where(box, like)}
                ORDER BY {order} DESC, rowid DESC LIMIT :size OFFSET :skip)
            ORDER BY settled_ns DESC, rowid DESC"""  # noqa: S608 - constant text
        async with self._db.read() as db:
            rows = await fetch(db, sql, {**_values(now_ns, like), "size": size, "skip": (number - 1) * size})
        return [Summary(**{**row, **{name: _text(row[name]) for name in _SHOWN}}) for row in rows]

    async def alike(self, like: str, now_ns: int) -> list[str]:
        """Ids of what waits like this request, oldest first; at most 200."""
        sql = f"""SELECT id FROM approval WHERE {_where("waiting", like)}
            ORDER BY created_ns, rowid LIMIT {_MAX_ALIKE}"""  # noqa: S608 - constant text
        async with self._db.read() as db:
            return [row["id"] for row in await fetch(db, sql, _values(now_ns, like))]

    async def mark(self, now_ns: int) -> Mark:
        """Where the lists stand."""
        async with self._db.read() as db:
            last = (await fetch(db, "SELECT coalesce(max(seq), 0) AS n FROM event"))[0]["n"]
        return Mark(int(last), await self.count("waiting", now_ns))


def _where(box: Box, like: str | None) -> str:
    return _WHERE[box] + ("" if like is None else _ALIKE)


def _values(now_ns: int, like: str | None) -> dict[str, str | int]:
    return {"now": now_ns} if like is None else {"now": now_ns, "like": like}


def _text(value: object) -> str | None:
    return None if value is None else str(value)
