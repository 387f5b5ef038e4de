"""The control plane: who decides, who was first (decisions.md D25, approvals.md S9)."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_guard.approval import statement
from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.approval.rows import Request
from mcp_guard.clock import FakeClock
from mcp_guard.errors import (
    AlreadyDecidedError,
    ApprovalExpiredError,
    ConflictError,
    NotEligibleError,
    UnknownApprovalError,
    UsageError,
)
from mcp_guard.model import Assurance, Suspended
from tests.approval.bench import ALICE, BOB, LOCAL_ALICE, Bench, call_of, decision_of


async def ticket(bench: Bench, **terms: object) -> str:
    got = await bench.ask(call_of(), decision=decision_of(**terms))
    assert isinstance(got, Suspended)
    return got.approval_id


async def test_one_of_many_who_decide_at_once_wins_and_the_others_learn_who(tmp_path: Path) -> None:
    """S13: two processes, one store."""
    async with Bench(tmp_path).guard(background=False) as one, Bench(tmp_path).guard(background=False) as two:
        approval_id = await ticket(one)
        won: list[str] = []
        lost: list[str] = []

        async def decide(bench: Bench, name: str) -> None:
            try:
                await bench.review.decide(
                    approval_id, "approve" if name < "r2" else "deny", Reviewer(name, Assurance.A2, "cli")
                )
                won.append(name)
            except AlreadyDecidedError as error:
                lost.append(error.message)

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(decide, (one, two)[number % 2], f"r{number}")
        events = await one.store.events(approval_id)
        decisions = await one.store.decisions(approval_id)
    assert len(won) == 1
    assert len(lost) == 3
    assert all(f"already by {won[0]}" in message for message in lost)
    assert [event.transition for event in events] in (["T1", "T4"], ["T1", "T5"])
    assert len(decisions) == 1


async def test_the_requester_never_approves_in_team_mode_but_may_deny(tmp_path: Path) -> None:
    """Attack 11, S9."""
    async with Bench(tmp_path, mode="team").guard(background=False) as bench:
        await bench.review.reviewers.add("bob")
        approval_id = await ticket(bench)
        for reviewer in (
            LOCAL_ALICE,
            Reviewer("x", Assurance.A1, "cli"),
            Reviewer("Alice", Assurance.A2, "cli"),
            Reviewer("other", Assurance.A2, "cli", ALICE.key),
        ):
            with pytest.raises(NotEligibleError, match="separation of duties"):
                await bench.review.decide(approval_id, "approve", reviewer)
        denied = await bench.review.decide(approval_id, "deny", LOCAL_ALICE)
    assert denied.row.state == "denied"


async def test_too_low_an_assurance_changes_nothing(tmp_path: Path) -> None:
    """D25."""
    async with Bench(tmp_path).guard(background=False) as bench:
        await bench.review.reviewers.add("bob")
        approval_id = await ticket(bench, min_assurance=Assurance.A2)
        with pytest.raises(NotEligibleError, match="needs assurance A2; cli gives A1"):
            await bench.review.decide(approval_id, "approve", LOCAL_ALICE)
        after = await bench.review.decide(approval_id, "approve", BOB)
    assert after.row.state == "approved"


async def test_without_a_terminal_only_a_registered_token_identifies(tmp_path: Path) -> None:
    """Attack 12: agents hold shells."""
    async with Bench(tmp_path).guard(background=False) as bench:
        token = await bench.review.reviewers.add("bob")
        for given in (None, "", "mgr_wrong", token[:-1]):
            with pytest.raises(NotEligibleError):
                await bench.review.identify(user="alice", tty=False, token=given)
        bob = await bench.review.identify(user="alice", tty=False, token=token)
        local = await bench.review.identify(user="alice", tty=True, token=None)
        with pytest.raises(UsageError):
            await bench.review.reviewers.add("bob")
        with pytest.raises(UsageError):
            await bench.review.reviewers.add("bob\n")
        async with bench.db.read() as db:
            stored = str(list(await db.execute_fetchall("SELECT * FROM reviewer")))
    assert (bob.name, bob.assurance, local.assurance) == ("bob", Assurance.A2, Assurance.A1)
    assert token not in stored
    assert len(token) == len("mgr_") + 43


async def test_a_decision_binds_to_what_was_shown(tmp_path: Path) -> None:
    """S14."""
    async with Bench(tmp_path).guard(background=False) as bench:
        approval_id = await ticket(bench)
        with pytest.raises(ConflictError, match="no longer what was shown"):
            await bench.review.decide(approval_id, "approve", LOCAL_ALICE, shown="0" * 64)
        state = await bench.state(approval_id)
    assert state == "pending"


async def test_unknown_expired_and_cancelled_requests_are_told_apart(tmp_path: Path) -> None:
    """T9, T10."""
    clock = FakeClock()
    async with Bench(tmp_path, clock=clock).guard(background=False) as bench:
        with pytest.raises(UnknownApprovalError):
            await bench.review.decide("apr_none", "approve", LOCAL_ALICE)
        with pytest.raises(UnknownApprovalError):
            await bench.review.show("apr_none")
        with pytest.raises(UnknownApprovalError):
            await bench.review.cancel("apr_none", "x")
        cancelled = await ticket(bench)
        await bench.review.cancel(cancelled, ALICE.key)
        with pytest.raises(AlreadyDecidedError, match="cancelled"):
            await bench.review.decide(cancelled, "approve", LOCAL_ALICE)
        expired = await ticket(bench)
        clock.advance(900)
        with pytest.raises(ApprovalExpiredError):
            await bench.review.decide(expired, "approve", LOCAL_ALICE)
        shown = await bench.review.show(expired)
    assert [event.transition for event in shown.events] == ["T1", "T10"]


async def test_an_unknown_outcome_is_settled_by_a_reviewer_with_a_token(tmp_path: Path) -> None:
    """T18."""
    async with Bench(tmp_path).guard(background=False) as bench:
        approval_id = await ticket(bench)
        await bench.sql("UPDATE approval SET state = 'unknown' WHERE id = ?", approval_id)
        with pytest.raises(NotEligibleError):
            await bench.review.reconcile(approval_id, "failed", LOCAL_ALICE, "looked")
        after = await bench.review.reconcile(approval_id, "failed", BOB, "looked")
        with pytest.raises(AlreadyDecidedError):
            await bench.review.reconcile(approval_id, "completed", BOB, "again")
    assert (after.row.state, after.row.reason) == ("failed", "looked")


async def test_every_decision_carries_a_signature_that_fails_for_anything_else(tmp_path: Path) -> None:
    """S3; the record holds statement and signature, so it verifies offline."""
    async with Bench(tmp_path).guard() as bench:
        approval_id = await ticket(bench)
        await bench.review.decide(approval_id, "approve", LOCAL_ALICE, "fine")
        await bench.until(approval_id, "completed")
        (signed,) = await bench.store.decisions(approval_id)
        bench.keys.rotate("decision")
        found = statement.verify(bench.keys, signed.statement, signed.signature)
        forged = statement.verify(bench.keys, signed.statement.replace("A1", "A4"), signed.signature)
        request: Request | None = await bench.store.get(approval_id)
    assert request is not None
    assert found is not None
    assert replace(found, nonce="", at_ns=0, exp_ns=0) == statement.Statement(
        approval_id, 1, request.row.action_digest, "approve", "alice", Assurance.A1, "cli", 0, 0, ""
    )
    assert forged is None
    record = next(r for r in bench.audit.records if r.type == "approval.decision")
    assert base64.b64decode(str(record.fields["signature"])) == signed.signature
    assert record.payloads["comment"].value == "fine"
