"""A grant, a use and a revocation that somebody wrote into the database by hand are worth nothing (docs/grants.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.errors import ApprovalExpiredError
from mcp_guard.model import Answer, Assurance, Principal, Suspended
from tests.approval.bench import ALICE, LOCAL_ALICE, Bench, eventually
from tests.approval.granting import SAME, ask, grant, granting, outside, wide, write

TAMPER: dict[str, tuple[str, ...]] = {
    "longer": ("UPDATE standing_grant SET expires_ns = expires_ns + 1000000000000",),
    "another requester": ('UPDATE standing_grant SET owner = \'["os","eve",""]\'',),
    "another tool": ("UPDATE standing_grant SET tool = 'other'",),
    "another statement": ("UPDATE standing_grant SET statement = replace(statement, 'A1', 'A4')",),
    "more uses in the statement": ("UPDATE standing_grant SET statement = replace(statement, ':3', ':9')",),
    "another signature": ("UPDATE standing_grant SET signature = x'00'",),
    "another payload": ("UPDATE standing_grant SET payload = x'00112233445566778899'",),
    "another id": ("UPDATE standing_grant SET id = 'grt_copy'",),
}


@pytest.mark.parametrize("name", TAMPER)
async def test_a_grant_that_was_altered_lets_nothing_through(tmp_path: Path, name: str) -> None:
    """A row written by hand is worth nothing (docs/grants.md)."""
    async with wide(Bench(tmp_path)).guard() as bench:
        await grant(bench)
        for statement in TAMPER[name]:
            await bench.sql(statement)
        who = Principal("os", "eve") if name == "another requester" else ALICE
        got = await bench.ask(write("a", principal=who), decision=granting())
        listed = await bench.review.list_grants()
    assert isinstance(got, Suspended)
    assert got.state == "pending"
    assert len(bench.effects) == 1
    assert listed == []


async def test_a_counter_set_back_gives_no_further_use(tmp_path: Path) -> None:
    """Attack 36: rows can be set back by whoever writes the database; what was sent stays noted beside it."""
    async with wide(Bench(tmp_path)).guard() as bench:
        await grant(bench)
        for number in range(3):
            await bench.ask(write(f"{number}"), decision=granting(hold_s=5))
        await bench.sql("UPDATE standing_grant SET uses = 0")
        counted = await bench.ask(write("counted"), decision=granting())
        await bench.sql("UPDATE standing_grant SET uses = 0")
        await bench.sql("DELETE FROM grant_use")
        with pytest.raises(ApprovalExpiredError, match="used before"):
            await bench.ask(write("erased"), decision=granting(hold_s=5))
    assert isinstance(counted, Suspended)
    assert counted.state == "pending"
    assert len(bench.effects) == 4


async def test_a_revocation_taken_back_in_the_database_stays(tmp_path: Path) -> None:
    """docs/grants.md: the revocation is noted beside the database too."""
    async with wide(Bench(tmp_path)).guard() as bench:
        grant_id = await grant(bench)
        await bench.review.revoke_grant(grant_id, LOCAL_ALICE)
        await bench.sql("UPDATE standing_grant SET revoked_ns = NULL")
        got = await bench.ask(write("a"), decision=granting())
        states = [found.state for found in await bench.review.list_grants(active_only=False)]
    assert isinstance(got, Suspended)
    assert (states, len(bench.effects)) == (["revoked"], 1)


async def test_a_use_written_by_hand_carries_nothing_out(tmp_path: Path) -> None:
    """Attack 36: neither beyond the count nor for a call that the grant does not cover."""
    async with wide(Bench(tmp_path)).guard() as bench:
        grant_id = await grant(bench)
        elsewhere = await ask(bench, outside())
        beyond = await ask(bench, write("b"), granting(SAME))
        await bench.sql("INSERT INTO grant_use VALUES (?, 1, ?)", grant_id, elsewhere)
        await bench.sql("INSERT INTO grant_use VALUES (?, 4, ?)", grant_id, beyond)
        now = bench.store.now_ns()
        await bench.sql("UPDATE approval SET state = 'approved', use_by_ns = ? WHERE state = 'pending'", now + 10**11)
        for approval_id in (elsewhere, beyond):
            assert await bench.until(approval_id, "invalidated") == "invalidated"
    assert len(bench.effects) == 1


@pytest.mark.parametrize("column", ["id", "owner", "server", "statement", "revoked_by"])
async def test_a_row_that_is_no_text_stops_no_other_grant_and_no_other_call(tmp_path: Path, column: str) -> None:
    """docs/approvals.md, "Damage": one row may not stop approvals or the record."""
    copied = {"id": "'grt_evil'", "owner": "owner", "server": "server", "statement": "statement", "revoked_by": "''"}
    copied[column] = "cast(x'ff' AS TEXT)"
    async with wide(Bench(tmp_path)).guard() as bench:
        await grant(bench)
        values = "{id}, approval, {owner}, {server}, tool, created_ns, expires_ns, uses, 7, {revoked_by}, '[[', ''"
        rest = "payload, {statement}, signature, 0, 0 FROM standing_grant"
        await bench.sql(f"INSERT INTO standing_grant SELECT {values}, {rest}".format(**copied))
        covered = await bench.ask(write("a"), decision=granting(hold_s=5))
        pending = await ask(bench, outside(), granting(SAME))
        await bench.review.decide(pending, "approve", LOCAL_ALICE)
        state = await bench.until(pending, "completed")
        listed = await bench.review.list_grants(active_only=False)
    assert isinstance(covered, Answer)
    assert state == "completed"
    assert sorted(found.state for found in listed) == (["active"] if column == "id" else ["active", "void"])
    unverified = [r for r in bench.audit.records if r.type == "grant.unverified"]
    assert [r.fields for r in unverified] == ([] if column == "id" else [{"grant": "grt_evil"}] * len(unverified))


async def test_how_a_grant_was_revoked_cannot_be_rewritten(tmp_path: Path) -> None:
    """docs/audit.md: the record repeats what is authenticated, or ids alone."""
    async with wide(Bench(tmp_path)).guard() as bench:
        grant_id = await grant(bench)
    async with Bench(tmp_path).guard(background=False) as bench:
        await bench.review.revoke_grant(grant_id, Reviewer("script", Assurance.A0, "cli"))
        await bench.sql("UPDATE standing_grant SET revoked_how = replace(revoked_how, 'A0', 'A3')")
    async with Bench(tmp_path).guard() as bench:

        async def recorded() -> bool:
            return "grant.unverified" in bench.audit.types()

        await eventually(recorded)
    (record,) = [record for record in bench.audit.records if record.type.startswith("grant.")]
    assert record.fields == {"grant": grant_id}
