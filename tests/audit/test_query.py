"""The reading side."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mcp_guard.audit.query import Entry, follow, population, show, tail
from mcp_guard.model import MaskedJson, Record
from tests.fakes import FakeClock

from .conftest import OpenLog, Sample


def test_tail_gives_the_last_records_over_files_in_order(finished: Sample) -> None:
    """docs/cli.md, `audit`."""
    entries = tail(finished.folder, 6)
    assert [(e.file, e.index) for e in entries] == [
        *[("00/2026-09.db", index) for index in (299, 300)],
        *[("00/2026-10.db", index) for index in range(4)],
    ]
    assert [e.type for e in entries][-4:] == ["log.opened", "call.intent", "call.result", "log.closed"]


def test_show_gives_the_whole_call_with_its_payloads(finished: Sample) -> None:
    """docs/cli.md, `audit`: show CALL."""
    intent, result = show(finished.folder, "call_7")
    assert (intent.type, intent.outcome, intent.tool) == ("call.intent", "allow", "crm/get_customer")
    assert intent.payloads == {"args": {"id": 7, "note": "x" * 40}}
    assert result.payloads == {"result": {"rows": [{"email": "[EMAIL_k3f7q2m5xa]", "n": 1.5}] * 30}}


@pytest.mark.parametrize("key", ["call_", "call_99999", "", '"', "' OR 1=1 --", "%", "x" * 1000])
def test_show_finds_nothing_for_what_is_no_id(finished: Sample, key: str) -> None:
    """Parameters only; part of an id is no id."""
    assert show(finished.folder, key) == []


async def test_show_by_approval_gives_the_request_and_the_calls_that_used_it(open_log: OpenLog, folder: Path) -> None:
    """docs/cli.md, `audit`: who was asked, what they saw, what was decided."""
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1"))
        await log.append(Record("approval.requested", call_id="call_1", fields={"approval": "apr_1"}))
        await log.append(Record("approval.decision", fields={"approval": "apr_1"}))
        await log.append(Record("call.intent", call_id="call_2", fields={"approval": "apr_10"}))
        await log.append(Record("call.result", call_id="call_1"))
    types = ["call.intent", "approval.requested", "approval.decision", "call.result"]
    assert [entry.type for entry in show(folder, "apr_1")] == types


async def test_the_population_tells_what_became_of_calls_that_waited(open_log: OpenLog, folder: Path) -> None:
    """A denied, an expired and a waiting request: each call has an outcome without a record of its own."""
    async with open_log() as log:
        for name, state in (("call_1", "denied"), ("call_2", "expired"), ("call_3", "pending")):
            await log.append(Record("call.intent", call_id=name, outcome="require_approval"))
            await log.append(Record("call.suspended", call_id=name, outcome="suspended"))
            await log.append(Record("approval.decision", call_id=name, fields={"approval": "apr", "state": state}))
        await log.append(Record("approval.decision", call_id="elsewhere", fields={"state": "denied"}))
    calls = population(folder)
    assert [(call.call_id, call.outcome) for call in calls] == [
        ("call_1", "denied"),
        ("call_2", "expired"),
        ("call_3", "suspended"),
    ]
    assert not any(call.forwarded for call in calls)


async def test_an_erased_payload_shows_as_none(open_log: OpenLog, folder: Path, sample: Sample) -> None:
    """docs/audit.md, "When it fails"."""
    sample.execute("DELETE FROM payload WHERE idx IN (SELECT idx FROM rec WHERE call_id = 'call_7')")
    assert [entry.payloads for entry in show(sample.folder, "call_7")] == [{"args": None}, {"result": None}]


async def test_the_population_has_each_call_once_with_decision_and_outcome(
    open_log: OpenLog, folder: Path, clock: FakeClock
) -> None:
    """docs/audit.md: the downstream's own effect log equals the population."""
    async with open_log() as log, open_log() as other:
        for call_id, effect in (
            ("a", "allow"),
            ("b", "deny"),
            ("c", "require_approval"),
            ("d", "allow"),
            ("e", "allow"),
        ):
            await log.append(Record("call.intent", call_id=f"call_{call_id}", outcome=effect, tool="crm/delete"))
            clock.advance(1)
        await log.append(Record("call.result", call_id="call_a", outcome="ok"))
        await log.append(Record("call.refused", call_id="call_b", outcome="policy_denied"))
        await other.append(Record("call.forwarded", call_id="call_c", outcome="sent", fields={"approval": "apr_1"}))
        await other.append(Record("call.result", call_id="call_c", outcome="error"))
        await log.append(Record("call.result", call_id="call_d", outcome="downstream_unavailable"))
    calls = population(folder)
    assert [(c.call_id, c.effect, c.outcome, c.forwarded) for c in calls] == [
        ("call_a", "allow", "ok", True),
        ("call_b", "deny", "policy_denied", False),
        ("call_c", "require_approval", "error", True),
        ("call_d", "allow", "downstream_unavailable", False),
        ("call_e", "allow", "", False),
    ]
    assert calls[2].approval == "apr_1"
    middle = population(folder, since_us=calls[1].ts_us, until_us=calls[3].ts_us)
    assert [c.call_id for c in middle] == ["call_b", "call_c"]


async def test_following_gives_each_record_once_as_it_comes(open_log: OpenLog, folder: Path, clock: FakeClock) -> None:
    """docs/cli.md, `audit`: tail -f, over a change of file and from a second slot."""
    seen: list[Entry] = []
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1"))
        entries = follow(folder, limit=1, poll_s=0)
        seen.append(await anext(entries))
        await log.append(Record("call.result", call_id="call_1", payloads={"result": MaskedJson(1)}))
        seen.append(await anext(entries))
        clock.advance(31 * 86400)
        await log.append(Record("call.intent", call_id="call_2"))
        seen += [await anext(entries), await anext(entries)]
        async with open_log():
            seen.append(await anext(entries))
        await entries.aclose()  # type: ignore[attr-defined]
    assert [(e.file, e.index) for e in seen] == [
        ("00/2026-09.db", 1),
        ("00/2026-09.db", 2),
        ("00/2026-10.db", 0),
        ("00/2026-10.db", 1),
        ("01/2026-10.db", 0),
    ]


def test_reading_changes_nothing(sample: Sample) -> None:
    """docs/cli.md, `audit`: a reader never opens for writing."""
    before = hashlib.sha256(sample.file.read_bytes()).digest()
    tail(sample.folder)
    show(sample.folder, "call_1")
    population(sample.folder)
    sample.verify()
    assert hashlib.sha256(sample.file.read_bytes()).digest() == before


def test_a_folder_without_a_log_is_an_error_and_not_an_empty_list(tmp_path: Path) -> None:
    """Fail closed: "nothing happened" and "cannot read" are different answers."""
    with pytest.raises(FileNotFoundError):
        tail(tmp_path / "nowhere")


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"payloads": 1}', b"\xff"])
def test_a_damaged_record_is_named_and_not_skipped(sample: Sample, body: bytes) -> None:
    """Fail closed: a reader that leaves records out hides them."""
    sample.execute("UPDATE rec SET body = ? WHERE idx = 300", body)
    with pytest.raises(ValueError, match=r"record 300 of 00/2026-09\.db is damaged"):
        tail(sample.folder)


def test_a_damaged_payload_is_named(sample: Sample) -> None:
    """As above."""
    sample.execute("UPDATE payload SET data = X'ff' WHERE part = 'result'")
    with pytest.raises(ValueError, match="is damaged"):
        show(sample.folder, "call_7")
