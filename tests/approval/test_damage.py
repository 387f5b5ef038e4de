"""Requests that cannot be read as they are: of an earlier version, or no text (docs/approvals.md, "Damage")."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mcp_guard.approval.sealed import unseal
from mcp_guard.approval.statement import Stored, dump
from mcp_guard.errors import ConflictError
from mcp_guard.model import Suspended
from tests.approval.bench import LOCAL_ALICE, Bench, call_of, decision_of
from tests.approval.granting import ask


async def test_a_request_of_an_earlier_version_says_that_it_is_to_be_asked_again(tmp_path: Path) -> None:
    """S17: what it showed cannot be built again, which is no forgery."""
    async with Bench(tmp_path).guard() as bench:
        waiting = await ask(bench, call_of(), decision_of())
        request = await bench.store.get(waiting)
        assert request is not None
        stored = unseal(bench.keys, request)
        assert isinstance(stored, Stored)
        payload = bench.keys.seal("approval", dump(replace(stored, shown_as=0)), bound_to=waiting)
        async with bench.db.write() as db:
            await db.execute("UPDATE approval SET payload = ?, view = '{}' WHERE id = ?", (payload, waiting))
        with pytest.raises(ConflictError, match="an earlier version of the guard; ask again"):
            await bench.review.decide(waiting, "approve", LOCAL_ALICE)
        assert await bench.state(waiting) == "invalidated"
        again = await ask(bench, call_of(), decision_of())
        await bench.review.decide(again, "approve", LOCAL_ALICE)
        await bench.until(again, "completed")
    assert bench.ran == [again]


async def test_text_in_a_row_that_is_no_text_stops_no_other_call(tmp_path: Path) -> None:
    """docs/approvals.md, "Damage": SQLite keeps any bytes as text."""
    async with Bench(tmp_path).guard() as bench:
        bad = await ask(bench, call_of(), decision_of())
        await bench.sql("UPDATE approval SET rule = cast(x'ff' AS TEXT) WHERE id = ?", bad)
        got = await bench.ask(call_of({"table": "other"}))
        assert isinstance(got, Suspended)
        await bench.review.decide(got.approval_id, "approve", LOCAL_ALICE)
        await bench.until(got.approval_id, "completed")
        with pytest.raises(ConflictError, match="is void"):
            await bench.review.decide(bad, "approve", LOCAL_ALICE)
    assert bench.ran == [got.approval_id]
