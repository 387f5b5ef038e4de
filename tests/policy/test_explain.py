"""Why a call would be allowed, suspended or denied."""

from __future__ import annotations

from typing import Any

from mcp_guard.config.schema import GuardConfig
from mcp_guard.model import UNREVIEWED, Risk, ToolFacts
from mcp_guard.policy.decide import Policy
from mcp_guard.policy.explain import Explanation, explain_call

LOW = ToolFacts(listed=True, effects=("read",), risk=Risk.LOW, why="Reads.")
RULES: list[dict[str, Any]] = [
    {"id": "other-server", "effect": "deny", "match": {"server": "lab"}},
    {"id": "other-tool", "effect": "deny", "match": {"tool": "drop_*"}},
    {"id": "other-environment", "effect": "deny", "match": {"environment": "prod"}},
    {"id": "other-category", "effect": "deny", "match": {"category": "payment"}},
    {"id": "false-condition", "effect": "deny", "match": {"where": 'args.table == "users"'}},
    {"id": "unclear-allow", "effect": "allow", "match": {"where": "args.nothing == 1"}},
    {"id": "silent-allow", "effect": "allow"},
]


def explain(
    *rules: dict[str, Any], facts: ToolFacts = UNREVIEWED, own_files: bool = False, git_folder: bool = False
) -> Explanation:
    config = GuardConfig.model_validate(
        {"version": 1, "id": "x", "servers": {"crm": {"command": "x"}}, "rules": list(rules)}
    )
    policy = Policy(
        config,
        leads=lambda _s, _v, _c: "own_files" if own_files else "git_folder" if git_folder else None,
    )
    return explain_call(policy, server="crm", tool="get_x", args={"table": "canary"}, facts=facts)


def test_every_rule_is_told_with_what_did_not_fit() -> None:
    """docs/cli.md, `explain`: every decision carries rule id and reasons; `mcp-guard explain`."""
    text = explain(*RULES).text

    assert text.splitlines() == [
        "crm/get_x: require_approval by default:high",
        "  because no rule matches; the default for high risk",
        "  because not reviewed: no manifest lists this tool",
        "  default for high risk: require_approval",
        "  needs a reviewer at A1 within 900 s; to be used within 300 s; runs on approval",
        "rules:",
        "  other-server (deny): no: another server",
        "  other-tool (deny): no: another tool",
        "  other-environment (deny): no: another environment",
        "  other-category (deny): no: another category",
        "  false-condition (deny): no: its condition is false",
        "  unclear-allow (allow): its condition cannot be evaluated for these arguments: counts as not matched",
        "  silent-allow (allow): matches, but does not count: it gives no reason to loosen the default",
    ]


def test_the_winner_and_its_terms_are_told() -> None:
    """docs/cli.md, `explain`."""
    rule = {
        "id": "r",
        "effect": "require_approval",
        "approval": {"min_assurance": "A2"},
        "owner": "ops",
        "reason": "why",
    }
    data = explain(rule, {"id": "d", "effect": "allow", "reason": "x"}, facts=LOW).data

    assert (data["effect"], data["rule"], data["default"]) == ("require_approval", "r", "allow")
    assert data["reasons"] == ["rule r asks: why (owner: ops)", "Reads."]
    assert data["terms"] == {
        "min_assurance": "A2",
        "expires_after_s": 900.0,
        "use_within_s": 300.0,
        "hold_s": 45.0,
        "run": "on_approval",
    }
    assert data["rules"] == [
        {"id": "r", "effect": "require_approval", "matched": True, "why": "matched"},
        {"id": "d", "effect": "allow", "matched": True, "why": "matched"},
    ]


def test_the_built_in_rule_is_told_and_no_argument_is_shown() -> None:
    """decisions.md D28: a decision can be shown to anybody."""
    explanation = explain(facts=LOW, own_files=True)

    assert "deny by builtin:own-files" in explanation.text
    assert "rules: none" in explanation.text
    assert explanation.data["own_files"] is True
    assert "canary" not in explanation.text + str(explanation.data)


def test_a_question_for_a_folder_of_git_is_told_with_what_the_rules_say() -> None:
    """docs/limits.md, "Git's own files"."""
    rule = {"id": "all", "effect": "allow", "reason": "trusted"}
    explanation = explain(rule, git_folder=True)

    assert explanation.text.splitlines()[:3] == [
        "crm/get_x: require_approval by builtin:git-folder",
        "  because the path leads into a .git folder: its files make git run programs",
        "  because rule all allows it where the default is require_approval: trusted",
    ]
    assert explanation.data["place"] == "builtin:git-folder"
    assert explain(rule).data["place"] is None
