"""Things that are encoded inside other text."""

from __future__ import annotations

import base64
import json

import pytest
from pydantic import JsonValue

from mcp_guard.config.schema import MaskingConfig
from mcp_guard.masking.encoded import DECODED_MOST, decode_base64, unescape
from mcp_guard.masking.engine import scan
from mcp_guard.masking.masker import Masker

TOKEN = "ghp_2F2HIrOpxR7Ex4scUXHvfC2ifTfPUC5V9rJG"


def found(text: str) -> list[tuple[str, str]]:
    return [(f.type, text[f.start : f.end]) for f in scan(text)]


@pytest.mark.parametrize("plain", [f"export GITHUB={TOKEN}\n", "write to jo.doe@example.com today, please?>"])
@pytest.mark.parametrize("before", ["", "data: ", "x=", '"', "a/b "])
def test_base64_that_holds_something_is_masked_as_a_whole(plain: str, before: str) -> None:
    """masking.md §5: decoded views."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        blob = encode(plain.encode()).decode()
        kinds = found(f"{before}{blob} end")
        assert [value for _, value in kinds] == [blob]
        assert kinds[0][0] in ("SECRET", "EMAIL")


def test_base64_without_findings_twice_encoded_or_of_bytes_is_left_alone() -> None:
    """masking.md §5: one level; the rest is documented."""
    once = base64.b64encode(TOKEN.encode())
    for blob in (base64.b64encode(b"nothing to see in this text at all"), base64.b64encode(once), b"aB" * 20):
        assert found(f"v {blob.decode()} w") == []


async def test_long_base64_is_masked_as_a_whole_wherever_the_value_stands() -> None:
    """decisions.md D34: steps of 8 KB do not cut it."""
    for place in (0, 20_000, 40_000):
        plain = "some words, " * (place // 12) + f" {TOKEN} " + "more words, " * 1_000
        blob = base64.b64encode(plain.encode()).decode()
        masked = await Masker(MaskingConfig(), b"k" * 32).mask(f"see {blob} end", scope="s", server="x")
        assert str(masked.json.value).startswith("see [SECRET_")
        assert len(str(masked.json.value)) < 40


def test_decoding_stops_at_its_cap_and_says_none_for_what_is_no_text() -> None:
    """masking.md §5: cap 64 KB."""
    plain = "é" * DECODED_MOST
    decoded = decode_base64(base64.b64encode(plain.encode()).decode())
    assert decoded is not None
    assert DECODED_MOST - 2 <= len(decoded.encode()) <= DECODED_MOST
    assert decode_base64("thisIsAnIdentifierOfSomeLength") is None
    assert decode_base64("a") == ""


@pytest.mark.parametrize("mail", ["jo%40example.com", "jo\\u0040example.com", "\\u006ao\\u0040example.com"])
def test_escaped_mail_addresses_are_found_in_text(mail: str) -> None:
    """masking.md §5: %xx and \\u00xx."""
    assert found(f'log: {{"m": "{mail}" cut') == [("EMAIL", mail)]


async def test_escapes_in_json_in_a_string_are_read() -> None:
    """masking.md §5: JSON inside a string is read as JSON."""
    inner = '{"m": "jo\\u0040example.com", "s": "\\u0067hp_' + TOKEN[4:] + '"}'
    value: JsonValue = {"content": [{"type": "text", "text": json.dumps({"body": inner})}]}
    masked = await Masker(MaskingConfig(), b"k" * 32).mask(value, scope="s", server="x")
    assert [note.type for note in masked.notes] == ["EMAIL", "SECRET"]
    assert TOKEN[8:] not in json.dumps(masked.json.value)


def test_unescaping_keeps_the_places() -> None:
    """Spans found in the plain text are spans of the original."""
    plain, places = unescape("a\\u0041b")
    assert plain == "aAb"
    assert places == [0, 1, 7, 8]
