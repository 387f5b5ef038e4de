"""How soon a decision of another process takes effect."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from mcp_guard.approval import runner
from mcp_guard.model import Suspended
from tests.approval.bench import LOCAL_ALICE, Bench, call_of, decision_of, eventually


async def test_while_a_request_waits_decisions_are_looked_for_as_often_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/decisions.md D35: an approved call runs at once, also when its ticket was handed out long ago."""
    monkeypatch.setattr(runner, "_POLL_IDLE_S", 600.0)
    monkeypatch.setattr(runner, "_ROUND_S", 600.0)  # so that nothing but looking wakes the guard
    async with Bench(tmp_path).guard() as bench, Bench(tmp_path).guard(background=False) as other:
        got = await bench.ask(call_of(), decision=decision_of(hold_s=0.01))
        assert isinstance(got, Suspended)

        async def looked() -> bool:
            return bench.desk._runner._holding

        await eventually(looked)
        monkeypatch.setattr(runner, "_IDLE_AFTER_S", -1.0)
        await other.review.list_requests()  # a commit, long enough for the guard to look once more
        await other.review.decide(got.approval_id, "approve", LOCAL_ALICE)
        with anyio.fail_after(3):
            await bench.sent.wait()

        assert len(bench.effects) == 1


async def test_when_nothing_waits_the_guard_looks_seldom(tmp_path: Path) -> None:
    """docs/decisions.md D35: an idle guard costs next to nothing."""
    async with Bench(tmp_path).guard() as bench:
        got = await bench.ask(call_of(), decision=decision_of(hold_s=0.01))
        assert isinstance(got, Suspended)
        await bench.review.decide(got.approval_id, "deny", LOCAL_ALICE)

        async def looked() -> bool:
            return not bench.desk._runner._holding

        await eventually(looked)
