"""To whom a masked address belongs: its domain stands beside the placeholder (security.md S15)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import JsonValue

from mcp_guard.approval.lookalikes import doubts
from mcp_guard.approval.prompt import _argument_lines, build_view
from mcp_guard.approval.recipients import beside
from mcp_guard.approval.statement import Stored
from mcp_guard.model import ArgumentFact, JsonDict, MaskedJson, MaskedText, RawArguments, Risk, ToolFacts, Views
from tests.approval.bench import call_of, decision_of

MASKED = "[EMAIL_533whfmbxx]"


def view_of(value: JsonValue, shown: JsonValue = MASKED, **fact: Any) -> JsonDict:
    """The view of a mail to `value`, of which reviewers see `shown`."""
    facts = ToolFacts(True, ("send",), Risk.HIGH, arguments={"/to": ArgumentFact(**{"role": "recipient", **fact})})
    call = call_of({"to": value, "body": "a@body.example"})
    call = replace(call, target=replace(call.target, facts=facts))
    masked = MaskedJson({"to": shown, "body": "b"})
    stored = Stored(call, Views(RawArguments(call.arguments.value), masked, masked), decision_of(), "prod", "personal")
    return build_view(stored, MaskedText)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("ann.secret@example.com", "at example.com"),
        ("Ann Secret <ann@Example.COM>, bob@example.org", "at example.com, example.org"),
        (["ann@example.com", "bob@example.com"], "at example.com"),
        ([f"x@d{n}.io" for n in range(7)], "at d0.io, d1.io, d2.io, d3.io, d4.io and 2 more"),
        ({"address": "ann@example.com", "name": "Ann"}, "at example.com"),
        ("https://user:hunter2@hooks.example.com:8443/secret/path?x=1", "at hooks.example.com"),
        ("p@ann.word@example.com", "at example.com"),
        ("ann@example.com/secret?x:1", "at example.com"),
        ("https://[broken", ""),
        ("@example", ""),
        ("+49 170 1234567", ""),
        (f"a@{'x' * 250}.example", ""),
        (7, ""),
    ],
    ids=str,
)  # fmt: skip
def test_of_a_masked_recipient_the_domain_is_shown_and_nothing_else(value: JsonValue, place: str) -> None:
    """docs/console.md, "What it shows": who decides must see where mail goes."""
    view = view_of(value)
    assert beside(view, "to") == place
    assert beside(view, "body") == ""
    for part in ("ann", "Ann", "hunter2", "secret", "1234567", "body.example"):
        assert part not in str(view)


@pytest.mark.parametrize(
    ("shown", "fact"),
    [
        ("ann@example.com", {}),
        (MASKED, {"show": "hidden"}),
        (MASKED, {"show": "digest"}),
        (MASKED, {"role": "content"}),
    ],
)
def test_what_is_shown_whole_or_withheld_by_the_manifest_gets_no_domain(shown: str, fact: dict[str, Any]) -> None:
    """docs/manifests.md: `hidden` and `digest` are the word of whoever wrote the manifest."""
    assert view_of("ann@example.com", shown, **fact)["recipients"] == []


@pytest.mark.parametrize(
    ("address", "doubt"),
    [
        ("ann@ex\u0430mple.com", "to: mixes Latin and Cyrillic letters"),
        ("ann@xn--exmple-cua.com", "to: has punycode (xn--), which stands for other letters than it shows"),
    ],
)
def test_a_real_address_that_looks_like_another_is_told_behind_its_placeholder(address: str, doubt: str) -> None:
    """security.md S15: the warning is of what would run, and the placeholder hides it."""
    assert doubts(view_of(address)) == [doubt]
    assert doubts(view_of("ann@example.com")) == []


def test_the_form_says_the_domain_behind_the_quotes_of_the_value() -> None:
    """docs/approvals.md S17: a value cannot pretend to be the word of the guard."""
    lines, cut = _argument_lines(view_of("ann@example.com"), 400)
    assert f'  "to" = "{MASKED}" at example.com' in lines
    assert not cut
    lines, cut = _argument_lines(view_of("ann@example.com", MASKED * 20), 200)
    assert lines[1].endswith(" at example.com")
    assert cut
