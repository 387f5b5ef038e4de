"""Who may decide what, and whether anybody can (decisions.md D25, approvals.md S9). Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mcp_guard.errors import NoEligibleReviewerError, NotEligibleError
from mcp_guard.model import Assurance, Decision, Risk

Mode: TypeAlias = Literal["personal", "team"]
Separation: TypeAlias = Literal["none", "reviewer"]
"""`none`: the requester's own side confirmed. `reviewer`: somebody with a credential of his own decided."""


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who decides, over which channel, and how sure that is."""

    name: str
    assurance: Assurance
    channel: Literal["elicitation", "cli", "console"]
    principal_key: str | None = None
    """The requester-side identity of this person, where it is known."""
    how: str = ""
    """What the person did to decide, where the channel tells: `click`, `second_look`. Signed and recorded."""


@dataclass(frozen=True, slots=True)
class Channels:
    """Which ways to a person exist for a request."""

    elicitation: bool
    """The requester's client can show a form."""
    reviewers: bool
    """At least one reviewer with a token is registered."""


def demanded(decision: Decision, mode: Mode) -> Assurance:
    """The assurance a decision must have. In team mode, and by default for critical calls, never below A2."""
    floor = decision.terms.min_assurance
    if mode == "team":
        return max(floor, Assurance.A2)
    if decision.risk is Risk.CRITICAL and decision.rule.startswith("default:"):
        return max(floor, Assurance.A2)
    return floor


def require_reachable(mode: Mode, decision: Decision, channels: Channels) -> None:
    """Refuse at once what nobody could approve.

    In personal mode the local command line (A1) is always there; a form is one more way to the same person.

    Raises:
        NoEligibleReviewerError: no channel reaches the assurance.
    """
    need, best = demanded(decision, mode), Assurance.A1 if mode == "personal" else Assurance.A0
    if channels.reviewers:
        best = Assurance.A2
    if need > Assurance.A2:
        raise NoEligibleReviewerError(
            f"rule {decision.rule} demands a decision of assurance {need.name}, which no channel gives",
            hint="do not retry; the owner of guard.yaml can lower min_assurance of this rule to A2",
        )
    if need > best:
        what = "a call of critical risk" if decision.risk is Risk.CRITICAL else "this call"
        raise NoEligibleReviewerError(f"{what} needs a reviewer with a token, and nobody is one yet")


def may_prompt(mode: Mode, need: Assurance, channels: Channels) -> bool:
    """Whether the requester's own client may be asked: only where its confirmation would count."""
    return channels.elicitation and mode == "personal" and need <= Assurance.A1


def judge(mode: Mode, owner: str, need: Assurance, reviewer: Reviewer) -> Separation:
    """Whether this reviewer may approve a request of `owner` (a `Principal.key`).

    Raises:
        NotEligibleError: assurance too low, or the requester himself in team mode.
    """
    if mode == "team" and (reviewer.assurance < Assurance.A2 or same_person(owner, reviewer)):
        raise NotEligibleError(
            "separation of duties: a requester never approves an own call",
            hint="another reviewer decides, with the token from `mcp-guard reviewer add NAME`",
        )
    if reviewer.assurance < need:
        raise NotEligibleError(
            f"this request needs assurance {need.name}; {reviewer.channel} gives {reviewer.assurance.name}",
            hint="set MCP_GUARD_REVIEWER_TOKEN to the token of a reviewer",
        )
    return "none" if reviewer.assurance < Assurance.A2 or same_person(owner, reviewer) else "reviewer"


def same_person(owner: str, reviewer: Reviewer) -> bool:
    """Whether the reviewer is the requester `owner` (a `Principal.key`), as far as names tell."""
    if reviewer.principal_key == owner:
        return True
    subject = str(json.loads(owner)[1])
    return subject.casefold().strip() == reviewer.name.casefold().strip()


def needs(need: Assurance) -> str:
    """Who must do what, in plain text."""
    return f"one reviewer ({need.name})"
