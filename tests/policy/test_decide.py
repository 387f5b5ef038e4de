"""The decision."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from mcp_guard.config.schema import GuardConfig
from mcp_guard.errors import InternalError
from mcp_guard.model import (
    UNREVIEWED,
    Assurance,
    Call,
    CallContext,
    CallKind,
    Decision,
    Effect,
    JsonDict,
    MaskedJson,
    Principal,
    RawArguments,
    Risk,
    Target,
    ToolFacts,
    Views,
)
from mcp_guard.policy.decide import Led, Policy
from mcp_guard.ports import PolicyPort

LOW = ToolFacts(listed=True, effects=("read",), risk=Risk.LOW, why="Reads.")


def facts(risk: str, category: str | None = None) -> ToolFacts:
    return ToolFacts(listed=True, effects=("write",), risk=Risk(risk), category=category, why="Because.")


def config(*rules: dict[str, Any], **more: Any) -> GuardConfig:
    servers = {"crm": {"command": "x"}, "lab": {"command": "x", "environment": "test"}}
    return GuardConfig.model_validate(
        {"version": 1, "id": "x", "environment": "prod", "servers": servers, "rules": list(rules), **more}
    )


def policy(*rules: dict[str, Any], **more: Any) -> Policy:
    return Policy(config(*rules, **more), leads=lambda _server, _value, _changed: None)


def rule(effect: str, name: str = "r", reason: str | None = "reviewed", **match: Any) -> dict[str, Any]:
    return {"id": name, "effect": effect, "match": match, "reason": reason}


def call(tool: str = "get_x", *, of: ToolFacts = LOW, server: str = "crm", kind: CallKind = CallKind.TOOL) -> Call:
    return Call(
        call_id="call_1",
        target=Target(kind, server, tool, tool, local=True, facts=of),
        arguments=RawArguments({}),
        principal=Principal("os", "me", "laptop"),
        context=CallContext("stdio", "2025-11-25", "s"),
    )


def views(args: JsonDict | None = None, *, secrets: tuple[str, ...] = ()) -> Views:
    return Views(RawArguments(args or {}), MaskedJson(None), MaskedJson(None), secrets=secrets)


def decide(*rules: dict[str, Any], args: JsonDict | None = None, of: ToolFacts = LOW, **call_facts: Any) -> Decision:
    return policy(*rules).decide(call(of=of, **call_facts), views(args))


@pytest.mark.parametrize(
    ("risk", "effect", "assurance"),
    [
        ("low", Effect.ALLOW, Assurance.A1),
        ("medium", Effect.ALLOW, Assurance.A1),
        ("high", Effect.REQUIRE_APPROVAL, Assurance.A1),
        ("critical", Effect.REQUIRE_APPROVAL, Assurance.A2),
    ],
)
def test_where_no_rule_matches_the_risk_decides(risk: str, effect: Effect, assurance: Assurance) -> None:
    """decisions.md D30."""
    decision = decide(rule("deny", tool="other"), of=facts(risk))

    assert (decision.effect, decision.rule) == (effect, f"default:{risk}")
    assert decision.terms.min_assurance is assurance
    assert decision.reasons == (f"no rule matches; the default for {risk} risk", "Because.")


def test_a_tool_that_no_manifest_lists_asks_and_says_why() -> None:
    """decisions.md D30: unlisted tool = high, reason "not reviewed"."""
    decision = decide(of=UNREVIEWED)

    assert decision.effect is Effect.REQUIRE_APPROVAL
    assert "not reviewed" in decision.reasons[1]


def test_the_operators_defaults_replace_the_built_in_ones() -> None:
    """decisions.md D30."""
    made = policy(defaults={"low": "deny"})

    assert made.decide(call(), views()).effect is Effect.DENY


def test_among_all_rules_that_match_the_most_restrictive_wins_whatever_their_order() -> None:
    """decisions.md D30."""
    allow, ask, deny = rule("allow", "a"), rule("require_approval", "b"), rule("deny", "c")

    assert decide(deny, ask, allow).rule == "c"
    assert decide(allow, ask, deny).rule == "c"
    assert decide(allow, ask).rule == "b"
    assert decide(allow, of=facts("high")).rule == "a"


def test_a_rule_that_matches_replaces_the_default_and_is_recorded_with_its_reason() -> None:
    """decisions.md D30: an allow that loosens is recorded."""
    decision = decide(rule("allow", "crm-reads", "read only"), of=facts("critical"))

    assert decision.effect is Effect.ALLOW
    assert decision.reasons[0] == "rule crm-reads allows it where the default is require_approval: read only"


def test_an_allow_without_a_reason_does_not_loosen_a_default() -> None:
    """decisions.md D30; a server's annotation can raise the risk after the configuration was checked."""
    assert decide(rule("allow", reason=None), of=facts("high")).effect is Effect.REQUIRE_APPROVAL
    assert decide(rule("allow", reason=None), of=facts("low")).rule == "r"


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        ({"server": "crm"}, True),
        ({"server": "lab"}, False),
        ({"tool": ["drop_*", "get_?"]}, True),
        ({"tool": "GET_X"}, False),
        ({"environment": "prod"}, True),
        ({"environment": "test"}, False),
        ({"category": "deletion"}, True),
        ({"category": ["payment"]}, False),
        ({"server": "crm", "tool": "no"}, False),
        ({"where": 'principal.label == "laptop" && risk == "low"'}, True),
        ({"where": 'args.table == "scratch"'}, True),
        ({"where": 'args.table != "scratch"'}, False),
    ],
)
def test_all_keys_of_a_match_must_fit(match: dict[str, Any], matches: bool) -> None:  # noqa: FBT001 - a table
    """decisions.md D30, D13."""
    decision = decide(rule("deny", **match), args={"table": "scratch"}, of=facts("low", "deletion"))

    assert (decision.effect is Effect.DENY) is matches


