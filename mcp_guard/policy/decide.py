"""The decision: all rules that match, most restrictive effect wins, defaults by risk where none matches (D28, D30)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import JsonValue

from mcp_guard.canon import digest
from mcp_guard.config.schema import GuardConfig
from mcp_guard.errors import InternalError
from mcp_guard.model import (
    ApprovalTerms,
    Assurance,
    Call,
    CallKind,
    Decision,
    Effect,
    Risk,
    Views,
)
from mcp_guard.permit import Permit, issue_permit
from mcp_guard.policy.grants import offered
from mcp_guard.policy.places import changed_places, read_places
from mcp_guard.policy.rules import CompiledRule, Query, Why, compile_rules, default_effect

OWN_FILES = "builtin:own-files"
GIT_FOLDER = "builtin:git-folder"
ABOVE_OWN_FILES = "builtin:above-own-files"
UNSURE = "builtin:too-many-paths"
SECRETS = "builtin:secrets-in-arguments"

Led = Literal["own_files", "too_many", "above_own_files", "git_folder", "unsure"]
Leads = Callable[[str, JsonValue, Callable[[], JsonValue]], Led | None]
"""Server, arguments, and what of them may name a place that is changed → where paths in them lead. Does the I/O."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one rule says of a call."""

    rule: CompiledRule
    why: Why
    counts: bool


