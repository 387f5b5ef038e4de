"""The writing side: durability, order, uniqueness, slots, rotation, faults."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio
import pytest

from mcp_guard.audit.log import QUEUE_BOUND, AuditLog
from mcp_guard.audit.query import show, tail
from mcp_guard.audit.slots import installed_vkeys
from mcp_guard.audit.verify import Outcome, verify
from mcp_guard.errors import AuditUnavailableError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Record
from tests.fakes import CountingIds, FakeClock

from .conftest import OpenLog


def types(folder: Path) -> list[str]:
    return [entry.type for entry in tail(folder, 1000)]


async def test_an_acknowledged_record_is_signed_and_in_the_file(open_log: OpenLog, folder: Path) -> None:
    """decisions.md D7: `append` returns after durability."""
    async with open_log() as log:
        receipt = await log.append(Record("call.intent", call_id="call_1", outcome="allow"))
        report = verify(folder, log.vkeys, trusted=[log.head])
    assert (receipt.index, receipt.size) == (1, 2)
    assert receipt.root == log.head.root_b64 or log.head.size > receipt.size
    assert (report.outcome, report.records, report.calls) == (Outcome.OK, 2, 1)
    assert types(folder) == ["log.opened", "call.intent", "log.closed"]


async def test_many_callers_share_a_commit_and_all_get_their_own_place(open_log: OpenLog, folder: Path) -> None:
    """docs/audit.md, "How a change shows": group commit."""
    indexes: list[int] = []

    async def call(number: int) -> None:
        indexes.append((await log.append(Record("call.intent", call_id=f"call_{number}"))).index)

    async with open_log() as log:
        async with anyio.create_task_group() as calls:
            for number in range(600):
                calls.start_soon(call, number)
        with sqlite3.connect(f"file:{folder}/00/2026-09.db?mode=ro", uri=True) as db:
            checkpoints = db.execute("SELECT count(*) FROM ckpt").fetchone()[0]
        db.close()
    assert sorted(indexes) == list(range(1, 601))
    assert checkpoints < 20
    assert verify(folder, log.vkeys).outcome is Outcome.OK


async def test_a_second_intent_of_a_call_is_answered_with_the_first(open_log: OpenLog) -> None:
    """decisions.md D26: a call may come in rounds."""
    async with open_log() as log:
        first = await log.append(Record("call.intent", call_id="call_1", outcome="ok"))
        await log.append(Record("call.intent", call_id="call_2"))
        again = await log.append(Record("call.intent", call_id="call_1", outcome="other"))
        head = log.head
    assert again == first
    assert head.size == 3


@pytest.mark.parametrize("kind", ["call.forwarded", "call.result"])
async def test_a_step_that_sends_is_never_on_record_twice(open_log: OpenLog, kind: str) -> None:
    """A second one would mean that the call ran twice; whoever asks for it must not go on."""
    async with open_log() as log:
        await log.append(Record(kind, call_id="call_1"))
        with pytest.raises(AuditUnavailableError, match="not done twice"):
            await log.append(Record(kind, call_id="call_1"))
        await log.append(Record(kind, call_id="call_2"))


async def test_what_was_sent_is_known_in_every_slot(open_log: OpenLog) -> None:
    """A row put back by hand is often adopted by another process, with another slot."""
    async with open_log() as first, open_log() as second:
        await first.append(Record("call.forwarded", call_id="call_1"))
        assert first.slot != second.slot
        assert await second.has_forwarded("call_1")
        assert not await second.has_forwarded("call_2")


async def test_twins_in_one_batch_become_one_record(open_log: OpenLog, folder: Path) -> None:
    """decisions.md D26."""
    receipts = []

    async def call() -> None:
        receipts.append(await log.append(Record("call.intent", call_id="call_1")))

    async with open_log() as log, anyio.create_task_group() as calls:
        for _ in range(5):
            calls.start_soon(call)
    assert len(set(receipts)) == 1
    assert types(folder).count("call.intent") == 1


async def test_other_records_of_a_call_may_repeat(open_log: OpenLog, folder: Path) -> None:
    """A call may be suspended twice."""
    async with open_log() as log:
        for _ in range(2):
            await log.append(Record("call.suspended", call_id="call_1"))
    assert types(folder).count("call.suspended") == 2


async def test_a_record_without_canonical_form_is_refused_and_the_log_goes_on(open_log: OpenLog, folder: Path) -> None:
    """decisions.md D9."""
    async with open_log() as log:
        with pytest.raises(AuditUnavailableError, match="no canonical form"):
            await log.append(Record("call.intent", call_id="call_1", fields={"x": 1.5}))
        await log.append(Record("call.intent", call_id="call_2"))
    assert types(folder) == ["log.opened", "call.intent", "log.closed"]


async def test_a_reopened_log_goes_on_where_it_stopped(open_log: OpenLog, folder: Path) -> None:
    """docs/audit.md, "How a change shows", more records than one tile holds."""
    vkeys: tuple[str, ...] = ()
    for run in range(3):
        async with open_log() as log, anyio.create_task_group() as calls:
            for number in range(150):
                calls.start_soon(log.append, Record("call.intent", call_id=f"call_{run}_{number}"))
            vkeys = log.vkeys
    report = verify(folder, vkeys)
    assert (report.outcome, report.records, report.calls, report.files) == (Outcome.OK, 456, 450, 1)


async def test_a_new_month_gets_a_new_file_that_names_the_old_one(
    open_log: OpenLog, folder: Path, clock: FakeClock
) -> None:
    """docs/audit.md, "How a change shows": rotation."""
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1"))
        september = log.head
        clock.advance(31 * 86400)
        receipt = await log.append(Record("call.result", call_id="call_1"))
    assert sorted(path.name for path in (folder / "00").glob("*.db")) == ["2026-09.db", "2026-10.db"]
    assert receipt.origin.endswith("/00/2026-10")
    opened = next(entry for entry in tail(folder, 10) if entry.file == "00/2026-10.db")
    assert opened.fields["previous"] == {"file": "2026-09.db", "size": september.size, "root": september.root_b64}
    assert verify(folder, log.vkeys, trusted=[september]).outcome is Outcome.OK


async def test_a_start_in_a_new_month_continues_the_last_file(
    open_log: OpenLog, folder: Path, clock: FakeClock
) -> None:
    """docs/audit.md, "How a change shows": also when no guard ran at the turn of the month."""
    async with open_log():
        pass
    clock.advance(70 * 86400)
    async with open_log() as log:
        pass
    report = verify(folder, log.vkeys)
    assert (report.outcome, report.files) == (Outcome.OK, 2)


async def test_a_rotation_that_was_cut_short_is_finished(open_log: OpenLog, folder: Path, clock: FakeClock) -> None:
    """security.md F9: killed between making the file and its first record."""
    async with open_log() as log:
        pass
    clock.advance(31 * 86400)
    (folder / "00" / "2026-10.db").touch(mode=0o600)
    async with open_log():
        pass
    assert verify(folder, log.vkeys).outcome is Outcome.OK


async def test_a_clock_that_goes_back_is_noted_and_the_order_stays(
    open_log: OpenLog, folder: Path, clock: FakeClock
) -> None:
    """security.md F14; docs/audit.md, "How a change shows"."""
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1"))
        clock.jump(-40 * 86400)
        await log.append(Record("call.intent", call_id="call_2"))
        await log.append(Record("call.intent", call_id="call_3"))
    entries = tail(folder, 10)
    assert [e.type for e in entries] == ["log.opened", "call.intent", "clock.jump", *["call.intent"] * 2, "log.closed"]
    assert [e.index for e in entries] == list(range(6))
    assert verify(folder, log.vkeys).outcome is Outcome.OK


async def test_a_clock_that_went_back_between_two_runs_is_noted(
    open_log: OpenLog, folder: Path, clock: FakeClock
) -> None:
    """security.md F14: a machine without a battery for its clock."""
    async with open_log():
        pass
    clock.jump(-1000)
    async with open_log():
        pass
    assert types(folder).count("clock.jump") == 1


async def test_a_caller_that_is_cancelled_leaves_a_whole_log(open_log: OpenLog, folder: Path) -> None:
    """docs/audit.md, "How a change shows"."""
    async with open_log() as log:
        for steps in range(12):
            async with anyio.create_task_group() as calls:
                calls.start_soon(log.append, Record("call.intent", call_id=f"call_{steps}"))
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                calls.cancel_scope.cancel()
        await log.append(Record("call.intent", call_id="call_last"))
    report = verify(folder, log.vkeys)
    assert report.outcome is Outcome.OK
    assert report.calls >= 1


async def test_the_writer_finishes_what_is_queued_when_it_is_cancelled(
    folder: Path, keys: KeyStore, clock: FakeClock, ids: CountingIds
) -> None:
    """docs/audit.md, "How a change shows": shutting down loses nothing."""
    log = await AuditLog.open(folder, keys, clock, ids)
    receipts = []

    async def call(number: int) -> None:
        with anyio.CancelScope(shield=True):
            receipts.append(await log.append(Record("call.intent", call_id=f"call_{number}")))

    async with anyio.create_task_group() as calls, anyio.create_task_group() as tasks:
        for number in range(50):
            calls.start_soon(call, number)
        await anyio.lowlevel.checkpoint()
        await tasks.start(log.run)
        tasks.cancel_scope.cancel()
    assert len(receipts) == 50
    assert types(folder)[-1] == "log.closed"
    assert verify(folder, log.vkeys).outcome is Outcome.OK


async def test_nothing_is_taken_after_close(
    open_log: OpenLog, folder: Path, keys: KeyStore, clock: FakeClock, ids: CountingIds
) -> None:
    """docs/audit.md, "When it fails": no audit, no call; with and without a writer that ever ran."""
    async with open_log() as log:
        pass
    unstarted = await AuditLog.open(folder, keys, clock, ids)
    await unstarted.close()
    for closed in (log, unstarted):
        with pytest.raises(AuditUnavailableError, match="closed"):
            await closed.append(Record("call.intent", call_id="call_1"))


async def test_a_record_that_is_not_durable_in_time_is_an_error(
    folder: Path, keys: KeyStore, clock: FakeClock, ids: CountingIds
) -> None:
    """docs/audit.md, "When it fails": the writer does not run."""
    log = await AuditLog.open(folder, keys, clock, ids, append_timeout_s=0.01)
    with pytest.raises(AuditUnavailableError, match="in time"):
        await log.append(Record("call.intent", call_id="call_1"))
    await log.close()


async def test_a_full_queue_refuses_and_drops_nothing(
    folder: Path, keys: KeyStore, clock: FakeClock, ids: CountingIds
) -> None:
    """docs/audit.md, "When it fails": queue full."""
    log = await AuditLog.open(folder, keys, clock, ids, append_timeout_s=0)
    for _ in range(QUEUE_BOUND):
        with pytest.raises(AuditUnavailableError, match="in time"):
            await log.append(Record("policy.loaded"))
    with pytest.raises(AuditUnavailableError, match="too many"):
        await log.append(Record("policy.loaded"))
    async with anyio.create_task_group() as tasks:
        await tasks.start(log.run)
        await log.close()
    assert verify(folder, log.vkeys).records == QUEUE_BOUND + 2


async def test_two_logs_in_one_folder_take_two_slots_and_readers_merge_them(
    open_log: OpenLog, folder: Path, clock: FakeClock, keys: KeyStore
) -> None:
    """decisions.md D26; docs/audit.md, "How a change shows"."""
    async with open_log() as first, open_log() as second:
        await first.append(Record("call.intent", call_id="call_1"))
        clock.advance(1)
        await second.append(Record("call.result", call_id="call_1"))
        assert (first.slot, second.slot) == ("00", "01")
    assert [(e.file[:2], e.type) for e in show(folder, "call_1")] == [("00", "call.intent"), ("01", "call.result")]
    report = verify(folder, installed_vkeys(folder, keys))
    assert (report.outcome, report.files) == (Outcome.OK, 2)


async def test_a_freed_slot_is_taken_again(open_log: OpenLog) -> None:
    """decisions.md D26: the first unlocked slot."""
    async with open_log():
        pass
    async with open_log() as log:
        assert log.slot == "00"


async def test_calls_left_open_by_an_earlier_run_are_closed_once(open_log: OpenLog, folder: Path) -> None:
    """decisions.md D26, security.md F9: only where no live approval row exists, and no other slot ended the call."""
    async with open_log() as log, open_log() as other:
        for number in range(6):
            await log.append(Record("call.intent", call_id=f"call_{number}", tool="crm/get"))
        await log.append(Record("call.result", call_id="call_0"))
        await log.append(Record("call.refused", call_id="call_1"))
        await log.append(Record("call.suspended", call_id="call_2"))
        await other.append(Record("call.result", call_id="call_3"))
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_now"))
        assert await log.recover(lambda call_id: call_id == "call_5") == ["call_4"]
    async with open_log() as log:
        assert await log.recover(lambda _: False) == ["call_5", "call_now"]
        assert await log.recover(lambda _: False) == []
    last = show(folder, "call_4")[-1]
    assert (last.type, last.outcome, last.tool) == ("call.interrupted", "unknown", "crm/get")


async def test_recovery_does_not_call_unknown_what_its_approval_request_settles(open_log: OpenLog) -> None:
    """D26: a ticket is an answer, and a denied or expired request ended its call; what was sent since is open."""
    denied = {"approval": "apr_2", "state": "denied"}
    async with open_log() as log:
        for name in ("ticket", "denied", "sent", "held"):
            await log.append(Record("call.intent", call_id=name))
        await log.append(Record("call.suspended", call_id="ticket", outcome="suspended"))
        await log.append(Record("approval.decision", call_id="denied", outcome="deny", fields=denied))
        await log.append(Record("call.suspended", call_id="sent", outcome="suspended"))
        await log.append(Record("approval.decision", call_id="sent", outcome="approve", fields={"state": "approved"}))
        await log.append(Record("call.forwarded", call_id="sent", outcome="sent"))
    async with open_log() as log:
        assert await log.recover(lambda _: False) == ["sent", "held"]


async def test_after_a_key_rotation_old_and_new_key_verify_the_whole_log(
    open_log: OpenLog, folder: Path, keys: KeyStore
) -> None:
    """docs/audit.md, "How a change shows"."""
    async with open_log() as log:
        pass
    keys.rotate("checkpoint")
    async with open_log() as rotated:
        await rotated.append(Record("call.intent", call_id="call_1"))
    assert verify(folder, rotated.vkeys).outcome is Outcome.OK
    assert verify(folder, log.vkeys).outcome is Outcome.TAMPERED
    assert rotated.vkeys[1:] == log.vkeys


def modes_below(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o077 for path in folder.rglob("*")}


async def test_files_of_the_log_are_private(open_log: OpenLog, folder: Path) -> None:
    """security.md: masked content is still nobody else's."""
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1"))
        modes = modes_below(folder)
    assert len(modes) >= 5
    assert set(modes.values()) == {0}
    assert repr(log).startswith("AuditLog(mcp-guard/install_")
