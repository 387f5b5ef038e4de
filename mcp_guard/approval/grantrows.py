"""Grants as rows: the sealed payload, the signed statement, and how columns follow from them.

Anybody who can write the database can write a row. So a grant counts only where its payload, encrypted and bound to its
id, and the statement that the guard signed for the person who gave it say the same (docs/grants.md).
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import TypeAdapter, ValidationError

from mcp_guard.approval import statement
from mcp_guard.approval.bounds import Roots
from mcp_guard.approval.eligibility import Reviewer, Separation, same_person
from mcp_guard.approval.rows import Request
from mcp_guard.approval.statement import Stored
from mcp_guard.canon import digest, keyed_digest
from mcp_guard.clock import Ids
from mcp_guard.errors import GuardError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Assurance, GrantOffer, JsonDict

LONGEST_NS = 8 * 3_600 * 1_000_000_000
"""No grant lives longer."""

_KEY = "decision"
_SEAL = "approval"
_DOMAIN = b"mcp-guard/grant/v1\0"
_ID = re.compile(r"grt_[0-9a-z]{1,40}")


@dataclass(frozen=True, slots=True, repr=False)
class GrantRow:
    """A row of table `standing_grant`. Times in wall nanoseconds."""

    id: str
    approval: str
    owner: str
    server: str
    tool: str
    created_ns: int
    expires_ns: int
    uses: int
    payload: bytes
    statement: str
    signature: bytes
    revoked_ns: int | None = None
    revoked_by: str = ""
    revoked_how: str = ""
    """JSON: channel, assurance and separation of who revoked it."""
    revoked_mac: str = ""
    created_recorded: int = 0
    revoked_recorded: int = 0

    def __repr__(self) -> str:
        return f"GrantRow({self.id})"


_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "approval", "owner", "server", "tool", "statement"), (str,)),
    **dict.fromkeys(("revoked_by", "revoked_how", "revoked_mac"), (str,)),
    **dict.fromkeys(("created_ns", "expires_ns", "uses", "created_recorded", "revoked_recorded"), (int,)),
    **dict.fromkeys(("payload", "signature"), (bytes,)),
    "revoked_ns": (int, type(None)),
}
"""What this program writes, by column."""


@dataclass(frozen=True, slots=True, repr=False)
class Given:
    """What a grant was given for: the approved call, the bounds, and by whom. Kept encrypted."""

    stored: Stored
    approval: str
    nonce: str
    offer: GrantOffer
    reviewer: str
    assurance: Assurance
    channel: str
    separation: Separation
    created_ns: int
    roots: Roots = field(default_factory=dict)

    @property
    def expires_ns(self) -> int:
        """No use from here on."""
        return self.created_ns + min(int(self.offer.for_s * 1_000_000_000), LONGEST_NS)

    def __repr__(self) -> str:
        return f"Given({self.approval})"


_GIVEN = TypeAdapter(Given)


def new_grant(
    keys: KeyStore,
    ids: Ids,
    request: Request,
    stored: Stored,
    offer: GrantOffer,
    roots: Roots,
    *,
    reviewer: Reviewer,
    separation: Separation,
    now_ns: int,
) -> GrantRow:
    """A grant given with the approval of this request."""
    given = Given(
        stored=stored,
        approval=request.row.id,
        nonce=request.nonce,
        offer=offer,
        reviewer=reviewer.name,
        assurance=reviewer.assurance,
        channel=reviewer.channel,
        separation=separation,
        created_ns=now_ns,
        roots=roots,
    )
    grant_id = ids.new("grt")
    blank = _columns(grant_id, given)
    text = _text(grant_id, given)
    signature = keys.signing_key(_KEY).sign(_DOMAIN + text.encode())
    payload = keys.seal(_SEAL, _GIVEN.dump_json(given), bound_to=grant_id)
    return replace(blank, payload=payload, statement=text, signature=signature)


def open_grant(keys: KeyStore, row: GrantRow) -> Given | None:
    """What the grant was given for; None where row, payload and signed statement do not agree."""
    try:
        given = _GIVEN.validate_json(keys.open(_SEAL, row.payload, bound_to=row.id))
    except (GuardError, ValidationError):
        return None
    if _fixed(_columns(row.id, given)) != _fixed(row) or row.statement != _text(row.id, given):
        return None
    for key in keys.ring(_KEY):
        try:
            Ed25519PrivateKey.from_private_bytes(key).public_key().verify(
                row.signature, _DOMAIN + row.statement.encode()
            )
        except InvalidSignature:
            continue
        return given
    return None


def revoked(keys: KeyStore, row: GrantRow, given: Given | None, by: Reviewer, now_ns: int) -> GrantRow:
    """The row of a revoked grant. `given` is what it was given for, where that can be told."""
    own = given is None or same_person(given.stored.call.principal.key, by)
    separation: Separation = "none" if own or by.assurance < Assurance.A2 else "reviewer"
    how: JsonDict = {"channel": by.channel, "assurance": by.assurance.name, "separation": separation}
    after = replace(row, revoked_ns=now_ns, revoked_by=by.name, revoked_how=json.dumps(how))
    return replace(after, revoked_mac=_mac(keys.secret("lookup"), after))


def revocation_of(keys: KeyStore, row: GrantRow) -> JsonDict | None:
    """How the grant was revoked: channel, assurance, separation; None where this program did not write that."""
    macs = (_mac(key, row) for key in keys.ring("lookup"))
    if not any(hmac.compare_digest(mac.encode(), row.revoked_mac.encode()) for mac in macs):
        return None
    how: JsonDict = json.loads(row.revoked_how)
    return how


def grant_rows_of(found: Iterable[Mapping[str, Any]]) -> list[GrantRow]:
    """Read rows of table `standing_grant`, without those that this program cannot have written.

    One of these may not stop all others: it lets nothing through, and nobody can name it.
    """
    return [GrantRow(**{name: columns[name] for name in _TYPES}) for columns in found if _readable(columns)]


def _readable(columns: Mapping[str, Any]) -> bool:
    whole = all(isinstance(columns.get(name), types) for name, types in _TYPES.items())
    return whole and _ID.fullmatch(columns["id"]) is not None


def _mac(key: bytes, row: GrantRow) -> str:
    return keyed_digest(key, "grant-revoked", [row.id, row.revoked_by, row.revoked_ns, row.revoked_how])


def _columns(grant_id: str, given: Given) -> GrantRow:
    target = given.stored.call.target
    return GrantRow(
        id=grant_id,
        approval=given.approval,
        owner=given.stored.call.principal.key,
        server=target.server,
        tool=target.name,
        created_ns=given.created_ns,
        expires_ns=given.expires_ns,
        uses=0,
        payload=b"",
        statement="",
        signature=b"",
    )


def _fixed(row: GrantRow) -> tuple[object, ...]:
    return (row.approval, row.owner, row.server, row.tool, row.created_ns, row.expires_ns)


def _text(grant_id: str, given: Given) -> str:
    """The bytes that are signed: who gave which bounds for which action. JSON with sorted keys."""
    offer = given.offer
    bounds: JsonDict = {
        "for_s": offer.for_s,
        "max_uses": offer.max_uses,
        "keep": None if offer.keep is None else dict(offer.keep),
        "roots": {pointer: list(folders) for pointer, folders in given.roots.items()},
    }
    value = {
        "v": 1,
        "grant": grant_id,
        "approval": given.approval,
        "action_digest": statement.action_digest(given.stored, given.nonce),
        "bounds": digest("grant-bounds", bounds),
        "max_uses": offer.max_uses,
        "reviewer": given.reviewer,
        "assurance": given.assurance.name,
        "channel": given.channel,
        "mode": given.stored.mode,
        "separation": given.separation,
        "at": str(given.created_ns),
        "exp": str(given.expires_ns),
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
