"""Standing grants: given with an approval, used at most as often and as long as said, revocable (docs/grants.md).

A use is taken in the same transaction in which the request is approved by it (T2). That it was spent is noted a second
time in `used/` beside the database when the call is sent, so that rows set back from outside give no use again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import structlog
from anyio import to_thread

from mcp_guard.approval.bounds import Real, Roots, fits, linked, offers_of, roots_of
from mcp_guard.approval.eligibility import Reviewer, Separation, demanded
from mcp_guard.approval.grantrows import LONGEST_NS, Given, GrantRow, new_grant, open_grant, revoked
from mcp_guard.approval.machine import Conflict, State, UseGrant, Void
from mcp_guard.approval.offers import offer_view
from mcp_guard.approval.rows import Request
from mcp_guard.approval.sealed import intact
from mcp_guard.approval.statement import Stored
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.approval.transaction import Transaction
from mcp_guard.approval.used import Used
from mcp_guard.clock import Ids
from mcp_guard.errors import GuardError, StoreUnavailableError, UnknownApprovalError, UsageError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Assurance, GrantOffer, JsonDict, MaskedText

_log = structlog.get_logger(__name__)

GrantState = Literal["active", "used_up", "expired", "revoked", "void"]


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant as listed. Times in wall nanoseconds; texts are masked."""

    id: str
    label: str
    server: str
    tool: str
    owner: str
    """`Principal.key` of the requester whose calls it lets through."""
    by: str
    """Who gave it."""
    created_ns: int
    expires_ns: int
    max_uses: int
    uses: int
    keep: tuple[str, ...]
    revoked_ns: int | None
    state: GrantState
    """`void`: the row is not what this program wrote; it lets nothing through."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """An offer that a reviewer took, ready to be given."""

    offer: GrantOffer
    roots: Roots


@dataclass(frozen=True, slots=True)
class Fitting:
    """A grant that covers a call, as long as it has uses left."""

    id: str
    max_uses: int


@dataclass(frozen=True, slots=True)
class Warrant:
    """Why a request may be carried out without a statement of its own: by use `number` of a grant."""

    grant: str
    number: int
    assurance: Assurance
    separation: Separation
    expires_ns: int

    @property
    def witness(self) -> str:
        """Name of the file that says that this use was spent."""
        return f"{self.grant}.{self.number}"

    @property
    def ended(self) -> str:
        """Name of the file that says that the grant was revoked."""
        return _revoked(self.grant)


def real_path(path: str) -> str | None:
    """The path with all links followed, whether it exists or not; None where the links lead in circles."""
    try:
        found = os.path.realpath(path)
        return None if Path(found).is_symlink() else found
    except (OSError, ValueError):
        return None


class Grants:
    """Grants of one store."""

    def __init__(
        self,
        store: ApprovalStore,
        keys: KeyStore,
        ids: Ids,
        *,
        mask: Callable[[str], MaskedText],
        real: Real = real_path,
    ) -> None:
        self._store = store
        self._keys = keys
        self._ids = ids
        self._mask = mask
        self._real = real
        self._used = Used(store.folder / "used")
        self._misses: set[tuple[str, str]] = set()

    # -- giving, listing, revoking -----------------------------------------------------------------------------

    async def seen(self, stored: Stored) -> Stored:
        """The call with what the file system says of its folders now: none that is a link is ever offered."""
        if not stored.decision.terms.grants:
            return stored
        return replace(stored, linked=await to_thread.run_sync(linked, stored, self._real))

    async def choose(self, approval_id: str, index: int) -> Chosen:
        """The offer with this index in `view["grants"]`, its folders resolved as they are now.

        Raises:
            UnknownApprovalError: no such request.
            UsageError: it offers no such grant.
        """
        request = await self._store.get(approval_id)
        if request is None:
            raise UnknownApprovalError("there is no such approval request")
        stored = intact(self._keys, self._mask, request)
        offers = () if isinstance(stored, Void) else offers_of(stored)
        if isinstance(stored, Void) or not 0 <= index < len(offers):
            raise UsageError(
                "this request offers no such grant",
                hint="`mcp-guard approvals show ID` lists what it offers; or approve this call alone",
            )
        roots = await to_thread.run_sync(roots_of, stored, offers[index], self._real)
        if roots is None:
            raise UsageError(
                "the folder of this grant is reached through a link now, so it is not what was shown",
                hint="look at that folder; or approve this call alone",
            )
        return Chosen(offers[index], roots)

    async def give_in(
        self,
        transaction: Transaction,
        request: Request,
        stored: Stored,
        chosen: Chosen,
        *,
        reviewer: Reviewer,
        separation: Separation,
    ) -> None:
        """Give a grant in the transaction that approves the request; this person was judged for the approval."""
        row = new_grant(
            self._keys,
            self._ids,
            request,
            stored,
            chosen.offer,
            chosen.roots,
            reviewer=reviewer,
            separation=separation,
            now_ns=transaction.now_ns,
        )
        await transaction.add_grant(row)

    async def list(self, *, active_only: bool = True) -> list[Grant]:
        """All grants, newest first, or those that still let something through."""
        found = [self._listed(row) for row in await self._store.grants()]
        return [grant for grant in found if grant.state == "active" or not active_only]

    async def revoke(self, grant_id: str, reviewer: Reviewer) -> Grant:
        """End a grant for good. This tightens, so anybody may; what is sent already stays sent.

        Raises:
            UnknownApprovalError: no such grant.
            StoreUnavailableError: it is revoked in the database alone, where somebody could set the row back.
        """
        row = await self._store.grant(grant_id)
        if row is None:
            raise UnknownApprovalError("there is no such grant", hint="list them: `mcp-guard approvals grants`")
        # First where a row set back changes nothing any more.
        ends_ns = self._store.now_ns() + LONGEST_NS  # not what the row says: that may be written by others
        await to_thread.run_sync(self._used.take, _revoked(grant_id), ends_ns)
        async with self._store.write() as transaction:
            current = await transaction.grant(grant_id)
            if current is not None and current.revoked_ns is None:
                current = revoked(self._keys, current, self.given(current), reviewer, transaction.now_ns)
                await transaction.revoke_grant(current)
        if not await to_thread.run_sync(self._used.holds, _revoked(grant_id)):
            raise StoreUnavailableError(
                "the grant is revoked, but this could not be noted beside the database",
                hint="see that the folder `used` in the data folder is writable, then revoke it once more",
            )
        return self._listed(current or row)

    # -- using -------------------------------------------------------------------------------------------------

    async def fitting(self, stored: Stored) -> tuple[Fitting, ...]:
        """Grants that cover this call, oldest first."""
        target = stored.call.target
        rows = await self._store.open_grants(stored.call.principal.key, target.server, target.name)
        found: list[Fitting] = []
        for row in rows:
            given = await self._covering(row, stored)
            if given is not None:
                found.append(Fitting(row.id, given.offer.max_uses))
        return tuple(found)

    async def use_in(self, transaction: Transaction, request: Request, fitting: tuple[Fitting, ...]) -> Request | None:
        """T2: approve a pending request by the first of these grants that has a use left, else None."""
        for grant in fitting:
            number = await transaction.use_grant(grant.id, grant.max_uses, request.row.id)
            if number is None:
                continue
            detail: JsonDict = {"grant": grant.id, "use": number}
            after = await transaction.step(request, UseGrant(grant.id), actor="guard", detail=detail)
            return None if isinstance(after, Conflict) else after
        return None

    async def release(self, holder: str) -> bool:
        """Let pending requests of this holder go which a grant given meanwhile covers. Whether any went."""
        grants = {row.id for row in await self._store.open_grants()}
        if not grants:
            self._misses.clear()
            return False
        waiting = await self._store.pending(holder)
        known = {(request.row.id, grant) for request in waiting for grant in grants}
        self._misses &= known
        gone = False
        for request in waiting:
            pairs = {(request.row.id, grant) for grant in grants}
            if pairs <= self._misses:
                continue
            gone = await self._release(request) or gone
            self._misses |= pairs
        return gone

    async def warrant(self, request: Request, stored: Stored) -> Warrant | Void | None:
        """The use of a grant by which this request was approved, checked again; None when there is none."""
        use = await self._store.grant_use(request.row.id)
        row = None if use is None else await self._store.grant(use[0])
        if use is None or row is None:
            return None
        given = await self._covering(row, stored)
        if given is None or not 1 <= use[1] <= given.offer.max_uses:
            return Void.GRANT
        warrant = Warrant(row.id, use[1], given.assurance, given.separation, given.expires_ns)
        spent = await to_thread.run_sync(self._used.holds, warrant.witness)
        return Void.USED if spent else warrant

    def given(self, row: GrantRow) -> Given | None:
        """What this grant was given for; None where its row was not written by this program."""
        return open_grant(self._keys, row)

    def kept(self, given: Given) -> tuple[str, ...]:
        """The bounds in words, as the reviewer read them; masked."""
        keep = offer_view(given.stored, given.offer, self._mask)["keep"]
        return tuple(map(str, keep)) if isinstance(keep, list) else ()

    async def _release(self, request: Request) -> bool:
        stored = intact(self._keys, self._mask, request)
        fitting = () if isinstance(stored, Void) else await self.fitting(stored)
        if not fitting:
            return False
        async with self._store.write() as transaction:
            current = await transaction.get(request.row.id)
            if current is None or current.row.state is not State.PENDING:
                return False
            return await self.use_in(transaction, current, fitting) is not None

    async def _covering(self, row: GrantRow, stored: Stored) -> Given | None:
        """What the grant was given for, if it is alive, ours, strong enough, and covers this call."""
        now_ns = self._store.now_ns()
        if row.revoked_ns is not None or await to_thread.run_sync(self._used.holds, _revoked(row.id)):
            return None
        given = open_grant(self._keys, row)
        if given is None or not given.created_ns <= now_ns < given.expires_ns:
            return None
        strong = given.assurance >= demanded(stored.decision, stored.mode)
        if not strong or (stored.mode == "team" and given.separation != "reviewer"):
            return None
        covers = await to_thread.run_sync(fits, given.stored, given.offer, given.roots, stored, self._real)
        return given if covers else None

    def _listed(self, row: GrantRow) -> Grant:
        given = open_grant(self._keys, row)
        return Grant(
            id=row.id,
            label=str(offer_view(given.stored, given.offer, self._mask)["label"]) if given else "",
            server=row.server,
            tool=self._mask(row.tool),
            owner=row.owner,
            by=given.reviewer if given else "",
            created_ns=row.created_ns,
            expires_ns=row.expires_ns,
            max_uses=given.offer.max_uses if given else 0,
            uses=row.uses,
            keep=self.kept(given) if given else (),
            revoked_ns=row.revoked_ns,
            state=self._state(row, given),
        )

    def _state(self, row: GrantRow, given: Given | None) -> GrantState:
        if given is None:
            return "void"
        if row.revoked_ns is not None or self._used.holds(_revoked(row.id)):
            return "revoked"
        if row.uses >= given.offer.max_uses:
            return "used_up"
        return "active" if self._store.now_ns() < given.expires_ns else "expired"


def _revoked(grant_id: str) -> str:
    """Name of the file that says that a grant was revoked."""
    return f"{grant_id}.revoked"


def chosen_or_error(verdict: str, grant: int | None) -> GuardError | None:
    """A grant goes with an approval alone."""
    if grant is not None and verdict != "approve":
        return UsageError("a grant is given with an approval, not with a denial")
    return None
