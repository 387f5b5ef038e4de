"""What the templates get: plain values, and foreign text only through `values.shown`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from anyio import to_thread
from pydantic import JsonValue

from mcp_guard.approval.eligibility import judge
from mcp_guard.approval.inbox import PAGE
from mcp_guard.approval.lookalikes import doubts
from mcp_guard.approval.machine import State, Void
from mcp_guard.approval.prompt import requester_of, waiting_notes
from mcp_guard.approval.recipients import beside
from mcp_guard.approval.review import Shown
from mcp_guard.approval.rows import DETAILS_DAYS, Request, StoredEvent
from mcp_guard.approval.sealed import intact
from mcp_guard.approval.signin import Session
from mcp_guard.audit.query import Entry
from mcp_guard.clock import iso
from mcp_guard.errors import NotEligibleError
from mcp_guard.http.console.parts import PageParts
from mcp_guard.http.console.values import BRIEF, WHOLE, Tree, flat, tree
from mcp_guard.model import Assurance, Risk

_NS = 1_000_000_000
_MINUTE_S = 60
_HOUR_S = 3600
TWO_STEPS = Risk.HIGH.rank
"""Rank of the risk from which on approving takes a second look."""
_MAX_LIST = 50
"""Sentences or offers of one request that are shown."""
_MAX_SENTENCE = 600
_MAX_OFFER = 4_000
"""Characters of one grant with its bounds."""
_MAX_JUSTIFICATION = 2_000
_MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class Pager:
    """One page of a list."""

    number: int
    total: int

    @property
    def first(self) -> int:
        """Number of the first row on this page."""
        return (self.number - 1) * PAGE + 1

    @property
    def last(self) -> int:
        """Number of the last row on this page."""
        return min(self.number * PAGE, self.total)

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.total // PAGE))


@dataclass(frozen=True, slots=True)
class Card:
    """One request as a person sees it."""

    request: Request
    fingerprint: str
    requester: str
    verified: bool
    facts: list[tuple[str, str]]
    reasons: list[str]
    why: list[str]
    justification: str
    tree: Tree
    whole: bool
    grants: dict[int, tuple[str, list[str]]]
    """Label and bounds of each grant that may be given with the approval, by its index."""
    notes: list[str]
    """How many calls wait for this decision."""
    others: int
    """How many more calls of this tool wait."""
    doubts: list[str]
    """Names and addresses that may not be what the eye reads."""
    history: list[tuple[int, str, str, str]]
    """Wall nanoseconds, what became of it, by whom, comment."""
    hindrance: str
    """Why this person may not approve it; empty when he may."""

    @property
    def pending(self) -> bool:
        """Whether it waits for a decision."""
        return self.request.row.state is State.PENDING

    @property
    def kept_days(self) -> int:
        """How long the details of a request are kept at most, once it is over."""
        return DETAILS_DAYS

    @property
    def needs_fingerprint(self) -> bool:
        """Whether one click would approve what was not seen whole."""
        return self.tree.cut

    @property
    def two_steps(self) -> bool:
        """Whether approving takes a second look."""
        return self.request.risk.rank >= TWO_STEPS


async def card_of(parts: PageParts, found: Shown, session: Session, *, whole: bool) -> Card:
    """All that is shown of one request; `whole`: without the brief view's cuts.

    Made in a thread: the guard that serves the page serves calls as well, and big arguments take a while.
    """
    return await to_thread.run_sync(partial(_card_of, parts, found, session, whole=whole))


def _card_of(parts: PageParts, found: Shown, session: Session, *, whole: bool) -> Card:
    request, view = found.request, found.request.view
    return Card(
        request=request,
        fingerprint=found.fingerprint,
        requester=requester_of(view),
        verified=bool(view.get("verified")),
        facts=_facts(request),
        reasons=_texts(view.get("reasons")),
        why=_texts(view.get("why")),
        justification=clipped(str(view.get("justification") or ""), _MAX_JUSTIFICATION),
        tree=tree(view.get("arguments"), _list(view.get("order")), WHOLE if whole else BRIEF, partial(beside, view)),
        whole=whole,
        grants=_offers(view.get("grants")),
        notes=waiting_notes(request.calls, 0),
        others=found.others,
        doubts=doubts(view),
        history=[_told(event) for event in found.events],
        hindrance=_hindrance(parts, request, session) if request.row.state is State.PENDING else "",
    )


def _facts(request: Request) -> list[tuple[str, str]]:
    view = request.view
    named: list[tuple[str, JsonValue]] = [
        ("client", view.get("client")),
        ("server", request.server),
        (str(view.get("kind") or "tool"), request.tool),
        ("environment", view.get("environment")),
        ("resource", view.get("resource")),
        ("rule", _rule(request)),
        ("needs", sure(request.min_assurance) if request.min_assurance >= Assurance.A2 else None),
    ]
    return [(name, str(value)) for name, value in named if value]


def _rule(request: Request) -> str:
    """The rule in words, where it is none of the configuration's own."""
    kind, _, name = request.rule.partition(":")
    if kind == "default":
        return f"none; calls of {name} risk ask by default"
    return f"built in: {name.replace('-', ' ')}" if kind == "builtin" else request.rule