def test_a_server_can_override_the_environment() -> None:
    """decisions.md D30: `environment:` is top level with per-server override."""
    assert decide(rule("deny", environment="test"), server="lab").effect is Effect.DENY
    assert decide(rule("deny", environment="prod"), server="lab").effect is Effect.ALLOW


@pytest.mark.parametrize("where", ["args.nothing == 1", "args.table", "args.table > 1"])
def test_an_unclear_condition_tightens_and_never_loosens(where: str) -> None:
    """decisions.md D13: deny and require_approval rules count as matched, allow rules as not matched."""
    args: JsonDict = {"table": "canary"}
    denied = decide(rule("deny", where=where), args=args)

    assert denied.effect is Effect.DENY
    assert "could not be evaluated" in denied.reasons[0]
    assert "canary" not in str(denied)
    assert decide(rule("require_approval", where=where), args=args).effect is Effect.REQUIRE_APPROVAL
    assert decide(rule("allow", where=where), args=args, of=facts("high")).rule == "default:high"


def test_it_judges_what_would_run_and_not_what_the_client_sent() -> None:
    """decisions.md D28: a condition on a placeholder is meaningless."""
    made = policy(rule("deny", where='args.to == "a@b.example"'))

    assert made.decide(call(), views({"to": "a@b.example"})).effect is Effect.DENY


def test_secrets_in_arguments_ask_unless_the_call_is_denied_or_the_operator_allows_them() -> None:
    """decisions.md D33: arguments.secrets: ask."""
    held = views(secrets=("SECRET",))
    asked = policy().decide(call(), held)

    assert (asked.effect, asked.rule) == (Effect.REQUIRE_APPROVAL, "builtin:secrets-in-arguments")
    assert policy(rule("allow")).decide(call(), held).effect is Effect.REQUIRE_APPROVAL
    assert policy(rule("deny")).decide(call(), held).rule == "r"
    assert policy(rule("require_approval")).decide(call(), held).rule == "r"
    assert policy(masking={"arguments": {"secrets": "allow"}}).decide(call(), held).effect is Effect.ALLOW


def test_the_built_in_rule_denies_paths_into_own_files_and_no_rule_takes_it_back() -> None:
    """decisions.md D32: built-in, unremovable."""
    seen: list[JsonValue] = []

    def touches(server: str, value: JsonValue, _changed: object) -> Led:
        seen.append([server, value])
        return "own_files"

    made = Policy(config(rule("allow")), leads=touches)
    decision = made.decide(call(), views({"path": "x"}, secrets=("SECRET",)))

    assert (decision.effect, decision.rule) == (Effect.DENY, "builtin:own-files")
    assert seen == [["crm", {"path": "x"}]]


