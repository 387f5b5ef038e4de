"""Approval by a form at the requester's own client, in both eras, over real processes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from tests.e2e.harness import Guard, basic, connected, raw_call, reviewing, text_of, until

ERAS = ("legacy", "auto")
Content = dict[str, Any]


class Person:
    """Answers forms one after the other as told, and remembers the questions."""

    def __init__(self, *answers: Callable[[str], types.ElicitResult]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, _context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestFormParams)
        self.asked.append(params.message)
        return self._answers[len(self.asked) - 1](params.message)


def fingerprint_in(message: str) -> str:
    found = re.search(r"Fingerprint: (\S+)", message)
    assert found
    return found[1]


def approving(message: str) -> types.ElicitResult:
    content: Content = {"decision": "approve_once", "fingerprint": fingerprint_in(message)}
    return types.ElicitResult(action="accept", content=content)


def carelessly_approving(_message: str) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"decision": "approve_once", "fingerprint": "AAAA-AAAA"})


def accepting_only(_message: str) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={})


def denying(_message: str) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"decision": "deny", "reason": "not today"})


def declining(_message: str) -> types.ElicitResult:
    return types.ElicitResult(action="decline")


def closing(_message: str) -> types.ElicitResult:
    return types.ElicitResult(action="cancel")


def patient(folder: Path, hold_s: float = 10.0) -> Guard:
    return basic(folder, approvals={"hold_s": hold_s})


@pytest.mark.parametrize("mode", ERAS)
async def test_a_person_at_the_client_approves_and_the_call_runs_once(mode: str, tmp_path: Path) -> None:
    """T4, D6: the form names tool and arguments, and the result comes with the same call."""
    guard, person = patient(tmp_path), Person(approving)
    async with connected(guard, mode=mode, elicitation_callback=person) as client:
        done = await client.call_tool("leaky_delete_thing", {"id": 7})
        assert done.content[0].text == "delete_thing 7 done"  # type: ignore[union-attr]
        assert not done.is_error
    assert guard.effects() == [{"tool": "delete_thing", "arguments": {"id": 7}}]
    assert len(person.asked) == 1
    assert "leaky.delete_thing" in person.asked[0]
    assert '"id" = 7' in person.asked[0]
    assert guard.verified()


@pytest.mark.parametrize("mode", ERAS)
async def test_a_person_who_says_no_stops_the_call(mode: str, tmp_path: Path) -> None:
    """T5, S16: nothing runs, and the identical call is refused without another question."""
    guard, person = patient(tmp_path), Person(denying, declining)
    async with connected(guard, mode=mode, elicitation_callback=person) as client:
        for number in (1, 2):
            for _ in range(2):
                done = await client.call_tool("leaky_delete_thing", {"id": number})
                assert done.is_error
                assert "[approval_denied]" in done.content[0].text  # type: ignore[union-attr]
    assert guard.effects() == []
    assert len(person.asked) == 2


@pytest.mark.parametrize("mode", ERAS)
async def test_what_is_not_an_explicit_approval_leaves_the_call_pending(mode: str, tmp_path: Path) -> None:
    """Approvals 5.3: wrong fingerprints, a bare accept and a closed form approve nothing; the ticket tells of them."""
    guard, person = patient(tmp_path, hold_s=1.5), Person(*[carelessly_approving] * 4, accepting_only, closing)
    async with connected(guard, mode=mode, elicitation_callback=person) as client:
        for number in (1, 2, 3):
            done = await client.call_tool("leaky_delete_thing", {"id": number})
            assert done.is_error
            text = done.content[0].text  # type: ignore[union-attr]
            assert "NOT executed" in text
            assert ("something else than the fingerprint" in text) == (number == 1)
    assert guard.effects() == []
    assert len(person.asked) == 6
    async with reviewing(guard) as review:
        assert [request.row.state.value for request in await review.list_requests()] == ["pending"] * 3


@pytest.mark.parametrize("mode", ERAS)
async def test_a_person_who_mistypes_the_fingerprint_is_told_and_asked_again(mode: str, tmp_path: Path) -> None:
    """Approvals 5.3: a form that vanishes without a word is taken for an approval."""
    guard, person = patient(tmp_path), Person(carelessly_approving, approving)
    async with connected(guard, mode=mode, elicitation_callback=person) as client:
        done = await client.call_tool("leaky_delete_thing", {"id": 7})
        assert done.content[0].text == "delete_thing 7 done"  # type: ignore[union-attr]
    assert guard.count("delete_thing") == 1
    assert len(person.asked) == 2
    assert person.asked[1].startswith("mcp-guard: that is not the fingerprint, so nothing was decided.")
    assert guard.verified()


async def ask(client: Client, arguments: Content) -> dict[str, Any]:
    """The first round of the modern era: the guard's question."""
    first = await raw_call(client, "leaky_delete_thing", arguments)
    assert first["resultType"] == "input_required"
    return first


