"""What the log does when its files, its folder or its neighbours misbehave."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from mcp_guard.audit.log import AuditLog
from mcp_guard.audit.query import show
from mcp_guard.audit.verify import Outcome, verify
from mcp_guard.errors import AuditUnavailableError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import MaskedJson, Record
from tests.fakes import CountingIds, FakeClock

from .conftest import OpenLog


@pytest.mark.parametrize("how", ["unlink", "replace", "unlink-wal"])
async def test_a_file_that_is_taken_away_while_in_use_stops_the_log(open_log: OpenLog, folder: Path, how: str) -> None:
    """security.md S36: SQLite alone goes on writing into an unlinked file."""
    file = folder / "00" / "2026-09.db"
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1"))
        if how == "unlink-wal":
            file.with_name(file.name + "-wal").unlink()
        else:
            file.rename(folder / "aside")
        if how == "replace":
            file.write_bytes((folder / "aside").read_bytes())
        with pytest.raises(AuditUnavailableError, match="removed or replaced"):
            await log.append(Record("call.intent", call_id="call_2"))
        if how == "unlink":
            with pytest.raises(AuditUnavailableError):
                await log.append(Record("call.intent", call_id="call_3"))
        else:
            # Opened again, the file proves to hold everything that was acknowledged: the log goes on.
            await log.append(Record("call.intent", call_id="call_3"))
    (folder / "aside").unlink(missing_ok=True)
    assert file.exists() is (how != "unlink")
    if how != "unlink":
        report = verify(folder, log.vkeys)
        assert report.outcome is Outcome.OK
        assert show(folder, "call_1")
        assert show(folder, "call_3")


async def test_a_failed_commit_fails_its_callers_and_the_next_record_is_written_again(
    open_log: OpenLog, folder: Path, clock: FakeClock
) -> None:
    """security.md F11: somebody else holds the write lock of the file."""
    async with open_log() as log:
        blocker = sqlite3.connect(folder / "00" / "2026-09.db", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(AuditUnavailableError, match="could not be written"):
            await log.append(Record("call.intent", call_id="call_1"))
        blocker.execute("ROLLBACK")
        blocker.close()
        assert (await log.append(Record("call.intent", call_id="call_2"))).index == 1
    assert verify(folder, log.vkeys).outcome is Outcome.OK


async def test_after_failing_to_reopen_the_log_waits_longer_before_each_try(
    open_log: OpenLog, folder: Path, clock: FakeClock
) -> None:
    """docs/audit.md, "When it fails": back-off."""
    file = folder / "00" / "2026-09.db"
    async with open_log() as log:
        file.rename(folder / "aside")
        for _ in range(2):
            with pytest.raises(AuditUnavailableError):
                await log.append(Record("call.intent", call_id="call_1"))
        (folder / "aside").rename(file)
        with pytest.raises(AuditUnavailableError, match="tried again shortly"):
            await log.append(Record("call.intent", call_id="call_1"))
        clock.advance(6)
        assert (await log.append(Record("call.intent", call_id="call_1"))).index == 1
    assert verify(folder, log.vkeys).outcome is Outcome.OK


async def test_a_log_that_is_back_is_used_again_however_many_ask_meanwhile(
    open_log: OpenLog, folder: Path, clock: FakeClock
) -> None:
    """security.md F10: it recovers by itself. A refusal during the back-off is no new failure."""
    file = folder / "00" / "2026-09.db"
    async with open_log() as log:
        file.rename(folder / "aside")
        for _ in range(3):
            with pytest.raises(AuditUnavailableError):
                await log.append(Record("call.intent", call_id="call_1"))
        (folder / "aside").rename(file)
        for _ in range(10):
            clock.advance(0.5)
            with contextlib.suppress(AuditUnavailableError):
                await log.append(Record("call.intent", call_id="call_1"))
        assert (await log.append(Record("call.intent", call_id="call_2"))).index == 2
    assert verify(folder, log.vkeys).outcome is Outcome.OK


async def test_acknowledged_records_that_are_gone_after_a_failure_stop_the_log(open_log: OpenLog, folder: Path) -> None:
    """security.md F12: an older copy was put in place while the log was in use."""
    file = folder / "00" / "2026-09.db"
    async with open_log():
        pass
    old = file.read_bytes()
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1"))
        file.rename(folder / "aside")
        file.with_name(file.name + "-wal").unlink()
        file.with_name(file.name + "-shm").unlink()
        file.write_bytes(old)
        with pytest.raises(AuditUnavailableError, match="removed or replaced"):
            await log.append(Record("call.intent", call_id="call_2"))
        with pytest.raises(AuditUnavailableError, match="are gone"):
            await log.append(Record("call.intent", call_id="call_3"))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE rec SET body = X'7b7d' WHERE idx = 1",
        "DELETE FROM rec WHERE idx = 2",
        "DELETE FROM ckpt",
        "DELETE FROM ckpt WHERE size = (SELECT max(size) FROM ckpt)",
        "UPDATE ckpt SET note = X'00' WHERE size = (SELECT max(size) FROM ckpt)",
        "INSERT INTO rec SELECT 9, ts, type, call_id, session, actor, tool, outcome, body, leaf FROM rec WHERE idx = 1",
    ],
)
async def test_a_log_that_is_not_the_one_signed_last_is_not_opened(open_log: OpenLog, folder: Path, sql: str) -> None:
    """docs/audit.md, "When it fails": refuse to start, with the command that finds the record."""
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1", payloads={"args": MaskedJson(1)}))
    with sqlite3.connect(folder / "00" / "2026-09.db") as db:
        db.execute(sql)
    db.close()
    with pytest.raises(AuditUnavailableError, match="mcp-guard audit verify"):
        async with open_log():
            pass


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be mistaken for one" * 40, b"SQLite format 3\0"]
)
async def test_a_file_that_is_no_database_is_not_opened(open_log: OpenLog, folder: Path, content: bytes) -> None:
    """security.md F12."""
    async with open_log():
        pass
    (folder / "00" / "2026-09.db").write_bytes(content)
    with pytest.raises(AuditUnavailableError):
        async with open_log():
            pass


async def test_a_folder_that_cannot_be_made_is_an_error(
    tmp_path: Path, keys: KeyStore, clock: FakeClock, ids: CountingIds
) -> None:
    """security.md F10."""
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditUnavailableError, match="cannot be written"):
        await AuditLog.open(tmp_path / "file" / "audit", keys, clock, ids)


async def test_a_damaged_installation_id_is_an_error(open_log: OpenLog, folder: Path) -> None:
    """decisions.md D26: the origin holds the installation's id."""
    async with open_log():
        pass
    (folder / "install-id").write_text("../else")
    with pytest.raises(AuditUnavailableError, match="damaged"):
        async with open_log():
            pass
