"""Bodies and payloads."""

from __future__ import annotations

import hashlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from mcp_guard.audit.record import PAYLOAD_CAP, Prepared, decode_payload, payload_holds, prepare
from mcp_guard.audit.tree import leaf_hash
from mcp_guard.errors import AuditUnavailableError
from mcp_guard.model import MaskedJson, Record

KEYS = st.text('abcXYZ019_.~\x7f"\\', max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text('aé\u0000\x1f\u2028\uffff😀"\\/', max_size=20)
)
FIELDS = st.dictionaries(KEYS, st.recursive(SCALARS, lambda v: st.lists(v) | st.dictionaries(KEYS, v), max_leaves=10))


def prepared(record: Record) -> Prepared:
    return prepare(record, record_id="rec_1", now_ns=1_790_000_000_123_456_789, mono_ns=5_000)


def test_a_body_holds_every_part_of_the_record() -> None:
    """docs/audit.md, "How a change shows"; times are microseconds, since nanoseconds exceed 2^53."""
    record = Record("call.intent", "call_1", "ses_1", "ann", "crm/get", "allow", {"b": [1, None, True], "a": "é"})
    ready = prepared(record)
    body = orjson.loads(ready.body)
    assert body.pop("boot")
    assert body == {
        "v": 1,
        "type": "call.intent",
        "id": "rec_1",
        "ts": 1_790_000_000_123_456,
        "mono": 5,
        "call_id": "call_1",
        "session": "ses_1",
        "actor": "ann",
        "tool": "crm/get",
        "outcome": "allow",
        "payloads": {},
        "fields": {"a": "é", "b": [1, None, True]},
    }
    assert ready.columns == (1_790_000_000_123_456, "call.intent", "call_1", "ses_1", "ann", "crm/get", "allow")
    assert ready.leaf == leaf_hash(ready.body)


def test_the_time_of_the_event_goes_before_the_time_of_writing() -> None:
    """Approval events reach the log late (decisions.md D26)."""
    assert prepared(Record("approval.decision", at_ns=7_000)).columns[0] == 7


@given(FIELDS)
def test_equal_fields_give_equal_bytes_in_whatever_order_they_came(fields: dict[str, JsonValue]) -> None:
    """decisions.md D9: sorted keys, no white space, as RFC 8785 writes what a body may hold."""
    backwards = dict(reversed(fields.items()))
    body = prepared(Record("x", fields=fields)).body
    assert body == prepared(Record("x", fields=backwards)).body
    assert orjson.loads(body)["fields"] == fields
    assert body == json.dumps(orjson.loads(body), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "value",
    [1.5, float("nan"), 2**53, -(2**53), 2**64, "\ud800", {"é": 1}, {"\ud800": 1}, [[1.0]], (1, 2)],
    ids=["float", "nan", "2^53", "-2^53", "2^64", "surrogate", "key", "surrogate-key", "nested", "tuple"],
)
def test_what_has_no_canonical_form_is_refused_with_constant_text(value: JsonValue) -> None:
    """decisions.md D9, docs/audit.md, "How a change shows"."""
    with pytest.raises(AuditUnavailableError, match="no canonical form") as caught:
        prepared(Record("x", fields={"canary-key": ["canary-value", value]}))
    assert "canary" not in str(caught.value)


def test_too_deep_fields_are_refused() -> None:
    """docs/audit.md, "How a change shows"."""
    deep: JsonValue = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(AuditUnavailableError):
        prepared(Record("x", fields={"a": deep}))
    with pytest.raises(AuditUnavailableError):
        prepared(Record("x", payloads={"args": MaskedJson(deep)}))


def test_a_payload_that_is_no_json_is_refused() -> None:
    """docs/audit.md, "How a change shows": orjson would write NaN as null."""
    with pytest.raises(AuditUnavailableError):
        prepared(Record("x", payloads={"args": MaskedJson({"n": float("inf")})}))


@pytest.mark.parametrize("value", [{"a": 1.5, "b": "\ud800"}, "x" * 3000, [2**80, None], {"é": "\u0000"}])
def test_a_payload_reads_back_and_is_committed_to(value: JsonValue) -> None:
    """docs/audit.md, "How a change shows": commit = SHA-256(salt ‖ data)."""
    ready = prepared(Record("x", payloads={"args": MaskedJson(value)}))
    ref = orjson.loads(ready.body)["payloads"]["args"]
    row = ready.payloads[0]
    assert ref["commit"] == hashlib.sha256(row.salt + row.data).hexdigest()
    assert ref["bytes"] == len(json.dumps(value, separators=(",", ":")))
    assert decode_payload(ref, row.data) == value
    assert payload_holds(ref, row.salt, row.data)
    assert not payload_holds(ref, row.salt, row.data + b"x")
    assert not payload_holds(ref, row.salt[::-1], row.data)


def test_equal_payloads_have_different_commitments() -> None:
    """docs/audit.md, "How a change shows": an unsalted digest of a phone number can be guessed."""
    rows = [prepared(Record("x", payloads={"args": MaskedJson("same")})).payloads[0].salt for _ in range(2)]
    assert rows[0] != rows[1]


def test_a_large_payload_keeps_head_and_tail_and_the_digest_of_the_whole() -> None:
    """docs/audit.md, "When it fails": truncated, never refused for its size."""
    value = "a" * 100_000 + "z" * 100_000
    ready = prepared(Record("x", payloads={"result": MaskedJson(value)}))
    ref, row = orjson.loads(ready.body)["payloads"]["result"], ready.payloads[0]
    text = decode_payload(ref, row.data)
    assert isinstance(text, str)
    assert len(text) <= PAYLOAD_CAP
    assert text.startswith('"aaa')
    assert text.endswith('zzz"')
    assert (ref["truncated"], ref["bytes"]) == (True, 200_002)
    assert ref["whole"] == hashlib.sha256(row.salt + json.dumps(value).encode()).hexdigest()


def test_damaged_and_exploding_payloads_are_refused() -> None:
    """A reader must not unpack more than was ever written."""
    import zlib

    with pytest.raises(ValueError, match="damaged"):
        decode_payload({"encoding": "zlib"}, b"not zlib")
    with pytest.raises(ValueError, match="damaged"):
        decode_payload({"encoding": "zlib"}, zlib.compress(b"0" * 10_000_000))


def test_neither_record_nor_payload_shows_its_content() -> None:
    """CONTRIBUTING.md, habit 4."""
    ready = prepared(Record("x", fields={"a": "canary"}, payloads={"args": MaskedJson("canary")}))
    assert "canary" not in repr(ready)
    assert "canary" not in repr(ready.payloads)
