"""Tokens in the forms that their issuers give them."""

from __future__ import annotations

import random

import pytest

from mcp_guard.config.schema import MaskingConfig
from mcp_guard.masking.engine import scan
from mcp_guard.masking.masker import Masker
from mcp_guard.masking.rules import STRICT_BODY, TOKEN_RULES

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
PREFIXES = sorted(prefix for prefix in TOKEN_RULES if prefix not in STRICT_BODY)


@pytest.mark.parametrize("index", range(len(PREFIXES)))
def test_token_of_each_prefix_is_found_whole(index: int) -> None:
    """masking.md §2: prefixes of the issuers."""
    prefix = PREFIXES[index]
    rng = random.Random(index)  # noqa: S311 - a seed makes the token, so that a failure can be repeated
    token = prefix + "".join(rng.choices(LETTERS, k=TOKEN_RULES[prefix][1] + 4)) + "7"
    for text in (f"token {token} end", f'{{"v":"{token}"}}', f"a={token}"):
        assert [text[f.start : f.end] for f in scan(text)] == [token]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("key AKIAQWERTZUIOPASDFGH end", "AKIAQWERTZUIOPASDFGH"),
        ("id 123456789:A" + "b7" * 17, "123456789:A" + "b7" * 17),
        ("k " + "0a" * 16 + "-us12", "0a" * 16 + "-us12"),
        (
            "see hooks.slack.com/services/T0A1B2C3D/B0A1B2C3D/a1B2c3D4e5F6 now",
            "services/T0A1B2C3D/B0A1B2C3D/a1B2c3D4e5F6",
        ),
    ],
)
def test_token_around_a_fixed_string_is_found(text: str, value: str) -> None:
    """masking.md §2: direct finds."""
    assert [text[f.start : f.end] for f in scan(text)] == [value]


async def test_key_id_of_letters_alone_is_found_as_a_whole_value() -> None:
    """masking.md §2: no gate before the engine may pass what the engine finds."""
    masked = await Masker(MaskingConfig(), b"k" * 32).mask({"id": "AKIAQWERTZUIOPASDFGH"}, scope="s", server="x")
    assert [note.rule for note in masked.notes] == ["token:aws"]


@pytest.mark.parametrize(
    "text", ["AKIAXXXXXXXXXXXXXXXX", "sk-learn-style-names-are-no-tokens", "task_live_now", "a | b-us1"]
)
def test_what_only_begins_like_a_token_is_left_alone(text: str) -> None:
    """masking.md §7."""
    assert scan(text) == []