def sure(assurance: Assurance) -> str:
    """How sure it is who decides, in words."""
    if assurance >= Assurance.A2:
        return "a reviewer with a token" if assurance is Assurance.A2 else f"more than a token ({assurance.name})"
    return "the user of this machine"


_BECAME = {"T1": "asked", "T12": "void", "T13": "taken up", "T14": "sent to the server", "T15": "given back"}


def _told(event: StoredEvent) -> tuple[int, str, str, str]:
    became = _BECAME.get(event.transition, event.new)
    return event.at_ns, became, person(event.actor), str((event.detail or {}).get("comment") or "")


_AFTER = {
    State.APPROVED: "",
    State.EXECUTING: ", running",
    State.COMPLETED: ", completed",
    State.FAILED: ", failed before it ran",
    State.UNKNOWN: ", outcome unknown",
    State.EXPIRED: ", not carried out in time",
    State.INVALIDATED: ", then void",
}
"""What became of an approval."""


def became(state: str, by: str) -> str:
    """What was decided, by whom, and what became of it: `approved by alice, completed`."""
    who = f" by {clipped(person(by), _MAX_NAME)}" if by else ""
    if state == State.CANCELLED:
        return f"withdrawn{who}"
    if state in _AFTER and by:
        return f"approved{who}{_AFTER[State(state)]}"
    return "expired, nobody decided" if state == State.EXPIRED else f"{state}{who}"


def _offers(offers: JsonValue) -> dict[int, tuple[str, list[str]]]:
    """The grants whose bounds can be shown whole: what would have to be cut is not offered here."""
    found = {}
    for index, offer in enumerate(_list(offers)[:_MAX_LIST]):
        if isinstance(offer, dict):
            label, keep = str(offer.get("label")), [str(line) for line in _list(offer.get("keep"))]
            if len(label) + sum(len(line) for line in keep) <= _MAX_OFFER and len(keep) <= _MAX_LIST:
                found[index] = (label, keep)
    return found


def _hindrance(parts: PageParts, request: Request, session: Session) -> str:
    stored = intact(parts.keys, parts.mask, request)
    if isinstance(stored, Void):
        return f"Nothing can run for this request: {stored.value}. Deny it to close it."
    try:
        judge(stored.mode, request.row.owner, request.min_assurance, session.reviewer)
    except NotEligibleError as error:
        lacks = stored.mode == "personal" and session.reviewer.assurance < request.min_assurance
        why = f" as {sure(session.reviewer.assurance)}" if lacks else f": {error.message}"
        return f"You cannot approve this{why}. {_who_can(request.min_assurance)}"
    return ""


def _who_can(need: Assurance) -> str:
    if need > Assurance.A2:
        return f"It needs a decision of assurance {need.name}, which this page does not give. You can still deny it."
    return (
        "It needs a reviewer with a token: another person signs in here with one, and `mcp-guard reviewer add NAME` "
        "makes it. You can still deny it."
    )


def person(actor: str) -> str:
    """A reviewer's name, or the subject and label of a requester's key."""
    try:
        key = json.loads(actor)
    except (ValueError, RecursionError):
        return actor
    return " / ".join(str(part) for part in key[1:] if part) if isinstance(key, list) else actor


def entry_of(entry: Entry) -> dict[str, Any]:
    """A record of the audit log, in short."""
    return {
        "at_ns": entry.ts_us * 1000,
        "place": f"{entry.file.split('/')[0]}:{entry.index}",
        "type": entry.type,
        "tool": entry.tool,
        "outcome": entry.outcome,
        "call_id": entry.call_id,
        "actor": person(entry.actor),
    }


def story_of(entry: Entry) -> dict[str, Any]:
    """A record with everything that it holds."""
    held: dict[str, JsonValue] = dict(flat({**entry.fields, **entry.payloads}))
    return {**entry_of(entry), "held": tree(held, list(held), BRIEF)}


def moment(ns: int) -> str:
    """`2026-11-21 12:00:00`, UTC."""
    return iso(ns)[:19].replace("T", " ")


def left(ns: int, now_ns: int) -> str:
    """How long until then: `4 min`."""
    seconds = max(0, (ns - now_ns) // _NS)
    if seconds < _MINUTE_S:
        return f"{seconds} s"
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S} min"
    return f"{seconds // _HOUR_S} h {seconds % _HOUR_S // _MINUTE_S} min"


def grant_of(grant: Any) -> Mapping[str, Any]:
    """A standing grant as listed."""
    return {
        "id": grant.id,
        "label": clipped(grant.label, _MAX_SENTENCE),
        "what": f"{grant.server}/{grant.tool}",
        "owner": person(grant.owner),
        "by": grant.by,
        "created_ns": grant.created_ns,
        "expires_ns": grant.expires_ns,
        "uses": f"{grant.uses} of {grant.max_uses}",
        "keep": _texts(list(grant.keep)),
        "state": str(grant.state),
    }


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _texts(value: JsonValue) -> list[str]:
    texts = [clipped(str(item), _MAX_SENTENCE) for item in _list(value)]
    more = len(texts) - _MAX_LIST
    return texts if more <= 0 else [*texts[:_MAX_LIST], f"+{more} more"]


def clipped(text: str, limit: int) -> str:
    """At most so many characters, and a note of how many more there are."""
    return text if len(text) <= limit else f"{text[:limit]} +{len(text) - limit} more characters"