def test_a_look_at_the_file_system_that_fails_denies() -> None:
    """CONTRIBUTING.md, habit 3: fail closed."""

    def broken(server: str, value: JsonValue, _changed: object) -> Led:
        raise OSError(server, value)

    made = Policy(config(rule("allow")), leads=broken)

    assert made.decide(call(), views()).effect is Effect.DENY


def test_what_is_too_much_to_be_checked_is_denied_with_what_to_do() -> None:
    """docs/limits.md, "The guard's own files": a call that cannot be judged is not let through."""
    made = Policy(config(rule("allow")), leads=lambda _server, _value, _changed: "too_many")
    decision = made.decide(call(), views({"paths": ["x"]}))
    assert (decision.effect, decision.rule) == (Effect.DENY, "builtin:own-files")
    assert decision.reasons[0].endswith("send fewer at once")


def test_a_call_of_which_nobody_can_say_what_it_changes_is_asked_for_with_that_reason() -> None:
    """docs/limits.md, "Many paths": a long list is no attack, and a recheck must not deny what was asked."""
    made = Policy(config(rule("allow")), leads=lambda _server, _value, _changed: "unsure")
    decision = made.decide(call(), views({"paths": ["x"]}))
    assert (decision.effect, decision.rule) == (Effect.REQUIRE_APPROVAL, "builtin:too-many-paths")
    assert decision.reasons[0].startswith("there are too many paths to look at")


@pytest.mark.parametrize("kind", [CallKind.RESOURCE, CallKind.PROMPT, CallKind.COMPLETION])
def test_resources_and_prompts_follow_rules_about_servers_and_not_rules_about_tools(kind: CallKind) -> None:
    """decisions.md D37: all kinds walk the line."""
    of_tools = [rule("deny", "a", tool="*"), rule("deny", "b", where="args.x == 1"), rule("deny", "c", category="*")]

    allowed = policy(*of_tools).decide(call("file:///x", kind=kind, of=UNREVIEWED), views())
    assert (allowed.effect, allowed.rule) == (Effect.ALLOW, "default:low")
    denied = policy(rule("deny", server="crm", environment="prod")).decide(call(kind=kind), views())
    assert denied.effect is Effect.DENY


def test_the_built_in_rule_looks_at_the_uri_of_a_resource() -> None:
    """decisions.md D32: a resource is a way to read a file too."""
    made = Policy(config(), leads=lambda _s, value, _c: "own_files" if "file:///guard.yaml" in str(value) else None)

    assert made.decide(call("file:///guard.yaml", kind=CallKind.RESOURCE), views()).rule == "builtin:own-files"
    assert made.decide(call("file:///other", kind=CallKind.RESOURCE), views()).effect is Effect.ALLOW


def test_the_terms_are_the_strictest_of_the_rules_that_ask() -> None:
    """decisions.md D30: approval options sit in the rule's `approval:` block."""
    one = {**rule("require_approval", "a"), "approval": {"min_assurance": "A3", "expires_after_s": 600.0}}
    two = {**rule("require_approval", "b"), "approval": {"use_within_s": 10.0, "run": "on_pickup"}}
    terms = decide(one, two).terms

    assert (terms.min_assurance, terms.expires_after_s, terms.use_within_s) == (Assurance.A3, 600.0, 10.0)
    assert (terms.hold_s, terms.run) == (45.0, "on_pickup")


def test_only_a_rule_that_says_so_lowers_the_assurance_of_a_critical_tool() -> None:
    """decisions.md D30: critical → A2."""
    said = {**rule("require_approval", "a"), "approval": {"min_assurance": "A1"}}
    silent = rule("require_approval", "b")

    assert decide(said, of=facts("critical")).terms.min_assurance is Assurance.A1
    assert decide(said, silent, of=facts("critical")).terms.min_assurance is Assurance.A2


def test_the_general_terms_hold_where_no_rule_says_otherwise() -> None:
    """decisions.md D30."""
    made = policy(approvals={"expires_after_s": 60.0, "hold_s": 5.0, "use_within_s": 7.0, "run": "on_pickup"})
    terms = made.decide(call(of=UNREVIEWED), views()).terms

    assert (terms.expires_after_s, terms.hold_s, terms.use_within_s, terms.run) == (60.0, 5.0, 7.0, "on_pickup")


