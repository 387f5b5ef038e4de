"""Rows on real SQLite (docs/approvals.md, decisions.md D7, D18)."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_guard.approval.machine import Claim, Conflict, Deny
from mcp_guard.approval.rows import Request
from mcp_guard.errors import InternalError, StoreUnavailableError
from mcp_guard.model import Suspended
from tests.approval.bench import ALICE, LOCAL_ALICE, SECRET, Bench, call_of
from tests.fakes import FakeClock


async def request_in(bench: Bench) -> Request:
    got = await bench.ask(call_of())
    assert isinstance(got, Suspended)
    request = await bench.store.get(got.approval_id)
    assert request is not None
    return request


async def test_every_transition_has_exactly_one_event_and_one_outbox_row(tmp_path: Path) -> None:
    """I7."""
    async with Bench(tmp_path).guard() as bench:
        request = await request_in(bench)
        await bench.review.decide(request.row.id, "approve", LOCAL_ALICE)
        await bench.until(request.row.id, "completed")
        events = await bench.store.events(request.row.id)
        async with bench.db.read() as db:
            outbox = [row[0] for row in await db.execute_fetchall("SELECT event FROM outbox ORDER BY event")]
    assert [event.transition for event in events] == ["T1", "T4", "T13", "T14", "T16"]
    assert outbox == [event.seq for event in events]
    assert [(event.old, event.new) for event in events][-2:] == [("executing", "executing"), ("executing", "completed")]


async def test_nothing_secret_stands_in_the_file(tmp_path: Path) -> None:
    """Arguments and results are sealed; views are masked."""
    async with Bench(tmp_path).guard() as bench:
        request = await request_in(bench)
        await bench.review.decide(request.row.id, "approve", LOCAL_ALICE)
        await bench.until(request.row.id, "completed")
        files = bench.db.path.read_bytes() + bench.db.path.with_name("approvals.db-wal").read_bytes()
    assert SECRET.encode() not in files
    assert b"[SECRET]" in files


async def test_a_step_on_an_old_version_changes_nothing(tmp_path: Path) -> None:
    """CAS on state and version."""
    async with Bench(tmp_path).guard(background=False) as bench:
        request = await request_in(bench)
        async with bench.store.write() as transaction:
            await transaction.hold(request, "hld_other")
            lost = await transaction.step(request, Deny("bob"), actor="bob")
            again = await transaction.hold(request, "hld_third")
        events = await bench.store.events(request.row.id)
    assert isinstance(lost, Conflict)
    assert lost.why == "lost"
    assert again is None
    assert len(events) == 1


async def test_a_second_live_row_for_one_call_is_impossible(tmp_path: Path) -> None:
    """I6, held by the index also against a bug above it."""
    async with Bench(tmp_path).guard(background=False) as bench:
        request = await request_in(bench)
        with pytest.raises(InternalError):
            async with bench.store.write() as transaction:
                await transaction.insert(request, {})
        rows = await bench.store.requests()
    assert len(rows) == 1


async def test_every_transaction_expires_what_is_due(tmp_path: Path) -> None:
    """T10, T11: also in one about something else."""
    clock = FakeClock()
    async with Bench(tmp_path, clock=clock).guard(background=False) as bench:
        pending = await request_in(bench)
        got = await bench.ask(call_of({"table": "other"}))
        assert isinstance(got, Suspended)
        await bench.review.decide(got.approval_id, "approve", LOCAL_ALICE)
        clock.advance(300)
        due_before = await bench.store.any_due()
        async with bench.store.write():
            pass
        used = await bench.state(got.approval_id)
        clock.advance(600)
        await bench.review.reviewers.add("bob", by="test")
        states = used, await bench.state(pending.row.id)
    assert due_before
    assert states == ("expired", "expired")


async def test_time_goes_on_when_the_wall_clock_was_set_back(tmp_path: Path) -> None:
    """Attack 23: requests made after that still expire."""
    clock = FakeClock()
    async with Bench(tmp_path, clock=clock).guard(background=False) as bench:
        async with bench.store.write() as transaction:
            before = transaction.now_ns
        clock.jump(-3600)
        clock.advance(10)
        async with bench.store.write() as transaction:
            after = transaction.now_ns
    assert after - before == 10_000_000_000


async def test_a_row_with_a_state_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    """Fail closed."""
    async with Bench(tmp_path).guard(background=False) as bench:
        request = await request_in(bench)
        await bench.sql("UPDATE approval SET state = 'fine' WHERE id = ?", request.row.id)
        with pytest.raises(StoreUnavailableError, match="altered from outside"):
            await bench.store.get(request.row.id)


async def test_another_owner_cannot_claim(tmp_path: Path) -> None:
    """T13."""
    async with Bench(tmp_path).guard(background=False) as bench:
        request = await request_in(bench)
        approved = await bench.review.decide(request.row.id, "approve", LOCAL_ALICE)
        row = approved.row
        async with bench.store.write() as transaction:
            claims = [
                Claim("hld_x", row.owner, row.lookup, row.action_digest, "e"),
                Claim(row.holder, "mallory", row.lookup, row.action_digest, "e"),
                Claim(row.holder, row.owner, "other", row.action_digest, "e"),
                Claim(row.holder, ALICE.key, row.lookup, "other", "e"),
            ]
            steps = [await transaction.step(approved, claim, actor="guard") for claim in claims]
    assert [step.why for step in steps if isinstance(step, Conflict)] == ["lost", "mismatch", "mismatch", "mismatch"]


async def test_a_holder_whose_process_is_gone_is_dead_and_a_strange_name_too(tmp_path: Path) -> None:
    async with Bench(tmp_path).guard(background=False) as one, Bench(tmp_path).guard(background=False) as two:
        alive = one.holders.alive(two.holders.id), one.holders.alive(one.holders.id)
        strange = one.holders.alive("../approvals.db")
    assert alive == (True, True)
    assert not strange
    assert not one.holders.alive(two.holders.id)
    assert list((tmp_path / "holders").iterdir()) == []
