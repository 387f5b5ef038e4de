"""The words by which a definition gives away what its tool does; more of them in test_propose."""

from __future__ import annotations

import pytest

from mcp_guard.manifest.prose import of_prose
from mcp_guard.manifest.words import Looks, of_name, reads_only, tokens


@pytest.mark.parametrize("name", ["getHTMLPage", "get_html-page", "Get HTML page", "get.html/page", "GET_HTML_PAGE"])
def test_names_in_every_style_have_the_same_words(name: str) -> None:
    """docs/manifests.md."""
    assert tokens(name) == ["get", "html", "page"]


def test_a_word_of_two_meanings_is_a_thing_only_after_a_word_of_reading() -> None:
    """`get_run` reads a run; `run`, `test_run` and `get_and_run` start one."""
    assert of_name(tokens("get_run")) is None
    assert {of_name(tokens(name)) for name in ("run", "test_run", "get_and_run")} == {(Looks.EXECUTE, "run")}


def test_a_noun_of_reading_counts_only_at_the_end() -> None:
    """`log_event` writes."""
    assert reads_only(tokens("git_log"))
    assert not reads_only(tokens("log_event"))
    assert not reads_only([])


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("Delete a page.", Looks.DELETE),
        ("  **Creates** a page", Looks.CHANGE),
        ("Get a page and delete it afterwards", Looks.DELETE),
        ("Returns the result of a shell command", Looks.EXECUTE),
        ("Returns all environment variables", Looks.SECRETS),
        ("Get a page. This cannot be undone.", Looks.DELETE),
        ("Shows changes, updates and runs of the last week", None),
        ("", None),
    ],
)
def test_a_description_speaks_of_change_by_its_verbs(text: str, looks: Looks | None) -> None:
    """security.md S21: descriptions raise; nouns that look like verbs do not."""
    found = of_prose(text)
    assert (found and found[0]) == looks
