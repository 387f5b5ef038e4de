"""Several real processes on one store: killed, restarted, racing (docs/approvals.md)."""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from mcp_guard.approval.machine import LIVE, State
from mcp_guard.clock import SystemClock
from mcp_guard.model import Suspended
from tests.approval import kill_child
from tests.approval.bench import LOCAL_ALICE, Bench, call_of, decision_of

KILLS = 20
CALLS = 120


@pytest.fixture(scope="module")
def processes() -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.approval.kill_child"])
    return context


def kill_once(processes: BaseContext, folder: Path, after_s: float, *, wait_for_effect: bool) -> None:
    here, there = multiprocessing.Pipe()
    child = processes.Process(target=kill_child.main, args=(folder, there))  # type: ignore[attr-defined]
    child.start()
    here.recv()
    if wait_for_effect:
        here.poll(2)
    child.join(after_s)
    child.kill()
    child.join()
    here.close()
    there.close()


async def test_no_call_runs_twice_however_often_the_guard_is_killed(tmp_path: Path, processes: BaseContext) -> None:
    """Attack 7, S4, I1: before sent=1 the call runs later, after it the outcome is unknown."""
    async with Bench(tmp_path, clock=SystemClock(), max_open=CALLS).guard(background=False) as bench:
        ids = []
        for number in range(CALLS):
            got = await bench.ask(call_of({"n": number}), decision=decision_of(hold_s=0.0))
            assert isinstance(got, Suspended)
            await bench.review.decide(got.approval_id, "approve", LOCAL_ALICE)
            ids.append(got.approval_id)
    chance = random.Random(7)  # noqa: S311 - when to kill
    for number in range(KILLS):
        at_effect = number % 4 == 0
        kill = partial(kill_once, wait_for_effect=at_effect)
        await anyio.to_thread.run_sync(kill, processes, tmp_path, chance.uniform(0.0, 0.02 if at_effect else 0.2))
    async with Bench(tmp_path, clock=SystemClock()).guard() as last:
        states = {approval_id: await last.until(approval_id, *set(State) - LIVE) for approval_id in ids}
    effects = Counter((tmp_path / "effects").read_text().split()) + Counter(last.ran)
    assert max(effects.values()) == 1
    assert set(states.values()) <= {"completed", "unknown"}
    assert all(effects[approval_id] == 1 for approval_id, state in states.items() if state == "completed")
    assert "unknown" in states.values()


async def test_two_processes_that_decide_at_once_have_one_winner(tmp_path: Path, processes: BaseContext) -> None:
    """Attack 22, S13."""
    async with Bench(tmp_path, clock=SystemClock()).guard(background=False) as bench:
        got = await bench.ask(call_of())
        assert isinstance(got, Suspended)
        told = await anyio.to_thread.run_sync(race, processes, tmp_path, got.approval_id)
        events = await bench.store.events(got.approval_id)
    assert sorted(told) == ["AlreadyDecidedError", "won"]
    assert len(events) == 2


def race(processes: BaseContext, folder: Path, approval_id: str) -> list[str]:
    pipes, children = [], []
    for verdict in ("approve", "deny"):
        start, start_there = multiprocessing.Pipe()
        told, told_there = multiprocessing.Pipe()
        child = processes.Process(  # type: ignore[attr-defined]
            target=kill_child.race, args=(folder, approval_id, verdict, start_there, told_there)
        )
        child.start()
        pipes.append((start, told))
        children.append(child)
    for _, told in pipes:
        told.recv()
    for start, _ in pipes:
        start.send("go")
    results = [told.recv() for _, told in pipes]
    for child in children:
        child.join()
    return results