def test_a_permit_is_made_only_for_a_call_that_this_policy_allows() -> None:
    """ARCHITECTURE.md, "One call": a `Permit` is made only by policy and by the approval desk."""
    made: PolicyPort = policy()
    allowed, asked = made.decide(call(), views()), made.decide(call(of=UNREVIEWED), views())

    made.permit(call(), allowed).use("call_1")
    with pytest.raises(InternalError):
        made.permit(call(), asked)
    with pytest.raises(InternalError):
        policy(rule("deny", tool="x")).permit(call(), allowed)


@pytest.mark.parametrize(
    "other",
    [
        policy(rule("deny")),
        policy(environment="dev"),
        policy(defaults={"low": "deny"}),
        policy(approvals={"run": "on_pickup"}),
        policy(masking={"arguments": {"secrets": "allow"}}),
        policy(servers={"crm": {"command": "x", "environment": "dev"}, "lab": {"command": "x", "environment": "test"}}),
        Policy(config(), leads=lambda _server, _value, _changed: None, manifest_digest="m"),
    ],
    ids=["rule", "environment", "default", "terms", "secrets", "server's environment", "manifests"],
)
def test_the_policy_digest_changes_with_everything_that_it_judges_by(other: Policy) -> None:
    """approvals.md S1: an approval under another policy is void."""
    assert policy().digest == policy().digest
    assert other.digest != policy().digest


EFFECTS = st.sampled_from(["allow", "require_approval", "deny"])
PATTERNS = st.sampled_from([None, "*", "get_*", "drop_*", ["get_x", "drop_x"]])
WHERES = st.sampled_from([None, "args.n > 1", "args.n", "args.missing == 1", 'risk == "low"'])
RULES = st.lists(st.tuples(EFFECTS, PATTERNS, WHERES, st.sampled_from([None, "reviewed"])), max_size=4)
CALLS = st.tuples(
    st.sampled_from(["get_x", "drop_x"]),
    st.sampled_from(["low", "medium", "high", "critical"]),
    st.sampled_from([{}, {"n": 1}, {"n": 2}, {"n": "x"}]),
)


def build(rules: list[tuple[str, Any, str | None, str | None]]) -> list[dict[str, Any]]:
    return [rule(e, f"r{n}", reason, tool=tool, where=where) for n, (e, tool, where, reason) in enumerate(rules)]


@given(RULES, CALLS, PATTERNS, WHERES)
def test_adding_a_deny_never_loosens_any_rule_set(
    rules: list[tuple[str, Any, str | None, str | None]], asked: tuple[str, str, JsonDict], tool: Any, where: str | None
) -> None:
    """decisions.md D30: the most restrictive effect wins."""
    name, risk, args = asked
    before = decide(*build(rules), args=args, of=facts(risk), tool=name)
    after = decide(*build(rules), rule("deny", "added", tool=tool, where=where), args=args, of=facts(risk), tool=name)

    assert after.effect.rank >= before.effect.rank


@given(RULES, CALLS)
def test_nothing_is_looser_than_its_default_without_a_rule_that_allows_it_with_a_reason(
    rules: list[tuple[str, Any, str | None, str | None]], asked: tuple[str, str, JsonDict]
) -> None:
    """decisions.md D30."""
    name, risk, args = asked
    decision = decide(*build(rules), args=args, of=facts(risk), tool=name)
    default = decide(args=args, of=facts(risk), tool=name)

    if decision.effect.rank < default.effect.rank and decision.effect is Effect.ALLOW:
        assert any(e == "allow" and reason for e, _, _, reason in rules)
        assert "where the default is require_approval: reviewed" in decision.reasons[0]


@given(st.permutations(range(4)), CALLS)
def test_the_order_of_rules_does_not_change_the_effect_or_the_terms(
    order: list[int], asked: tuple[str, str, JsonDict]
) -> None:
    """decisions.md D30."""
    name, risk, args = asked
    rules = build(
        [
            ("allow", "*", None, "x"),
            ("require_approval", "get_*", None, None),
            ("deny", None, "args.n > 1", None),
            ("require_approval", None, "args.n", "x"),
        ]
    )
    one = decide(*rules, args=args, of=facts(risk), tool=name)
    two = decide(*[rules[n] for n in order], args=args, of=facts(risk), tool=name)

    assert (one.effect, one.terms) == (two.effect, two.terms)
