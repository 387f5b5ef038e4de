"""Which ways of asking are used at a client, and what is remembered of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import pytest

from mcp_guard.approval.asking import Asking
from mcp_guard.approval.clients import Clients, Seen, seen_of
from mcp_guard.approval.transaction import fetch
from mcp_guard.errors import ApprovalDeniedError
from mcp_guard.model import (
    Answer,
    Assurance,
    Call,
    ClientInfo,
    Suspended,
)
from mcp_guard.question import AskClient, Prompt, PromptAnswer
from tests.approval.bench import ALICE, BOB, Bench, TestFront, call_of, decision_of
from tests.fakes import FakeClock

MUTE = ClientInfo("some-host", "1.0")
DESKTOP = ClientInfo("claude-ai", "0.1.0")
DAY_S = 86_400.0
NS = 1_000_000_000
PAGE = "http://127.0.0.1:8722/0123/requests/"


def client_call(client: ClientInfo | None, table: str = "users") -> Call:
    return call_of({"table": table}, principal=replace(ALICE, client=client))


def page(approval_id: str) -> str:
    return PAGE + approval_id


def opened(_prompt: object) -> PromptAnswer:
    return PromptAnswer("dismissed")


@dataclass
class Mute(TestFront):
    """A client that never draws a form: 45 s of the clock go by."""

    __test__ = False

    clock: FakeClock = field(default_factory=FakeClock)
    fails: bool = False

    async def ask(self, prompt: Prompt) -> PromptAnswer | None:
        self.clock.advance(45)
        if not self.fails:
            return await super().ask(prompt)
        self.asked.append(prompt)
        return None


async def seen_by(bench: Bench) -> list[Seen]:
    async with bench.db.read() as db:
        return [seen_of(row) for row in await fetch(db, "SELECT * FROM asked_client ORDER BY asked_ns DESC")]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_host_known_to_show_nothing_is_not_asked_and_nothing_runs(tmp_path: Path, era: str) -> None:
    """docs/decisions.md D6: "5 s for hosts known to show nothing"."""
    front = TestFront(era="modern" if era == "modern" else "legacy", can_prompt=True, can_open=True)
    async with Bench(tmp_path, page=page).guard() as bench:
        got = await bench.ask(client_call(DESKTOP), front)

        assert isinstance(got, Suspended)
        assert front.asked == []
        assert bench.effects == []


async def test_the_table_shortens_the_hold_and_never_lengthens_it(tmp_path: Path) -> None:
    """docs/decisions.md D6: `approvals.hold_s` stays the upper bound."""
    async with Bench(tmp_path).guard(background=False) as bench:
        clients = Clients(bench.db, bench.clock)

        assert (await clients.able(DESKTOP, TestFront(), 45)).hold_s == 5
        assert (await clients.able(DESKTOP, TestFront(), 2)).hold_s == 2
        assert (await clients.able(ClientInfo("codex-mcp-client", "1"), TestFront(), 300)).hold_s == 45
        assert (await clients.able(MUTE, TestFront(), 300)).hold_s == 300
        assert (await clients.able(None, TestFront(), 45)).hold_s == 45


async def test_a_client_that_never_answers_is_asked_twice_and_then_left_alone(tmp_path: Path) -> None:
    """docs/decisions.md D6: "skip the one that never does"."""
    clock = FakeClock()
    front = Mute(can_prompt=True, can_open=True, clock=clock)
    async with Bench(tmp_path, clock=clock, page=page).guard() as bench:
        for table in ("a", "b"):
            await bench.ask(client_call(MUTE, table), front)
        got = await bench.ask(client_call(MUTE, "c"), front)

        assert len(front.asked) == 2
        assert isinstance(got, Suspended)
        (seen,) = await seen_by(bench)
        assert (seen.client, seen.channel, seen.unanswered, seen.silent()) == (MUTE, "form", 2, True)
        able = await Clients(bench.db, bench.clock).able(MUTE, front, 45)
        assert (able.form, able.swallows) == (False, True)


async def test_the_call_of_a_silent_client_is_held_for_five_seconds_only(tmp_path: Path) -> None:
    """docs/decisions.md D6: the ticket comes soon, so that the agent can tell its user."""
    front = Mute(can_prompt=True)
    async with Bench(tmp_path, clock=front.clock).guard() as bench:
        for table in ("a", "b"):
            await bench.ask(client_call(MUTE, table), front)
        request = (await bench.review.list_requests())[0]
        question = await Asking(Clients(bench.db, bench.clock), "personal", None).question(request, MUTE, front, 45)

        assert (question.prompt, question.hold_s) == (None, 5)


async def test_another_version_of_a_silent_client_is_asked_afresh(tmp_path: Path) -> None:
    """docs/decisions.md D6: "per client and version"."""
    front = Mute(can_prompt=True)
    async with Bench(tmp_path, clock=front.clock).guard() as bench:
        for table in ("a", "b", "c"):
            await bench.ask(client_call(MUTE, table), front)
        await bench.ask(client_call(replace(MUTE, version="1.1"), "d"), front)

        assert len(front.asked) == 3


@pytest.mark.parametrize("answer", ["approve", "deny", "dismissed"])
async def test_once_a_day_a_silent_client_is_tried_again_and_one_answer_restores_it(
    tmp_path: Path, answer: str
) -> None:
    """docs/decisions.md D6: what was remembered can be wrong."""
    clock = FakeClock()
    front = Mute(can_prompt=True, clock=clock)
    async with Bench(tmp_path, clock=clock).guard() as bench:
        for table in ("a", "b"):
            await bench.ask(client_call(MUTE, table), front)
        clock.advance(DAY_S)
        front.answer = lambda _prompt: PromptAnswer(answer)  # type: ignore[arg-type]  # one of the three
        terms = decision_of(hold_s=0.1, expires_after_s=3600)
        with contextlib.suppress(ApprovalDeniedError):
            await bench.ask(client_call(MUTE, "c"), front, terms)
        front.answer = None
        for table in ("d", "e", "f"):
            await bench.ask(client_call(MUTE, table), front, terms)

        assert len(front.asked) == 6
        (seen,) = await seen_by(bench)
        assert seen.answered_ns is not None


async def test_a_client_whose_form_fails_has_not_answered(tmp_path: Path) -> None:
    """docs/decisions.md D6: an error is no answer of a person."""
    front = Mute(can_prompt=True, fails=True)
    async with Bench(tmp_path, clock=front.clock).guard() as bench:
        for table in ("a", "b", "c"):
            await bench.ask(client_call(MUTE, table), front)

        assert len(front.asked) == 2
        assert bench.effects == []


async def test_forms_that_were_open_together_are_one_miss(tmp_path: Path) -> None:
    """docs/decisions.md D6: somebody was away once, however many calls waited."""
    clock = FakeClock()
    async with Bench(tmp_path, clock=clock).guard(background=False) as bench:
        clients, opened = Clients(bench.db, clock), clock.now_ns()
        clock.advance(45)
        for _ in range(3):
            await clients.unanswered(MUTE, "form", opened)
            clock.advance(1)
        (one,) = await seen_by(bench)
        opened = clock.now_ns()
        clock.advance(45)
        await clients.unanswered(MUTE, "form", opened)
        (two,) = await seen_by(bench)

    assert (one.unanswered, two.unanswered) == (1, 2)


async def test_a_form_that_was_open_for_a_moment_is_no_miss(tmp_path: Path) -> None:
    """docs/decisions.md D6: with a short `hold_s` nobody had the time to answer."""
    front = TestFront(can_prompt=True)
    async with Bench(tmp_path, clock=FakeClock()).guard() as bench:
        for table in ("a", "b", "c"):
            await bench.ask(client_call(MUTE, table), front)

        assert len(front.asked) == 3
        assert await seen_by(bench) == []


async def test_a_memory_that_cannot_be_read_or_written_fails_no_call(tmp_path: Path) -> None:
    """docs/decisions.md D6: it is a hint, and nothing rests on it."""
    front = TestFront(can_prompt=True, answer=lambda p: PromptAnswer("approve", fingerprint=p.fingerprint))
    async with Bench(tmp_path).guard() as bench:
        await bench.sql("DROP TABLE asked_client")
        got = await bench.ask(client_call(MUTE), front, decision_of(hold_s=5))

    assert isinstance(got, Answer)
    assert len(bench.effects) == 1


async def test_an_answer_of_a_client_that_declares_no_forms_decides_nothing(tmp_path: Path) -> None:
    """docs/security.md S11: it was asked to open an address, and an address is not answered with yes."""
    async with Bench(tmp_path, page=page).guard() as bench:
        asked = await bench.ask(client_call(MUTE), TestFront(era="modern", can_open=True))
        assert isinstance(asked, AskClient)
        said = PromptAnswer("approve", fingerprint=asked.prompt.fingerprint, grant=0)
        back = TestFront(era="modern", can_open=True, resumed=(asked.prompt.approval_id, said))
        got = await bench.ask(client_call(MUTE), back)
        assert await bench.review.list_grants(active_only=False) == []

    assert isinstance(got, Suspended)
    assert (got.state, bench.effects) == ("pending", [])


async def test_a_decision_from_elsewhere_says_nothing_about_the_form(tmp_path: Path) -> None:
    """docs/decisions.md D6: only forms that stayed open for the whole hold count."""
    front = TestFront(can_prompt=True)
    async with Bench(tmp_path).guard() as bench, anyio.create_task_group() as group:

        async def approve() -> None:
            await front.shown.wait()
            await bench.review.decide(front.asked[0].approval_id, "approve", BOB)

        group.start_soon(approve)
        got = await bench.ask(client_call(MUTE), front, decision_of(hold_s=20))

        assert isinstance(got, Answer)
        assert await seen_by(bench) == []


async def test_a_newer_client_that_stays_away_is_found_silent_by_its_next_questions(tmp_path: Path) -> None:
    """docs/decisions.md D6: in the newer era the server cannot see that a form is ignored."""
    clock = FakeClock()
    front = TestFront(era="modern", can_prompt=True)
    async with Bench(tmp_path, clock=clock).guard() as bench:
        asked = []
        for table in ("a", "b", "c", "d"):
            asked.append(await bench.ask(client_call(MUTE, table), front))
            clock.advance(60)

        assert [isinstance(one, AskClient) for one in asked] == [True, True, True, False]


async def test_three_questions_at_once_do_not_make_a_newer_client_silent(tmp_path: Path) -> None:
    """docs/decisions.md D6: somebody who is still thinking has not failed to answer."""
    front = TestFront(era="modern", can_prompt=True)
    async with Bench(tmp_path).guard() as bench:
        asked = [await bench.ask(client_call(MUTE, table), front) for table in "abcd"]

        assert all(isinstance(one, AskClient) for one in asked)


async def test_the_answer_that_a_newer_client_brings_makes_it_a_working_one(tmp_path: Path) -> None:
    """docs/decisions.md D6: "remember per client and version which channel ever answered"."""
    front = TestFront(era="modern", can_prompt=True)
    async with Bench(tmp_path).guard() as bench:
        asked = await bench.ask(client_call(MUTE), front)
        assert isinstance(asked, AskClient)
        back = TestFront(era="modern", can_prompt=True, resumed=(asked.prompt.approval_id, PromptAnswer("dismissed")))
        await bench.ask(client_call(MUTE), back)

        (seen,) = await seen_by(bench)
        assert seen.answered_ns is not None


async def test_names_that_clients_make_up_do_not_fill_the_store(tmp_path: Path) -> None:
    """docs/security.md S16: a memory that strangers write to is bounded."""
    async with Bench(tmp_path).guard(background=False) as bench:
        clients = Clients(bench.db, bench.clock)
        await bench.sql(
            """WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 600)
               INSERT INTO asked_client SELECT 'n' || value, '1', 'form', 1, value, 0, NULL FROM n"""
        )
        await clients.unanswered(MUTE, "form", bench.clock.now_ns() - 45 * NS)

        assert len(await seen_by(bench)) == 500


async def test_the_page_is_offered_where_the_form_would_not_count(tmp_path: Path) -> None:
    """docs/security.md S19: the link carries no authority; accepting it approves nothing."""
    front = TestFront(can_prompt=True, can_open=True, answer=opened)
    async with Bench(tmp_path, page=page).guard() as bench:
        await bench.review.reviewers.add("bob", by="test")
        got = await bench.ask(client_call(MUTE), front, decision_of(min_assurance=Assurance.A2))

        assert isinstance(got, Suspended)
        (prompt,) = front.asked
        assert prompt.url == page(got.approval_id)
        assert "users" not in prompt.message
        assert bench.effects == []


async def test_the_page_is_offered_to_a_client_that_can_only_open_addresses(tmp_path: Path) -> None:
    """docs/decisions.md D6: every channel that the client has is used."""
    front = TestFront(can_open=True, answer=opened)
    async with Bench(tmp_path, page=page).guard() as bench, anyio.create_task_group() as group:

        async def decide() -> None:
            await front.shown.wait()
            await bench.review.decide(front.asked[0].approval_id, "approve", BOB)

        group.start_soon(decide)
        got = await bench.ask(client_call(MUTE), front, decision_of(hold_s=20))

        assert isinstance(got, Answer)
        assert front.over_ids == [front.asked[0].approval_id]


@pytest.mark.parametrize(
    ("mode", "served", "prompts"), [("team", PAGE, False), ("personal", "", False), ("personal", PAGE, True)]
)
async def test_whose_form_counts_or_who_may_not_decide_is_not_sent_to_the_page(
    tmp_path: Path, mode: str, served: str, prompts: object
) -> None:
    """docs/approvals.md S9: a requester in team mode decides nothing, wherever."""
    front = TestFront(can_prompt=bool(prompts), can_open=True)
    bench = Bench(tmp_path, page=page if served else None, mode="team" if mode == "team" else "personal")
    async with bench.guard():
        await bench.review.reviewers.add("bob", by="test")
        got = await bench.ask(client_call(MUTE), front)

        assert isinstance(got, Suspended)
        assert [prompt.url for prompt in front.asked] == ([""] if prompts else [])


async def test_a_newer_client_gets_the_address_as_its_question(tmp_path: Path) -> None:
    """docs/decisions.md D6: form or hold, never both; the page is no different."""
    front = TestFront(era="modern", can_open=True)
    async with Bench(tmp_path, page=page).guard() as bench:
        got = await bench.ask(client_call(MUTE), front)

        assert isinstance(got, AskClient)
        assert got.prompt.url == page(got.prompt.approval_id)
