"""What happens to a grant between the card, the answer and the send: links, and revocations on the way."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import anyio
import pytest

from mcp_guard.approval.execution import Approved, ClaimedRun
from mcp_guard.approval.grants import Warrant
from mcp_guard.approval.sealed import intact
from mcp_guard.approval.statement import Stored
from mcp_guard.approval.used import Used
from mcp_guard.errors import ApprovalExpiredError, NoEligibleReviewerError, UsageError
from mcp_guard.model import Answer, Assurance, MaskedText, Suspended
from tests.approval.bench import BOB, LOCAL_ALICE, Bench
from tests.approval.granting import ask, grant, granting, outside, wide, write

# -- folders and links -------------------------------------------------------------------------------------------

links = pytest.mark.skipif(os.name == "nt", reason="making links needs a privilege there")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "work"
    folder.mkdir(parents=True)
    (folder / "cache").symlink_to("/")
    return folder


def swap(folder: Path, to: Path | str) -> None:
    """Put a link where the folder was."""
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(to)


@links
async def test_a_folder_that_is_reached_through_a_link_is_not_offered(tmp_path: Path, project: Path) -> None:
    """Attack 36, docs/grants.md: the card says one folder, and the link leads to another: here to all of them."""
    async with wide(Bench(tmp_path / "data")).guard() as bench:
        first = await ask(bench, outside(str(project / "cache" / "notes.txt")))
        request = await bench.store.get(first)
        assert request is not None
        with pytest.raises(UsageError, match="no such grant"):
            await bench.review.decide(first, "approve", LOCAL_ALICE, grant=1)
        plain = await ask(bench, outside(str(project / "notes.txt")))
        await bench.review.decide(plain, "approve", LOCAL_ALICE, grant=1)
        through = await bench.ask(outside(str(project / "cache" / "etc" / "one" / "x")), decision=granting())
    assert isinstance(request.view["grants"], list)
    assert len(request.view["grants"]) == 1
    assert isinstance(through, Suspended)
    assert through.state == "pending"


@links
async def test_a_folder_that_becomes_a_link_before_the_answer_is_not_granted(tmp_path: Path, project: Path) -> None:
    """Attack 36: what the reviewer saw is what is granted, and nothing is decided otherwise."""
    async with wide(Bench(tmp_path / "data")).guard() as bench:
        first = await ask(bench, outside(str(project / "a.txt")))
        swap(project, "/")
        with pytest.raises(UsageError, match="through a link now"):
            await bench.review.decide(first, "approve", LOCAL_ALICE, grant=1)
        assert await bench.state(first) == "pending"
        assert await bench.review.list_grants(active_only=False) == []
    assert bench.effects == []


@links
async def test_a_folder_that_becomes_a_link_after_the_grant_covers_nothing(tmp_path: Path, project: Path) -> None:
    """Attack 36: also for a call that was let through and not sent."""
    bench = wide(Bench(tmp_path / "data"))
    async with bench.guard():
        first = await ask(bench, outside(str(project / "a.txt")))
        await bench.review.decide(first, "approve", LOCAL_ALICE, grant=1)
        await bench.until(first, "completed")
        swap(project, tmp_path)
        got = await bench.ask(outside(str(project / "b.txt")), decision=granting())
    assert isinstance(got, Suspended)
    assert (got.state, len(bench.effects)) == ("pending", 1)


# -- revoked on the way ------------------------------------------------------------------------------------------


async def test_a_grant_revoked_while_its_call_is_checked_again_lets_nothing_through(tmp_path: Path) -> None:
    """S13, T14: asking the catalogue again may take seconds."""
    bench = wide(Bench(tmp_path))
    async with bench.guard():
        grant_id = await grant(bench)
        reached, gate = anyio.Event(), anyio.Event()
        bench.slow = (reached, gate)
        async with anyio.create_task_group() as group:

            async def call() -> None:
                with pytest.raises(ApprovalExpiredError, match="was revoked"):
                    await bench.ask(write("late"), decision=granting(hold_s=5))

            group.start_soon(call)
            await reached.wait()
            await bench.review.revoke_grant(grant_id, LOCAL_ALICE)
            gate.set()
    assert [effect["content"] for effect in bench.effects] == ["first"]


@pytest.mark.parametrize("where", ["file", "row"])
async def test_a_grant_revoked_just_before_the_send_lets_nothing_through(tmp_path: Path, where: str) -> None:
    """S13, T14: the row is looked at in the transaction that marks it as sent, the file beside it as well."""
    bench = wide(Bench(tmp_path))
    async with bench.guard():
        grant_id = await grant(bench)

        def revoke() -> None:
            if where == "file":
                (tmp_path / "used" / f"{grant_id}.revoked").write_text(str(2**62))
                return
            with contextlib.closing(sqlite3.connect(tmp_path / "approvals.db")) as db:
                db.execute("UPDATE standing_grant SET revoked_ns = 1")
                db.commit()

        bench.before_send = revoke
        with pytest.raises(ApprovalExpiredError, match="was revoked"):
            await bench.ask(write("late"), decision=granting(hold_s=5))
    assert [effect["content"] for effect in bench.effects] == ["first"]


async def test_a_grant_revoked_after_the_call_is_marked_sends_nothing(tmp_path: Path) -> None:
    """docs/grants.md: the note that a use was spent is refused where the revocation is noted."""
    bench = wide(Bench(tmp_path))
    async with bench.guard(background=False):
        first = await ask(bench, write("first"))
        await bench.review.decide(first, "approve", LOCAL_ALICE, grant=1)
        (found,) = await bench.review.list_grants()
        used = Used(tmp_path / "used")
        warrant = Warrant(found.id, 1, Assurance.A1, "none", 2**62)
        stored = intact(bench.keys, MaskedText, (await bench.review.show(first)).request)
        assert isinstance(stored, Stored)
        approved = Approved(stored, Assurance.A1, "none", 2**62, warrant)
        run = ClaimedRun(bench.store, used, (await bench.review.show(first)).request, approved)
        assert used.take(warrant.ended, 2**62)
        assert not run._note_used()


async def test_a_grant_that_is_used_up_makes_nobody_reachable(tmp_path: Path) -> None:
    """docs/approvals.md S5: a call that nobody could approve is refused at once, grant or no grant."""
    strong = granting(min_assurance=Assurance.A2)
    async with wide(Bench(tmp_path)).guard() as bench:
        await bench.review.reviewers.add("bob", by="test")
        bench.today = lambda _decision: strong
        first = await ask(bench, write("first"), strong)
        await bench.review.decide(first, "approve", BOB, grant=1)
        await bench.until(first, "completed")
        for number in range(3):
            assert isinstance(
                await bench.ask(write(f"{number}"), decision=granting(hold_s=5, min_assurance=Assurance.A2)), Answer
            )
        await bench.sql("DELETE FROM reviewer")
        with pytest.raises(NoEligibleReviewerError):
            await bench.ask(write("fourth"), decision=strong)
    assert len(bench.effects) == 4
