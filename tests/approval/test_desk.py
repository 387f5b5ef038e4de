"""The desk: attach, wait, deliver (docs/approvals.md, decisions.md D6, D35)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_guard.errors import (
    ApprovalDeniedError,
    ApprovalExpiredError,
    NoEligibleReviewerError,
    OverloadedError,
    UnknownApprovalError,
)
from mcp_guard.model import (
    Answer,
    Principal,
    Risk,
    Suspended,
)
from mcp_guard.question import AskClient, Prompt, PromptAnswer
from tests.approval.bench import ALICE, BOB, LOCAL_ALICE, SECRET, Bench, TestFront, call_of, decision_of, eventually
from tests.fakes import FakeClock


def yes(prompt: Prompt) -> PromptAnswer:
    return PromptAnswer("approve", fingerprint=prompt.fingerprint)


async def test_a_call_becomes_a_ticket_and_the_same_call_again_attaches(tmp_path: Path) -> None:
    """S7, I6: no second row for an identical call."""
    async with Bench(tmp_path).guard() as bench:
        first, second = await bench.ask(call_of()), await bench.ask(call_of())
        other = await bench.ask(call_of({"table": "orders"}))
        rows = await bench.store.requests()
    assert isinstance(first, Suspended)
    assert isinstance(second, Suspended)
    assert isinstance(other, Suspended)
    assert first.approval_id == second.approval_id != other.approval_id
    assert (first.state, first.needs) == ("pending", "one reviewer (A1)")
    assert len(rows) == 2
    assert bench.effects == []


async def test_an_approval_from_elsewhere_runs_the_held_call_and_answers_it(tmp_path: Path) -> None:
    """D35: once approved, the action proceeds."""
    async with Bench(tmp_path).guard() as bench, anyio.create_task_group() as group:
        got: list[object] = []

        async def client() -> None:
            got.append(await bench.ask(call_of(), decision=decision_of(hold_s=10)))

        group.start_soon(client)

        async def asked() -> bool:
            return bool(await bench.review.list_requests())

        await eventually(asked)
        pending = await bench.review.list_requests()
        await bench.review.decide(pending[0].row.id, "approve", LOCAL_ALICE)
    assert isinstance(got[0], Answer)
    assert got[0].approval_id == pending[0].row.id
    assert bench.effects == [{"table": "users", "token": SECRET}]


async def test_a_form_answered_with_approve_runs_the_call(tmp_path: Path) -> None:
    """D6, older era; T4 by the requester's own client is A1 with separation none."""
    front = TestFront(can_prompt=True, answer=yes)
    async with Bench(tmp_path).guard() as bench:
        answer = await bench.ask(call_of(), front, decision_of(hold_s=5))
        assert isinstance(answer, Answer)
        await bench.until(answer.approval_id or "", "completed")
    record = next(r for r in bench.audit.records if r.type == "approval.decision")
    assert len(bench.effects) == 1
    assert (record.fields["assurance"], record.fields["separation"]) == ("A1", "none")
    assert SECRET not in repr(bench.audit.records)


async def test_a_form_answered_with_deny_refuses_and_blocks_the_same_call_for_ten_minutes(tmp_path: Path) -> None:
    """T5, S16."""
    clock = FakeClock()
    front = TestFront(can_prompt=True, answer=lambda _p: PromptAnswer("deny", "not today"))
    async with Bench(tmp_path, clock=clock).guard() as bench:
        with pytest.raises(ApprovalDeniedError, match=r"alice denied the request apr_.*: not today"):
            await bench.ask(call_of(), front, decision_of(hold_s=5))
        with pytest.raises(ApprovalDeniedError):
            await bench.ask(call_of())
        clock.advance(601)
        again = await bench.ask(call_of())
    assert isinstance(again, Suspended)
    assert bench.effects == []


@pytest.mark.parametrize(
    ("answer", "forms"),
    [(PromptAnswer("dismissed"), 1), (PromptAnswer("approve"), 4), (PromptAnswer("approve", "", "AAAA-AAAA"), 4)],
    ids=["dismissed", "fingerprint not typed", "fingerprint wrong"],
)
async def test_an_answer_that_is_no_approval_leaves_the_request_pending(
    tmp_path: Path, answer: PromptAnswer, forms: int
) -> None:
    """D6; a high risk must be typed."""
    front = TestFront(can_prompt=True, answer=lambda _p: answer)
    async with Bench(tmp_path).guard() as bench:
        got = await bench.ask(call_of(), front, replace(decision_of(hold_s=0.2), risk=Risk.HIGH))
    assert isinstance(got, Suspended)
    assert (got.state, bench.effects, len(front.asked)) == ("pending", [], forms)


