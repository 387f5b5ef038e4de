"""The built-in rule for git's own files (docs/limits.md)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mcp_guard.model import UNREVIEWED, ArgumentFact, Assurance, Effect, JsonDict, Risk, ToolFacts
from mcp_guard.policy.decide import Policy
from tests.policy.test_decide import call, config, facts, rule, views


def git_policy(*rules: dict[str, Any]) -> Policy:
    return Policy(
        config(*rules),
        leads=lambda _server, _value, changed: "git_folder" if "/.git/" in json.dumps(changed()) else None,
    )


HOOK: JsonDict = {"path": "/repo/.git/hooks/pre-commit", "text": "x"}
EDITS = replace(
    facts("medium"), resource="/path", arguments={"/path": ArgumentFact("identifier"), "/text": ArgumentFact("content")}
)


@pytest.mark.parametrize("rules", [[], [rule("allow")], [rule("require_approval")]])
def test_a_change_in_a_folder_of_git_asks_and_no_rule_takes_it_back(rules: list[dict[str, Any]]) -> None:
    """docs/limits.md, "Git's own files": asked as high, with why first, and with what the rules say after it."""
    decision = git_policy(*rules).decide(call(of=EDITS), views(HOOK))
    assert (decision.effect, decision.rule) == (Effect.REQUIRE_APPROVAL, "builtin:git-folder")
    assert decision.risk is Risk.HIGH
    assert decision.reasons[0] == "the path leads into a .git folder: its files make git run programs"
    assert len(decision.reasons) > 1


def test_a_rule_can_deny_a_change_in_a_folder_of_git_and_ask_for_more() -> None:
    """docs/limits.md, "Git's own files": rules tighten."""
    assert git_policy(rule("deny")).decide(call(of=EDITS), views(HOOK)).rule == "r"
    strict = {**rule("require_approval"), "approval": {"min_assurance": "A3"}}
    asked = git_policy(strict).decide(call(of=EDITS), views(HOOK))
    assert (asked.rule, asked.terms.min_assurance) == ("builtin:git-folder", Assurance.A3)
    critical = git_policy().decide(call(of=replace(EDITS, risk=Risk.CRITICAL)), views(HOOK))
    assert (critical.risk, critical.terms.min_assurance, critical.terms.grants) == (Risk.CRITICAL, Assurance.A2, ())


def test_for_a_folder_of_git_no_grant_is_offered_but_for_the_same_call() -> None:
    """docs/grants.md: a folder would hold all that git reads."""
    wide = {"keep": {"/path": "folder"}}
    asking = {**rule("require_approval"), "approval": {"grants": [wide, {"keep": "arguments", "max_uses": 3}]}}
    for rules, uses in (([], [20]), ([asking], [3]), ([{**asking, "approval": {"grants": []}}], [])):
        offers = git_policy(*rules).decide(call(of=EDITS), views(HOOK)).terms.grants
        assert [(offer.keep, offer.max_uses) for offer in offers] == [(None, number) for number in uses]


@pytest.mark.parametrize(
    ("of", "args"),
    [
        (EDITS, {"path": "/repo/README.md", "text": "see /repo/.git/config"}),
        (replace(EDITS, effects=("read",)), HOOK),
    ],
    ids=["content", "reading"],
)
def test_content_and_reading_are_not_asked_for(of: ToolFacts, args: JsonDict) -> None:
    """docs/limits.md, "Git's own files": a false alarm costs a question."""
    assert git_policy().decide(call(of=of), views(args)).effect is Effect.ALLOW


def test_a_tool_that_nobody_reviewed_is_asked_for_too_although_a_rule_allows_it() -> None:
    """docs/limits.md, "Git's own files"."""
    judged = git_policy(rule("allow")).judge(call(of=UNREVIEWED), views(HOOK))
    assert judged.decision.rule == "builtin:git-folder"
    assert judged.place == "builtin:git-folder"
    assert git_policy(rule("allow")).decide(call(of=UNREVIEWED), views({"path": "/repo/a"})).effect is Effect.ALLOW
