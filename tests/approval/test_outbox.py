"""What of the rows reaches the audit log (decisions.md D26)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.approval.signin import SignIn
from mcp_guard.errors import AuditUnavailableError
from mcp_guard.model import Assurance, JsonDict, Record, Suspended
from tests.approval.bench import ALICE, BOB, LOCAL_ALICE, Bench, call_of, eventually
from tests.e2e.harness import until

SECRET = "ghp_forged0123456789abcdefABCDEF012345678"
FORGED = {"decision": "approve", "reviewer": "c.e.o", "assurance": "A4", "separation": "reviewer", "comment": SECRET}
EDGE = ("T4", "pending", "approved", "c.e.o")


async def ticket(bench: Bench, table: str = "users") -> str:
    got = await bench.ask(call_of({"table": table}))
    assert isinstance(got, Suspended)
    return got.approval_id


async def forge(bench: Bench, approval_id: str, edge: tuple[str, str, str, str], detail: str, at_ns: int = 1) -> None:
    """An event that no transition left behind."""
    await bench.sql(
        "INSERT INTO event(approval, at_ns, transition, old, new, actor, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
        *(approval_id, at_ns, *edge, detail),
    )
    await bench.sql("INSERT INTO outbox SELECT max(seq), ?, NULL FROM event", approval_id)


async def recorded(bench: Bench, kind: str) -> Record:
    async def there() -> bool:
        return kind in bench.audit.types()

    await eventually(there)
    return next(record for record in bench.audit.records if record.type == kind)


@pytest.mark.parametrize(
    ("edge", "detail"),
    [
        (EDGE, json.dumps(FORGED)),
        (EDGE, json.dumps({**FORGED, "statement": "{}", "signature": "AAAA"})),
        (EDGE, json.dumps({**FORGED, "statement": "{}", "signature": "?"})),
        (EDGE, json.dumps({"statement": 1.5, "signature": 1.5})),
        (EDGE, "{"),
        (EDGE, "[" * 100_000),
        (("T9", "pending", "cancelled", ALICE.key), "{}"),
        (("T18", "unknown", "completed", "c.e.o"), "{}"),
        (("T12", "pending", "invalidated", "c.e.o"), "{}"),
        (("T12", "completed", "invalidated", "guard"), "{}"),
        (("T10", "pending", "approved", "clock"), "{}"),
        (("T1", "x", "pending", ALICE.key), "{}"),
        (("T99", SECRET, SECRET, SECRET), "{}"),
    ],
)
async def test_an_event_that_was_not_left_by_a_transition_is_named_and_not_repeated(
    tmp_path: Path, edge: tuple[str, str, str, str], detail: str
) -> None:
    """security.md S13: whoever writes the store does not write the record."""
    async with Bench(tmp_path).guard() as bench:
        approval_id = await ticket(bench)
        await forge(bench, approval_id, edge, detail)
        record = await recorded(bench, "approval.unverified")
        other = await ticket(bench, "other")
        await bench.review.decide(other, "approve", LOCAL_ALICE)
        await bench.until(other, "completed")
    assert set(record.fields) == {"approval", "event"}
    assert (record.actor, record.payloads) == ("", {})
    assert SECRET not in str(bench.audit.records)
    assert "c.e.o" not in str(bench.audit.records)


async def test_a_signed_statement_of_another_request_says_nothing_of_this_one(tmp_path: Path) -> None:
    """S3."""
    async with Bench(tmp_path).guard() as bench:
        one, two = await ticket(bench), await ticket(bench, "other")
        await bench.review.decide(one, "approve", LOCAL_ALICE)
        (event,) = [event for event in await bench.store.events(one) if event.transition == "T4"]
        await forge(bench, two, ("T4", "pending", "approved", "alice"), json.dumps(event.detail))
        record = await recorded(bench, "approval.unverified")
    assert record.fields["approval"] == two


async def test_a_record_says_of_a_decision_what_was_signed_whatever_stands_beside_it(tmp_path: Path) -> None:
    """S3: and a comment that is not the signed one is left out."""
    bench = Bench(tmp_path)
    bench.audit.broken["approval.decision"] = AuditUnavailableError("later")
    async with bench.guard():
        approval_id = await ticket(bench)
        await bench.review.decide(approval_id, "deny", BOB, "no")
        (event,) = [event for event in await bench.store.events(approval_id) if event.transition == "T5"]
        assert event.detail is not None
        lies: JsonDict = {**event.detail, "comment": SECRET, "reviewer": "c.e.o", "assurance": "A4"}
        await bench.sql("UPDATE event SET detail = ?, at_ns = 1 WHERE seq = ?", json.dumps(lies), event.seq)
        bench.audit.broken.clear()
        record = await recorded(bench, "approval.decision")
    assert (record.fields["reviewer"], record.fields["assurance"]) == ("bob", Assurance.A2.name)
    assert record.actor == "bob"
    assert record.at_ns > 1
    assert record.payloads == {}


async def test_a_time_that_cannot_be_is_replaced_by_the_time_of_recording(tmp_path: Path) -> None:
    """security.md S13."""
    async with Bench(tmp_path).guard() as bench:
        approval_id = await ticket(bench)
        await forge(bench, approval_id, ("T12", "pending", "invalidated", "guard"), '{"reason": "because"}')
        record = await recorded(bench, "approval.invalidated")
    assert record.at_ns == 0
    assert "reason" not in record.fields


async def test_of_an_altered_request_only_ids_are_recorded(tmp_path: Path) -> None:
    """T12: nothing of the row is repeated."""
    async with Bench(tmp_path).guard() as bench:
        approval_id = await ticket(bench)
        await bench.sql("UPDATE approval SET server = ?", SECRET)
        again = await ticket(bench)
        record = await recorded(bench, "approval.invalidated")
    assert again != approval_id
    assert (record.tool, record.call_id) == ("", "")
    assert record.fields["reason"] == "what is stored is not what was asked for"


async def test_a_new_reviewer_is_recorded_once_and_a_forged_one_is_named_as_such(tmp_path: Path) -> None:
    """D25, D26: whoever gets the power to approve is in the record."""
    async with Bench(tmp_path).guard() as bench:
        await bench.review.reviewers.add("bob", by="alice")
        record = await recorded(bench, "reviewer.added")
        await bench.sql("INSERT INTO reviewer VALUES (?, 'h', 1, 'c.e.o', 'm', NULL)", SECRET)
        forged = await recorded(bench, "reviewer.unverified")
        await anyio.sleep(0.1)
    assert dict(record.fields) == {"reviewer": "bob", "added_by": "alice"}
    assert dict(forged.fields) == {}
    assert bench.audit.types() == ["reviewer.added", "reviewer.unverified"]


async def test_what_happened_at_the_page_is_recorded_once_and_a_forged_row_is_named_as_such(tmp_path: Path) -> None:
    """D26: the page's process notes it, a guard appends it; of a row that it did not write nothing is repeated."""
    async with Bench(tmp_path).guard() as bench:
        signin = SignIn(bench.db, bench.store, bench.keys)
        await signin.open(Reviewer("rita", Assurance.A1, "console"))
        record = await recorded(bench, "console.signed_in")
        await signin.refused("token")
        refused = await recorded(bench, "console.refused")
        await bench.sql("INSERT INTO console_event VALUES (9, 1, 'signed_in', 'link', ?, 'A4', '', 'm')", SECRET)
        forged = await recorded(bench, "console.unverified")

        async def forgotten() -> bool:
            return not await bench.store.console_events()

        await until(forgotten)
    assert (record.actor, record.fields["how"], record.fields["assurance"]) == ("rita", "token", "A1")
    assert dict(refused.fields) == {"event": 2, "how": "token"}
    assert (dict(forged.fields), forged.actor) == ({}, "")
    assert bench.audit.types() == ["console.signed_in", "console.refused", "console.unverified"]


@pytest.mark.parametrize("how", ["second_look+fingerprint", ""])
async def test_how_a_person_decided_is_signed_and_recorded(tmp_path: Path, how: str) -> None:
    """docs/console.md: whether all was opened, a fingerprint typed, a second look taken; where the channel tells."""
    async with Bench(tmp_path).guard() as bench:
        await bench.review.decide(await ticket(bench), "deny", replace(BOB, how=how))
        record = await recorded(bench, "approval.decision")
    assert record.fields.get("how", "") == how
    assert json.loads(str(record.fields["statement"])).get("how", "") == how
