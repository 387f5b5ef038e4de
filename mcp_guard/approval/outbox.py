"""Approval events on their way to the audit log (decisions.md D26).

Only the guard that holds a request appends its events, and it does so before it claims the request (T13). Steps of
the execution itself (T13, T14, T16) are recorded by the pipeline as call.forwarded and call.result.

Rows can be written by others. So a record says of a person only what a signed statement says, and of everything else
only what follows from the sealed request. An event that fits neither becomes `approval.unverified`, with ids alone.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable

import anyio

from mcp_guard.approval.consolelog import ConsoleLog
from mcp_guard.approval.grantlog import GrantLog
from mcp_guard.approval.grants import Grants
from mcp_guard.approval.machine import EDGES, State, Void
from mcp_guard.approval.reviewers import Reviewers
from mcp_guard.approval.rows import Request, ReviewerRow, StoredEvent
from mcp_guard.approval.sealed import intact, unseal
from mcp_guard.approval.statement import Said, Statement, Stored, comment_mac, verify
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.canon import fingerprint
from mcp_guard.clock import iso
from mcp_guard.errors import StoreUnavailableError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import JsonDict, MaskedJson, MaskedText, Record
from mcp_guard.ports import AuditTrail
from mcp_guard.system import FileLock

_TYPES = {
    "T1": "approval.requested",
    "T2": "grant.used",
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
_SAID: dict[tuple[str, str], Said] = {
    ("T4", "approved"): "approve",
    ("T5", "denied"): "deny",
    ("T9", "cancelled"): "cancel",
    ("T18", "completed"): "completed",
    ("T18", "failed"): "failed",
}
_BY_PERSONS = frozenset(transition for transition, _ in _SAID)
_BY_ITSELF = frozenset({"guard", "clock", "recovery"})
_LOCK = "shared-events.lock"
"""Of the guard that appends what belongs to no request."""
_GRANTS_LOCK = "shared-grants.lock"
"""Of the guard that appends what was granted."""
_PATIENCE_S = 2.0
_POLL_S = 0.01
_REASONS = frozenset(why.value for why in Void)


class Outbox:
    """Appends what the transactions of any process left behind."""

    def __init__(
        self,
        store: ApprovalStore,
        audit: AuditTrail,
        holder: str,
        *,
        keys: KeyStore,
        reviewers: Reviewers,
        grants: Grants,
        mask: Callable[[str], MaskedText],
    ) -> None:
        self._store = store
        self._audit = audit
        self._holder = holder
        self._keys = keys
        self._reviewers = reviewers
        self._grants = GrantLog(store, audit, grants, keys, mask)
        self._console = ConsoleLog(store, audit, keys)
        self._mask = mask
        self._one_at_a_time = anyio.Lock()

    async def flush(self, approval_id: str | None = None) -> None:
        """Append all unsent events of one request, or of every request that this process holds.

        Raises:
            AuditUnavailableError: an event could not be made durable; it stays unsent.
            StoreUnavailableError: the store failed, or the row of a request was altered so that it cannot be read. Its
                events stay, those of others were appended. An event may be appended twice, with the same `event`.
        """
        async with self._one_at_a_time:
            await self._flush_grants()  # that a grant was given stands before its first use
            sent: list[int] = []
            unreadable: StoreUnavailableError | None = None
            try:
                for event in await self._store.unsent(self._holder, approval_id):
                    try:
                        request = await self._store.get(event.approval)
                    except StoreUnavailableError as error:
                        unreadable = error
                        continue
                    if request is not None and (event.transition in _TYPES or event.transition not in EDGES):
                        await self._audit.append(await self._record(request, event))
                    sent.append(event.seq)
            finally:
                if sent:
                    async with self._store.write() as transaction:
                        await transaction.mark_sent(sent)
            if unreadable is not None:
                raise unreadable

    async def flush_reviewers(self) -> None:
        """Append the registrations, and what happened at the page, that are not in the log yet.

        No request has these, so one guard does it for all, and whoever holds the lock is that one. The system gives the
        lock back when its holder dies, and a row counts as told only once it is in the log: so nothing is lost, and
        twice comes only what a guard appended that was killed before it could say so.

        Raises:
            AuditUnavailableError, StoreUnavailableError: as `flush`.
        """
        if not (await self._store.reviewers(unrecorded=True) or await self._store.console_events()):
            return
        lock = self._turn(_LOCK)
        if lock is None:
            return  # another guard tells it; what comes later is seen in the next round
        try:
            await self._flush_shared()
        finally:
            lock.release()

    async def _flush_grants(self) -> None:
        """As `flush_reviewers`, but a use may wait for it: a guard that keeps the lock too long is not waited for."""
        patience = anyio.current_time() + _PATIENCE_S
        while await self._store.grants(unrecorded=True):
            lock = self._turn(_GRANTS_LOCK)
            if lock is None and anyio.current_time() < patience:
                await anyio.sleep(_POLL_S)
                continue
            try:
                await self._grants.flush()
            finally:
                if lock is not None:
                    lock.release()
            return

    def _turn(self, name: str) -> FileLock | None:
        """The lock of this name in the data folder, taken; None where another guard has it."""
        lock = FileLock(self._store.folder / name)
        try:
            return lock if lock.try_acquire() else None
        except OSError as error:
            raise StoreUnavailableError(f"the file {name} cannot be locked: {error.strerror}") from error

    async def _flush_shared(self) -> None:
        for row in await self._store.reviewers(unrecorded=True):
            with anyio.CancelScope(shield=True):  # a guard that ends between the two would leave it to be told twice
                await self._audit.append(self._registered(row))
                async with self._store.write() as transaction:
                    await transaction.mark_recorded(row.name)
        await self._console.flush()

    def _registered(self, row: ReviewerRow) -> Record:
        if not self._reviewers.own(row):
            return Record("reviewer.unverified")
        fields: JsonDict = {"reviewer": row.name, "added_by": row.added_by}
        return Record("reviewer.added", actor=row.added_by, fields=fields, at_ns=row.created_ns)

    async def _record(self, request: Request, event: StoredEvent) -> Record:
        if not self._possible(request, event):
            return _unverified(event)
        if isinstance(self._stored(request, event), Void):
            return _voided(event) if event.transition == "T12" else _unverified(event)
        if event.transition == "T2" and not await self._grants.used(request, event):
            return _unverified(event)
        if event.transition not in _BY_PERSONS:
            return _own(request, event, self._at(request, event))
        statement, signature = self._statement(request, event)
        if statement is None:
            return _unverified(event)
        return self._said(request, event, statement, signature)

    def _stored(self, request: Request, event: StoredEvent) -> Stored | Void:
        """The sealed request; with the first event the view goes into the log, so that must be right as well."""
        return intact(self._keys, self._mask, request) if event.transition == "T1" else unseal(self._keys, request)

    def _possible(self, request: Request, event: StoredEvent) -> bool:
        """Whether the machine has this edge, and the guard takes it by itself where it seems so."""
        edge = EDGES.get(event.transition)
        if edge is None:
            return False
        known = {state.value for state in State}
        source = event.old == "" if event.transition == "T1" else event.old in edge.sources & known
        by = event.transition in _BY_PERSONS or event.actor in _BY_ITSELF
        return source and event.new in edge.targets and (by or event.actor == request.row.owner)

    def _statement(self, request: Request, event: StoredEvent) -> tuple[Statement | None, str]:
        text, signature = (event.detail or {}).get("statement"), (event.detail or {}).get("signature")
        if not isinstance(text, str) or not isinstance(signature, str):
            return None, ""
        try:
            statement = verify(self._keys, text, base64.b64decode(signature, validate=True))
        except (binascii.Error, ValueError):
            return None, ""
        row = request.row
        fits = statement is not None and (
            (statement.approval, statement.action_digest, statement.verdict)
            == (row.id, row.action_digest, _SAID.get((event.transition, event.new)))
        )
        return (statement if fits else None), signature

    def _said(self, request: Request, event: StoredEvent, statement: Statement, signature: str) -> Record:
        fields: JsonDict = {
            **_fields(request, event),
            "decision": statement.verdict,
            "round": statement.round,
            "reviewer": statement.reviewer,
            "assurance": statement.assurance.name,
            "channel": statement.channel,
            "mode": statement.mode,
            "separation": statement.separation,
            **({"how": statement.how} if statement.how else {}),
            "statement": statement.text(),
            "signature": signature,
        }
        record = Record(
            _TYPES[event.transition],
            call_id=request.call_id,
            session=request.session,
            actor=statement.reviewer,
            tool=f"{request.server}/{request.tool}",
            outcome=statement.verdict if event.transition in {"T4", "T5"} else event.new,
            fields=fields,
            at_ns=statement.at_ns,
        )
        comment = (event.detail or {}).get("comment")
        if isinstance(comment, str) and comment:
            mac = comment_mac(self._keys, statement.approval, statement.nonce, comment)
            if hmac.compare_digest(mac, statement.comment_mac):
                return record.with_payload("comment", MaskedJson(comment))
        return record

    def _at(self, request: Request, event: StoredEvent) -> int:
        """When it happened; 0, so when it is appended, where the row claims what cannot be."""
        return event.at_ns if request.created_ns <= event.at_ns <= self._store.now_ns() else 0


def _fields(request: Request, event: StoredEvent) -> JsonDict:
    return {
        "approval": request.row.id,
        "event": event.seq,
        "transition": event.transition,
        "state": event.new,
        "action_sha256": request.row.action_digest,
    }


def _own(request: Request, event: StoredEvent, at_ns: int) -> Record:
    """What the guard did by itself, and what it was asked for."""
    fields = _fields(request, event)
    reason = (event.detail or {}).get("reason")
    if event.transition == "T12" and reason in _REASONS:
        fields["reason"] = reason
    if event.transition == "T1":
        fields |= {
            "rule": request.rule,
            "risk": request.risk.value,
            "policy_sha256": request.policy_digest,
            "min_assurance": request.min_assurance.name,
            "fingerprint": fingerprint(request.row.action_digest),
            "expires_at": iso(request.row.expires_ns),
        }
    if event.transition == "T2":
        fields |= {name: (event.detail or {}).get(name) for name in ("grant", "use")}
    record = Record(
        _TYPES[event.transition],
        call_id=request.call_id,
        session=request.session,
        actor=event.actor,
        tool=f"{request.server}/{request.tool}",
        outcome=event.new,
        fields=fields,
        at_ns=at_ns,
    )
    return record.with_payload("shown", MaskedJson(request.view)) if event.transition == "T1" else record


def _voided(event: StoredEvent) -> Record:
    """A request ended because its row was altered: of the row only the ids."""
    reason = (event.detail or {}).get("reason")
    fields: JsonDict = {"approval": event.approval, "event": event.seq, "transition": "T12"}
    return Record(_TYPES["T12"], fields={**fields, "reason": reason if reason in _REASONS else None})


def _unverified(event: StoredEvent) -> Record:
    """Nothing that the row says is repeated: whoever wrote it may have written anything."""
    return Record("approval.unverified", fields={"approval": event.approval, "event": event.seq})
