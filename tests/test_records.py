"""What is written down of a call, step by step (decisions.md D26, D36)."""

from __future__ import annotations

import pytest

from mcp_guard import records
from mcp_guard.audit.record import prepare
from mcp_guard.errors import OutcomeUnknownError, PolicyDeniedError, UnknownTargetError
from mcp_guard.model import (
    Answer,
    Call,
    CallContext,
    CallKind,
    ClientInfo,
    Decision,
    Effect,
    MaskedJson,
    MaskedText,
    Principal,
    RawArguments,
    Record,
    Risk,
    Target,
    Views,
)

CANARY = "hunter2-canary"
ALICE = Principal("os", "alice", client=ClientInfo("host", "1.0"))
NOSY = Principal("os", "alice", client=ClientInfo(CANARY, CANARY))
"""A client that says a secret is its name."""
CONTEXT = CallContext("stdio", "2025-11-25", "ses_1")
DECISION = Decision(Effect.ALLOW, "rule-1", Risk.LOW, ("read only",), "0" * 64)


def call(kind: CallKind = CallKind.TOOL, name: str = "get") -> Call:
    return Call(
        "call_1", Target(kind, "crm", name, f"crm_{name}", local=True), RawArguments({"x": CANARY}), ALICE, CONTEXT
    )


def views() -> Views:
    masked = MaskedJson({"x": "[SECRET_aaaaaaaaaa]"})
    return Views(RawArguments({"x": CANARY}), masked, masked, secrets=("SECRET",))


def mask(text: str) -> MaskedText:
    return MaskedText(text.replace(CANARY, "[SECRET]"))


def every_record() -> list[Record]:
    ok = Answer(result=MaskedJson({"content": []}))
    return [
        records.intent(call(), views(), DECISION, mask),
        records.refused(call(), PolicyDeniedError("rule rule-1 denies this call")),
        records.unresolved("call_1", NOSY, CONTEXT, name=CANARY, error=UnknownTargetError("no such tool"), mask=mask),
        records.picked_up("call_1", ALICE, CONTEXT, ticket="apr_1", answer=ok),
        records.not_sent(call()),
        records.left(call(), "suspended", approval="apr_1"),
        records.delivered(call(), ok),
        records.result(call(), ok),
        records.no_result(call(), OutcomeUnknownError("crm went away")),
    ]


@pytest.mark.parametrize("record", every_record(), ids=lambda record: record.type)
def test_every_record_can_be_written_and_holds_no_raw_value(record: Record) -> None:
    """docs/audit.md: masked content only, canonical bodies."""
    prepared = prepare(record, record_id="rec_1", now_ns=1, mono_ns=1)
    assert CANARY.encode() not in prepared.body
    assert record.call_id == "call_1"
    assert record.actor == ALICE.key


def test_the_intent_says_who_asks_for_what_and_why_it_may() -> None:
    """decisions.md D36: client information is recorded."""
    fields = records.intent(call(), views(), DECISION, mask).fields
    assert fields["client"] == {"name": "host", "version": "1.0"}
    assert fields["decision"] == {
        "effect": "allow",
        "rule": "rule-1",
        "risk": "low",
        "reasons": ["read only"],
        "policy_sha256": "0" * 64,
    }
    assert fields["secrets"] == ["SECRET"]


def test_a_resource_uri_stands_in_the_intent_only_and_masked() -> None:
    """security.md S25: URIs are a side channel."""
    uri = f"db://admin:{CANARY}@host/table"
    record = records.intent(call(CallKind.RESOURCE, uri), views(), DECISION, mask)
    assert record.tool == "crm/resource"
    assert CANARY not in repr(record)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(result=MaskedJson({"content": []})), "ok"),
        (Answer(result=MaskedJson({"content": [], "isError": True})), "error"),
        (Answer(error=MaskedJson({"code": -1, "message": "x"})), "error"),
        (Answer(), "error"),
    ],
)
def test_the_outcome_tells_a_failed_call_from_a_successful_one(answer: Answer, outcome: str) -> None:
    """docs/audit.md."""
    assert records.result(call(), answer).outcome == outcome


def test_a_call_whose_outcome_nobody_knows_is_called_unknown() -> None:
    """security.md F1."""
    assert records.no_result(call(), OutcomeUnknownError("crm went away")).outcome == "unknown"
