"""Carrying out: what must be true before anything is sent, and what is left behind (approvals.md S4, S10, §6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_guard.errors import (
    AlreadyDecidedError,
    ApprovalExpiredError,
    AuditUnavailableError,
    DownstreamUnavailableError,
    GuardError,
    InternalError,
    MaskingError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from mcp_guard.model import Answer, Assurance, Decision, Effect, Suspended
from mcp_guard.system import FileLock
from tests.approval.bench import ALICE, LOCAL_ALICE, SECRET, Bench, call_of, decision_of
from tests.fakes import FakeClock


async def ticket(bench: Bench) -> str:
    got = await bench.ask(call_of())
    assert isinstance(got, Suspended)
    return got.approval_id


async def approved(bench: Bench) -> str:
    approval_id = await ticket(bench)
    await bench.review.decide(approval_id, "approve", LOCAL_ALICE)
    return approval_id


FORGERIES = {
    "state alone": ("UPDATE approval SET state = 'approved', version = version + 1 WHERE id = ?",),
    "state and time": (
        "UPDATE approval SET state = 'approved', use_by_ns = 9000000000000000000, version = 9 WHERE id = ?",
    ),
    "an unsigned statement": (
        "UPDATE approval SET state = 'approved', use_by_ns = 9000000000000000000 WHERE id = ?",
        "INSERT INTO decision(approval, round, statement, signature) VALUES (?, 1, '{}', x'00')",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_update_executes_nothing(tmp_path: Path, name: str) -> None:
    """Attack 12: the state column is not an approval, a signed decision is."""
    async with Bench(tmp_path).guard() as bench:
        approval_id = await ticket(bench)
        for statement in FORGERIES[name]:
            await bench.sql(statement, approval_id)
        state = await bench.until(approval_id, "invalidated", "expired")
    assert bench.effects == []
    assert state in {"invalidated", "expired"}


@pytest.mark.parametrize(
    "forged",
    [
        "UPDATE approval SET payload = x'00' WHERE id = ?",
        "UPDATE approval SET nonce = 'other' WHERE id = ?",
        'UPDATE approval SET view = \'{"tool": "harmless"}\' WHERE id = ?',
        "UPDATE approval SET round = 2 WHERE id = ?",
        "UPDATE approval SET min_assurance = 4 WHERE id = ?",
        "DELETE FROM decision WHERE approval = ?",
    ],
)
async def test_an_approval_of_something_else_executes_nothing(tmp_path: Path, forged: str) -> None:
    """S14, S17: what runs is what was shown and signed."""
    async with Bench(tmp_path).guard(background=False) as bench, anyio.create_task_group() as group:
        approval_id = await approved(bench)
        await bench.sql(forged, approval_id)
        await group.start(bench.desk.run, bench.execute)
        await bench.until(approval_id, "invalidated")
        with pytest.raises(ApprovalExpiredError, match="void"):
            await bench.desk.wait(approval_id, ALICE, 1)
        group.cancel_scope.cancel()
    assert bench.effects == []


@pytest.mark.parametrize("forget", ["", "T14", "T13 T14 T16"])
async def test_a_used_approval_set_back_by_hand_executes_nothing_more(tmp_path: Path, forget: str) -> None:
    """I1: a signed decision counts once, also where the events of its use are gone."""
    async with Bench(tmp_path).guard() as bench:
        approval_id = await approved(bench)
        await bench.until(approval_id, "completed")
        for transition in forget.split():
            await bench.sql(
                "DELETE FROM outbox WHERE event IN (SELECT seq FROM event WHERE transition = ?)", transition
            )
            await bench.sql("DELETE FROM event WHERE transition = ?", transition)
        await bench.sql(
            "UPDATE approval SET state = 'approved', sent = 0, version = version + 1 WHERE id = ?", approval_id
        )
        await bench.until(approval_id, "invalidated")
    assert len(bench.effects) == 1


async def test_a_used_approval_is_not_sent_even_when_it_was_claimed(tmp_path: Path) -> None:
    """I1: the witness is taken between T14 and the first byte, by whoever is first."""
    bench = Bench(tmp_path)
    async with bench.guard():
        approval_id = await ticket(bench)
        bench.before_send = lambda: (tmp_path / "used" / approval_id).mkdir(parents=True)  # somebody else was first
        await bench.review.decide(approval_id, "approve", LOCAL_ALICE)
        await bench.until(approval_id, "failed")
    assert bench.effects == []


async def test_an_approval_of_a_personal_guard_is_void_under_a_team_guard(tmp_path: Path) -> None:
    """S9, S10: what was confirmed by the requester's side is not separation of duties."""
    async with Bench(tmp_path).guard(background=False) as personal:
        approval_id = await approved(personal)
    async with Bench(tmp_path, mode="team").guard() as team:
        await team.until(approval_id, "invalidated")
    assert team.effects == []


