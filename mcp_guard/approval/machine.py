"""The states of an approval request and the only edges between them (docs/approvals.md). Pure.

Nothing else may change a state. `apply` looks at one row, one event and one reading of the clock, and returns the
next row or says why there is none. The store commits what it returns, together with exactly one event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, TypeAlias


class State(StrEnum):
    """Where an approval request stands."""

    PENDING = "pending"
    APPROVED = "approved"
    EXECUTING = "executing"
    COMPLETED = "completed"
    FAILED = "failed"
    """Provably not run."""
    UNKNOWN = "unknown"
    """Sent, and nobody knows what became of it."""
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    INVALIDATED = "invalidated"


LIVE = frozenset({State.PENDING, State.APPROVED, State.EXECUTING})
OUTCOMES = frozenset({State.COMPLETED, State.FAILED, State.UNKNOWN})
"""States that hold something to deliver."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the machine knows of a request. Times in wall nanoseconds."""

    id: str
    state: State
    version: int
    round: int
    owner: str
    lookup: str
    action_digest: str
    expires_ns: int
    """No approval from here on."""
    use_within_ns: int
    holder: str
    """Id of the guard process that carries it out."""
    use_by_ns: int | None = None
    """No send from here on; set by the approval."""
    exec_id: str | None = None
    sent: bool = False
    ended_ns: int | None = None
    decided_by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Approve:
    """T4. `round` and `action_digest` are what the reviewer was shown."""

    round: int
    action_digest: str
    reviewer: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UseGrant:
    """T2: a standing grant covers the call; a use of it was taken in the same transaction."""

    grant: str


@dataclass(frozen=True, slots=True)
class Deny:
    """T5."""

    reviewer: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """T9."""

    actor: str


@dataclass(frozen=True, slots=True)
class Tick:
    """T10, T11: nothing but time passed."""


class Void(StrEnum):
    """Why a request ends as invalidated. The texts reach agents and the record."""

    UNREADABLE = "what is stored cannot be opened"
    ALTERED = "what is stored is not what was asked for"
    EARLIER = "it was asked for under an earlier version of the guard; ask again"
    SHOWN = "what reviewers were shown is not what would run"
    USED = "this approval was used before"
    UNSIGNED = "no signed decision approves it"
    GRANT = "the grant that approved it is over, was revoked, or does not cover it"
    UNCHECKED = "it could not be checked again"
    DENIED = "the policy now denies this call"
    POLICY = "the policy has changed"
    ASSURANCE = "the policy now demands a higher assurance"
    SEPARATION = "the guard now demands another person than the requester"


@dataclass(frozen=True, slots=True)
class Invalidate:
    """T12: what was approved is no longer what would run, or may no longer run."""

    reason: Void


@dataclass(frozen=True, slots=True)
class Claim:
    """T13."""

    holder: str
    owner: str
    lookup: str
    action_digest: str
    exec_id: str


@dataclass(frozen=True, slots=True)
class MarkSent:
    """T14, committed before the first byte leaves."""

    exec_id: str


@dataclass(frozen=True, slots=True)
class Release:
    """T15: the execution ended and nothing had left the process."""

    exec_id: str | None


@dataclass(frozen=True, slots=True)
class Finish:
    """T16. `ran` False means that it provably did not run."""

    exec_id: str
    ran: bool


@dataclass(frozen=True, slots=True)
class Lose:
    """T17: sent, and no answer."""

    exec_id: str | None


@dataclass(frozen=True, slots=True)
class Reconcile:
    """T18: a person found out what became of an unknown outcome."""

    outcome: Literal["completed", "failed"]
    reviewer: str
    reason: str


