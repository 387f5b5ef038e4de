"""When people are told that calls wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from mcp_guard.approval.notices import Notices
from mcp_guard.model import Suspended
from tests.approval.bench import BOB, Bench, TestFront, call_of, decision_of, eventually


class Sink:
    """Collects notices."""

    def __init__(self, fail: Exception | None = None) -> None:
        self.told: list[int] = []
        self.fail = fail

    async def tell(self, waiting: int) -> None:
        self.told.append(waiting)
        if self.fail is not None:
            raise self.fail

    async def until(self, *told: int) -> None:
        async def there() -> bool:
            return tuple(self.told) == told

        await eventually(there)


@asynccontextmanager
async def noticing(bench: Bench, sink: Sink, quiet_s: float = 0.0) -> AsyncIterator[Notices]:
    notices = Notices(bench.store, sink.tell, quiet_s=quiet_s)
    async with anyio.create_task_group() as group:
        group.start_soon(notices.run)
        yield notices
        group.cancel_scope.cancel()


async def waiting(bench: Bench, table: str) -> str:
    got = await bench.ask(call_of({"table": table}), decision=decision_of(hold_s=0.01))
    assert isinstance(got, Suspended)
    return got.approval_id


async def test_a_request_at_a_client_without_prompts_is_told_at_once_and_only_once(tmp_path: Path) -> None:
    """docs/known-hosts.md: "a notice says a call waits"."""
    async with Bench(tmp_path).guard() as bench:
        got = await bench.ask(call_of(), decision=decision_of(hold_s=0.2))
        again = await bench.ask(call_of(), decision=decision_of(hold_s=0.2))

        assert isinstance(got, Suspended)
        assert isinstance(again, Suspended)
        assert bench.told == [1]


async def test_nobody_is_told_at_once_of_what_a_form_shows(tmp_path: Path) -> None:
    """docs/security.md S16: no more signals than needed."""
    async with Bench(tmp_path).guard() as bench:
        await bench.ask(call_of(), TestFront(can_prompt=True), decision_of(hold_s=0.2))
        await bench.ask(call_of({"table": "b"}), TestFront(era="modern", can_prompt=True))

        assert bench.told == []
        assert len(bench.desk._notices._due) == 2


async def test_a_request_that_is_decided_in_time_is_not_told(tmp_path: Path) -> None:
    """docs/security.md S16."""
    sink = Sink()
    async with Bench(tmp_path).guard() as bench, noticing(bench, sink) as notices:
        first, second = await waiting(bench, "a"), await waiting(bench, "b")
        await bench.review.decide(first, "deny", BOB)
        notices.expect(first, 0)
        notices.expect(second, 0.05)

        await sink.until(1)


async def test_what_comes_soon_after_a_notice_is_told_together(tmp_path: Path) -> None:
    """docs/security.md S16: at most one notice in a while, with how many wait by then."""
    sink = Sink()
    async with Bench(tmp_path).guard() as bench, noticing(bench, sink, quiet_s=0.3) as notices:
        ids = [await waiting(bench, table) for table in "abc"]
        notices.expect(ids[0], 0)
        await sink.until(1)
        notices.expect(ids[1], 0)
        notices.expect(ids[2], 0.01)
        assert sink.told == [1]

        await sink.until(1, 3)


async def test_a_notice_that_fails_stops_neither_calls_nor_later_notices(tmp_path: Path) -> None:
    """docs/approvals.md S5: a dead channel decides nothing."""
    sink = Sink(fail=RuntimeError("token-canary"))
    async with Bench(tmp_path).guard() as bench, noticing(bench, sink) as notices:
        for told, table in enumerate("ab", start=1):
            notices.expect(await waiting(bench, table), 0)
            await sink.until(*range(1, told + 1))

        assert bench.effects == []


async def test_a_broken_store_stops_no_later_notice(tmp_path: Path) -> None:
    """docs/approvals.md S5: an error of the store."""
    sink = Sink()
    async with Bench(tmp_path).guard() as bench, noticing(bench, sink) as notices:
        broken, whole = await waiting(bench, "a"), await waiting(bench, "b")
        await bench.sql("UPDATE approval SET view = '{' WHERE id = ?", broken)
        notices.expect(broken, 0)
        notices.expect(whole, 0)

        await sink.until(1)