async def test_a_call_attaches_to_no_request_of_another_mode(tmp_path: Path) -> None:
    """S9."""
    async with Bench(tmp_path).guard(background=False) as personal:
        old = await ticket(personal)
    async with Bench(tmp_path, mode="team").guard(background=False) as team:
        await team.review.reviewers.add("bob", by="test")
        new = await ticket(team)
        states = await team.state(old), await team.state(new)
        request = await team.store.get(new)
    assert states == ("invalidated", "pending")
    assert request is not None
    assert request.min_assurance is Assurance.A2


async def test_an_outcome_goes_to_no_other_call(tmp_path: Path) -> None:
    """S7: the look-up follows from the sealed request, not from its column."""
    async with Bench(tmp_path).guard() as bench:
        done = await approved(bench)
        await bench.until(done, "completed")
        other = await bench.ask(call_of({"table": "other"}))
        assert isinstance(other, Suspended)
        await bench.review.cancel(other.approval_id, LOCAL_ALICE)
        swap = "UPDATE approval SET delivered = 0, lookup = (SELECT lookup FROM approval WHERE id = ?) WHERE id = ?"
        await bench.sql(swap, other.approval_id, done)
        await bench.sql("DELETE FROM outbox WHERE approval = ?", other.approval_id)
        for table in ("event", "decision"):
            await bench.sql(f"DELETE FROM {table} WHERE approval = ?", other.approval_id)  # noqa: S608 - names above
        await bench.sql("DELETE FROM approval WHERE id = ?", other.approval_id)
        again = await bench.ask(call_of({"table": "other"}))
        with pytest.raises(StoreUnavailableError, match="altered from outside"):
            await bench.desk.wait(done, ALICE, 1)
    assert isinstance(again, Suspended)


async def test_a_row_that_cannot_be_read_stops_no_other_call(tmp_path: Path) -> None:
    """security.md S13: one damaged row is not the end of all approvals."""
    async with Bench(tmp_path).guard(background=False) as bench, anyio.create_task_group() as group:
        bad = await approved(bench)
        got = await bench.ask(call_of({"table": "other"}))
        assert isinstance(got, Suspended)
        good = got.approval_id
        await bench.sql("UPDATE approval SET view = '[[' WHERE id = ?", bad)
        await group.start(bench.desk.run, bench.execute)
        await bench.review.decide(good, "approve", LOCAL_ALICE)
        await bench.until(good, "completed")
        group.cancel_scope.cancel()
    assert bench.ran == [good]


def denies(decision: Decision) -> Decision:
    return replace(decision, effect=Effect.DENY)


def changes(decision: Decision) -> Decision:
    return replace(decision, policy_digest="p2")


def demands_more(decision: Decision) -> Decision:
    return replace(decision, terms=replace(decision.terms, min_assurance=Assurance.A2))


def breaks(_decision: Decision) -> Decision:
    raise ValueError(SECRET)


@pytest.mark.parametrize("today", [denies, changes, demands_more, breaks])
async def test_policy_asked_again_may_only_tighten(tmp_path: Path, today: Callable[[Decision], Decision]) -> None:
    """S10, T12."""
    async with Bench(tmp_path, today=today).guard() as bench:
        approval_id = await approved(bench)
        await bench.until(approval_id, "invalidated")
    assert bench.effects == []


async def test_a_looser_policy_does_not_change_what_was_approved(tmp_path: Path) -> None:
    """S10."""
    async with Bench(tmp_path, today=lambda d: replace(d, effect=Effect.ALLOW)).guard() as bench:
        await bench.until(await approved(bench), "completed")
    assert len(bench.effects) == 1


