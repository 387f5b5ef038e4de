"""Shared SQLite files (decisions.md D7, security.md F10-F12)."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from mcp_guard.errors import StoreUnavailableError
from mcp_guard.storage.sqlite import Database
from tests.full_disk import no_file_above


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


async def test_what_was_committed_is_not_called_failed_because_tidying_up_failed(tmp_path: Path) -> None:
    """security.md F10: a person is told that a decision failed only where it did not count."""
    path = tmp_path / "a.db"
    db = await Database.open(path)
    async with db.write() as tx:
        await tx.execute("CREATE TABLE t(x BLOB) STRICT")
        await tx.execute("INSERT INTO t VALUES (zeroblob(8 << 20))")
    before = path.stat().st_size
    with no_file_above(before):
        async with db.write() as tx:
            await tx.execute("INSERT INTO t VALUES (zeroblob(5 << 20))")
        async with db.read() as reader:
            assert next(iter(await reader.execute_fetchall("SELECT count(*) FROM t")))[0] == 2
        assert path.stat().st_size == before
    async with db.write() as tx:
        await tx.execute("DELETE FROM t WHERE length(x) > (5 << 20)")
    await db.close()
    assert path.stat().st_size > before


async def test_on_a_full_disk_a_write_leaves_nothing_and_the_next_one_counts(tmp_path: Path) -> None:
    """security.md F10: it recovers by itself."""
    db = await Database.open(tmp_path / "a.db")
    async with db.write() as tx:
        await tx.execute("CREATE TABLE t(x BLOB) STRICT")
    with no_file_above(1 << 20), pytest.raises(StoreUnavailableError):
        async with db.write() as tx:
            await tx.execute("INSERT INTO t VALUES (zeroblob(2 << 20))")
    async with db.write() as tx:
        await tx.execute("INSERT INTO t VALUES (x'01')")
    async with db.read() as reader:
        assert [len(row[0]) for row in await reader.execute_fetchall("SELECT x FROM t")] == [1]
    await db.close()