def approval_of(first: dict[str, Any]) -> dict[str, Any]:
    message = first["inputRequests"]["approval"]["params"]["message"]
    answer = {"action": "accept", "content": approving(message).content}
    return {"requestState": first["requestState"], "inputResponses": {"approval": answer}}


async def no_form(_context: Any, _params: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="cancel")


async def test_the_same_state_and_answer_sent_again_execute_once(tmp_path: Path) -> None:
    """S11, attacks 2 and 3: sent many times at once, and again afterwards."""
    guard = patient(tmp_path, hold_s=0.5)
    replies: list[str] = []
    async with connected(guard, elicitation_callback=no_form) as client:
        second = approval_of(await ask(client, {"id": 7}))

        async def answer() -> None:
            replies.append(text_of(await raw_call(client, "leaky_delete_thing", {"id": 7}, round_two=second)))

        for times in (8, 5):
            async with anyio.create_task_group() as group:
                for _ in range(times):
                    group.start_soon(answer)
    assert guard.count("delete_thing") == 1
    assert replies == ["delete_thing 7 done"] * 13


async def test_an_answer_with_other_arguments_or_another_tool_executes_nothing(tmp_path: Path) -> None:
    """S11: the state is bound to the call that was shown."""
    guard = patient(tmp_path, hold_s=0.3)
    async with connected(guard, elicitation_callback=no_form) as client:
        second = approval_of(await ask(client, {"id": 7}))
        for tool, arguments in (("leaky_delete_thing", {"id": 8}), ("leaky_drop_thing", {"id": 7})):
            with pytest.raises(MCPError) as caught:
                await raw_call(client, tool, arguments, round_two=second)
            assert caught.value.error.code == -32602
    assert guard.effects() == []


async def test_a_forged_answer_executes_nothing(tmp_path: Path) -> None:
    """S11: without the guard's own sealed state an answer is worth nothing."""
    guard = patient(tmp_path, hold_s=0.3)
    async with connected(guard, elicitation_callback=no_form) as client:
        second = approval_of(await ask(client, {"id": 7}))
        async with reviewing(guard) as review:
            pending = (await review.list_requests())[0].row.id
        sealed = str(second["requestState"])
        changed = sealed[:-6] + ("A" if sealed[-6] != "A" else "B") + sealed[-5:]
        for state in ("", "forged", json.dumps({"a": pending, "c": "call_1"}), changed, sealed[:-1]):
            with pytest.raises(MCPError) as caught:
                await raw_call(client, "leaky_delete_thing", {"id": 7}, round_two={**second, "requestState": state})
            assert caught.value.error.code == -32602
        stateless = {"inputResponses": second["inputResponses"]}
        done = await raw_call(client, "leaky_delete_thing", {"id": 7}, round_two=stateless)
        assert done.get("isError") is True or done["resultType"] == "input_required"
        async with reviewing(guard) as review:
            assert [one.row.state.value for one in await review.list_requests(None)] == ["pending"]
    assert guard.effects() == []


@pytest.mark.parametrize("mode", ERAS)
async def test_identical_calls_attach_to_one_request_and_run_once(mode: str, tmp_path: Path) -> None:
    """S16: five copies, one question, one effect, one answer for each that waits."""
    guard = patient(tmp_path)
    answers: list[str] = []
    async with connected(guard, mode=mode) as client:

        async def call() -> None:
            answers.append(text_of(await raw_call(client, "leaky_delete_thing", {"id": 7})))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(call)
            async with reviewing(guard) as review:
                await until(review.list_requests)
                await until(lambda: all_attached(guard))
                (request,) = await review.list_requests()
                token = await review.reviewers.add("rita", by="test")
                reviewer = await review.identify(user="", tty=False, token=token)
                await review.decide(request.row.id, "approve", reviewer)
    assert guard.count("delete_thing") == 1
    assert answers == ["delete_thing 7 done"] * 5


def all_attached(guard: Guard) -> bool:
    return [entry.type for entry in guard.records()].count("call.intent") == 5