Event: TypeAlias = (
    Approve | UseGrant | Deny | Cancel | Tick | Invalidate | Claim | MarkSent | Release | Finish | Lose | Reconcile
)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why an event changes nothing: `state` (wrong state), `stale`, `mismatch`, `time` or `lost`."""

    why: Literal["state", "stale", "mismatch", "time", "lost"]
    row: Row


@dataclass(frozen=True, slots=True)
class Step:
    """The next row and the name of the edge that leads to it."""

    transition: str
    row: Row


@dataclass(frozen=True, slots=True)
class Edge:
    """One line of the table in docs/approvals.md."""

    transition: str
    sources: frozenset[State]
    targets: frozenset[State]


def _edge(transition: str, sources: tuple[State, ...], targets: tuple[State, ...]) -> Edge:
    return Edge(transition, frozenset(sources), frozenset(targets))


EDGES = {
    edge.transition: edge
    for edge in (
        _edge("T1", (), (State.PENDING,)),
        _edge("T2", (State.PENDING,), (State.APPROVED,)),
        _edge("T4", (State.PENDING,), (State.APPROVED,)),
        _edge("T5", (State.PENDING,), (State.DENIED,)),
        _edge("T9", (State.PENDING, State.APPROVED), (State.CANCELLED,)),
        _edge("T10", (State.PENDING,), (State.EXPIRED,)),
        _edge("T11", (State.APPROVED,), (State.EXPIRED,)),
        _edge("T12", (State.PENDING, State.APPROVED), (State.INVALIDATED,)),
        _edge("T13", (State.APPROVED,), (State.EXECUTING,)),
        _edge("T14", (State.EXECUTING,), (State.EXECUTING,)),
        _edge("T15", (State.EXECUTING,), (State.APPROVED, State.EXPIRED)),
        _edge("T16", (State.EXECUTING,), (State.COMPLETED, State.FAILED)),
        _edge("T17", (State.EXECUTING,), (State.UNKNOWN,)),
        _edge("T18", (State.UNKNOWN,), (State.COMPLETED, State.FAILED)),
    )
}
"""Every transition by its number."""


def apply(row: Row, event: Event, now: int) -> Step | Conflict:
    """Return the next row, or why there is none. `now` in wall nanoseconds.

    Time goes first: a request whose time is over takes no other event (T10, T11).
    """
    if not isinstance(event, Tick) and _due(row, now):
        return Conflict("time", row)
    handler: Callable[[Row, Event, int], Step | Conflict] = _HANDLERS[type(event)]
    step = handler(row, event, now)
    if isinstance(step, Step):
        edge = EDGES[step.transition]
        if row.state not in edge.sources:
            return Conflict("state", row)
        return Step(step.transition, replace(step.row, version=row.version + 1))
    return step


def _due(row: Row, now: int) -> bool:
    if row.state is State.PENDING:
        return now >= row.expires_ns
    return row.state is State.APPROVED and _use_over(row, now)


def _use_over(row: Row, now: int) -> bool:
    # An approved row without use_by was not approved by this machine: its time is over.
    return row.use_by_ns is None or now >= row.use_by_ns


def _approve(row: Row, event: Approve, now: int) -> Step | Conflict:
    if row.state is State.PENDING and (event.round, event.action_digest) != (row.round, row.action_digest):
        return Conflict("stale", row)
    use_by = now + row.use_within_ns
    approved = replace(row, state=State.APPROVED, use_by_ns=use_by, decided_by=event.reviewer, reason=event.reason)
    return Step("T4", approved)


def _use_grant(row: Row, event: UseGrant, now: int) -> Step | Conflict:
    use_by = now + row.use_within_ns
    return Step("T2", replace(row, state=State.APPROVED, use_by_ns=use_by, decided_by=f"grant {event.grant}"))


def _deny(row: Row, event: Deny, now: int) -> Step | Conflict:
    return Step("T5", _ended(row, State.DENIED, now, decided_by=event.reviewer, reason=event.reason))


def _cancel(row: Row, event: Cancel, now: int) -> Step | Conflict:
    return Step("T9", _ended(row, State.CANCELLED, now, decided_by=event.actor, reason=row.reason))


def _tick(row: Row, _event: Tick, now: int) -> Step | Conflict:
    if not _due(row, now):
        return Conflict("time", row)
    name = "T10" if row.state is State.PENDING else "T11"
    return Step(name, _ended(row, State.EXPIRED, now, decided_by=row.decided_by, reason=row.reason))


def _invalidate(row: Row, event: Invalidate, now: int) -> Step | Conflict:
    return Step("T12", _ended(row, State.INVALIDATED, now, decided_by=row.decided_by, reason=event.reason))


def _claim(row: Row, event: Claim, _now: int) -> Step | Conflict:
    if row.state is not State.APPROVED:
        return Conflict("state", row)
    if row.holder != event.holder:
        return Conflict("lost", row)
    if (row.owner, row.lookup, row.action_digest) != (event.owner, event.lookup, event.action_digest):
        return Conflict("mismatch", row)
    return Step("T13", replace(row, state=State.EXECUTING, exec_id=event.exec_id, sent=False))


def _mark_sent(row: Row, event: MarkSent, now: int) -> Step | Conflict:
    if row.exec_id != event.exec_id or row.sent:
        return Conflict("lost", row)
    if _use_over(row, now):
        return Conflict("time", row)
    return Step("T14", replace(row, sent=True))


def _release(row: Row, event: Release, now: int) -> Step | Conflict:
    if row.exec_id != event.exec_id or row.sent:
        return Conflict("lost", row)
    if _use_over(row, now):
        return Step("T15", _ended(row, State.EXPIRED, now, decided_by=row.decided_by, reason=row.reason))
    return Step("T15", replace(row, state=State.APPROVED, exec_id=None))


def _finish(row: Row, event: Finish, now: int) -> Step | Conflict:
    if row.exec_id != event.exec_id or (event.ran and not row.sent):
        return Conflict("lost", row)
    state = State.COMPLETED if event.ran else State.FAILED
    return Step("T16", _ended(row, state, now, decided_by=row.decided_by, reason=row.reason))


def _lose(row: Row, event: Lose, now: int) -> Step | Conflict:
    if row.exec_id != event.exec_id or not row.sent:
        return Conflict("lost", row)
    return Step("T17", _ended(row, State.UNKNOWN, now, decided_by=row.decided_by, reason=row.reason))


def _reconcile(row: Row, event: Reconcile, now: int) -> Step | Conflict:
    return Step("T18", _ended(row, State(event.outcome), now, decided_by=row.decided_by, reason=event.reason))


def _ended(row: Row, state: State, now: int, *, decided_by: str, reason: str) -> Row:
    return replace(row, state=state, ended_ns=now, decided_by=decided_by, reason=reason)


_HANDLERS: dict[type[Event], Callable[..., Step | Conflict]] = {
    Approve: _approve,
    UseGrant: _use_grant,
    Deny: _deny,
    Cancel: _cancel,
    Tick: _tick,
    Invalidate: _invalidate,
    Claim: _claim,
    MarkSent: _mark_sent,
    Release: _release,
    Finish: _finish,
    Lose: _lose,
    Reconcile: _reconcile,
}
