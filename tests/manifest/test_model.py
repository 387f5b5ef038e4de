"""The format of manifests."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mcp_guard.manifest.model import FLOOR, ToolManifest, manifest_schema
from mcp_guard.model import ArgumentFact, Risk


def manifest(**tool: Any) -> ToolManifest:
    entry = {"effects": ["read"], "risk": "low", "why": "Reads.", **tool}
    head = {"manifest": 1, "server": "x", "package": "pkg:pypi/x", "reviewed_version": "1.0"}
    return ToolManifest.model_validate({**head, "tools": {"t": entry}})


@pytest.mark.parametrize("effect", list(FLOOR))
def test_no_tool_is_below_the_floor_of_its_effects(effect: str) -> None:
    """decisions.md D31: a manifest cannot call `execute` low."""
    for risk in Risk:
        if risk.rank < FLOOR[effect].rank:  # type: ignore[index]
            with pytest.raises(ValidationError, match="is at least"):
                manifest(effects=[effect], risk=risk.value)
        else:
            assert manifest(effects=["read", effect] if effect != "read" else ["read"], risk=risk.value).facts("t")


def test_an_entry_becomes_facts(tmp_path: object) -> None:
    """decisions.md D31."""
    made = manifest(
        effects=["write", "delete"],
        risk="high",
        category="deletion",
        resource="/path",
        arguments={"/path": {"role": "identifier", "show": "full"}},
        why="Old content is gone.",
    )
    facts = made.facts("t")

    assert facts is not None
    assert (facts.listed, facts.effects, facts.risk, facts.resource) == (True, ("write", "delete"), Risk.HIGH, "/path")
    assert facts.arguments == {"/path": ArgumentFact("identifier", "full")}
    assert (facts.manifest, facts.manifest_digest) == ("x", made.digest)
    assert made.facts("other") is None


@pytest.mark.parametrize(
    "bad",
    [
        {"approval": {"min_assurance": "A1"}},
        {"effects": []},
        {"effects": ["read", "read"]},
        {"effects": ["destroy"]},
        {"category": "something"},
        {"resource": "path"},
        {"arguments": {"path": {}}},
        {"arguments": {"/path": {"role": "owner"}}},
        {"why": ""},
        {"why": "two\nlines"},
        {"why": "\x1b[2Jcleared"},
        {"undo": {"tool": "not_there"}},
    ],
    ids=str,
)
def test_what_is_no_fact_is_refused(bad: dict[str, Any]) -> None:
    """decisions.md D31: closed lists, no judgements; S38: text that is shown in terminals is plain."""
    with pytest.raises(ValidationError):
        manifest(**bad)


def test_the_digest_follows_the_facts() -> None:
    """approvals.md S1: facts that change make earlier approvals void."""
    assert manifest().digest == manifest().digest
    assert manifest().digest != manifest(risk="medium").digest


def test_the_schema_of_manifests_is_closed() -> None:
    """decisions.md D31: generated; unknown keys are errors for editors too."""
    assert manifest_schema()["additionalProperties"] is False
