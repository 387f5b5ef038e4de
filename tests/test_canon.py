"""Canonical bytes and digests (approvals.md S1, S2)."""

from __future__ import annotations

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from mcp_guard.canon import canonical, digest, fingerprint, keyed_digest
from mcp_guard.errors import InvalidArgumentsError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aé\u0301\u00e9:;s1{}[]", max_size=6)
)
VALUES = st.recursive(
    SCALARS,
    lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text("ab1:;", max_size=4), v, max_size=4),
    max_leaves=8,
)


def typed(value: JsonValue) -> object:
    """Equality of JSON values that tells 1, 1.0, True and -0.0 apart."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, float):
        return ("float", value.hex())
    return (type(value).__name__, value)


@given(VALUES, VALUES)
def test_bytes_are_equal_if_and_only_if_the_values_are(one: JsonValue, other: JsonValue) -> None:
    """approvals.md S2."""
    assert (canonical(one) == canonical(other)) == (typed(one) == typed(other))


@given(st.dictionaries(st.text("abc", max_size=4), SCALARS, max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, JsonValue]) -> None:
    """approvals.md S2."""
    assert canonical(value) == canonical(dict(reversed(value.items())))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, "1"),
        (1, True),
        (0, False),
        (0.0, -0.0),
        (None, "null"),
        (2**60, 2**60 + 1),
        (2.0**60, 2**60),
        ("é", "e\u0301"),
        ([], {}),
        ([1, 2], [12]),
        (["a", "b"], ["ab", ""]),
        ({"a": {"b": 1}}, {"a": {}, "b": 1}),
        ("s1:a", ["a"]),
    ],
)
def test_values_that_look_alike_have_different_bytes(one: JsonValue, other: JsonValue) -> None:
    """approvals.md S2: no merging of types, no loss above 2^53, no Unicode normalisation."""
    assert canonical(one) != canonical(other)


def test_integers_of_any_size_have_a_form() -> None:
    """approvals.md S2; no quadratic decimal conversion either."""
    assert canonical(10**10_000) != canonical(10**10_000 + 1)


def test_the_form_is_fixed() -> None:
    """Stored digests must stay comparable: a change of these bytes is a change of version."""
    value: JsonValue = {"b": [None, True, False, -1, 1.5], "a": "é"}
    assert canonical(value) == b"m2:s1:as2:\xc3\xa9s1:bl5:n;t;f;i-0x1;d0x1.8000000000000p+0;"
    assert digest("action", value) == hashlib.sha256(b"mcp-guard/action/v1\0" + canonical(value)).hexdigest()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800", {"\udfff": 1}, {"a": [math.nan]}])
def test_what_has_no_form_is_refused_and_not_shown(value: JsonValue) -> None:
    """decisions.md D3: fail closed."""
    with pytest.raises(InvalidArgumentsError, match="no canonical form") as caught:
        canonical({"canary": value})
    assert "canary" not in str(caught.value)


def test_nesting_beyond_the_interpreters_limit_is_refused() -> None:
    """docs/audit.md, "How a change shows"."""
    deep: JsonValue = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidArgumentsError):
        canonical(deep)


def test_digests_are_bound_to_their_domain_and_key() -> None:
    """approvals.md S2: a digest of one kind never stands for another."""
    found = {
        digest("action", 1),
        digest("policy", 1),
        keyed_digest(b"k" * 32, "action", 1),
        keyed_digest(b"l" * 32, "action", 1),
        keyed_digest(b"k" * 32, "policy", 1),
    }
    assert len(found) == 5
    assert all(len(value) == 64 for value in found)


@given(st.binary(min_size=32, max_size=32))
def test_a_fingerprint_is_eight_characters_without_look_alikes(raw: bytes) -> None:
    """approvals.md: for humans to compare."""
    text = fingerprint(raw.hex())
    assert len(text) == 9
    assert text[4] == "-"
    assert not set(text) & set("01IO")


def test_fingerprints_depend_on_the_first_forty_bits_of_the_digest() -> None:
    """32^8 = 2^40."""
    assert fingerprint("0" * 64) == "AAAA-AAAA"
    assert fingerprint("f" * 64) == "9999-9999"
    assert fingerprint("0" * 9 + "1" + "0" * 54) == "BAAA-AAAA"
