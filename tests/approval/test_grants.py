"""Standing grants: given with an approval, used exactly so often, revocable, worthless when written by hand."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from multiprocessing.context import BaseContext
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.clock import SystemClock
from mcp_guard.errors import (
    ApprovalDeniedError,
    ApprovalExpiredError,
    AuditUnavailableError,
    NotEligibleError,
    UnknownApprovalError,
    UsageError,
)
from mcp_guard.model import (
    Answer,
    Assurance,
    Call,
    Principal,
    Risk,
    Suspended,
)
from mcp_guard.question import AskClient, Prompt, PromptAnswer
from tests.approval import granting as processes_of
from tests.approval.bench import BOB, LOCAL_ALICE, Bench, TestFront, eventually
from tests.approval.granting import ask, grant, granting, outside, wide, write
from tests.fakes import FakeClock


async def test_a_grant_lets_fitting_calls_through_and_asks_again_after_its_last_use(tmp_path: Path) -> None:
    """S13, T2, attack 36: the approved call is no use of it."""
    async with wide(Bench(tmp_path)).guard() as bench:
        await grant(bench)
        ran = [await bench.ask(write(f"{n}"), decision=granting(hold_s=5)) for n in range(3)]
        fourth = await bench.ask(write("fourth"), decision=granting())
        shown = await bench.review.list_grants(active_only=False)
        decided = [request.row.decided_by for request in await bench.store.requests()]
    assert all(isinstance(answer, Answer) for answer in ran)
    assert isinstance(fourth, Suspended)
    assert [effect["content"] for effect in bench.effects] == ["first", "0", "1", "2"]
    assert [(g.uses, g.max_uses, g.state, g.by) for g in shown] == [(3, 3, "used_up", "alice")]
    assert decided == ["", *[f"grant {shown[0].id}"] * 3, "alice"]


@pytest.mark.parametrize(
    "call",
    [
        write("../outside"),
        write("other", definition_digest="d2"),
        write("other", server_identity="i2"),
        write("other", principal=Principal("os", "eve")),
        outside(),
    ],
    ids=["path", "definition", "identity", "requester", "folder"],
)
async def test_a_call_that_does_not_fit_is_asked_for(tmp_path: Path, call: Call) -> None:
    """Attack 36: requester, server, definition and bounds."""
    async with wide(Bench(tmp_path)).guard() as bench:
        await grant(bench)
        got = await bench.ask(call, decision=granting())
    assert isinstance(got, Suspended)
    assert got.state == "pending"
    assert len(bench.effects) == 1


async def test_a_policy_that_changed_ends_the_grant(tmp_path: Path) -> None:
    """S10: also for a call that the grant let through and that has not run yet."""
    async with wide(Bench(tmp_path)).guard() as bench:
        await grant(bench)
        changed = await bench.ask(write("a"), decision=replace(granting(), policy_digest="p2"))
        bench.today = lambda _decision: replace(granting(), policy_digest="p2")
        with pytest.raises(ApprovalExpiredError, match="the policy has changed"):
            await bench.ask(write("b"), decision=granting(hold_s=5))
    assert isinstance(changed, Suspended)
    assert changed.state == "pending"
    assert len(bench.effects) == 1


async def test_a_grant_ends_with_its_time_whatever_the_wall_clock_does(tmp_path: Path) -> None:
    """Attack 23, 36: the clock of the store never runs backwards."""
    clock = FakeClock()
    async with wide(Bench(tmp_path, clock=clock)).guard() as bench:
        await grant(bench)
        clock.advance(899)
        before = await bench.ask(write("a"), decision=granting(hold_s=5))
        clock.advance(2)
        after = await bench.ask(write("b"), decision=granting())
        clock.jump(-10_000)
        later = await bench.ask(write("c"), decision=granting())
        states = [found.state for found in await bench.review.list_grants(active_only=False)]
    assert isinstance(before, Answer)
    assert isinstance(after, Suspended)
    assert isinstance(later, Suspended)
    assert states == ["expired"]


async def test_a_grant_survives_a_restart(tmp_path: Path) -> None:
    """docs/grants.md: it lies in the store, not in a process."""
    async with wide(Bench(tmp_path)).guard() as bench:
        await grant(bench)
    async with wide(Bench(tmp_path)).guard() as again:
        assert isinstance(await again.ask(write("a"), decision=granting(hold_s=5)), Answer)


async def test_a_revoked_grant_lets_nothing_through(tmp_path: Path) -> None:
    """S13: revoking needs no token, holds at once, and also for what was let through and has not been sent."""
    async with wide(Bench(tmp_path)).guard(background=False) as bench:
        first = await ask(bench, write("first"))
        await bench.review.decide(first, "approve", LOCAL_ALICE, grant=1)
        waiting = await ask(bench, write("a"))
        assert await bench.state(waiting) == "approved"
        grant_id = (await bench.review.list_grants())[0].id
        revoked = await bench.review.revoke_grant(grant_id, Reviewer("anybody", Assurance.A1, "cli"))
        again = await bench.review.revoke_grant(grant_id, LOCAL_ALICE)
        assert await bench.review.list_grants() == []
    async with wide(Bench(tmp_path)).guard() as bench:
        assert await bench.until(waiting, "invalidated") == "invalidated"
        asked = await bench.ask(write("b"), decision=granting())
        with pytest.raises(UnknownApprovalError):
            await bench.review.revoke_grant("grt_none", LOCAL_ALICE)
    assert (revoked.state, again.revoked_ns) == ("revoked", revoked.revoked_ns)
    assert isinstance(asked, Suspended)
    assert "a" not in [effect["content"] for effect in bench.effects]


async def test_a_denied_call_stays_denied_under_a_grant(tmp_path: Path) -> None:
    """S16 outranks a grant."""
    async with wide(Bench(tmp_path)).guard() as bench:
        denied = await ask(bench, write("a"))
        await bench.review.decide(denied, "deny", LOCAL_ALICE, "not this file")
        await grant(bench)
        with pytest.raises(ApprovalDeniedError, match="not this file"):
            await bench.ask(write("a"), decision=granting())
    assert len(bench.effects) == 1


async def test_pending_calls_that_a_new_grant_covers_go_at_once(tmp_path: Path) -> None:
    """S16, attack 33: none asked twice, and uses are counted; what does not fit goes on waiting."""
    async with wide(Bench(tmp_path)).guard() as bench:
        fitting = [await ask(bench, write(f"{n}")) for n in range(5)]
        elsewhere = await ask(bench, outside())
        await bench.review.decide(fitting[0], "approve", LOCAL_ALICE, grant=1)
        for approval_id in fitting[1:4]:
            assert await bench.until(approval_id, "completed") == "completed"
        states = [await bench.state(approval_id) for approval_id in (fitting[4], elsewhere)]
        shown = await bench.review.show(fitting[4])
    assert states == ["pending", "pending"]
    assert len(bench.effects) == 4
    assert shown.others == 1


async def test_equal_calls_are_counted_on_one_card(tmp_path: Path) -> None:
    """S7, S16: the card says how many ask."""
    async with Bench(tmp_path).guard() as bench:
        ids = {await ask(bench, write("a")) for _ in range(3)}
        shown = await bench.review.show(ids.pop())
    assert (ids, shown.request.calls) == (set(), 3)


async def test_calls_at_the_same_time_get_exactly_the_uses_there_are(tmp_path: Path) -> None:
    """Attack 36: parallel."""
    async with wide(Bench(tmp_path, max_open=100)).guard() as bench:
        await grant(bench)
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(ask, bench, write(f"{number}"))

        async def done() -> bool:
            return len(bench.effects) >= 4

        await eventually(done)
        states = [request.row.state.value for request in await bench.store.requests()]
    assert states.count("pending") == 17
    assert len(bench.effects) == 4


async def test_two_processes_get_exactly_the_uses_there_are(tmp_path: Path) -> None:
    """Attack 36: parallel, over processes."""
    async with wide(Bench(tmp_path, clock=SystemClock(), max_open=100)).guard(background=False) as bench:
        first = await ask(bench, write("first"))
        await bench.review.decide(first, "approve", LOCAL_ALICE, grant=1)
    told = await anyio.to_thread.run_sync(race, _processes(), tmp_path)
    assert sum(told) == 3


def _processes() -> BaseContext:
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if forks else "spawn")


def race(processes: BaseContext, folder: Path) -> list[int]:
    pipes = []
    for number in range(2):
        here, there = multiprocessing.Pipe()
        child = processes.Process(target=processes_of.use_grant, args=(folder, number, there))  # type: ignore[attr-defined]
        child.start()
        pipes.append((here, child))
    for here, _ in pipes:
        here.recv()
    for here, _ in pipes:
        here.send("go")
    told = [int(here.recv()) for here, _ in pipes]
    for here, child in pipes:
        child.join()
        here.close()
    return told


async def test_a_guard_that_died_between_grant_and_send_sends_once(tmp_path: Path) -> None:
    """Attack 7, S4, I1: the use is the same after the restart."""
    processes = _processes()
    async with wide(Bench(tmp_path, clock=SystemClock())).guard(background=False) as bench:
        first = await ask(bench, write("first"))
        await bench.review.decide(first, "approve", LOCAL_ALICE, grant=1)
    here, there = multiprocessing.Pipe()
    child = processes.Process(target=processes_of.take_use, args=(tmp_path, there))  # type: ignore[attr-defined]
    child.start()
    taken = await anyio.to_thread.run_sync(here.recv)
    child.kill()
    child.join()
    here.close()
    async with wide(Bench(tmp_path, clock=SystemClock())).guard() as last:
        assert await last.until(taken, "completed") == "completed"
        grants = await last.review.list_grants(active_only=False)
    assert last.ran.count(taken) == 1
    assert grants[0].uses == 1


# -- giving ------------------------------------------------------------------------------------------------------


async def test_a_grant_that_is_not_offered_is_not_given_and_nothing_is_decided(tmp_path: Path) -> None:
    """S13: only scopes that the rule offers."""
    async with Bench(tmp_path).guard() as bench:
        approval = await ask(bench, write("a"))
        for index in (2, -1, 99):
            with pytest.raises(UsageError):
                await bench.review.decide(approval, "approve", LOCAL_ALICE, grant=index)
        with pytest.raises(UsageError):
            await bench.review.decide(approval, "deny", LOCAL_ALICE, grant=0)
        assert await bench.state(approval) == "pending"
        assert await bench.review.list_grants(active_only=False) == []
    assert bench.effects == []


async def test_in_team_mode_a_grant_takes_the_reviewer_that_an_approval_takes(tmp_path: Path) -> None:
    """S9: A2 and another person, for the grant and for each use of it."""
    async with Bench(tmp_path, mode="team").guard() as bench:
        wide(bench)
        await bench.review.add_reviewer("bob", user="", tty=False, token=None)
        first = await ask(bench, write("first"))
        for reviewer in (LOCAL_ALICE, Reviewer("alice", Assurance.A2, "cli")):
            with pytest.raises(NotEligibleError):
                await bench.review.decide(first, "approve", reviewer, grant=1)
        assert await bench.review.list_grants() == []
        await bench.review.decide(first, "approve", BOB, grant=1)
        got = await bench.ask(write("a"), decision=granting(hold_s=5))
    assert isinstance(got, Answer)


async def test_a_grant_of_lower_assurance_covers_no_call_that_demands_more(tmp_path: Path) -> None:
    """S9, S14 of docs/security.md."""
    async with wide(Bench(tmp_path)).guard() as bench:
        await bench.review.add_reviewer("bob", user="", tty=False, token=None)
        await grant(bench)
        got = await bench.ask(write("a"), decision=granting(min_assurance=Assurance.A2))
    assert isinstance(got, Suspended)
    assert (got.state, len(bench.effects)) == ("pending", 1)


async def test_the_form_gives_a_grant_with_the_approval(tmp_path: Path) -> None:
    """docs/grants.md: one more choice for each offer; the fingerprint is typed as for any approval."""
    front = TestFront(can_prompt=True, answer=lambda p: PromptAnswer("approve", fingerprint=p.fingerprint, grant=1))
    async with wide(Bench(tmp_path)).guard() as bench:
        await bench.ask(write("first"), front, granting(hold_s=5))
        second = await bench.ask(write("second"), TestFront(can_prompt=True), granting(hold_s=5))
    lines = dict(front.asked[0].grants)
    assert isinstance(second, Answer)
    whom = "for every program that runs as alice"
    same = "exactly this call, up to 2 more times within 15 minutes"
    assert lines[0] == f"{same} (every argument stays the same; {whom})"
    assert lines[1].endswith(f"(path: inside /srv/work/notes/; may differ: content; {whom})")


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_grant_that_the_form_did_not_show_is_not_given_by_it(tmp_path: Path, era: str) -> None:
    """Attack 30: it was left out because it could not be shown whole; nothing is decided."""

    def second(prompt: Prompt) -> PromptAnswer:
        return PromptAnswer("approve", fingerprint=prompt.fingerprint, grant=1)

    call = outside("/srv/work/" + "deep/" * 60 + "a.txt")
    front = TestFront(era="modern" if era == "modern" else "legacy", can_prompt=True, answer=second)
    async with wide(Bench(tmp_path)).guard() as bench:
        got = await bench.ask(call, front, granting(hold_s=0.2))
        if isinstance(got, AskClient):
            back = replace(front, resumed=(got.prompt.approval_id, second(got.prompt)))
            front.asked.append(got.prompt)
            got = await bench.ask(call, back, granting(hold_s=0.2))
        assert await bench.review.list_grants(active_only=False) == []
    assert isinstance(got, Suspended)
    assert [index for index, _ in front.asked[0].grants] == [0]
    assert (got.state, bench.effects) == ("pending", [])


async def test_a_form_without_the_fingerprint_gives_no_grant(tmp_path: Path) -> None:
    """docs/approvals.md: high risk is typed."""
    front = TestFront(can_prompt=True, answer=lambda _p: PromptAnswer("approve", grant=0))
    async with Bench(tmp_path).guard() as bench:
        got = await bench.ask(write("a"), front, replace(granting(hold_s=0.2), risk=Risk.HIGH))
        assert await bench.review.list_grants(active_only=False) == []
    assert isinstance(got, Suspended)
    assert bench.effects == []


# -- the record --------------------------------------------------------------------------------------------------


async def test_giving_using_and_revoking_are_recorded_with_the_id_of_the_grant(tmp_path: Path) -> None:
    """S13, D26: given before used, each use with its number, by whom it was revoked."""
    async with wide(Bench(tmp_path)).guard() as bench:
        grant_id = await grant(bench)
        used = await ask(bench, write("a"), granting(hold_s=5))
        await bench.review.revoke_grant(grant_id, LOCAL_ALICE)

        async def recorded() -> bool:
            return "grant.revoked" in bench.audit.types()

        await eventually(recorded)
    found = [record for record in bench.audit.records if record.type.startswith("grant.")]
    assert [record.type for record in found] == ["grant.created", "grant.used", "grant.revoked"]
    assert {record.fields["grant"] for record in found} == {grant_id}
    assert (found[0].actor, found[0].fields["separation"], found[0].fields["max_uses"]) == ("alice", "none", 3)
    assert (found[1].fields["approval"], found[1].fields["use"]) == (used, 1)
    assert found[0].payloads["bounds"].value == {
        "shown": ["path: inside /srv/work/notes/", "may differ: content", "for every program that runs as alice"],
        "roots": {"/path": ["/srv/work/notes"]},
    }
    assert found[2].actor == "alice"
    how = [found[2].fields[name] for name in ("channel", "assurance", "separation")]
    assert how == ["cli", "A1", "none"]
    requested = [r.fields["approval"] for r in bench.audit.records if r.type == "approval.requested"]
    assert used in requested


async def test_what_nobody_gave_is_recorded_as_unverified(tmp_path: Path) -> None:
    """Rows can be written by others: the record repeats nothing of them."""
    async with wide(Bench(tmp_path)).guard() as bench:
        await grant(bench)
        await bench.sql("UPDATE standing_grant SET created_recorded = 0, tool = 'canary'")
        pending = await ask(bench, write("b"))
        await bench.sql(
            "INSERT INTO event(approval, at_ns, transition, old, new, actor, detail)"
            " VALUES (?, 1, 'T2', 'pending', 'approved', 'guard', '{\"grant\":\"canary\",\"use\":1}')",
            pending,
        )
        await bench.sql("INSERT INTO outbox SELECT max(seq), ?, NULL FROM event", pending)

        async def recorded() -> bool:
            return {"grant.unverified", "approval.unverified"} <= set(bench.audit.types())

        await eventually(recorded)
    assert "canary" not in repr(bench.audit.records)


async def test_nothing_granted_runs_while_the_record_of_the_grant_cannot_be_written(tmp_path: Path) -> None:
    """D26, S5: what cannot be recorded is not done."""
    bench = wide(Bench(tmp_path))
    bench.audit.broken["grant.created"] = AuditUnavailableError("full")
    async with bench.guard():
        first = await ask(bench, write("first"))
        await bench.review.decide(first, "approve", LOCAL_ALICE, grant=1)
        second = await ask(bench, write("second"), granting(hold_s=0.3))
        states = [await bench.state(approval_id) for approval_id in (first, second)]
        effects = [*bench.effects]
        bench.audit.broken.clear()
        assert await bench.until(second, "completed") == "completed"
    assert (states, effects) == (["approved", "approved"], [])
