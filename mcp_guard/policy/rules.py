"""Rules, compiled: does this rule speak of this call, and if not, why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mcp_guard.config.problems import Check, Finding
from mcp_guard.config.schema import GuardConfig, Rule, as_list
from mcp_guard.errors import ConfigError
from mcp_guard.model import CallKind, Effect, Risk, ToolFacts
from mcp_guard.policy.conditions import Condition, Outcome

Why = Literal["matched", "condition_unclear", "kind", "server", "tool", "environment", "category", "condition"]
"""`matched`, `condition_unclear` (counted by effect), else the first key of `match` that did not fit."""

FactsOf = Callable[[str, str], ToolFacts]
"""Server and tool name → facts."""


def glob(pattern: str, text: str) -> bool:
    """Match `*` and `?`, with case; all other characters stand for themselves. Takes at most n x m steps."""
    p = t = 0
    star, resume = -1, 0
    while t < len(text):
        if p < len(pattern) and pattern[p] == "*":
            star, resume = p, t
            p += 1
        elif p < len(pattern) and pattern[p] in ("?", text[t]):
            p, t = p + 1, t + 1
        elif star >= 0:
            resume += 1
            p, t = star + 1, resume
        else:
            return False
    return all(c == "*" for c in pattern[p:])


@dataclass(frozen=True, slots=True)
class Query:
    """What rules are asked about. `context` is what conditions see."""

    kind: CallKind
    server: str
    tool: str
    environment: str
    category: str | None
    context: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule with its condition compiled."""

    rule: Rule
    condition: Condition | None

    @property
    def effect(self) -> Effect:
        """The rule's effect."""
        return self.rule.effect_value

    def judge(self, query: Query) -> Why:
        """Whether the rule matches, cheapest keys first; the condition last."""
        match = self.rule.match
        tools_only = (match.tool, match.category, match.where) != (None, None, None)
        if tools_only and query.kind is not CallKind.TOOL:
            return "kind"
        keys: tuple[tuple[Why, str | list[str] | None, str], ...] = (
            ("server", match.server, query.server),
            ("tool", match.tool, query.tool),
            ("environment", match.environment, query.environment),
            ("category", match.category, query.category or ""),
        )
        for key, patterns, text in keys:
            if patterns is not None and not any(glob(p, text) for p in as_list(patterns)):
                return key
        if self.condition is None:
            return "matched"
        return _OUTCOMES[self.condition.judge(query.context)]

    def counts(self, why: Why) -> bool:
        """Whether that judgement counts as a match: an unclear condition never loosens."""
        return why == "matched" or (why == "condition_unclear" and self.effect is not Effect.ALLOW)


_OUTCOMES: dict[Outcome, Why] = {
    Outcome.TRUE: "matched",
    Outcome.FALSE: "condition",
    Outcome.UNCLEAR: "condition_unclear",
}


def compile_rules(config: GuardConfig) -> tuple[CompiledRule, ...]:
    """Compile all rules of a valid configuration.

    Raises:
        ConfigError: a condition does not compile.
    """
    return tuple(CompiledRule(r, None if r.match.where is None else Condition(r.match.where)) for r in config.rules)


def policy_check(facts: Callable[[GuardConfig, Path], FactsOf]) -> Check:
    """A check for `load_config(checks=…)`: conditions compile, and an `allow` that loosens gives its reason.

    Args:
        facts: Gives the facts for a configuration; called once for each check.
    """

    def check(config: GuardConfig, folder: Path) -> Iterator[Finding]:
        for rule in config.rules:
            if rule.match.where is not None:
                try:
                    Condition(rule.match.where)
                except ConfigError as error:
                    yield Finding(("rules", rule.id, "match", "where"), error.message, error.hint)
        facts_of = facts(config, folder)
        for rule in config.rules:
            if rule.effect == "allow" and not rule.reason and _may_loosen(rule, config, facts_of):
                yield Finding(
                    ("rules", rule.id),
                    "allows calls that ask by default, and gives no reason",
                    "add reason: why this is safe; it is recorded with each call",
                )

    return check


def default_effect(config: GuardConfig, risk: Risk) -> Effect:
    """The effect where no rule matches."""
    return Effect(getattr(config.defaults, risk.value))


def _may_loosen(rule: Rule, config: GuardConfig, facts_of: FactsOf) -> bool:
    """Whether some tool that the rule can match has a stricter default. A pattern also matches unlisted tools."""
    tools = as_list(rule.match.tool)
    servers = [
        s for s in config.servers if rule.match.server is None or any(glob(p, s) for p in as_list(rule.match.server))
    ]
    if not servers:
        return False
    if not tools or any(c in tool for tool in tools for c in "*?"):
        return default_effect(config, Risk.HIGH) is not Effect.ALLOW
    return any(default_effect(config, facts_of(s, t).risk) is not Effect.ALLOW for s in servers for t in tools)