async def test_a_client_that_breaks_while_asked_has_not_answered(tmp_path: Path) -> None:
    """S5: default deny."""

    def broken(_prompt: Prompt) -> PromptAnswer:
        raise RuntimeError(SECRET)

    async with Bench(tmp_path).guard() as bench:
        got = await bench.ask(call_of(), TestFront(can_prompt=True, answer=broken), decision_of(hold_s=0.2))
    assert isinstance(got, Suspended)
    assert bench.effects == []


async def test_the_form_is_withdrawn_when_somebody_else_decides(tmp_path: Path) -> None:
    """D6: prompt and other channels race, the first decision wins."""
    front = TestFront(can_prompt=True)
    async with Bench(tmp_path).guard() as bench, anyio.create_task_group() as group:
        got: list[object] = []

        async def client() -> None:
            got.append(await bench.ask(call_of(), front, decision_of(hold_s=10)))

        group.start_soon(client)
        with anyio.fail_after(5):
            await front.shown.wait()
        await bench.review.decide(front.asked[0].approval_id, "approve", LOCAL_ALICE)
    assert isinstance(got[0], Answer)
    assert front.withdrawn == 1
    assert front.messages[0] == f"waiting for approval {front.asked[0].approval_id}"


async def test_a_modern_client_is_asked_and_its_answer_taken_once(tmp_path: Path) -> None:
    """decisions.md D6: a replayed answer is consumed once and gives the stored outcome."""
    async with Bench(tmp_path).guard() as bench:
        asked = await bench.ask(call_of(), TestFront(era="modern", can_prompt=True))
        assert isinstance(asked, AskClient)
        back = TestFront(era="modern", can_prompt=True, resumed=(asked.prompt.approval_id, yes(asked.prompt)))
        answers = [await bench.ask(call_of(), back) for _ in range(3)]
    assert all(isinstance(answer, Answer) for answer in answers)
    assert len(bench.effects) == 1


async def test_equal_calls_at_the_same_time_show_one_form(tmp_path: Path) -> None:
    """S16: one request, one question; the others wait for the same answer."""
    fronts = [TestFront(can_prompt=True) for _ in range(3)]
    async with Bench(tmp_path).guard() as bench, anyio.create_task_group() as group:
        for front in fronts:
            group.start_soon(bench.ask, call_of(), front, decision_of(hold_s=5))

        async def asked() -> bool:
            return (await bench.review.list_requests())[0].calls == 3 and any(front.asked for front in fronts)

        await eventually(_there(bench))
        await eventually(asked)
        (request,) = await bench.review.list_requests()
        await bench.review.decide(request.row.id, "approve", LOCAL_ALICE)
    assert sum(len(front.asked) for front in fronts) == 1
    assert len(bench.effects) == 1


def _there(bench: Bench) -> Callable[[], Awaitable[bool]]:
    async def there() -> bool:
        return bool(await bench.review.list_requests())

    return there


async def test_a_form_that_was_dismissed_is_not_shown_again_for_this_request(tmp_path: Path) -> None:
    """S16: an agent that repeats its call cannot wear a person down; the request goes on waiting."""
    front = TestFront(can_prompt=True, answer=lambda _p: PromptAnswer("dismissed"))
    async with Bench(tmp_path).guard() as bench:
        got = [await bench.ask(call_of(), front) for _ in range(3)]
        other = await bench.ask(call_of({"table": "other"}), front)
    assert len(front.asked) == 2
    assert all(isinstance(one, Suspended) and one.state == "pending" for one in [*got, other])


