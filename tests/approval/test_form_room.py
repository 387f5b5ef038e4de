"""How the 600 characters of a form are shared out (docs/approvals.md 5.3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_guard.approval.prompt import MAX_CHARACTERS, build_prompt, clip, clip_middle
from mcp_guard.model import JsonDict
from tests.approval.test_prompt import request_for

WHY = "Rule prod-destructive asks."
STOPS = "To be asked less: a review of the whole server"


@pytest.mark.parametrize("again", [0, 1])
@pytest.mark.parametrize(
    "arguments", [{"x": "a" * 10_000}, {f"key{n}": "v" * 50 for n in range(200)}, {"x": "\u202e" * 5_000}, {"x": 1}]
)
async def test_why_one_is_asked_and_what_would_stop_it_stand_on_every_form(
    tmp_path: Path, arguments: JsonDict, again: int
) -> None:
    """docs/approvals.md 5.3: long arguments never push the reasons off a form."""
    message = build_prompt(await request_for(tmp_path, arguments), again=again).message
    assert WHY in message
    assert STOPS in message
    assert len(message) <= MAX_CHARACTERS


async def test_arguments_that_fit_are_shown_whole_whatever_their_length(tmp_path: Path) -> None:
    """docs/approvals.md 5.3: one long value is not cut where there is room for it."""
    prompt = build_prompt(await request_for(tmp_path, {"note": "n" * 127}))
    assert "n" * 127 in prompt.message
    assert "more characters" not in prompt.message
    assert not prompt.type_fingerprint


async def test_the_value_beside_a_long_one_is_not_cut_for_a_few_characters(tmp_path: Path) -> None:
    """docs/approvals.md 5.3: a note of what is missing is shorter than what is missing."""
    prompt = build_prompt(await request_for(tmp_path, {"short": "s" * 115, "long": "l" * 9_000}))
    assert f'"{"s" * 115}"' in prompt.message
    assert prompt.type_fingerprint


def test_a_text_is_cut_only_where_that_makes_it_shorter() -> None:
    """docs/approvals.md 5.3."""
    for cut in (clip, clip_middle):
        for length in range(30, 200):
            text = "x" * length
            shown = cut(text, 40)
            assert shown == text or (len(shown) < len(text) and "more characters" in shown)