_OWN_FILES: dict[Led, str] = {
    "own_files": "an argument leads into the files of the guard or of a host; no rule can allow this",
    "too_many": "the arguments hold more than can be checked for paths into the files of the guard; send fewer at once",
}
_PLACES: dict[Led, tuple[str, str]] = {
    "git_folder": (GIT_FOLDER, "the path leads into a .git folder: its files make git run programs"),
    "above_own_files": (
        ABOVE_OWN_FILES,
        "the folder holds files of the guard or of a host: another one in its place brings other rules",
    ),
    "unsure": (UNSURE, "there are too many paths to look at, so nobody can say what would change; send fewer at once"),
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """A decision with everything that led to it, for `explain`."""

    decision: Decision
    rows: tuple[Row, ...]
    default: Effect
    own_files: bool
    place: str | None
    """The built-in rule for the place that is changed, if there is one."""


class Policy:
    """The policy decision point. Pure but for what is given to it, which looks at the file system."""

    def __init__(
        self,
        config: GuardConfig,
        *,
        leads: Leads,
        manifest_digest: str = "",
        stdio: bool = True,
    ) -> None:
        """Compile a configuration.

        Args:
            config: Valid.
            leads: Tells where paths in the arguments lead.
            manifest_digest: `Manifests.digest`; part of the policy digest.
            stdio: Whether the front is stdio; part of the policy digest, since mode and assurance hang on it.

        Raises:
            ConfigError: a condition does not compile.
        """
        self._config = config
        self._rules = compile_rules(config)
        self._leads = leads
        judged = config.model_dump(mode="json", include={"environment", "defaults", "rules", "approvals", "servers"})
        servers = {name: server["environment"] for name, server in judged.pop("servers").items()}
        self.digest = digest(
            "policy",
            {
                **judged,
                "environments": servers,
                "secrets": config.masking.arguments.secrets,
                "manifests": manifest_digest,
                "stdio": stdio,
            },
        )
        """Changes when rules, defaults, terms, environments or manifests change."""

    def decide(self, call: Call, views: Views) -> Decision:
        """Judge exactly what would run: `views.for_downstream`. See `ports.PolicyPort`."""
        return self.judge(call, views).decision

    def permit(self, call: Call, decision: Decision) -> Permit:
        """The permit for a call that policy allows.

        Raises:
            InternalError: the decision is not `allow`, or was made under another policy.
        """
        if decision.effect is not Effect.ALLOW or decision.policy_digest != self.digest:
            raise InternalError("policy did not allow this call")
        return issue_permit(call.call_id, decision.rule)

    def judge(self, call: Call, views: Views) -> Judgement:
        """`decide`, with what each rule said."""
        # The order is the security argument:
        # 1. The built-in rule comes first and nothing takes it back.
        # 2. Every rule is asked; an unclear condition counts for deny and require_approval, never for allow.
        # 3. An allow without a reason does not loosen the default.
        # 4. The most restrictive effect wins, so adding a deny can never loosen.
        # 5. A change of a place that programs take orders from, and secrets in arguments, can only tighten.
        risk = call.target.facts.risk if self._is_tool(call) else Risk.LOW
        default = default_effect(self._config, risk)
        led = self._led(call, views)
        own_files = _OWN_FILES.get(led) if led else None  # (1)
        rows = tuple(self._row(rule, self._query(call, views, risk), default) for rule in self._rules)  # (2), (3)
        decision = (
            Decision(Effect.DENY, OWN_FILES, risk, (own_files,), self.digest)
            if own_files
            else self._by_rules(call, views, rows, risk, default)
        )  # (1), (4)
        place = _PLACES.get(led) if led else None
        if place is not None and decision.effect is not Effect.DENY:
            decision = self._ask_for_place(*place, decision, call, views)  # (5)
        if views.secrets and self._config.masking.arguments.secrets == "ask" and decision.effect is Effect.ALLOW:
            decision = self._ask_for_secrets(decision)  # (5)
        return Judgement(decision, rows, default, own_files is not None, place[0] if place else None)

    @staticmethod
    def _is_tool(call: Call) -> bool:
        return call.target.kind is CallKind.TOOL

    def _query(self, call: Call, views: Views, risk: Risk) -> Query:
        target, principal = call.target, call.principal
        server = self._config.servers.get(target.server)
        environment = (server.environment if server else None) or self._config.environment
        return Query(
            kind=target.kind,
            server=target.server,
            tool=target.name,
            environment=environment,
            category=target.facts.category,
            context={
                "args": views.for_downstream.value,
                "server": target.server,
                "tool": target.name,
                "environment": environment,
                "principal": {"issuer": principal.issuer, "subject": principal.subject, "label": principal.label},
                "risk": risk.value,
                "category": target.facts.category or "",
            },
        )

    def _row(self, rule: CompiledRule, query: Query, default: Effect) -> Row:
        why = rule.judge(query)
        loosens = rule.effect is Effect.ALLOW and default is not Effect.ALLOW
        return Row(rule, why, rule.counts(why) and not (loosens and not rule.rule.reason))

    def _led(self, call: Call, views: Views) -> Led | None:
        try:
            value = read_places(call, views)
            if not self._is_tool(call):
                value = [call.target.name, value]
            return self._leads(call.target.server, value, lambda: changed_places(call, views))
        except Exception:  # noqa: BLE001 - a look at the file system that fails must not open the way
            return "own_files"

    def _by_rules(self, call: Call, views: Views, rows: tuple[Row, ...], risk: Risk, default: Effect) -> Decision:
        counting = [row for row in rows if row.counts]
        facts_why = (call.target.facts.why,) if self._is_tool(call) and call.target.facts.why else ()
        if not counting:
            reasons = (f"no rule matches; the default for {risk.value} risk", *facts_why)
            return Decision(
                default, f"default:{risk.value}", risk, reasons, self.digest, self._terms([], risk, call, views)
            )
        effect = max((row.rule.effect for row in counting), key=lambda e: e.rank)
        winners = [row for row in counting if row.rule.effect is effect]
        reasons = tuple(_reason(row, default) for row in winners) + facts_why
        terms = self._terms(winners, risk, call, views)
        return Decision(effect, winners[0].rule.rule.id, risk, reasons, self.digest, terms)

    def _ask_for_place(self, rule: str, why: str, decision: Decision, call: Call, views: Views) -> Decision:
        risk = max(decision.risk, Risk.HIGH, key=lambda risk: risk.rank)
        asked = decision.effect is Effect.REQUIRE_APPROVAL
        offers = decision.terms.grants if asked else offered(call, views, (), risk)
        # The same call again at most: a folder would hold all that programs take orders from.
        terms = replace(decision.terms, grants=tuple(offer for offer in offers if offer.keep is None))
        reasons = (why, *decision.reasons)
        return Decision(Effect.REQUIRE_APPROVAL, rule, risk, reasons, self.digest, terms)

    def _ask_for_secrets(self, decision: Decision) -> Decision:
        reasons = ("the arguments hold a secret; masking.arguments.secrets is ask", *decision.reasons)
        terms = replace(decision.terms, grants=())  # the rules that allow it said nothing of grants
        return replace(decision, effect=Effect.REQUIRE_APPROVAL, rule=SECRETS, reasons=reasons, terms=terms)

    def _terms(self, winners: list[Row], risk: Risk, call: Call, views: Views) -> ApprovalTerms:
        """The strictest terms among the rules that ask; a rule that does not say follows `approvals` and the risk."""
        config = self._config.approvals
        usual = Assurance.A2 if risk is Risk.CRITICAL else Assurance.A1
        options = [row.rule.rule.approval for row in winners]
        assurance = max((o.assurance if o.assurance is not None else usual for o in options), default=usual)
        expires = min((o.expires_after_s or config.expires_after_s for o in options), default=config.expires_after_s)
        use = min((o.use_within_s or config.use_within_s for o in options), default=config.use_within_s)
        runs = {o.run or config.run for o in options} or {config.run}
        run: Literal["on_approval", "on_pickup"] = "on_pickup" if "on_pickup" in runs else "on_approval"
        return ApprovalTerms(assurance, expires, use, config.hold_s, run, offered(call, views, options, risk))


def _reason(row: Row, default: Effect) -> str:
    rule = row.rule.rule
    text = f"rule {rule.id}"
    if row.why == "condition_unclear":
        text += ", whose condition could not be evaluated,"
    text += {Effect.ALLOW: " allows it", Effect.REQUIRE_APPROVAL: " asks", Effect.DENY: " denies it"}[row.rule.effect]
    if row.rule.effect is Effect.ALLOW and default is not Effect.ALLOW:
        text += f" where the default is {default.value}"
    text += f": {rule.reason}" if rule.reason else ""
    return text + (f" (owner: {rule.owner})" if rule.owner else "")
