"""Whole pieces of work in a connection's own thread: one hop between threads instead of one per statement.

A hop costs more than the statement it carries. aiosqlite hands `execute` to the connection's thread as it is, and
`sqlite3.connect` takes a connection class, so this needs nothing but their public interfaces.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import aiosqlite

T = TypeVar("T")

_WORK: Final = "-- work"


class HopConnection(sqlite3.Connection):
    """Give it as `factory=` to `aiosqlite.connect`."""

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """As in the base, but for the marker of `in_one_hop`."""
        if sql is _WORK:
            return _Done(parameters[0](self))
        return super().execute(sql, parameters)


class _Done:
    """What `execute_fetchall` asks for its rows."""

    def __init__(self, result: object) -> None:
        self._result = result

    def fetchall(self) -> list[object]:
        return [self._result]


async def in_one_hop(db: aiosqlite.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` in the thread of a connection made with `HopConnection`; whatever it raises is raised here.

    `work` must not be cancelled half way: cancelling the caller leaves it running to its end.
    """
    rows = await db.execute_fetchall(_WORK, (work,))
    return cast("T", next(iter(rows)))