async def test_a_form_that_was_withdrawn_unanswered_may_be_shown_with_the_next_equal_call(tmp_path: Path) -> None:
    """S16: nobody said anything yet; also where the client left, and where the fingerprint was mistyped."""
    front = TestFront(can_prompt=True)
    mistyped = TestFront(can_prompt=True, answer=lambda _p: PromptAnswer("approve", fingerprint="AAAA-AAAA"))
    terms = replace(decision_of(), risk=Risk.HIGH)
    async with Bench(tmp_path).guard() as bench:
        await bench.ask(call_of(), front, terms)
        with anyio.move_on_after(0.1):
            await bench.ask(call_of(), front, replace(terms, terms=decision_of(hold_s=10).terms))
        await bench.ask(call_of(), mistyped, terms)
        await bench.ask(call_of(), front, terms)
    assert (len(front.asked), len(mistyped.asked)) == (3, 4)
    assert bench.effects == []


async def test_a_newer_client_is_asked_once_and_after_mistyped_fingerprints_again(tmp_path: Path) -> None:
    """S16, D6: an equal call without the state waits for the answer to the question that is open."""
    terms = replace(decision_of(), risk=Risk.HIGH)
    front = TestFront(era="modern", can_prompt=True)
    async with Bench(tmp_path).guard() as bench:
        asked = await bench.ask(call_of(), front, terms)
        assert isinstance(asked, AskClient)
        others = [await bench.ask(call_of(), front, terms) for _ in range(2)]
        wrong = (asked.prompt.approval_id, PromptAnswer("approve", fingerprint="AAAA-AAAA", again=3))
        await bench.ask(call_of(), TestFront(era="modern", can_prompt=True, resumed=wrong), terms)
        again = await bench.ask(call_of(), front, terms)
    assert all(isinstance(one, Suspended) for one in others)
    assert isinstance(again, AskClient)
    assert again.prompt.approval_id == asked.prompt.approval_id
    assert bench.effects == []


async def test_a_decision_made_elsewhere_is_honoured_when_the_modern_client_returns(tmp_path: Path) -> None:
    """D6."""
    async with Bench(tmp_path).guard() as bench:
        asked = await bench.ask(call_of(), TestFront(era="modern", can_prompt=True))
        assert isinstance(asked, AskClient)
        await bench.review.decide(asked.prompt.approval_id, "approve", LOCAL_ALICE)
        answer = await bench.ask(call_of(), TestFront(era="modern", can_prompt=True), decision_of(hold_s=5))
    assert isinstance(answer, Answer)


async def test_an_answer_for_other_arguments_or_of_another_owner_is_not_taken(tmp_path: Path) -> None:
    """Attacks 1, 4, 5: state is bound to owner and arguments; anything else is a new question."""
    async with Bench(tmp_path).guard() as bench:
        asked = await bench.ask(call_of(), TestFront(era="modern", can_prompt=True))
        assert isinstance(asked, AskClient)
        stolen = TestFront(era="modern", can_prompt=True, resumed=(asked.prompt.approval_id, yes(asked.prompt)))
        changed = await bench.ask(call_of({"table": "all"}), stolen)
        mallory = await bench.ask(call_of(principal=Principal("os", "mallory")), stolen)
        invented = await bench.ask(
            call_of({"table": "x"}),
            TestFront(era="modern", can_prompt=True, resumed=("apr_none", PromptAnswer("approve"))),
        )
        state = await bench.state(asked.prompt.approval_id)
    new = [other.prompt.approval_id for other in (changed, mallory, invented) if isinstance(other, AskClient)]
    assert len({asked.prompt.approval_id, *new}) == 4
    assert (state, bench.effects) == ("pending", [])


async def test_a_client_that_leaves_loses_nothing(tmp_path: Path) -> None:
    """docs/approvals.md: the human is not awaited inside the handler; the outcome is kept and delivered once (D35)."""
    async with Bench(tmp_path).guard() as bench:
        with anyio.move_on_after(0.1):
            await bench.ask(call_of(), decision=decision_of(hold_s=10))
        (pending,) = await bench.review.list_requests()
        await bench.review.decide(pending.row.id, "approve", LOCAL_ALICE)
        await bench.until(pending.row.id, "completed")
        first = await bench.ask(call_of())
        second = await bench.ask(call_of())
        by_ticket = await bench.desk.wait(pending.row.id, ALICE, 1)
    assert isinstance(first, Answer)
    assert isinstance(second, Suspended)
    assert second.approval_id != pending.row.id
    assert isinstance(by_ticket, Answer)
    assert len(bench.effects) == 1


