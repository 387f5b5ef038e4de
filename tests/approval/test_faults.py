"""What the desk does while its store, its log, its folders or its clients fail: nothing runs, and nothing leaks."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from mcp_guard.approval import grantrows, runner, statement
from mcp_guard.approval.holders import Holders
from mcp_guard.approval.used import Used
from mcp_guard.errors import (
    ApprovalDeniedError,
    DownstreamUnavailableError,
    StoreUnavailableError,
)
from mcp_guard.model import Decision, Suspended
from mcp_guard.question import Prompt, PromptAnswer
from mcp_guard.system import FileLock
from tests.approval.bench import ALICE, LOCAL_ALICE, SECRET, Bench, TestFront, call_of, decision_of, eventually
from tests.approval.granting import ask, grant, wide
from tests.fakes import CountingIds

APPROVE = PromptAnswer("approve")


@dataclass
class Person(TestFront):
    """A client whose user takes time to answer; what happens meanwhile is `meanwhile`."""

    can_prompt: bool = True
    meanwhile: Callable[[], Awaitable[object]] | None = None
    says: PromptAnswer = field(default_factory=lambda: APPROVE)

    async def ask(self, prompt: Prompt) -> PromptAnswer | None:
        if self.meanwhile is not None:
            await self.meanwhile()
        return self.says


def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that tries again at once what failed."""
    monkeypatch.setattr(runner, "_ROUND_S", 0.01)


# -- the runner ------------------------------------------------------------------------------------------------


