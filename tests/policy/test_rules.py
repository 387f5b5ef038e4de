"""Rules: patterns, and the checks of a configuration."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_guard.config.schema import GuardConfig
from mcp_guard.model import UNREVIEWED, Risk, ToolFacts
from mcp_guard.policy.rules import glob, policy_check

LOW = ToolFacts(listed=True, effects=("read",), risk=Risk.LOW)


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("delete_*", "delete_user", True),
        ("delete_*", "Delete_user", False),
        ("delete_*", "xdelete_user", False),
        ("*", "", True),
        ("?", "", False),
        ("a?c", "abc", True),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a.c", "abc", False),
        ("*_*_x", "a_b_c_x", True),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_patterns_know_star_and_question_mark_and_the_case(pattern: str, text: str, fits: bool) -> None:  # noqa: FBT001 - a table
    """decisions.md D30."""
    assert glob(pattern, text) is fits


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_patterns_agree_with_the_standard_library_where_both_know_them(pattern: str, text: str) -> None:
    """decisions.md D30: `*` and `?` as everybody knows them."""
    assert glob(pattern, text) is fnmatch.fnmatchcase(text, pattern)


def test_a_hostile_name_does_not_make_a_pattern_slow() -> None:
    """CONTRIBUTING.md, habit 9: at most n x m steps, where a regular expression would back-track."""
    assert not glob("*a" * 30 + "b", "a" * 5_000)


def findings(*rules: dict[str, Any], facts: ToolFacts = UNREVIEWED, **config: Any) -> list[tuple[object, ...]]:
    made = GuardConfig.model_validate(
        {"version": 1, "id": "x", "servers": {"crm": {"command": "x"}}, "rules": list(rules), **config}
    )
    return [f.place for f in policy_check(lambda _config, _folder: lambda _server, _tool: facts)(made, Path())]


def test_conditions_that_do_not_compile_are_all_found() -> None:
    """decisions.md D13; all problems at once."""
    bad = [{"id": f"r{n}", "effect": "deny", "match": {"where": where}} for n, where in enumerate(["(", "true", "x.y"])]

    assert findings(*bad) == [("rules", "r0", "match", "where"), ("rules", "r2", "match", "where")]


@pytest.mark.parametrize(
    ("match", "facts", "found"),
    [
        ({}, LOW, True),
        ({"tool": "get_*"}, LOW, True),
        ({"tool": "get_x"}, UNREVIEWED, True),
        ({"tool": ["get_x", "get_*"]}, LOW, True),
        ({"tool": "get_x"}, LOW, False),
        ({"tool": "get_*", "server": "no*"}, LOW, False),
    ],
)
def test_an_allow_that_can_loosen_a_default_needs_a_reason(
    match: dict[str, str],
    facts: ToolFacts,
    found: bool,  # noqa: FBT001 - a table
) -> None:
    """decisions.md D30: an `allow` where the default is stricter needs a `reason:`."""
    rule = {"id": "r", "effect": "allow", "match": match}

    assert findings(rule, facts=facts) == ([("rules", "r")] if found else [])
    assert findings({**rule, "reason": "reviewed"}, facts=facts) == []
    assert findings({**rule, "effect": "deny"}, facts=facts) == []


def test_an_allow_is_looser_also_where_the_operator_tightened_the_default() -> None:
    """decisions.md D30."""
    rule = {"id": "r", "effect": "allow", "match": {"tool": "get_x"}}

    assert findings(rule, facts=LOW, defaults={"low": "deny"}) == [("rules", "r")]
