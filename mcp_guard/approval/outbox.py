"""Approval events on their way to the audit log (decisions.md D26).

Only the guard that holds a request appends its events, and it does so before it claims the request (T13). Steps of
the execution itself (T13, T14, T16) are recorded by the pipeline as call.forwarded and call.result.
"""

from __future__ import annotations

import anyio

from mcp_guard.approval.rows import Request, StoredEvent
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.canon import fingerprint
from mcp_guard.clock import iso
from mcp_guard.model import JsonDict, MaskedJson, Record
from mcp_guard.ports import AuditTrail

_TYPES = {
    "T1": "approval.requested",
    "T4": "approval.decision",
    "T5": "approval.decision",
    "T9": "approval.cancelled",
    "T10": "approval.expired",
    "T11": "approval.expired",
    "T12": "approval.invalidated",
    "T15": "approval.released",
    "T17": "approval.unknown",
    "T18": "approval.reconciled",
}


class Outbox:
    """Appends what the transactions of any process left behind."""

    def __init__(self, store: ApprovalStore, audit: AuditTrail, holder: str) -> None:
        self._store = store
        self._audit = audit
        self._holder = holder
        self._one_at_a_time = anyio.Lock()

    async def flush(self, approval_id: str | None = None) -> None:
        """Append all unsent events of one request, or of every request that this process holds.

        Raises:
            AuditUnavailableError: an event could not be made durable; it stays unsent.
            StoreUnavailableError: the store failed; an event may be appended once more, with the same `event`.
        """
        async with self._one_at_a_time:
            sent: list[int] = []
            try:
                for event in await self._store.unsent(self._holder, approval_id):
                    request = await self._store.get(event.approval)
                    if request is not None and event.transition in _TYPES:
                        await self._audit.append(_record(request, event))
                    sent.append(event.seq)
            finally:
                if sent:
                    async with self._store.write() as transaction:
                        await transaction.mark_sent(sent)


def _record(request: Request, event: StoredEvent) -> Record:
    row = request.row
    fields: JsonDict = {
        "approval": row.id,
        "event": event.seq,
        "transition": event.transition,
        "state": event.new,
        "action_sha256": row.action_digest,
        **{key: value for key, value in event.detail.items() if key != "comment"},
    }
    if event.transition == "T1":
        fields |= {
            "rule": request.rule,
            "risk": request.risk.value,
            "policy_sha256": request.policy_digest,
            "min_assurance": request.min_assurance.name,
            "fingerprint": fingerprint(row.action_digest),
            "expires_at": iso(row.expires_ns),
        }
    record = Record(
        _TYPES[event.transition],
        call_id=request.call_id,
        session=request.session,
        actor=event.actor,
        tool=f"{request.server}/{request.tool}",
        outcome=str(event.detail.get("decision", event.new)),
        fields=fields,
        at_ns=event.at_ns,
    )
    if event.transition == "T1":
        record = record.with_payload("shown", MaskedJson(request.view))
    if event.detail.get("comment"):
        record = record.with_payload("comment", MaskedJson(event.detail["comment"]))
    return record
