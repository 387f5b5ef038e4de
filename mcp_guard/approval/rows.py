"""Approval requests as rows: what the store keeps, and how columns become values."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from mcp_guard.approval.machine import LIVE, Row, State
from mcp_guard.errors import StoreUnavailableError
from mcp_guard.model import Assurance, JsonDict, Risk

DETAILS_DAYS = 30
"""So long after a request is over, what it was about is kept beside the record."""


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """One approval request. `view` is masked; `payload` and `result` are encrypted."""

    row: Row
    nonce: str
    call_id: str
    session: str
    server: str
    tool: str
    risk: Risk
    rule: str
    policy_digest: str
    min_assurance: Assurance
    run: Literal["on_approval", "on_pickup"]
    created_ns: int
    view: JsonDict
    payload: bytes
    delivered: bool = False
    result: bytes | None = None
    calls: int = 1
    """How many equal calls asked for it so far."""

    @property
    def forgotten(self) -> bool:
        """Whether its details were deleted (docs/limits.md): it is over, and the record alone still has them."""
        return not self.payload and self.row.state not in LIVE

    def __repr__(self) -> str:
        return f"Request({self.row.id}, {self.row.state})"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One transition as it was committed."""

    seq: int
    approval: str
    at_ns: int
    transition: str
    old: str
    new: str
    actor: str
    detail: JsonDict | None
    """None: not what this program writes. One such row may not stop all others."""


@dataclass(frozen=True, slots=True)
class SignedDecision:
    """A decision statement and its signature, as stored."""

    statement: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class ReviewerRow:
    """A reviewer as stored. `mac` is over all of it, so that a row written from outside does not count."""

    name: str
    token_hash: str
    created_ns: int
    added_by: str
    mac: str


def request_of(columns: Mapping[str, Any]) -> Request:
    """Read a row of table `approval`.

    Raises:
        StoreUnavailableError: the row does not hold what this program writes.
    """
    try:
        return _request_of(columns)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreUnavailableError("a row of the approval store was altered from outside") from error


def intact_of(rows: Iterable[Mapping[str, Any]]) -> list[Request]:
    """Read rows of table `approval`, without those that were altered: one may not stop all others.

    Nothing happens to a request that is left out; whoever asks for it by id learns why.
    """
    found: list[Request] = []
    for columns in rows:
        with contextlib.suppress(StoreUnavailableError):
            found.append(request_of(columns))
    return found


def _request_of(columns: Mapping[str, Any]) -> Request:
    row = Row(
        id=columns["id"],
        state=State(columns["state"]),
        version=columns["version"],
        round=columns["round"],
        owner=columns["owner"],
        lookup=columns["lookup"],
        action_digest=columns["action_digest"],
        expires_ns=columns["expires_ns"],
        use_within_ns=columns["use_within_ns"],
        holder=columns["holder"],
        use_by_ns=columns["use_by_ns"],
        exec_id=columns["exec_id"],
        sent=bool(columns["sent"]),
        ended_ns=columns["ended_ns"],
        decided_by=columns["decided_by"],
        reason=columns["reason"],
    )
    return Request(
        row=row,
        nonce=columns["nonce"],
        call_id=columns["call_id"],
        session=columns["session"],
        server=columns["server"],
        tool=columns["tool"],
        risk=Risk(columns["risk"]),
        rule=columns["rule"],
        policy_digest=columns["policy_digest"],
        min_assurance=Assurance(columns["min_assurance"]),
        run=cast('Literal["on_approval", "on_pickup"]', columns["run"]),
        created_ns=columns["created_ns"],
        view=_object(columns["view"]),
        payload=columns["payload"],
        delivered=bool(columns["delivered"]),
        result=columns["result"],
        calls=columns["calls"],
    )


def columns_of(request: Request) -> dict[str, str | int | bytes | None]:
    """The columns of a request, by name."""
    row = request.row
    return {
        "id": row.id,
        "state": row.state.value,
        "version": row.version,
        "round": row.round,
        "owner": row.owner,
        "lookup": row.lookup,
        "action_digest": row.action_digest,
        "expires_ns": row.expires_ns,
        "use_within_ns": row.use_within_ns,
        "holder": row.holder,
        "use_by_ns": row.use_by_ns,
        "exec_id": row.exec_id,
        "sent": int(row.sent),
        "ended_ns": row.ended_ns,
        "decided_by": row.decided_by,
        "reason": row.reason,
        "nonce": request.nonce,
        "call_id": request.call_id,
        "session": request.session,
        "server": request.server,
        "tool": request.tool,
        "risk": request.risk.value,
        "rule": request.rule,
        "policy_digest": request.policy_digest,
        "min_assurance": int(request.min_assurance),
        "run": request.run,
        "created_ns": request.created_ns,
        "view": json.dumps(request.view, ensure_ascii=True),
        "payload": request.payload,
        "delivered": int(request.delivered),
        "result": request.result,
    }


def event_of(columns: Mapping[str, Any]) -> StoredEvent:
    """Read a row of table `event`."""
    return StoredEvent(
        seq=columns["seq"],
        approval=columns["approval"],
        at_ns=columns["at_ns"],
        transition=columns["transition"],
        old=columns["old"],
        new=columns["new"],
        actor=columns["actor"],
        detail=_detail(columns["detail"]),
    )


def _detail(text: str) -> JsonDict | None:
    try:
        return _object(text)
    except (ValueError, TypeError, RecursionError):
        return None


def _object(text: str) -> JsonDict:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError
    return value
