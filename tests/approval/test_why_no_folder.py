"""Where a grant of a folder is not offered, one line says why (docs/grants.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcp_guard.approval.offers import why_asked
from mcp_guard.approval.statement import Stored
from mcp_guard.model import JsonDict, MaskedJson, ToolFacts
from tests.approval.bench import call_of, views_of
from tests.approval.granting import SAME, granting, outside, write


def stored_of(path: str = "/srv/work/notes/a.txt", **more: object) -> Stored:
    call = outside(path)
    views = replace(views_of(call), **more)  # type: ignore[arg-type]  # names are given by the tests
    return Stored(call, views, granting(), "prod", "personal")


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (stored_of("notes/a.txt"), "No grant of this folder: the path is not absolute, or the folder is too wide or"),
        (
            stored_of("/a.txt"),
            "No grant of this folder: the path is not absolute, or the folder is too wide or hidden.",
        ),
        (stored_of(secrets=("API_KEY",)), "No grant of a folder: secrets stand in the arguments."),
        (
            stored_of(for_reviewer=MaskedJson({"path": "/srv/work/[EMAIL_x]/a.txt", "content": "x"})),
            "No grant of this folder: a part of its path is masked.",
        ),
        (replace(stored_of(), linked=("/path",)), "No grant of this folder: it is reached through a link."),
    ],
    ids=["relative", "too wide", "secret", "masked", "link"],
)
def test_a_folder_that_is_not_offered_says_why_before_what_would_stop_the_asking(stored: Stored, why: str) -> None:
    """docs/grants.md: else a person looks for a choice that is not there."""
    said = [str(sentence) for sentence in why_asked(stored)]
    assert len([sentence for sentence in said if sentence.startswith("No grant of")]) == 1
    assert said[-2].startswith(why)
    assert said[-1].startswith("To be asked less")


def test_where_the_folder_is_offered_or_no_rule_has_one_in_mind_nothing_is_said() -> None:
    """docs/grants.md."""
    facts = ToolFacts(True, ("write",), call_of().target.facts.risk)
    arguments: JsonDict = {"path": "notes/a.txt"}
    bare = Stored(call_of(arguments), views_of(call_of(arguments)), granting(SAME), "prod", "personal")
    call = write("a", facts=facts)
    for stored in (bare, Stored(call, views_of(call), granting(), "prod", "personal")):
        assert not [sentence for sentence in why_asked(stored) if str(sentence).startswith("No grant of")]
