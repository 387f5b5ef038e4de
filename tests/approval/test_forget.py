"""How much of requests is kept, and for how long (docs/limits.md)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from mcp_guard.approval.machine import State, Void
from mcp_guard.approval.rows import DETAILS_DAYS, Request
from mcp_guard.approval.sealed import unseal
from mcp_guard.approval.statement import Stored, dump, load
from mcp_guard.cli.approvals_text import card_of
from mcp_guard.errors import OutcomeUnknownError, OverloadedError
from mcp_guard.model import Answer, JsonDict, MaskedJson, Principal, RawArguments, Suspended
from tests.approval.bench import ALICE, BOB, LOCAL_ALICE, SECRET, Bench, call_of, decision_of, eventually, views_of
from tests.fakes import FakeClock

DAY_S = 86_400.0
MIB = 1024 * 1024


def stored_of(arguments: JsonDict) -> Stored:
    call = call_of(arguments)
    return Stored(call, views_of(call), decision_of(), "prod", "personal", 7)


async def finished(bench: Bench, table: str = "users") -> str:
    """An approved call that ran, its events in the record."""
    asked = await bench.ask(call_of({"table": table, "token": SECRET}))
    assert isinstance(asked, Suspended)
    await bench.review.decide(asked.approval_id, "approve", LOCAL_ALICE)
    await bench.until(asked.approval_id, "completed")

    async def recorded() -> bool:
        return not await bench.store.unsent(bench.holders.id, asked.approval_id)

    await eventually(recorded)
    return asked.approval_id


async def row(bench: Bench, approval_id: str) -> Request:
    request = await bench.store.get(approval_id)
    assert request is not None
    return request


def test_arguments_are_stored_once_however_many_views_are_equal() -> None:
    """docs/limits.md: 20 calls of 4 MB took 400 MB."""
    plain = stored_of({"text": "ab " * 100_000})
    masked = stored_of({"text": "ab " * 100_000, "token": SECRET})

    assert len(dump(plain)) < 1.1 * 300_000
    assert len(dump(masked)) < 2.1 * 300_000
    for one in (plain, masked):
        assert load(dump(one)) == one


def test_views_that_python_calls_equal_and_json_does_not_stay_apart() -> None:
    """approvals.md S2: 1, 1.0 and true are three actions."""
    call = call_of({"n": 1})
    views = replace(views_of(call), for_downstream=RawArguments({"n": 1.0}), for_reviewer=MaskedJson({"n": True}))
    back = load(dump(replace(stored_of({}), call=call, views=views)))

    assert back is not None
    found = (back.call.arguments.value, back.views.for_downstream.value, back.views.for_reviewer.value)
    assert repr(found) == "({'n': 1}, {'n': 1.0}, {'n': True})"
    assert back.views.for_log.value == {"n": 1}


def test_what_an_earlier_version_stored_is_read_and_a_bent_form_is_not() -> None:
    """A request that waits while the guard is upgraded goes on."""
    stored = stored_of({"table": "users"})

    assert load(TypeAdapter(Stored).dump_json(stored)) == stored
    for old, new in (
        (b'"which":[0', b'"which":[3'),
        (b'"which":[0', b'"which":[-1'),
        (b'{"forms":[{', b'{"forms":[[],{'),
    ):
        assert old in dump(stored)
        assert load(dump(stored).replace(old, new)) is None


async def test_a_requester_holds_no_more_open_than_32_mib_of_arguments(tmp_path: Path) -> None:
    """docs/limits.md: an agent may not fill the disk with questions; another one is not kept from asking."""
    text = "x" * (17 * MIB)
    async with Bench(tmp_path).guard(background=False) as bench:
        await bench.ask(call_of({"table": "a", "text": text}))
        with pytest.raises(OverloadedError, match="hold 32 MiB of arguments already") as refused:
            await bench.ask(call_of({"table": "b", "text": text}))
        small = await bench.ask(call_of({"table": "c"}))
        other = await bench.ask(call_of({"table": "b", "text": text}, principal=Principal("os", "dana")))

    assert "pass less in one call" in refused.value.hint
    assert isinstance(small, Suspended)
    assert isinstance(other, Suspended)


async def test_what_a_request_was_about_is_deleted_30_days_after_it_is_over(tmp_path: Path) -> None:
    """docs/limits.md: row, decisions and events stay, and with them the proof that it ran once."""
    clock = FakeClock()
    async with Bench(tmp_path, clock=clock).guard() as bench:
        approval_id = await finished(bench)
        waiting = await bench.ask(call_of({"table": "later"}), decision=decision_of(expires_after_s=60 * DAY_S))
        before = await row(bench, approval_id)
        clock.advance(DETAILS_DAYS * DAY_S - 60)
        await bench.store.forget()
        assert await row(bench, approval_id) == before
        clock.advance(120)
        await bench.store.forget()
        after = await row(bench, approval_id)
        events, decisions = await bench.store.events(approval_id), await bench.store.decisions(approval_id)
        shown = await bench.review.show(approval_id)
        told = "\n".join(line for line, _ in card_of(shown, clock.now_ns()).lines)
        assert isinstance(waiting, Suspended)
        assert not isinstance(unseal(bench.keys, await row(bench, waiting.approval_id)), Void)

    assert after.forgotten
    assert (after.row, after.payload, after.result) == (before.row, b"", None)
    assert after.view == {
        "requester": before.view["requester"], "verified": 0, "client": None, "server": "db", "tool": "drop_table",
        "kind": "tool", "environment": "prod", "risk": "medium", "rule": "prod-destructive",
    }  # fmt: skip
    assert [event.transition for event in events] == ["T1", "T4", "T13", "T14", "T16"]
    assert len(decisions) == 1
    assert f"the record has it: mcp-guard audit show {approval_id}" in told
    assert bench.ran == [approval_id]


async def test_an_outcome_is_fetched_by_ticket_until_its_details_are_deleted(tmp_path: Path) -> None:
    """S7: always by ticket; afterwards the record has it, and the same call again is a new request."""
    clock = FakeClock()
    async with Bench(tmp_path, clock=clock).guard() as bench:
        approval_id = await finished(bench)
        clock.advance((DETAILS_DAYS - 1) * DAY_S)
        await bench.store.forget()
        assert isinstance(await bench.desk.wait(approval_id, ALICE, 0.01), Answer)
        clock.advance(2 * DAY_S)
        await bench.store.forget()
        with pytest.raises(OutcomeUnknownError, match="not kept here any more") as gone:
            await bench.desk.wait(approval_id, ALICE, 0.01)
        again = await bench.ask(call_of({"table": "users", "token": SECRET}))

    assert gone.value.hint == f"the record tells what became of it: `mcp-guard audit show {approval_id}`"
    assert isinstance(again, Suspended)
    assert again.approval_id != approval_id
    assert bench.ran == [approval_id]


async def test_details_that_are_not_in_the_record_yet_are_kept(tmp_path: Path) -> None:
    """decisions.md D26: what was shown goes into the record from the row."""
    clock = FakeClock()
    async with Bench(tmp_path, clock=clock).guard(background=False) as bench:
        asked = await bench.ask(call_of())
        assert isinstance(asked, Suspended)
        await bench.review.decide(asked.approval_id, "deny", BOB)
        clock.advance(40 * DAY_S)
        await bench.store.forget()
        assert not (await row(bench, asked.approval_id)).forgotten


async def test_where_room_is_short_the_oldest_details_go_first_and_fresh_outcomes_stay(tmp_path: Path) -> None:
    """docs/limits.md: bounded in bytes too, or a busy agent would fill the disk within the 30 days."""
    clock = FakeClock()
    async with Bench(tmp_path, clock=clock).guard() as bench:
        first = await finished(bench, "first")
        clock.advance(60)
        second = await finished(bench, "second")
        clock.advance(7_200)
        third = await finished(bench, "third")
        size = len((await row(bench, third)).payload) * 3
        async with bench.store.write() as transaction:
            now = transaction.now_ns
            done = await transaction.forget(old_ns=0, settled_ns=now - 3_600 * 10**9, most=size, some=50)
        assert done == 1
        assert [(await row(bench, one)).forgotten for one in (first, second, third)] == [True, False, False]
        async with bench.store.write() as transaction:
            await transaction.forget(old_ns=0, settled_ns=now - 3_600 * 10**9, most=0, some=50)
        assert [(await row(bench, one)).forgotten for one in (first, second, third)] == [True, True, False]


async def test_a_row_that_is_emptied_while_it_waits_counts_as_altered(tmp_path: Path) -> None:
    """security.md: only what is over may be without its details, so nothing runs and nobody is told otherwise."""
    async with Bench(tmp_path).guard(background=False) as bench:
        asked = await bench.ask(call_of())
        assert isinstance(asked, Suspended)
        await bench.sql("UPDATE approval SET payload = x''")
        request = await row(bench, asked.approval_id)

    assert request.row.state is State.PENDING
    assert not request.forgotten
    assert unseal(bench.keys, request) is Void.UNREADABLE


async def test_what_a_call_of_unknown_outcome_was_about_stays_until_that_is_settled(tmp_path: Path) -> None:
    """approvals.md T18: the record of who settled it is made from these details."""
    clock = FakeClock()
    async with Bench(tmp_path, clock=clock).guard() as bench:
        approval_id = await finished(bench)
        await bench.sql("UPDATE approval SET state = 'unknown' WHERE id = ?", approval_id)
        clock.advance(2 * DETAILS_DAYS * DAY_S)
        await bench.store.forget()
        kept = (await row(bench, approval_id)).payload

    assert kept
