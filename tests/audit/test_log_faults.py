"""What the log does when its files, its folder or its neighbours misbehave."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from mcp_guard.audit.log import AuditLog
from mcp_guard.audit.query import show, tail
from mcp_guard.audit.verify import Outcome, verify
from mcp_guard.errors import AuditUnavailableError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import MaskedJson, Record
from mcp_guard.system import FileLock
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


async def test_a_record_that_is_not_durable_in_time_is_refused_and_not_lost(open_log: OpenLog, folder: Path) -> None:
    """security.md F11; docs/audit.md, "When it fails": nobody waits for a log for ever."""
    async with open_log(append_timeout_s=0.05) as log:
        blocker = sqlite3.connect(folder / "00" / "2026-09.db", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(AuditUnavailableError, match="could not be made durable in time"):
            await log.append(Record("call.intent", call_id="call_1"))
        blocker.execute("ROLLBACK")
        blocker.close()
    assert show(folder, "call_1")
    assert verify(folder, log.vkeys).outcome is Outcome.OK


async def test_a_log_of_another_slot_that_cannot_be_read_keeps_every_approved_call_back(
    open_log: OpenLog, folder: Path
) -> None:
    """approvals.md I1; security.md F12: "was it sent before" has no answer then, and no is not taken for granted."""
    async with open_log() as log:
        (folder / "01").mkdir()
        (folder / "01" / "2026-08.db").write_bytes(b"not a database, but long enough to be mistaken for one" * 40)
        with pytest.raises(AuditUnavailableError, match="cannot be read"):
            await log.has_forwarded("call_1")
        with pytest.raises(AuditUnavailableError, match="cannot be read"):
            await log.recover(lambda _call_id: False)


async def test_a_log_whose_file_is_gone_still_ends_and_frees_its_slot(open_log: OpenLog, folder: Path) -> None:
    """security.md F8, S36: nothing is written into a file that nobody can find, and the next guard can start."""
    file = folder / "00" / "2026-09.db"
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1"))
        file.rename(folder / "aside")
    lock = FileLock(folder / "00" / "lock")
    assert lock.try_acquire()
    lock.release()
    assert not file.exists()
    (folder / "aside").rename(file)
    assert "log.closed" not in {entry.type for entry in tail(folder)}
    async with open_log() as again:
        await again.append(Record("call.intent", call_id="call_2"))
    assert show(folder, "call_1")


async def test_a_month_that_was_begun_before_a_kill_is_gone_on_with(
    open_log: OpenLog, folder: Path, clock: FakeClock
) -> None:
    """security.md F9: the file is there, and nothing is in it yet."""
    async with open_log() as log:
        (folder / "00" / "2026-10.db").touch(mode=0o600)
        clock.advance(31 * 86_400)
        await log.append(Record("call.intent", call_id="call_1"))
    assert [entry.file for entry in show(folder, "call_1")] == ["00/2026-10.db"]
    assert verify(folder, log.vkeys).outcome is Outcome.OK


async def test_an_installation_id_that_leads_nowhere_is_an_error(open_log: OpenLog, folder: Path) -> None:
    """decisions.md D26, security.md F12: no second id is made beside it."""
    async with open_log():
        pass
    (folder / "install-id").unlink()
    (folder / "install-id").symlink_to(folder / "nowhere")
    with pytest.raises(AuditUnavailableError, match="cannot be written"):
        async with open_log():
            pass
    assert not (folder / "nowhere").exists()


async def test_a_log_whose_key_is_gone_is_not_gone_on_with_under_a_new_one(
    open_log: OpenLog, folder: Path, tmp_path: Path, clock: FakeClock, ids: CountingIds
) -> None:
    """security.md F19: a new key would make every older record look forged, and hide a forged one among them."""
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1"))
    (tmp_path / "keys").rename(tmp_path / "aside")
    keys = KeyStore(tmp_path / "keys")
    with pytest.raises(AuditUnavailableError, match="key that signed this log is missing"):
        await AuditLog.open(folder, keys, clock, ids)
    assert not keys.has("checkpoint")