async def test_events_are_in_the_audit_log_before_the_call_runs(tmp_path: Path) -> None:
    """D26: outbox first, then the claim."""
    seen: list[list[str]] = []
    bench = Bench(tmp_path)
    bench.before_send = lambda: seen.append(bench.audit.types())
    async with bench.guard():
        await bench.until(await approved(bench), "completed")
    assert seen == [["approval.requested", "approval.decision"]]


async def test_without_audit_nothing_is_claimed_and_it_runs_when_audit_is_back(tmp_path: Path) -> None:
    """D26, S5."""
    bench = Bench(tmp_path)
    bench.audit.broken["approval.decision"] = AuditUnavailableError("no space")
    async with bench.guard():
        approval_id = await approved(bench)
        await anyio.sleep(0.1)
        held = (await bench.state(approval_id), list(bench.effects))
        bench.audit.broken.clear()
        await bench.until(approval_id, "completed")
    assert held == ("approved", [])
    assert len(bench.effects) == 1


@pytest.mark.parametrize(
    ("error", "use_permit", "state", "raised"),
    [
        (OutcomeUnknownError("no answer"), True, "unknown", OutcomeUnknownError),
        (RuntimeError(SECRET), True, "unknown", InternalError),
        (DownstreamUnavailableError("gone"), True, "failed", DownstreamUnavailableError),
        (AuditUnavailableError("no space"), False, "failed", AuditUnavailableError),
        (AuditUnavailableError("withheld"), True, "completed", AuditUnavailableError),
        (MaskingError("withheld"), True, "completed", MaskingError),
    ],
    ids=["unknown", "foreign error", "not sent", "not recorded before", "not recorded after", "not masked"],
)
async def test_what_an_execution_leaves_behind(
    tmp_path: Path,
    error: Exception,
    use_permit: bool,  # noqa: FBT001 - a column of the table
    state: str,
    raised: type[GuardError],
) -> None:
    """T16, T17: unknown unless it is provable; the fault is delivered and nothing is tried again."""
    async with Bench(tmp_path, fail=error, use_permit=use_permit).guard() as bench:
        approval_id = await approved(bench)
        assert await bench.until(approval_id, "unknown", "failed", "completed") == state
        with pytest.raises(raised) as caught:
            await bench.desk.wait(approval_id, ALICE, 1)
        await anyio.sleep(0.1)
    assert len(bench.effects) == 1
    assert SECRET not in str(caught.value)


async def test_an_approval_that_expires_between_claim_and_send_is_not_sent(tmp_path: Path) -> None:
    """Attack 24, T14, T15."""
    clock = FakeClock()
    bench = Bench(tmp_path, clock=clock, before_send=lambda: clock.advance(300))
    async with bench.guard():
        approval_id = await approved(bench)
        await bench.until(approval_id, "expired")
        with pytest.raises(ApprovalExpiredError, match="not carried out in time"):
            await bench.desk.wait(approval_id, ALICE, 1)
    assert bench.effects == []


async def test_a_cancel_while_executing_comes_too_late_and_the_result_is_kept(tmp_path: Path) -> None:
    """Attack 42."""
    bench = Bench(tmp_path, gate=anyio.Event())
    async with bench.guard():
        approval_id = await approved(bench)
        await bench.until(approval_id, "executing")
        with pytest.raises(AlreadyDecidedError, match="executing"):
            await bench.review.cancel(approval_id, LOCAL_ALICE)
        assert bench.gate is not None
        bench.gate.set()
        answer = await bench.desk.wait(approval_id, ALICE, 5)
    assert isinstance(answer, Answer)
    assert len(bench.effects) == 1


async def test_a_guard_that_stops_while_executing_says_unknown(tmp_path: Path) -> None:
    """T17: sent, and nobody knows."""
    bench = Bench(tmp_path, gate=anyio.Event())
    async with bench.guard():
        approval_id = await approved(bench)
        with anyio.fail_after(5):
            await bench.sent.wait()
    async with Bench(tmp_path).guard() as later:
        assert await later.state(approval_id) == "unknown"
        with pytest.raises(OutcomeUnknownError):
            await later.ask(call_of())
        assert isinstance(await later.ask(call_of()), Suspended)
    assert later.effects == []


