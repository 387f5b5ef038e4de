"""How foreign text looks on the page (docs/console.md)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from mcp_guard.approval.prompt import pieces, visible
from mcp_guard.http.console.values import BRIEF, WHOLE, Tree, brief, said, shown, tree


def everything(built: Tree) -> str:
    found: list[str] = []

    def walk(nodes: list[object]) -> None:
        for node in nodes:
            found.extend(str(part) for part in (node.name, node.text, node.tail) if part)  # type: ignore[attr-defined]
            walk(node.children)  # type: ignore[attr-defined]

    walk(list(built.nodes))
    return "".join(found)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("a\u202eb", "\\u{202e}"),
        ("a\u200bb", "\\u{200b}"),
        ("a\U000e0041b", "\\u{e0041}"),
        ("a\ufe0fb", "\\u{fe0f}"),
        ("a\x1b[31mb", "\\u{1b}"),
        ("a\rb", "\\u{d}"),
        ("a\xa0b", "\\u{a0}"),
        ("a\u3164b", "\\u{3164}"),
        ("a\x08b", "\\u{8}"),
        ("a\ud800b", "\\u{d800}"),
        ("e\u0301\u0301\u0301", "\\u{301}"),
    ],
    ids=ascii,
)
def test_every_hidden_character_is_marked_and_counted(text: str, mark: str) -> None:
    """security.md S15."""
    built = tree({"path": text}, ["path"], BRIEF)

    assert f"<mark>{mark}</mark>" in everything(built)
    assert built.hidden == 1


def test_line_feeds_and_tabs_are_drawn_and_not_counted() -> None:
    """They are ordinary in files; still, nothing moves unseen."""
    built = tree({"content": "a\n\tb"}, ["content"], BRIEF)

    assert "↵</span>\n" in everything(built)
    assert "⇥</span>\t" in everything(built)
    assert built.hidden == 0


@given(st.text())
def test_the_pieces_of_a_text_are_its_visible_form(text: str) -> None:
    """One renderer for all channels (security.md S15)."""
    assert "".join(run for run, _ in pieces(text)) == visible(text)


@given(st.text())
def test_no_text_opens_a_tag_of_its_own(text: str) -> None:
    """security.md S18: what is left without our own four tags holds no angle bracket and no quote."""
    html = str(shown(text))
    for ours in ("<mark>", "</mark>", '<span class="masked">', '<span class="eol">', "</span>"):
        html = html.replace(ours, "")

    assert not set(html) & set("<>\"'")


def test_placeholders_are_set_off() -> None:
    """A reviewer sees what was masked."""
    assert shown("to [EMAIL_k3f9q2m7xa]") == Markup('to <span class="masked">[EMAIL_k3f9q2m7xa]</span>')
    assert "<span" not in shown("[x] [EMAIL_<b>]")


def test_commands_in_our_own_sentences_are_code() -> None:
    """And nothing else in them is markup."""
    assert said("run `a <b>` now") == Markup("run <code>a &lt;b&gt;</code> now")


@pytest.mark.parametrize(
    ("arguments", "cut"),
    [
        ({"a": "x" * 600}, False),
        ({"a": "x" * 5_000 + "rm -rf /"}, True),
        ({"a": "\n" * 40 + "rm -rf / " + "x" * 200}, True),
        ({"x" * 900: 1}, True),
        ({f"k{n}": "x" * 500 for n in range(20)}, True),
        ({"a": list(range(500))}, True),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": 1}}}}}}}}, True),
        ({}, False),
        (None, False),
        (["a", 1, None], False),
    ],
    ids=range(10),
)
def test_what_does_not_fit_is_cut_and_said(arguments: object, cut: bool) -> None:  # noqa: FBT001 - a parameter
    """docs/approvals.md: padding that hides the danger takes the one click away."""
    assert tree(arguments, list(arguments) if isinstance(arguments, dict) else [], BRIEF).cut is cut  # type: ignore[arg-type]
    assert not tree(arguments, [], WHOLE).cut  # type: ignore[arg-type]


def test_the_end_of_a_long_value_is_always_shown() -> None:
    """security.md S15: 5,000 spaces, then the payload."""
    built = tree({"command": "ls" + " " * 5_000 + "; rm -rf /"}, ["command"], BRIEF)

    (node,) = built.nodes
    assert str(node.tail).endswith("; rm -rf /")
    assert node.more + len(str(node.text)) + len(str(node.tail)) == 5_012


def test_an_argument_that_the_order_does_not_name_is_shown_as_well() -> None:
    """The order only sorts: nothing that would run is left out."""
    built = tree({"b": 1, "a": 2, "c": 3}, ["a", "gone"], BRIEF)

    assert [str(node.name) for node in built.nodes] == ["a", "b", "c"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_any_value_is_drawn_within_its_bounds(value: object) -> None:
    """Bound everything (CONTRIBUTING.md, habit 9)."""
    built = tree({"a": value}, ["a"], BRIEF)  # type: ignore[dict-item]

    assert len(built.nodes) >= 1


def test_the_end_of_a_cut_value_keeps_to_few_lines() -> None:
    """A hundred lines of one letter are not a tail, they are a page."""
    node = tree({"a": "x" * 2_000 + "\n" + "y\n" * 60}, ["a"], BRIEF).nodes[0]
    assert node.tail is not None
    assert node.tail.count("y") == 3
    assert node.text is not None
    assert len(node.text) + node.more + 6 == 2_000 + 1 + 120


def test_a_long_name_is_cut_and_says_by_how_much() -> None:
    """The note is not part of the name."""
    assert brief("a" * 200) == "a" * 200
    assert brief("<" * 201) == "&lt;" * 200 + ' <span class="more">+1 more characters</span>'


@pytest.mark.parametrize("character", ["\U0001f600", "\u200b", "\u0301", "é", "\n", "[A"], ids=ascii)
def test_the_longest_text_that_is_shown_is_drawn_in_a_second(character: str) -> None:
    """security.md F4: what an agent writes at length may not stop the guard that shows it. Linear: it took twelve."""
    began = time.thread_time()
    tree({"note": character * (255_000 // len(character))}, ["note"], WHOLE)

    assert time.thread_time() - began < 1.0


def test_a_hundred_thousand_arguments_are_put_in_order_in_a_second() -> None:
    """security.md F4: as many values as a line may hold, none of them named in the order."""
    began = time.thread_time()
    built = tree({f"name_{number}": 1 for number in range(90_000)}, [], WHOLE)

    assert time.thread_time() - began < 1.0
    assert built.cut
