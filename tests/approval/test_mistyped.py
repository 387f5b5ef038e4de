"""A wrong fingerprint on the form: it is said, and asked again (docs/approvals.md 5.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mcp_guard.approval.prompt import MAX_CHARACTERS
from mcp_guard.errors import ApprovalDeniedError
from mcp_guard.model import (
    Answer,
    Risk,
    Suspended,
)
from mcp_guard.question import AskClient, Prompt, PromptAnswer
from tests.approval.bench import Bench, TestFront, call_of, decision_of

RISKY = replace(decision_of(hold_s=0.2), risk=Risk.HIGH)
SAID = "mcp-guard: that is not the fingerprint, so nothing was decided. Approve this call?"


def after(wrong: int) -> Callable[[Prompt], PromptAnswer]:
    """A person who types the fingerprint right after so many wrong ones."""
    left = [wrong]

    def answer(prompt: Prompt) -> PromptAnswer:
        left[0] -= 1
        return PromptAnswer("approve", fingerprint="AAAA-AAAA" if left[0] >= 0 else prompt.fingerprint)

    return answer


def first_lines(asked: list[Prompt]) -> list[str]:
    return [prompt.message.split("\n", 1)[0] for prompt in asked]


async def test_a_form_with_a_wrong_fingerprint_comes_back_and_says_so(tmp_path: Path) -> None:
    """docs/approvals.md 5.3: a person who mistyped must not believe to have approved."""
    front = TestFront(can_prompt=True, answer=after(2))
    async with Bench(tmp_path).guard() as bench:
        got = await bench.ask(call_of(), front, replace(RISKY, terms=replace(RISKY.terms, hold_s=5)))
    assert isinstance(got, Answer)
    assert first_lines(front.asked) == ["mcp-guard: approve this call?", SAID, SAID]
    assert all(len(prompt.message) <= MAX_CHARACTERS for prompt in front.asked)
    assert len(bench.effects) == 1


async def test_after_three_more_forms_the_ticket_says_that_nothing_was_decided(tmp_path: Path) -> None:
    """docs/approvals.md 5.3: a client that answers by itself is not asked for ever."""
    front = TestFront(can_prompt=True, answer=after(99))
    async with Bench(tmp_path).guard() as bench:
        got = await bench.ask(call_of(), front, RISKY)
    assert isinstance(got, Suspended)
    assert len(front.asked) == 4
    assert "nothing was decided" in got.note
    assert bench.effects == []


async def test_a_ticket_without_a_wrong_fingerprint_says_nothing_of_one(tmp_path: Path) -> None:
    """docs/approvals.md 5.3."""
    front = TestFront(can_prompt=True, answer=lambda _prompt: PromptAnswer("dismissed"))
    async with Bench(tmp_path).guard() as bench:
        got = await bench.ask(call_of(), front, RISKY)
    assert isinstance(got, Suspended)
    assert got.note == ""


async def test_a_newer_client_is_asked_again_in_the_same_way(tmp_path: Path) -> None:
    """decisions.md D6: the answer comes with the next round, and so does the next question."""
    async with Bench(tmp_path).guard() as bench:
        call, front = call_of(), TestFront(era="modern", can_prompt=True)
        asked = await bench.ask(call, front, RISKY)
        forms = []
        while isinstance(asked, AskClient):
            forms.append(asked.prompt)
            answer = PromptAnswer("approve", fingerprint="", again=asked.prompt.again)
            front = replace(front, resumed=(asked.prompt.approval_id, answer))
            asked = await bench.ask(call, front, RISKY)
        assert isinstance(asked, Suspended)
        assert first_lines(forms) == ["mcp-guard: approve this call?", SAID, SAID, SAID]
        assert [prompt.again for prompt in forms] == [0, 1, 2, 3]
        assert "nothing was decided" in asked.note
        right = PromptAnswer("approve", fingerprint=forms[0].fingerprint)
        done = await bench.ask(call, replace(front, resumed=(forms[0].approval_id, right)), RISKY)
    assert isinstance(done, Answer)
    assert len(bench.effects) == 1


async def test_who_denies_needs_no_fingerprint(tmp_path: Path) -> None:
    """docs/approvals.md 5.3: deny is never smaller than approve."""
    front = TestFront(can_prompt=True, answer=lambda _prompt: PromptAnswer("deny"))
    async with Bench(tmp_path).guard() as bench:
        with pytest.raises(ApprovalDeniedError):
            await bench.ask(call_of(), front, RISKY)
    assert len(front.asked) == 1
