"""The control plane: who decides, who was first (decisions.md D25, approvals.md S9)."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_guard.approval import statement
from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.approval.review import Verdict
from mcp_guard.approval.rows import Request
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
from tests.fakes import FakeClock


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
        await bench.review.reviewers.add("bob", by="test")
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
        await bench.review.reviewers.add("bob", by="test")
        approval_id = await ticket(bench, min_assurance=Assurance.A2)
        with pytest.raises(NotEligibleError, match="needs assurance A2; cli gives A1"):
            await bench.review.decide(approval_id, "approve", LOCAL_ALICE)
        after = await bench.review.decide(approval_id, "approve", BOB)
    assert after.row.state == "approved"


async def test_without_a_terminal_only_a_registered_token_identifies(tmp_path: Path) -> None:
    """Attack 12: agents hold shells."""
    async with Bench(tmp_path).guard(background=False) as bench:
        token = await bench.review.reviewers.add("bob", by="test")
        for given in (None, "", "mgr_wrong", token[:-1]):
            with pytest.raises(NotEligibleError):
                await bench.review.identify(user="alice", tty=False, token=given)
        bob = await bench.review.identify(user="alice", tty=False, token=token)
        local = await bench.review.identify(user="alice", tty=True, token=None)
        with pytest.raises(UsageError):
            await bench.review.reviewers.add("bob", by="test")
        with pytest.raises(UsageError):
            await bench.review.reviewers.add("bob\n", by="test")
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


@pytest.mark.parametrize(
    "forged",
    [
        "min_assurance = 1",
        "expires_ns = expires_ns + 1",
        "use_within_ns = use_within_ns + 1",
        "created_ns = 1",
        "lookup = 'other'",
        'owner = \'["os", "mallory", ""]\'',
        "risk = 'low'",
        "rule = 'harmless'",
        "tool = 'harmless'",
        "view = '{}'",
        "run = 'on_pickup'",
    ],
)
@pytest.mark.parametrize("verdict", ["approve", "deny"])
async def test_a_request_whose_row_was_altered_is_void_when_somebody_decides(
    tmp_path: Path, forged: str, verdict: Verdict
) -> None:
    """S1, S14: what is decided follows from the sealed request."""
    async with Bench(tmp_path).guard(background=False) as bench:
        await bench.review.reviewers.add("bob", by="test")
        approval_id = await ticket(bench, min_assurance=Assurance.A2)
        await bench.sql(f"UPDATE approval SET {forged}")  # noqa: S608 - the cases above
        with pytest.raises(ConflictError, match="void"):
            await bench.review.decide(approval_id, verdict, BOB)
        assert await bench.state(approval_id) == "invalidated"


async def test_a_statement_says_in_which_mode_and_how_separate_it_was_made(tmp_path: Path) -> None:
    """S3, S9."""
    async with Bench(tmp_path, mode="team").guard() as bench:
        await bench.review.reviewers.add("bob", by="test")
        approval_id = await ticket(bench)
        await bench.review.decide(approval_id, "approve", BOB)
        await bench.until(approval_id, "completed")
        (signed,) = await bench.store.decisions(approval_id)
        found = statement.verify(bench.keys, signed.statement, signed.signature)
        forged = statement.verify(bench.keys, signed.statement.replace("team", "personal"), signed.signature)
    assert found is not None
    assert (found.mode, found.separation, forged) == ("team", "reviewer", None)


async def test_without_a_terminal_only_the_very_first_reviewer_is_added(tmp_path: Path) -> None:
    """D25: a container is set up without a terminal; an agent that came first does not make itself a reviewer."""
    async with Bench(tmp_path / "used").guard(background=False) as bench:
        await ticket(bench)
        with pytest.raises(NotEligibleError, match="needs a terminal"):
            await bench.review.add_reviewer("mallory", user="alice", tty=False, token=None)
    async with Bench(tmp_path / "new").guard(background=False) as bench:
        token = await bench.review.add_reviewer("rita", user="alice", tty=False, token=None)
        with pytest.raises(NotEligibleError, match="needs a terminal"):
            await bench.review.add_reviewer("mallory", user="alice", tty=False, token=None)
        with pytest.raises(NotEligibleError, match="not registered"):
            await bench.review.add_reviewer("mallory", user="alice", tty=True, token="mgr_wrong")
        await bench.review.add_reviewer("sam", user="alice", tty=False, token=token)
        await bench.review.add_reviewer("tom", user="alice", tty=True, token=None)
        rows = {row.name: row.added_by for row in await bench.store.reviewers()}
    assert rows == {"rita": "first set-up", "sam": "rita", "tom": "alice"}


async def test_a_reviewer_who_was_written_into_the_store_from_outside_does_not_count(tmp_path: Path) -> None:
    """D25, security.md: the row of a reviewer is authenticated."""
    async with Bench(tmp_path).guard(background=False) as bench:
        token = await bench.review.reviewers.add("bob", by="test")
        await bench.sql("UPDATE reviewer SET name = 'mallory'")
        renamed = await bench.review.reviewers.verify(token)
        known = await bench.review.reviewers.any(), await bench.review.reviewers.list()
        with pytest.raises(NotEligibleError):
            await bench.review.identify(user="alice", tty=False, token=token)
    assert renamed is None
    assert known == (False, [])


async def test_unknown_expired_and_cancelled_requests_are_told_apart(tmp_path: Path) -> None:
    """T9, T10."""
    clock = FakeClock()
    async with Bench(tmp_path, clock=clock).guard(background=False) as bench:
        with pytest.raises(UnknownApprovalError):
            await bench.review.decide("apr_none", "approve", LOCAL_ALICE)
        with pytest.raises(UnknownApprovalError):
            await bench.review.show("apr_none")
        with pytest.raises(UnknownApprovalError):
            await bench.review.cancel("apr_none", BOB)
        cancelled = await ticket(bench)
        with pytest.raises(NotEligibleError, match="only the requester"):
            await bench.review.cancel(cancelled, Reviewer("eve", Assurance.A1, "cli", "other"))
        await bench.review.cancel(cancelled, LOCAL_ALICE)
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
    assert replace(found, nonce="", at_ns=0, exp_ns=0, comment_mac="") == statement.Statement(
        approval=approval_id,
        round=1,
        action_digest=request.row.action_digest,
        verdict="approve",
        reviewer="alice",
        assurance=Assurance.A1,
        channel="cli",
        mode="personal",
        separation="none",
        at_ns=0,
        exp_ns=0,
        comment_mac="",
        nonce="",
    )
    assert forged is None
    record = next(r for r in bench.audit.records if r.type == "approval.decision")
    assert base64.b64decode(str(record.fields["signature"])) == signed.signature
    assert record.payloads["comment"].value == "fine"
