"""Which grants are offered: by rules, and by the facts of the manifest (docs/grants.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mcp_guard.config.schema import GuardConfig
from mcp_guard.model import (
    UNREVIEWED,
    ArgumentFact,
    Call,
    CallContext,
    CallKind,
    GrantOffer,
    JsonDict,
    MaskedJson,
    Principal,
    RawArguments,
    Risk,
    Target,
    ToolFacts,
    Views,
)
from mcp_guard.policy.decide import Policy

WRITE = ToolFacts(
    True,
    ("write",),
    Risk.HIGH,
    resource="/path",
    arguments={"/path": ArgumentFact("identifier", "full"), "/content": ArgumentFact("content")},
)
SAME = GrantOffer(900.0, 20, None)
PATH: JsonDict = {"path": "/srv/work/a/b.txt", "content": "x"}


def offers(facts: ToolFacts, arguments: JsonDict, *rules: dict[str, Any], **more: Any) -> tuple[GrantOffer, ...]:
    names = ("path", "content", "mode", "to", "body", "table", "values", "source", "destination")
    schema: JsonDict | None = {"type": "object", "properties": {name: {} for name in names if name in arguments}}
    target = Target(CallKind.TOOL, "s", "t", "t", True, input_schema=schema, facts=facts)
    raw = RawArguments(arguments)
    call = Call("c", replace(target, **more), raw, Principal("os", "a"), CallContext("stdio", "", ""))
    given = {"version": 1, "id": "x", "servers": {"s": {"command": "x"}}, "rules": list(rules)}
    policy = Policy(GuardConfig.model_validate(given), leads=lambda _s, _v, _c: None)
    return policy.decide(call, Views(raw, MaskedJson(arguments), MaskedJson(arguments))).terms.grants


def asks(name: str, grants: list[dict[str, Any]] | None) -> dict[str, Any]:
    approval = {} if grants is None else {"grants": grants}
    return {"id": name, "effect": "require_approval", "match": {"server": "s"}, "approval": approval}


def test_a_path_may_stay_in_its_folder_and_content_may_differ() -> None:
    """Issue text in docs/grants.md: path prefix."""
    assert offers(WRITE, PATH) == (SAME, GrantOffer(900.0, 20, {"/path": "folder"}))


def test_every_argument_that_no_fact_calls_content_stays_as_it_was() -> None:
    """Fail closed: what no fact speaks of is bound."""
    assert offers(WRITE, {**PATH, "mode": "append"})[1].keep == {"/path": "folder", "/mode": "same"}


def test_both_paths_of_a_move_are_bound() -> None:
    """A second path must not be free: each stays in its own folder."""
    both = {"/source": ArgumentFact("identifier"), "/destination": ArgumentFact("identifier")}
    move = replace(WRITE, resource="/source", arguments=both)
    found = offers(move, {"source": "/srv/work/a/b", "destination": "/srv/work/c/d"})
    assert found[1].keep == {"/source": "folder", "/destination": "folder"}


def test_a_recipient_may_stay_in_its_domain_for_few_calls() -> None:
    """Recipient domain; what is sent cannot be taken back."""
    facts = {"/to": ArgumentFact("recipient"), "/body": ArgumentFact("content")}
    send = replace(WRITE, effects=("send",), resource=None, arguments=facts)
    assert offers(send, {"to": "a@example.com", "body": "x"}) == (
        GrantOffer(900.0, 5, None),
        GrantOffer(900.0, 5, {"/to": "domain"}),
    )


def test_a_table_stays_the_same() -> None:
    """Table: an identifier that is no path."""
    facts = {"/table": ArgumentFact("identifier"), "/values": ArgumentFact("content")}
    insert = replace(WRITE, resource="/table", arguments=facts)
    assert offers(insert, {"table": "users", "values": {}})[1].keep == {"/table": "same"}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (UNREVIEWED, (SAME,)),
        (replace(WRITE, effects=("execute", "write")), (SAME,)),
        (replace(WRITE, category="code_execution"), (SAME,)),
        (replace(WRITE, resource=None, arguments={"/content": ArgumentFact("content")}), (SAME,)),
        (replace(WRITE, effects=("spend",)), ()),
        (replace(WRITE, effects=("grant",)), ()),
        (replace(WRITE, risk=Risk.CRITICAL), ()),
        (replace(WRITE, risk=Risk.LOW), ()),
    ],
    ids=["unlisted", "runs code", "category", "nothing bound", "spends", "gives rights", "critical", "low"],
)
def test_what_is_offered_without_a_rule(facts: ToolFacts, expected: tuple[GrantOffer, ...]) -> None:
    """docs/grants.md: nothing for critical calls, money and rights; the same arguments alone where code runs."""
    assert offers(facts, PATH) == expected


def test_a_tool_without_a_schema_offers_the_same_arguments_alone() -> None:
    """An argument that the schema does not know fits nothing."""
    assert offers(WRITE, PATH, input_schema=None) == (SAME,)


def test_a_rule_that_lists_none_offers_none_whatever_others_offer() -> None:
    """D30: the strictest of the rules that ask."""
    one = {"for_s": 60.0, "max_uses": 3, "keep": {"/path": "folder"}}
    assert offers(WRITE, PATH, asks("a", [one]), asks("b", [])) == ()
    assert offers(WRITE, PATH, asks("a", [])) == ()


def test_several_rules_offer_what_all_of_them_offer_at_its_narrowest() -> None:
    """D30: adding a rule never widens."""
    short = {"for_s": 60.0, "max_uses": 9, "keep": {"/path": "folder"}}
    few = {"for_s": 600.0, "max_uses": 3, "keep": {"/path": "folder"}}
    other = {"for_s": 600.0, "max_uses": 3, "keep": {"/path": "same"}}
    assert offers(WRITE, PATH, asks("a", [short, other]), asks("b", [few])) == (
        GrantOffer(60.0, 3, {"/path": "folder"}),
    )
    assert offers(WRITE, PATH, asks("a", None), asks("b", [few]))[0].max_uses == 3


def test_a_rule_may_offer_a_grant_for_a_critical_call() -> None:
    """The owner of guard.yaml may; by default nothing is offered."""
    facts = replace(WRITE, risk=Risk.CRITICAL)
    assert offers(facts, PATH, asks("a", [{"max_uses": 1}])) == (GrantOffer(900.0, 1, None),)


def test_a_rule_that_offers_other_grants_is_another_policy() -> None:
    """S10: a change ends every grant."""
    base = {"version": 1, "id": "x", "servers": {"s": {"command": "x"}}}

    def digest(grants: list[dict[str, Any]]) -> str:
        config = GuardConfig.model_validate({**base, "rules": [asks("a", grants)]})
        return Policy(config, leads=lambda _s, _v, _c: None).digest

    assert digest([]) != digest([{"max_uses": 1}])
