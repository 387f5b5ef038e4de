"""Actions and statements (approvals.md S1 to S3)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mcp_guard.approval.statement import Stored, action_digest, dump, load, lookup
from mcp_guard.keystore import KeyStore
from mcp_guard.model import JsonDict, Principal, RawArguments
from tests.approval.bench import SECRET, call_of, decision_of, views_of


def stored_for(arguments: JsonDict) -> Stored:
    call = call_of(arguments)
    return Stored(call, views_of(call), decision_of(), "prod", "personal")


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": 2**60 + 1},
        {"n": 2**200},
        {"f": 1.0},
        {"f": -0.0},
        {"f": 1e300},
        {"s": "\u202e\u0000é"},
        {"d": {"a": [None]}},
    ],
    ids=["snowflake", "huge", "whole float", "minus zero", "large float", "text", "nested"],
)
def test_what_is_stored_comes_back_exactly(arguments: JsonDict) -> None:
    """Attack 41, S2: what runs later has the digest of what was asked for."""
    stored = stored_for(arguments)
    back = load(dump(stored))
    assert back == stored
    assert back is not None
    assert action_digest(back, "n") == action_digest(stored, "n")


def test_what_is_not_a_stored_call_is_none() -> None:
    assert load(b"{}") is None
    assert load(b"\xff") is None


def test_the_digest_covers_everything_that_matters() -> None:
    """S1: each part changes it, so nothing can be swapped under an approval."""
    one = stored_for({"a": 1})
    target, call = one.call.target, one.call
    others = [
        stored_for({"a": 1.0}),
        stored_for({"a": "1"}),
        replace(one, environment="dev"),
        replace(one, call=replace(call, meta={"k": "v"})),
        replace(one, call=replace(call, principal=Principal("os", "bob"))),
        replace(one, call=replace(call, target=replace(target, server="x"))),
        replace(one, call=replace(call, target=replace(target, server_identity="x"))),
        replace(one, call=replace(call, target=replace(target, name="x"))),
        replace(one, call=replace(call, target=replace(target, definition_digest="x"))),
        replace(one, decision=replace(one.decision, rule="x")),
        replace(one, decision=replace(one.decision, policy_digest="x")),
    ]
    digests = {action_digest(stored, "n") for stored in [one, *others]} | {action_digest(one, "other nonce")}
    assert len(digests) == len(others) + 2


def test_the_lookup_is_of_one_owner_and_needs_the_key(tmp_path: Path) -> None:
    """S1, D36: clientInfo is not identity."""
    keys = KeyStore(tmp_path / "one")
    call = call_of({"a": 1})
    same = lookup(keys, call_of({"a": 1}), RawArguments({"a": 1}))
    assert lookup(keys, call, RawArguments({"a": 1})) == same
    assert lookup(keys, call, RawArguments({"a": 1.0})) != same
    assert lookup(keys, call_of({"a": 1}, principal=Principal("os", "bob")), RawArguments({"a": 1})) != same
    assert lookup(KeyStore(tmp_path / "two"), call, RawArguments({"a": 1})) != same


def test_nothing_secret_is_in_a_repr() -> None:
    assert SECRET not in repr(stored_for({"token": SECRET}))