async def test_an_approval_survives_a_restart_and_is_adopted(tmp_path: Path) -> None:
    """Attack 6: usable until use_by, by a guard of the same principal that serves the server."""
    async with Bench(tmp_path).guard(background=False) as first:
        approval_id = await approved(first)
    refusing = Bench(tmp_path, adopts=lambda _owner, _server: False)
    async with refusing.guard():
        await anyio.sleep(0.1)
        assert await refusing.state(approval_id) == "approved"
    owners: list[tuple[str, str]] = []

    def adopts(owner: str, server: str) -> bool:
        owners.append((owner, server))
        return True

    async with Bench(tmp_path, adopts=adopts).guard() as second:
        answer = await second.desk.wait(approval_id, ALICE, 5)
    assert isinstance(answer, Answer)
    assert owners == [(ALICE.key, "db")]
    assert (first.effects, refusing.effects, len(second.effects)) == ([], [], 1)
    assert second.audit.types()[:2] == ["approval.requested", "approval.decision"]


async def test_a_request_of_a_living_guard_is_left_alone(tmp_path: Path) -> None:
    """D35: the guard that holds it runs it; another one that attaches gets the outcome."""
    async with Bench(tmp_path).guard() as first, Bench(tmp_path).guard() as second:
        approval_id = await ticket(first)
        await first.review.decide(approval_id, "approve", LOCAL_ALICE)
        answer = await second.desk.wait(approval_id, ALICE, 5)
    assert isinstance(answer, Answer)
    assert (len(first.effects), second.effects) == (1, [])


async def test_a_clock_set_back_revives_nothing(tmp_path: Path) -> None:
    """Attack 23."""
    clock = FakeClock()
    async with Bench(tmp_path, clock=clock).guard() as bench:
        approval_id = await ticket(bench)
        clock.advance(900)
        await bench.until(approval_id, "expired")
        clock.jump(-3600)
        with pytest.raises(ApprovalExpiredError):
            await bench.review.decide(approval_id, "approve", LOCAL_ALICE)
    late = FakeClock(clock.now_ns())
    async with Bench(tmp_path, clock=late).guard() as again:
        fresh = await ticket(again)
        late.advance(900)
        await again.until(fresh, "expired")
    assert bench.effects == again.effects == []


async def test_a_changed_policy_voids_the_open_request_and_asks_anew(tmp_path: Path) -> None:
    """S10, T12."""
    async with Bench(tmp_path).guard() as bench:
        old = await ticket(bench)
        new = await bench.ask(call_of(), decision=changes(decision_of()))
        assert isinstance(new, Suspended)
        states = await bench.state(old), await bench.state(new.approval_id)
    assert states == ("invalidated", "pending")


async def test_live_calls_are_known_to_recovery(tmp_path: Path) -> None:
    """D26: call.interrupted only where no live approval row exists."""
    async with Bench(tmp_path).guard() as bench:
        call = call_of()
        await bench.ask(call)
        live = await bench.desk.live_call_ids()
        await bench.review.cancel((await bench.review.list_requests())[0].row.id, LOCAL_ALICE)
        after = await bench.desk.live_call_ids()
    assert (live, after) == (frozenset({call.call_id}), frozenset())


async def test_a_store_that_fails_stops_nothing_but_the_round(tmp_path: Path) -> None:
    """S5, security.md F11: while the store is locked nothing runs, afterwards it does."""
    async with Bench(tmp_path).guard(background=False) as bench, anyio.create_task_group() as group:
        approval_id = await approved(bench)
        lock = FileLock(bench.db.path.with_name("approvals.db.lock"))
        assert lock.try_acquire()
        await group.start(bench.desk.run, bench.execute)
        with pytest.raises(StoreUnavailableError):
            await bench.ask(call_of({"table": "other"}))
        held = list(bench.effects)
        lock.release()
        await bench.until(approval_id, "completed")
        group.cancel_scope.cancel()
    assert held == []
    assert len(bench.effects) == 1
