"""Shared SQLite files (decisions.md D7, security.md F10-F12)."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from mcp_guard.errors import StoreUnavailableError
from mcp_guard.storage.sqlite import Database


async def test_a_block_that_raises_leaves_nothing_behind(tmp_path: Path) -> None:
    """decisions.md D7."""
    db = await Database.open(tmp_path / "a.db")
    async with db.write() as tx:
        await tx.execute("CREATE TABLE t(x INTEGER) STRICT")

    async def insert_and_fail() -> None:
        async with db.write() as tx:
            await tx.execute("INSERT INTO t VALUES (1)")
            raise KeyError

    with pytest.raises(KeyError):
        await insert_and_fail()
    async with db.read() as reader:
        rows = list(await reader.execute_fetchall("SELECT x FROM t"))
    await db.close()
    assert rows == []


async def test_a_second_writer_waits_and_then_gives_up_with_a_clear_error(tmp_path: Path) -> None:
    """security.md F11."""
    first = await Database.open(tmp_path / "a.db")
    second = await Database.open(tmp_path / "a.db")
    async with first.write():
        with pytest.raises(StoreUnavailableError, match="locked by another process"):
            await second.write().__aenter__()
    await first.close()
    await second.close()


async def test_data_version_changes_when_another_connection_commits(tmp_path: Path) -> None:
    """ARCHITECTURE.md, "Two planes"."""
    first = await Database.open(tmp_path / "a.db")
    second = await Database.open(tmp_path / "a.db")
    before = await first.data_version()
    async with second.write() as tx:
        await tx.execute("CREATE TABLE t(x INTEGER) STRICT")
    after = await first.data_version()
    await first.close()
    await second.close()
    assert after != before


async def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """security.md F10: read-only data folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        await Database.open(tmp_path / "file" / "a.db")


async def test_a_cancelled_look_at_the_version_keeps_no_old_snapshot(tmp_path: Path) -> None:
    """docs/decisions.md D7: an open statement would show all later readers what was there before."""
    ours = await Database.open(tmp_path / "a.db")
    theirs = await Database.open(tmp_path / "a.db")
    async with theirs.write() as db:
        await db.execute("CREATE TABLE t(n INTEGER) STRICT")
    for steps in range(6):
        async with anyio.create_task_group() as group:
            group.start_soon(ours.data_version)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        async with theirs.write() as db:
            await db.execute("INSERT INTO t VALUES (?)", (steps,))
        async with ours.read() as reader:
            rows = list(await reader.execute_fetchall("SELECT count(*) FROM t"))
        assert rows[0][0] == steps + 1
    await ours.close()
    await theirs.close()
