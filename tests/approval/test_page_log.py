"""What happened at the page, told to the log by several guards of one data folder (D26, docs/console.md)."""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.approval.signin import SignIn
from mcp_guard.audit import query
from mcp_guard.clock import SystemClock
from mcp_guard.model import Assurance
from tests.approval import page_log_child
from tests.approval.bench import LOCAL_ALICE, Bench, eventually
from tests.approval.granting import ask, granting, write

SIGN_INS = 12
RITA = Reviewer("rita", Assurance.A1, "console")


@pytest.fixture(scope="module")
def processes() -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.approval.page_log_child"])
    return context


@contextmanager
def guard(processes: BaseContext, folder: Path, when: str = "") -> Iterator[None]:
    """A guard process; `when` it dies."""
    here, there = multiprocessing.Pipe()
    child = processes.Process(target=page_log_child.main, args=(folder, there, when))  # type: ignore[attr-defined]
    child.start()
    try:
        here.recv()
        yield
        if when:
            child.join(10)
            assert child.exitcode == -9
    finally:
        child.kill()
        child.join()
        here.close()
        there.close()


def told(folder: Path) -> Counter[int]:
    """How often the log holds each event of the page."""
    entries = query.tail(folder / "audit", 1_000)
    return Counter(int(str(e.fields["event"])) for e in entries if e.type.startswith("console."))


async def sign_in(bench: Bench, times: int) -> None:
    signin = SignIn(bench.db, bench.store, bench.keys)
    for _ in range(times):
        await signin.open(RITA)


async def nothing_waits(bench: Bench) -> bool:
    return not await bench.store.console_events()


async def test_four_guards_of_one_folder_record_each_sign_in_exactly_once(
    tmp_path: Path, processes: BaseContext
) -> None:
    """D26: an auditor who counts sign-ins counts what happened, not how many guards ran."""
    async with Bench(tmp_path, clock=SystemClock()).guard(background=False) as bench:
        with ExitStack() as guards:
            for _ in range(4):
                await to_thread.run_sync(guards.enter_context, guard(processes, tmp_path))
            for _ in range(SIGN_INS):
                await sign_in(bench, 1)
                await anyio.sleep(0.02)
            await eventually(partial(nothing_waits, bench))
    assert told(tmp_path) == Counter(range(1, SIGN_INS + 1))


async def test_four_guards_of_one_folder_record_each_grant_and_reviewer_exactly_once(
    tmp_path: Path, processes: BaseContext
) -> None:
    """D26, docs/grants.md: who got the power to approve, and what may run without asking, stands there once."""
    async with Bench(tmp_path, clock=SystemClock()).guard(background=False) as bench:
        with ExitStack() as guards:
            for _ in range(4):
                await to_thread.run_sync(guards.enter_context, guard(processes, tmp_path))
            for number in range(5):
                approval_id = await ask(bench, write(f"{number}"), granting(hold_s=0.0))
                await bench.review.decide(approval_id, "approve", LOCAL_ALICE, grant=0)
                await bench.review.reviewers.add(f"reviewer_{number}", by="a test")

            async def all_told() -> bool:
                return not (await bench.store.grants(unrecorded=True) or await bench.store.reviewers(unrecorded=True))

            await eventually(all_told)
    types = Counter(entry.type for entry in query.tail(tmp_path / "audit", 1_000))
    assert (types["grant.created"], types["reviewer.added"]) == (5, 5)


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 as POSIX has it")
@pytest.mark.parametrize(("when", "times"), [("before", 1), ("after", 2)])
async def test_a_guard_that_is_killed_while_it_tells_loses_no_sign_in(
    tmp_path: Path, processes: BaseContext, when: str, times: int
) -> None:
    """D26: the next guard tells it; twice only where the first had told it already and died before it could say so."""
    async with Bench(tmp_path, clock=SystemClock()).guard(background=False) as bench:
        await sign_in(bench, 1)
        await to_thread.run_sync(run_until_dead, processes, tmp_path, when)
        with ExitStack() as guards:
            await to_thread.run_sync(guards.enter_context, guard(processes, tmp_path))
            await eventually(partial(nothing_waits, bench))
    assert told(tmp_path) == {1: times}


def run_until_dead(processes: BaseContext, folder: Path, when: str) -> None:
    with guard(processes, folder, when):
        pass
