"""Work in a connection's own thread (mcp_guard.storage.hop)."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import aiosqlite
import pytest

from mcp_guard.storage.hop import HopConnection, in_one_hop


async def test_work_runs_in_the_connections_thread_and_returns_its_value(tmp_path: Path) -> None:
    """One hop for many statements."""
    async with aiosqlite.connect(tmp_path / "a.db", factory=HopConnection) as db:

        def work(connection: sqlite3.Connection) -> tuple[int, str]:
            connection.execute("CREATE TABLE t(x INTEGER)")
            connection.execute("INSERT INTO t VALUES (7)")
            found = connection.execute("SELECT x FROM t").fetchone()[0]
            return found, threading.current_thread().name

        value, thread = await in_one_hop(db, work)
    assert value == 7
    assert thread != threading.current_thread().name


async def test_what_the_work_raises_is_raised_to_the_caller_and_the_connection_goes_on(tmp_path: Path) -> None:
    """A failed batch must not end the writer."""
    async with aiosqlite.connect(tmp_path / "a.db", factory=HopConnection) as db:
        with pytest.raises(sqlite3.OperationalError):
            await in_one_hop(db, lambda connection: connection.execute("SELECT * FROM missing"))
        assert await in_one_hop(db, lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)


async def test_plain_statements_pass_as_before(tmp_path: Path) -> None:
    """The marker is one object: no text that anybody sends can be taken for it."""
    async with aiosqlite.connect(tmp_path / "a.db", factory=HopConnection) as db:
        rows = await db.execute_fetchall("SELECT ?", ("-- work",))
        assert [tuple(row) for row in rows] == [("-- work",)]
