"""The strict reader: what is refused, with which code, and what survives unchanged."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCResponse, jsonrpc_message_adapter
from pydantic import JsonValue

from mcp_guard.errors import WireError
from mcp_guard.model import JsonDict
from mcp_guard.wire.reader import DOWNSTREAM, dump, dump_json, parse_message, to_session_message

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**1000), 2**1000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def call(value: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{"v":%s}}}' % value.encode()


def refusal(line: bytes) -> tuple[int, object]:
    with pytest.raises(WireError) as caught:
        parse_message(line)
    return caught.value.rpc, caught.value.request_id


@pytest.mark.parametrize(
    "value",
    ['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', "NaN", "-Infinity", '"\\ud800"', "01", "1.", "'x'", "[1,]", "tru", '"\t"'],
)
def test_what_parsers_read_differently_is_a_parse_error(value: str) -> None:
    """security.md S1, S2, S3."""
    assert refusal(call(value))[0] == -32700


@pytest.mark.parametrize("value", ["1e400", "-1e400", str(2**1025), "9" * 5000, "[" * 120 + "]" * 120, "[" * 999])
def test_numbers_out_of_range_and_deep_nesting_are_invalid_requests(value: str) -> None:
    """security.md S2, S4."""
    assert refusal(call(value))[0] == -32600


@pytest.mark.parametrize(
    "line", [b"\xef\xbb\xbf" + call("1"), call('"x"').replace(b"x", b"\xff"), '{"jsonrpc":"2.0"}'.encode("utf-16")]
)
def test_bytes_that_are_not_plain_utf8_are_a_parse_error(line: bytes) -> None:
    """security.md S3."""
    assert refusal(line)[0] == -32700


def test_a_refused_request_names_its_id_where_it_can_be_read() -> None:
    """decisions.md D3: never silence. A client waits for the id it used."""
    assert refusal(call('{"a":1,"a":2}')) == (-32700, 7)
    assert refusal(call("1e400")) == (-32600, 7)
    assert refusal(b'{"jsonrpc":"2.0","id":7') == (-32700, None)


def test_the_text_of_a_refusal_holds_nothing_of_the_line() -> None:
    """decisions.md D4. The text of the JSON parser would hold the duplicate key."""
    with pytest.raises(WireError) as caught:
        parse_message(call('{"hunter2":1,"hunter2":2}'))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "message",
    [
        [],
        [{"jsonrpc": "2.0", "id": 1, "method": "ping"}],
        "x",
        {"id": 1, "method": "ping"},
        {"jsonrpc": "1.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": True, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1.5, "method": "ping"},
        {"jsonrpc": "2.0", "id": None, "method": "ping"},
        {"jsonrpc": "2.0", "id": "x" * 257, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": None}},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": {"progressToken": True}}},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "result": {}},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "error": {"code": 1, "message": "x"}},
        {"jsonrpc": "2.0", "id": None, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "result": []},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": True, "message": "x"}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1}},
    ],
)
def test_an_envelope_that_is_no_single_message_is_an_invalid_request(message: JsonValue) -> None:
    """security.md S5; JSON-RPC 2.0 §4, §5."""
    assert refusal(json.dumps(message).encode())[0] == -32600


def test_too_many_values_are_refused_within_the_limit_of_the_line() -> None:
    """security.md S4: 100k nodes."""
    assert refusal(call("[" + "1," * 100_001 + "1]")) == (-32600, 7)


def test_a_line_above_the_limit_of_the_peer_is_refused() -> None:
    """decisions.md D3: 4 MiB at the front, 32 MiB from downstream servers."""
    line = call('"' + "x" * (5 << 20) + '"')
    assert refusal(line)[0] == -32600
    assert parse_message(line, DOWNSTREAM)["id"] == 7


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_arguments_survive_reading_and_writing_exactly(arguments: JsonDict) -> None:
    """security.md S6: what was judged is what is forwarded."""
    message: JsonDict = {"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": {"arguments": arguments}}
    line = dump(to_session_message(parse_message(dump_json(message))))
    again = parse_message(line.rstrip(b"\n"))
    assert line.count(b"\n") == 1
    assert again == message
    assert repr(again) == repr(message)


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/x", "params": {}},
        {"jsonrpc": "2.0", "id": "a", "result": {"x": None}},
        {"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "m", "data": None}},
    ],
)
def test_messages_become_the_same_models_as_the_sdk_makes(message: JsonDict) -> None:
    """decisions.md D21: differential against the SDK's own parser; unknown members of the envelope are left out."""
    theirs = SessionMessage(jsonrpc_message_adapter.validate_python(message))
    ours = to_session_message(parse_message(dump_json({**message, "vendor": 1})))
    assert type(ours.message) is type(theirs.message)
    assert ours.message == theirs.message
    assert json.loads(dump(ours)) == message


def test_a_value_without_json_form_cannot_be_written() -> None:
    """decisions.md D22."""
    with pytest.raises(ValueError, match="surrogate"):
        dump(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={"x": "\ud800"})))
    assert b"NaN" in dump_json(math.nan)
