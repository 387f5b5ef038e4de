"""Definitions hide nothing from who reads them (security.md S15 and S21)."""

from __future__ import annotations

import pytest

from mcp_guard.model import JsonDict
from mcp_guard.server.shown import visible_definition, visible_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\r\n\tand a tab", "two\nlines\r\n\tand a tab"),
        ("a lone \r return", "a lone \\u{d} return"),
        ("\x1b[31mred\x1b[0m", "\\u{1b}[31mred\\u{1b}[0m"),
        ("zero\u200bwidth \u202ereversed", "zero\\u{200b}width \\u{202e}reversed"),
        ("\U000e0048\U000e0049", "\\u{e0048}\\u{e0049}"),
        (
            "\u26a0\ufe0f careful, \u65e5\u672c\u8a9e, Gr\u00fc\u00dfe",
            "\u26a0\ufe0f careful, \u65e5\u672c\u8a9e, Gr\u00fc\u00dfe",
        ),
        ("a\ufe0f\u26a0\ufe0f\ufe0f", "a\\u{fe0f}\u26a0\ufe0f\\u{fe0f}"),
    ],
    ids=range(8),
)
def test_what_a_screen_hides_is_written_out_and_language_stays(text: str, shown: str) -> None:
    """security.md S15."""
    assert visible_text(text) == shown


def test_texts_are_made_visible_wherever_they_stand_and_names_stay_exact() -> None:
    """security.md S7 and S21: a name is what the client sends back; an enum can carry instructions, too."""
    hidden = "x\u200b"
    schema: JsonDict = {
        "type": "object",
        "properties": {hidden: {"description": hidden, "enum": [hidden], "pattern": hidden, "default": hidden}},
        "required": [hidden],
    }
    shown = visible_definition(
        {"name": hidden, "title": hidden, "inputSchema": schema, "annotations": {"title": hidden}}
    )
    assert shown == {
        "name": hidden,
        "title": "x\\u{200b}",
        "annotations": {"title": "x\\u{200b}"},
        "inputSchema": {
            "type": "object",
            "properties": {
                hidden: {
                    "description": "x\\u{200b}",
                    "enum": [hidden],
                    "pattern": hidden,
                    "default": "x\\u{200b}",
                }
            },
            "required": [hidden],
        },
    }


def test_a_property_that_is_called_name_is_a_property() -> None:
    """Its schema is text as any other."""
    assert visible_definition({"name": {"description": "x\u200b"}}) == {"name": {"description": "x\\u{200b}"}}
