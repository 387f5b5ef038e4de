"""The state machine, explored whole (docs/approvals.md)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mcp_guard.approval import machine
from mcp_guard.approval.machine import (
    EDGES,
    LIVE,
    Approve,
    Cancel,
    Claim,
    Conflict,
    Deny,
    Event,
    Finish,
    Invalidate,
    Lose,
    MarkSent,
    Reconcile,
    Release,
    Row,
    State,
    Step,
    Tick,
    UseGrant,
    Void,
    apply,
)

EXPIRES, USE_WITHIN = 100, 100
START = Row("apr_1", State.PENDING, 1, 1, "alice", "L", "D", EXPIRES, USE_WITHIN, "h1")


def claim(exec_id: str, *, digest: str = "D", holder: str = "h1") -> Claim:
    return Claim(holder, "alice", "L", digest, exec_id)


EVENTS: dict[str, Event] = {
    "approve": Approve(1, "D", "bob"),
    "approve other": Approve(1, "X", "bob"),
    "approve old round": Approve(0, "D", "bob"),
    "grant": UseGrant("grt_1"),
    "deny": Deny("bob"),
    "cancel": Cancel("alice"),
    "tick": Tick(),
    "invalidate": Invalidate(Void.POLICY),
    "claim 1": claim("e1"),
    "claim 2": claim("e2"),
    "claim other args": claim("e3", digest="X"),
    "claim by another": claim("e4", holder="h2"),
    "sent 1": MarkSent("e1"),
    "sent 2": MarkSent("e2"),
    "release 1": Release("e1"),
    "finish 1": Finish("e1", ran=True),
    "finish 2": Finish("e2", ran=True),
    "fail 1": Finish("e1", ran=False),
    "lose 1": Lose("e1"),
    "reconcile": Reconcile("failed", "bob", "checked"),
}


@dataclass(frozen=True)
class World:
    """A row and what happened outside of it."""

    row: Row
    now: int = 0
    effects: int = 0
    approved: bool = False


def violations(world: World, event: str, step: Step) -> dict[str, bool]:
    """The invariants of docs/approvals.md that a single step can break, and whether it does."""
    before, after = world.row, step.row
    edge, name = EDGES[step.transition], step.transition
    too_late = before.use_by_ns is None or world.now >= before.use_by_ns
    return {
        "not in the table": before.state not in edge.sources or after.state not in edge.targets,
        "I5: leaves a terminal state": before.state not in LIVE and name != "T18",
        "the version did not move": after.version != before.version + 1,
        "I3, I4: approved too late or unseen": name == "T4" and (world.now >= EXPIRES or event != "approve"),
        "I4: granted too late": name == "T2" and world.now >= EXPIRES,
        "I2, I3: claimed without approval of this": name == "T13"
        and (not world.approved or event not in {"claim 1", "claim 2"}),
        "I1: a second effect": name == "T14" and world.effects > 0,
        "I4: sent too late": name == "T14" and too_late,
        "I8: completed without sent=1": name == "T16" and after.state is State.COMPLETED and not before.sent,
    }


def explore(step_of: Callable[[Row, Event, int], Step | Conflict]) -> tuple[str | None, set[State], set[str]]:
    """Breadth first over all reachable worlds: the first violation, the states seen, the edges taken."""
    first = World(START)
    seen, queue = {first}, deque([first])
    edges: set[str] = {"T1"}
    while queue:
        world = queue.popleft()
        successors = [replace(world, now=world.now + 50)] if world.now < 250 else []
        for name, event in EVENTS.items():
            step = step_of(world.row, event, world.now)
            if isinstance(step, Conflict):
                continue
            broken = [rule for rule, is_broken in violations(world, name, step).items() if is_broken]
            if broken:
                return f"{broken[0]}: {name}", set(), edges
            edges.add(step.transition)
            successors.append(
                World(
                    replace(step.row, version=1, ended_ns=None),
                    world.now,
                    world.effects + (step.transition == "T14"),
                    world.approved or step.transition in {"T2", "T4"},
                )
            )
        for successor in successors:
            if successor not in seen:
                seen.add(successor)
                queue.append(successor)
    return None, {world.row.state for world in seen}, edges


def test_every_state_and_edge_is_reached_and_no_invariant_breaks() -> None:
    """docs/approvals.md: I1 to I5, I8, over all reachable worlds."""
    broken, states, edges = explore(apply)
    assert broken is None
    assert states == set(State)
    assert edges == set(EDGES)


def _in(seen: State, row: Row, state: State) -> Row:
    """A machine that takes one state for another."""
    return replace(row, state=state, use_by_ns=row.use_by_ns or 10**9) if row.state is seen else row


MUTANTS: dict[str, tuple[type[Event], Callable[[Row, Any], tuple[Row, Event]]]] = {
    "claims twice": (
        Claim,
        lambda row, event: (_in(State.EXECUTING, row, State.APPROVED), event),
    ),
    "claims what was denied": (
        Claim,
        lambda row, event: (_in(State.DENIED, row, State.APPROVED), event),
    ),
    "claims what is pending": (
        Claim,
        lambda row, event: (_in(State.PENDING, row, State.APPROVED), event),
    ),
    "ignores the digest": (Claim, lambda row, event: (row, replace(event, action_digest=row.action_digest))),
    "ignores the holder": (Claim, lambda row, event: (row, replace(event, holder=row.holder))),
    "sends twice": (MarkSent, lambda row, event: (replace(row, sent=False), event)),
    "ignores use_by": (MarkSent, lambda row, event: (replace(row, use_by_ns=row.use_by_ns and 10**9), event)),
    "ignores expiry": (Approve, lambda row, event: (replace(row, expires_ns=10**9), event)),
    "ignores what was shown": (Approve, lambda row, event: (row, replace(event, action_digest=row.action_digest))),
    "ignores the round": (Approve, lambda row, event: (row, replace(event, round=row.round))),
    "approves what was denied": (Approve, lambda row, event: (_in(State.DENIED, row, State.PENDING), event)),
    "grants what was denied": (UseGrant, lambda row, event: (_in(State.DENIED, row, State.PENDING), event)),
    "grants after expiry": (UseGrant, lambda row, event: (replace(row, expires_ns=10**9), event)),
    "grants what runs": (UseGrant, lambda row, event: (_in(State.EXECUTING, row, State.PENDING), event)),
    "completes unsent": (Finish, lambda row, event: (replace(row, sent=True), event)),
    "revives the expired": (
        Tick,
        lambda row, event: (_in(State.EXPIRED, row, State.PENDING), event),
    ),
    "retries what was sent": (Release, lambda row, event: (replace(row, sent=False), event)),
    "loses what was completed": (Lose, lambda row, event: (_in(State.COMPLETED, row, State.EXECUTING), event)),
}
"""Seeded bugs: for one kind of event the machine sees another row, or another event, than there is."""


def mutant(name: str) -> Callable[[Row, Event, int], Step | Conflict]:
    """The machine with one seeded bug."""
    kind, change = MUTANTS[name]

    def stepped(row: Row, event: Event, now: int) -> Step | Conflict:
        return apply(*change(row, event), now) if isinstance(event, kind) else apply(row, event, now)

    return stepped


@pytest.mark.parametrize("name", MUTANTS)
def test_a_seeded_bug_is_found_by_exploring(name: str) -> None:
    """docs/approvals.md (a)."""
    broken, _, _ = explore(mutant(name))
    assert broken is not None


def approved(now: int = 0) -> Row:
    step = apply(START, EVENTS["approve"], now)
    assert isinstance(step, Step)
    return step.row


def test_a_decision_one_nanosecond_after_expiry_changes_nothing() -> None:
    """Attack 23, T10: the boundary belongs to the clock."""
    early, late = apply(START, EVENTS["approve"], EXPIRES - 1), apply(START, EVENTS["approve"], EXPIRES)
    assert isinstance(early, Step)
    assert isinstance(late, Conflict)
    assert late.why == "time"


def test_an_approved_row_without_a_use_by_time_is_over() -> None:
    """An UPDATE from outside that sets the state alone gives nothing."""
    forged = replace(START, state=State.APPROVED)
    assert isinstance(apply(forged, claim("e1"), 0), Conflict)
    expired = apply(forged, Tick(), 0)
    assert isinstance(expired, Step)
    assert expired.transition == "T11"


def test_the_use_by_time_starts_with_the_approval_and_not_with_the_request() -> None:
    """approvals.md S5: request life and use-by window are separate."""
    assert approved(now=EXPIRES - 1).use_by_ns == EXPIRES - 1 + USE_WITHIN


def test_nothing_leaves_a_terminal_state_but_a_reconciliation() -> None:
    """I5, T18."""
    for state in set(State) - LIVE:
        row = replace(START, state=state, exec_id="e1", sent=True)
        steps = {name for name, event in EVENTS.items() if isinstance(apply(row, event, 0), Step)}
        assert steps == ({"reconcile"} if state is State.UNKNOWN else set())


def test_every_event_has_a_handler() -> None:
    assert set(machine._HANDLERS) == set(machine.Event.__args__)
