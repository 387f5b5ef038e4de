"""Why a call would be allowed, suspended or denied: every rule, with what did or did not fit."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_guard.model import (
    Call,
    CallContext,
    CallKind,
    JsonDict,
    MaskedJson,
    Principal,
    RawArguments,
    Target,
    ToolFacts,
    Views,
)
from mcp_guard.policy.decide import Judgement, Policy, Row

_SAYS = {
    "matched": "matches",
    "condition_unclear": "its condition cannot be evaluated for these arguments",
    "kind": "no: it is about tools",
    "server": "no: another server",
    "tool": "no: another tool",
    "environment": "no: another environment",
    "category": "no: another category",
    "condition": "no: its condition is false",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Ids, codes and constant text; nothing of the arguments."""

    data: JsonDict
    """effect, rule, risk, reasons, default, terms, policy_digest, rules: [{id, effect, matched, why}]."""
    text: str
    """The same for people, a line for each rule."""


def explain_call(
    policy: Policy, *, server: str, tool: str, args: JsonDict, facts: ToolFacts, principal: Principal | None = None
) -> Explanation:
    """Explain what would happen to a call, for the command line. Nothing is sent or recorded.

    Args:
        policy: The compiled configuration.
        server: Name in guard.yaml.
        tool: The downstream's own tool name.
        args: As they would run. Secrets in them are not looked for here.
        facts: From `Manifests.facts_for`.
        principal: For conditions that speak of it.
    """
    target = Target(CallKind.TOOL, server, tool, tool, local=True, facts=facts)
    raw = RawArguments(args)
    asker = principal or Principal("os", "")
    call = Call("call_explain", target, raw, asker, CallContext("stdio", "", ""))
    return explain(policy, call, Views(raw, MaskedJson(None), MaskedJson(None)))


def explain(policy: Policy, call: Call, views: Views) -> Explanation:
    """Explain the decision about a call."""
    judgement = policy.judge(call, views)
    return Explanation(_data(judgement), _text(call, judgement))


def _data(judgement: Judgement) -> JsonDict:
    decision = judgement.decision
    return {
        "effect": decision.effect.value,
        "rule": decision.rule,
        "risk": decision.risk.value,
        "reasons": list(decision.reasons),
        "default": judgement.default.value,
        "own_files": judgement.own_files,
        "place": judgement.place,
        "terms": {
            "min_assurance": decision.terms.min_assurance.name,
            "expires_after_s": decision.terms.expires_after_s,
            "use_within_s": decision.terms.use_within_s,
            "hold_s": decision.terms.hold_s,
            "run": decision.terms.run,
        },
        "policy_digest": decision.policy_digest,
        "rules": [
            {"id": row.rule.rule.id, "effect": row.rule.effect.value, "matched": row.counts, "why": row.why}
            for row in judgement.rows
        ],
    }


def _text(call: Call, judgement: Judgement) -> str:
    decision = judgement.decision
    lines = [f"{call.target.server}/{call.target.name}: {decision.effect.value} by {decision.rule}"]
    lines += [f"  because {reason}" for reason in decision.reasons]
    lines.append(f"  default for {decision.risk.value} risk: {judgement.default.value}")
    if decision.effect.value == "require_approval":
        terms = decision.terms
        lines.append(
            f"  needs a reviewer at {terms.min_assurance.name} within {terms.expires_after_s:g} s; "
            f"to be used within {terms.use_within_s:g} s; runs {terms.run.replace('_', ' ')}"
        )
    lines.append("rules:" if judgement.rows else "rules: none")
    lines += [f"  {row.rule.rule.id} ({row.rule.effect.value}): {_says(row)}" for row in judgement.rows]
    return "\n".join(lines)


def _says(row: Row) -> str:
    if row.why == "matched" and not row.counts:
        return "matches, but does not count: it gives no reason to loosen the default"
    if row.why == "condition_unclear":
        return f"{_SAYS[row.why]}: counts as {'matched' if row.counts else 'not matched'}"
    return _SAYS[row.why]