async def test_a_ticket_serves_its_owner_only(tmp_path: Path) -> None:
    """guard_approval_wait: own requests only."""
    async with Bench(tmp_path).guard() as bench:
        ticket = await bench.ask(call_of())
        assert isinstance(ticket, Suspended)
        waiting = await bench.desk.wait(ticket.approval_id, ALICE, 0.05)
        with pytest.raises(UnknownApprovalError):
            await bench.desk.wait(ticket.approval_id, Principal("os", "mallory"), 0.05)
        with pytest.raises(UnknownApprovalError):
            await bench.desk.wait("apr_none", ALICE, 0.05)
    assert isinstance(waiting, Suspended)


async def test_on_pickup_runs_only_when_a_call_attaches(tmp_path: Path) -> None:
    """D35."""
    async with Bench(tmp_path).guard() as bench:
        ticket = await bench.ask(call_of(), decision=decision_of(run="on_pickup"))
        assert isinstance(ticket, Suspended)
        await bench.review.decide(ticket.approval_id, "approve", LOCAL_ALICE)
        await anyio.sleep(0.1)
        before = list(bench.effects)
        answer = await bench.desk.wait(ticket.approval_id, ALICE, 5)
    assert before == []
    assert isinstance(answer, Answer)
    assert len(bench.effects) == 1


async def test_a_request_nobody_decides_expires_and_is_not_called_denied(tmp_path: Path) -> None:
    """S5, T10."""
    clock = FakeClock()
    async with Bench(tmp_path, clock=clock).guard() as bench:
        ticket = await bench.ask(call_of())
        assert isinstance(ticket, Suspended)
        clock.advance(900)
        with pytest.raises(ApprovalExpiredError, match="nobody decided"):
            await bench.desk.wait(ticket.approval_id, ALICE, 5)
        await bench.until(ticket.approval_id, "expired")
    assert bench.effects == []


async def test_more_open_requests_than_allowed_are_refused(tmp_path: Path) -> None:
    """S16."""
    async with Bench(tmp_path, max_open=2).guard() as bench:
        for table in ("a", "b"):
            await bench.ask(call_of({"table": table}))
        with pytest.raises(OverloadedError):
            await bench.ask(call_of({"table": "c"}))


async def test_what_nobody_could_approve_is_refused_at_once(tmp_path: Path) -> None:
    """D25: critical without an A2 channel; nothing is stored."""
    critical = replace(decision_of(), risk=Risk.CRITICAL, rule="default:critical")
    async with Bench(tmp_path).guard() as bench:
        with pytest.raises(NoEligibleReviewerError):
            await bench.ask(call_of(), TestFront(can_prompt=True, answer=yes), critical)
        rows = await bench.store.requests()
        await bench.review.reviewers.add("bob", by="test")
        front = TestFront(can_prompt=True, answer=yes)
        ticket = await bench.ask(call_of(), front, critical)
    assert rows == []
    assert isinstance(ticket, Suspended)
    assert (ticket.needs, front.asked) == ("one reviewer (A2)", [])


async def test_in_team_mode_the_requester_is_not_asked_and_another_decides(tmp_path: Path) -> None:
    """decisions.md D25."""
    async with Bench(tmp_path, mode="team").guard() as bench:
        await bench.review.reviewers.add("bob", by="test")
        front = TestFront(can_prompt=True, answer=yes)
        ticket = await bench.ask(call_of(), front)
        assert isinstance(ticket, Suspended)
        await bench.review.decide(ticket.approval_id, "approve", BOB)
        answer = await bench.desk.wait(ticket.approval_id, ALICE, 5)
    assert isinstance(answer, Answer)
    assert front.asked == []


async def test_a_commit_of_another_process_wakes_the_held_call_quickly(tmp_path: Path) -> None:
    """docs/approvals.md: data_version poll every 25 ms; here both connections are real, the bound is generous."""
    async with Bench(tmp_path).guard() as bench, Bench(tmp_path).guard(background=False) as other:
        ticket = await bench.ask(call_of())
        assert isinstance(ticket, Suspended)
        await other.review.decide(ticket.approval_id, "approve", LOCAL_ALICE)
        with anyio.fail_after(0.4):
            await bench.started.wait()
