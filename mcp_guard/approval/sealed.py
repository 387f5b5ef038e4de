"""What a request was when it was made, from its sealed payload. The columns of a row only repeat it.

Anybody who can write the database can write a column. So nothing is decided, carried out or handed out by columns that
do not follow from the payload, which is encrypted, authenticated, and bound to the id of the request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mcp_guard.approval import statement
from mcp_guard.approval.eligibility import demanded
from mcp_guard.approval.machine import Row, State, Void
from mcp_guard.approval.prompt import VIEW, build_view
from mcp_guard.approval.rows import Request
from mcp_guard.approval.statement import Stored
from mcp_guard.clock import Ids
from mcp_guard.errors import GuardError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import MaskedText

_KEY = "approval"


def new_request(
    stored: Stored, lookup: str, *, keys: KeyStore, ids: Ids, holder: str, mask: Callable[[str], MaskedText]
) -> Request:
    """A pending request for a stored call.

    Raises:
        InvalidArgumentsError: the arguments have no canonical form.
    """
    stored = replace(stored, shown_as=VIEW)
    blank = _shape(stored, ids.new("apr"), ids.new("nonce"), lookup, holder)
    view = build_view(stored, mask)
    payload = keys.seal(_KEY, statement.dump(stored), bound_to=blank.row.id)
    return replace(blank, view=view, tool=str(view["tool"]), payload=payload)


def unseal(keys: KeyStore, request: Request) -> Stored | Void:
    """The stored call, if every column that was fixed at the beginning still follows from it."""
    row = request.row
    try:
        stored = statement.load(keys.open(_KEY, request.payload, bound_to=row.id))
    except GuardError:
        stored = None
    if stored is None:
        return Void.UNREADABLE
    then = _shape(stored, row.id, request.nonce, row.lookup, row.holder)
    if _fixed(then) != _fixed(request) or row.lookup not in statement.lookups(keys, stored):
        return Void.ALTERED
    return stored


def intact(keys: KeyStore, mask: Callable[[str], MaskedText], request: Request) -> Stored | Void:
    """Like `unseal`, and what people are shown is what would run (S17)."""
    stored = unseal(keys, request)
    if isinstance(stored, Void):
        return stored
    if stored.shown_as != VIEW:
        return Void.EARLIER
    view = build_view(stored, mask)
    return stored if (view, view["tool"]) == (request.view, request.tool) else Void.SHOWN


def _shape(stored: Stored, approval_id: str, nonce: str, lookup: str, holder: str) -> Request:
    call, decision = stored.call, stored.decision
    row = Row(
        id=approval_id,
        state=State.PENDING,
        version=1,
        round=1,
        owner=call.principal.key,
        lookup=lookup,
        action_digest=statement.action_digest(stored, nonce),
        expires_ns=stored.expires_ns,
        use_within_ns=stored.use_within_ns,
        holder=holder,
    )
    return Request(
        row=row,
        nonce=nonce,
        call_id=call.call_id,
        session=call.context.session,
        server=call.target.server,
        tool="",
        risk=decision.risk,
        rule=decision.rule,
        policy_digest=decision.policy_digest,
        min_assurance=demanded(decision, stored.mode),
        run=decision.terms.run,
        created_ns=stored.created_ns,
        view={},
        payload=b"",
    )


def _fixed(request: Request) -> tuple[object, ...]:
    row = request.row
    return (
        row.round,
        row.owner,
        row.action_digest,
        row.expires_ns,
        row.use_within_ns,
        request.call_id,
        request.session,
        request.server,
        request.risk,
        request.rule,
        request.policy_digest,
        request.min_assurance,
        request.run,
        request.created_ns,
    )