async def test_an_approved_call_that_cannot_be_checked_again_waits_and_runs_once_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S10, security.md F2: a server that is not there voids no approval, and nothing is claimed meanwhile."""
    seldom(monkeypatch)
    tried = anyio.Event()

    def gone(_decision: Decision) -> Decision:
        tried.set()
        raise DownstreamUnavailableError("db is not running")

    async with Bench(tmp_path, today=gone).guard() as bench:
        approval_id = await ask(bench, call_of(), decision_of())
        await bench.review.decide(approval_id, "approve", LOCAL_ALICE)
        with anyio.fail_after(5):
            await tried.wait()
        assert (await bench.state(approval_id), bench.ran) == ("approved", [])
        bench.today = lambda decision: decision
        await bench.until(approval_id, "completed")
    assert bench.ran == [approval_id]


async def test_a_log_that_breaks_in_a_new_way_keeps_an_approved_call_from_running_and_its_text_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """decisions.md D26; security.md F10, S35: what led to a call is on record before it is claimed."""
    seldom(monkeypatch)
    async with Bench(tmp_path).guard() as bench:
        bench.audit.broken = {"approval.decision": RuntimeError(SECRET)}
        approval_id = await ask(bench, call_of(), decision_of())
        with capture_logs() as logged:
            await bench.review.decide(approval_id, "approve", LOCAL_ALICE)

            async def both_tried() -> bool:
                return {"approved_call_broke", "approval_round_broke"} <= {entry["event"] for entry in logged}

            await eventually(both_tried)
        assert (await bench.state(approval_id), bench.ran) == ("approved", [])
        assert SECRET not in repr(logged)
        bench.audit.broken = {}
        await bench.until(approval_id, "completed")
    assert bench.ran == [approval_id]


async def test_a_guard_that_cannot_look_at_its_store_goes_on_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """security.md F12: the guard of a whole session does not end because one look failed, and runs nothing by it."""
    seldom(monkeypatch)
    async with Bench(tmp_path).guard() as bench:
        approval_id = await ask(bench, call_of(), decision_of())
        page = anyio.Event()

        async def wait_for_page() -> None:
            await bench.desk.until_asked()
            page.set()

        await bench.sql("ALTER TABLE approval RENAME TO aside")
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_page)
            with capture_logs() as logged:

                async def failed() -> bool:
                    return any(entry["event"] == "approval_round_failed" for entry in logged)

                await eventually(failed)
            assert not page.is_set()
            await bench.sql("ALTER TABLE aside RENAME TO approval")
            with anyio.fail_after(5):
                await page.wait()
        assert (await bench.state(approval_id), bench.ran) == ("pending", [])


async def test_an_approved_call_whose_row_somebody_touched_after_the_claim_is_not_sent(tmp_path: Path) -> None:
    """approvals.md T14; security.md S14: the last step before the bytes is a compare-and-set as well."""
    async with Bench(tmp_path).guard() as bench:

        def touched() -> None:
            with closing(sqlite3.connect(tmp_path / "approvals.db", isolation_level=None)) as db:
                db.execute("UPDATE approval SET version = version + 1")

        bench.before_send = touched
        approval_id = await ask(bench, call_of(), decision_of())
        await bench.review.decide(approval_id, "approve", LOCAL_ALICE)
        with anyio.fail_after(5):
            await bench.started.wait()
        await bench.desk.wait(approval_id, ALICE, 0.1)
        assert await bench.state(approval_id) == "executing"
    assert (bench.ran, bench.effects) == ([], [])
    assert not Used(tmp_path / "used").holds(approval_id)


# -- waiting ---------------------------------------------------------------------------------------------------


async def test_a_yes_that_comes_after_somebody_elses_no_runs_nothing(tmp_path: Path) -> None:
    """security.md S13: one winner."""
    async with Bench(tmp_path).guard() as bench:
        front = Person()

        async def somebody_denies() -> None:
            (request,) = await bench.store.requests()
            await bench.review.decide(request.row.id, "deny", LOCAL_ALICE)

        front.meanwhile = somebody_denies
        with pytest.raises(ApprovalDeniedError):
            await bench.ask(call_of(), front, decision_of(hold_s=5))
    assert bench.ran == []


async def test_a_yes_that_cannot_be_stored_is_none(tmp_path: Path) -> None:
    """security.md F10, F12: the decision and its signed statement are one transaction."""
    async with Bench(tmp_path).guard() as bench:
        front = Person(meanwhile=lambda: bench.sql("ALTER TABLE decision RENAME TO aside"))
        with capture_logs() as logged:
            got = await bench.ask(call_of(), front, decision_of(hold_s=0.2))
        assert [entry["error"] for entry in logged if entry["event"] == "approval_prompt_failed"] == [
            "store_unavailable"
        ]
        await bench.sql("ALTER TABLE aside RENAME TO decision")
        assert isinstance(got, Suspended)
        assert await bench.state(got.approval_id) == "pending"
    assert bench.ran == []


async def test_that_a_prompt_was_dismissed_and_cannot_be_noted_changes_nothing_for_the_call(tmp_path: Path) -> None:
    """docs/approvals.md S16: at worst somebody is asked once more."""
    async with Bench(tmp_path).guard() as bench:
        rename = "ALTER TABLE approval RENAME COLUMN asked_until_ns TO aside"
        front = Person(meanwhile=lambda: bench.sql(rename), says=PromptAnswer("dismissed"))
        with capture_logs() as logged:
            got = await bench.ask(call_of(), front, decision_of(hold_s=0.2))
        assert any(entry["event"] == "approval_prompt_not_noted" for entry in logged)
        assert isinstance(got, Suspended)
        assert await bench.state(got.approval_id) == "pending"
    assert bench.ran == []


async def test_a_row_that_is_altered_while_its_call_waits_ends_the_call_without_running_it(tmp_path: Path) -> None:
    """docs/approvals.md, "Damage"; security.md S14."""
    async with Bench(tmp_path).guard() as bench:
        front = Person(meanwhile=lambda: bench.sql("UPDATE approval SET view = '?' || ?", SECRET))
        front.says = PromptAnswer("dismissed")
        with pytest.raises(StoreUnavailableError, match="altered from outside") as caught:
            await bench.ask(call_of(), front, decision_of(hold_s=5))
    assert bench.ran == []
    assert SECRET not in str(caught.value)


# -- what is signed and noted ----------------------------------------------------------------------------------


async def test_a_signed_statement_of_another_form_decides_nothing(tmp_path: Path) -> None:
    """security.md S17: also where the signature is good, as of another version."""
    async with Bench(tmp_path).guard(background=False) as bench:
        for text in ('{"v": 9}', "[]", '"approve"', "{"):
            signature = bench.keys.signing_key("decision").sign(statement._DOMAIN + text.encode())
            assert statement.verify(bench.keys, text, signature) is None


async def test_a_grant_of_which_nobody_can_read_how_it_was_revoked_is_on_record_and_lets_nothing_through(
    tmp_path: Path,
) -> None:
    """docs/grants.md; security.md S36: one row stops neither the record nor the revocation."""
    async with wide(Bench(tmp_path)).guard() as bench:
        grant_id = await grant(bench)
        row = await bench.store.grant(grant_id)
        assert row is not None
        odd = replace(row, revoked_ns=1, revoked_by="alice", revoked_how="{" + SECRET, revoked_recorded=0)
        mac = grantrows._mac(bench.keys.secret("lookup"), odd)
        with capture_logs() as logged:
            await bench.sql(
                "UPDATE standing_grant SET revoked_ns = 1, revoked_by = 'alice', revoked_how = ?, revoked_mac = ?",
                odd.revoked_how,
                mac,
            )

            async def told() -> bool:
                return "grant.unverified" in bench.audit.types()

            await eventually(told)
        assert isinstance(await bench.ask(call_of()), Suspended)
    assert SECRET not in f"{logged}{bench.audit.records}"


async def test_a_revocation_that_leaves_no_witness_counts_and_says_that_it_is_not_for_good(tmp_path: Path) -> None:
    """docs/grants.md: the database alone could be set back."""
    async with wide(Bench(tmp_path)).guard() as bench:
        grant_id = await grant(bench)
        used = tmp_path / "used"
        used.rename(tmp_path / "aside")
        used.symlink_to(tmp_path / "nowhere")
        with pytest.raises(StoreUnavailableError, match="could not be noted"):
            await bench.review.revoke_grant(grant_id, LOCAL_ALICE)
        assert await bench.review.list_grants() == []
        used.unlink()
        assert (await bench.review.revoke_grant(grant_id, LOCAL_ALICE)).state == "revoked"


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_on_a_full_disk_an_approval_is_not_taken_and_stays_used(tmp_path: Path) -> None:
    """security.md F10, approvals.md I1: what cannot be noted is not sent, then or later."""
    code = (
        "import resource, sys; from pathlib import Path; from mcp_guard.approval.used import Used\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); used = Used(Path(sys.argv[1]))\n"
        "print(used.take('apr_1', 5), used.holds('apr_1'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "used")], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "False True"


def test_witnesses_that_cannot_be_listed_are_left_alone(tmp_path: Path) -> None:
    """security.md F12: cleaning up stops no start, and what cannot be looked at counts as used."""
    (tmp_path / "used").write_bytes(b"")
    Used(tmp_path / "used").sweep(0)
    assert Used(tmp_path / "used").holds("apr_1")


# -- holders ---------------------------------------------------------------------------------------------------


def test_a_process_without_a_lock_of_its_own_holds_nothing(tmp_path: Path, ids: CountingIds) -> None:
    """security.md F10."""
    (tmp_path / "holders").write_bytes(b"")
    holders = Holders(tmp_path / "holders", ids)
    with pytest.raises(StoreUnavailableError, match="holder locks cannot be used"):
        holders.open()
    assert not holders.alive(holders.id)


def test_a_holder_that_cannot_be_looked_at_counts_as_alive(tmp_path: Path, ids: CountingIds) -> None:
    """approvals.md T15, T17: nothing is taken from a process that may still be sending."""
    folder = tmp_path / "holders"
    holders = Holders(folder, ids)
    holders.open()
    (folder / "hld_dead.lock").write_bytes(b"")
    (folder / "hld_odd.lock").mkdir()
    seen = [holders.alive(name) for name in ("hld_never", "../hld_x", "hld_dead", "hld_odd")]
    assert seen == [False, False, False, True]
    holders.close()
    folder.rename(tmp_path / "aside")
    folder.write_bytes(b"")
    assert holders.alive("hld_other")


def test_a_holder_whose_lock_file_was_taken_away_still_gives_its_lock_up(tmp_path: Path, ids: CountingIds) -> None:
    """security.md F8: an end is an end, whatever became of the folder."""
    folder = tmp_path / "holders"
    holders = Holders(folder, ids)
    holders.open()
    path = folder / f"{holders.id}.lock"
    path.rename(folder / "moved")
    path.mkdir()
    holders.close()
    moved = FileLock(folder / "moved")
    assert moved.try_acquire()
    moved.release()
