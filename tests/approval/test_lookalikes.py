"""Names that may not be what the eye reads (security.md S15)."""

from __future__ import annotations

import time

import pytest

from mcp_guard.approval.lookalikes import doubts, oddities
from mcp_guard.model import JsonDict

CYRILLIC = "mixes Latin and Cyrillic letters"
REORDERED = "has right-to-left letters beside others, so a screen may reorder it"
SIGNS = "has signs that only look like a slash, a dot or a colon"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ceo@p\u0430ypal.example", [CYRILLIC]),
        ("\u0441\u043e\u0441\u043e.example", [CYRILLIC]),
        ("g\u03bfogle.example", ["mixes Latin and Greek letters"]),
        ("\uff41dmin@example.com", ["mixes Latin and styled letters"]),
        ("/srv/\u05d0\u05d1\u05d2/12/x", [REORDERED]),
        ("\u0627\u0661\u0662\u0663", [REORDERED]),
        ("example.com\u2215evil.example", [SIGNS]),
        ("example\u3002com", [SIGNS]),
        ("user\uff20example.com", [SIGNS]),
    ],
)
def test_what_an_eye_misreads_is_named(text: str, found: list[str]) -> None:
    """One sentence for each kind."""
    assert oddities(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ceo@example.com",
        "/srv/caf\u00e9/r\u00e9sum\u00e9.txt",
        "\u043f\u043e\u0447\u0442\u0430@\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444",
        "\u65e5\u672c\u8a9e/report.txt",
        "\u05e9\u05dc\u05d5\u05dd",
        "\u03b1\u03b2\u03b3",
    ],
)
def test_ordinary_names_of_any_language_are_not_doubted(text: str) -> None:
    """A warning that comes every day is not read."""
    assert oddities(text) == []


def test_addresses_anywhere_in_the_arguments_are_looked_at_and_prose_is_not() -> None:
    """Recipients, resources and host-like words; a letter in two languages is no danger."""
    view: JsonDict = {
        "server": "db",
        "tool": "s\u0435nd",
        "resource": None,
        "arguments": {
            "to": ["a@ok.example", "b@\u043ek.example"],
            "text": "see https://\u0430pple.example/x now",
            "prose": "the word \u043c\u0438\u0440 is peace, \u0430nd so on",
            "p\u0430th": {"deep": "fine"},
        },
    }
    assert doubts(view) == [
        f"tool: {CYRILLIC}", f"to: {CYRILLIC}", f"text: {CYRILLIC}", f"the name of an argument: {CYRILLIC}",
    ]  # fmt: skip


def test_a_flood_of_doubts_is_five_lines_and_a_count() -> None:
    """Bound everything."""
    view: JsonDict = {"arguments": {f"k{number}": f"p\u0430y{number}.example" for number in range(2_000)}}
    found = doubts(view)
    assert len(found) == 6
    assert found[-1].startswith("+")
    assert doubts({"arguments": None}) == []


def test_many_long_words_that_nearly_are_addresses_are_looked_at_in_a_second() -> None:
    """security.md F4: a pattern that tries each sign against each end took seven seconds here."""
    words: JsonDict = {f"note_{number}": "é " + "/." * 990 + "!" + "a." * 5 + "!" for number in range(500)}
    long: JsonDict = {f"name_{number}": "é " + "a." * 990 + "!" for number in range(500)}
    began = time.thread_time()

    assert doubts({"arguments": words}) == doubts({"arguments": long}) == []
    assert time.thread_time() - began < 1.0
