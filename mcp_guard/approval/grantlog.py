"""Grants in the audit log: given, used, revoked. Only what is signed or authenticated is repeated there."""

from __future__ import annotations

import base64
from collections.abc import Callable

import anyio
import structlog

from mcp_guard.approval.grantrows import Given, GrantRow, revocation_of
from mcp_guard.approval.grants import Grants
from mcp_guard.approval.rows import Request, StoredEvent
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.clock import iso
from mcp_guard.keystore import KeyStore
from mcp_guard.model import JsonDict, MaskedJson, MaskedText, Record
from mcp_guard.ports import AuditTrail

_log = structlog.get_logger(__name__)


class GrantLog:
    """Appends what was done to grants, by whatever process."""

    def __init__(
        self, store: ApprovalStore, audit: AuditTrail, grants: Grants, keys: KeyStore, mask: Callable[[str], MaskedText]
    ) -> None:
        self._store = store
        self._audit = audit
        self._grants = grants
        self._keys = keys
        self._mask = mask

    async def flush(self) -> None:
        """Append what was given and revoked and is not in the log yet.

        Raises:
            AuditUnavailableError, StoreUnavailableError: it stays to be appended.
        """
        for row in reversed(await self._store.grants(unrecorded=True)):
            with anyio.CancelScope(shield=True):  # a guard that ends between the two would leave it to be told twice
                for record in self._records(row):
                    await self._audit.append(record)
                async with self._store.write() as transaction:
                    await transaction.mark_grant_recorded(row)

    def _records(self, row: GrantRow) -> list[Record]:
        """What is to be said of this row; whatever is wrong with it, that is a record too and stops no other."""
        try:
            given = self._grants.given(row)
            found = []
            if not row.created_recorded:
                found.append(_unverified(row) if given is None else self._created(row, given))
            if row.revoked_ns is not None and not row.revoked_recorded:
                how = revocation_of(self._keys, row)
                found.append(_unverified(row) if given is None or how is None else _revoked(row, given, how))
        except Exception as error:  # noqa: BLE001 - the boundary: one row may not stop the record
            _log.error("grant_not_readable", grant=row.id, error=type(error).__name__)
            return [_unverified(row)]
        return found

    async def used(self, request: Request, event: StoredEvent) -> bool:
        """Whether an event T2 speaks of a use of a grant that was given to this requester for this tool."""
        use = await self._store.grant_use(request.row.id)
        detail = event.detail or {}
        if use is None or use != (detail.get("grant"), detail.get("use")):
            return False
        row = await self._store.grant(use[0])
        given = None if row is None else self._grants.given(row)
        if row is None or given is None or not 1 <= use[1] <= given.offer.max_uses:
            return False
        return (row.owner, row.server) == (request.row.owner, request.server)

    def _created(self, row: GrantRow, given: Given) -> Record:
        call, offer = given.stored.call, given.offer
        fields: JsonDict = {
            "grant": row.id,
            "approval": row.approval,
            "reviewer": given.reviewer,
            "assurance": given.assurance.name,
            "channel": given.channel,
            "mode": given.stored.mode,
            "separation": given.separation,
            "max_uses": offer.max_uses,
            "expires_at": iso(given.expires_ns),
            "keep": "arguments" if offer.keep is None else dict(offer.keep),
            "statement": row.statement,
            "signature": base64.b64encode(row.signature).decode(),
        }
        record = Record(
            "grant.created",
            call_id=call.call_id,
            session=call.context.session,
            actor=given.reviewer,
            tool=f"{row.server}/{row.tool}",
            outcome="active",
            fields=fields,
            at_ns=given.created_ns,
        )
        return record.with_payload("bounds", MaskedJson(self._bounds(given)))

    def _bounds(self, given: Given) -> JsonDict:
        """What was granted, in words as the reviewer read them, and the folders as they were resolved."""
        roots: JsonDict = {pointer: [self._mask(root) for root in found] for pointer, found in given.roots.items()}
        return {"shown": list(self._grants.kept(given)), "roots": roots}


def _revoked(row: GrantRow, given: Given, how: JsonDict) -> Record:
    fields: JsonDict = {"grant": row.id, "approval": row.approval, **how}
    return Record(
        "grant.revoked",
        call_id=given.stored.call.call_id,
        session=given.stored.call.context.session,
        actor=row.revoked_by,
        tool=f"{row.server}/{row.tool}",
        outcome="revoked",
        fields=fields,
        at_ns=row.revoked_ns or 0,
    )


def _unverified(row: GrantRow) -> Record:
    """Nothing that the row says is repeated: whoever wrote it may have written anything."""
    return Record("grant.unverified", fields={"grant": row.id})
