"""Outcomes of approved calls: as stored, and as handed out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from mcp_guard.approval.eligibility import needs
from mcp_guard.approval.machine import LIVE, State
from mcp_guard.approval.prompt import visible
from mcp_guard.approval.rows import Request
from mcp_guard.canon import fingerprint
from mcp_guard.errors import (
    ApprovalDeniedError,
    ApprovalExpiredError,
    DownstreamUnavailableError,
    GuardError,
    OutcomeUnknownError,
)
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Answer, Suspended

_KEY = "approval"


@dataclass(frozen=True, slots=True)
class _Fault:
    code: str
    message: str
    hint: str


_OUTCOME: TypeAdapter[Answer | _Fault] = TypeAdapter(Answer | _Fault)


def seal(keys: KeyStore, approval_id: str, outcome: Answer | GuardError) -> bytes:
    """Encrypt an outcome for the row of this request."""
    if isinstance(outcome, GuardError):
        plain = _OUTCOME.dump_json(_Fault(outcome.code, outcome.message, outcome.hint))
    else:
        plain = _OUTCOME.dump_json(outcome)
    return keys.seal(_KEY, plain, bound_to=f"{approval_id}/result")


def suspended(request: Request) -> Suspended:
    """The ticket for a request that is not over."""
    row = request.row
    return Suspended(
        approval_id=row.id,
        state=row.state.value,
        fingerprint=fingerprint(row.action_digest),
        expires_ns=row.expires_ns if row.state is State.PENDING else row.use_by_ns or row.expires_ns,
        needs=needs(request.min_assurance) if row.state is State.PENDING else "nothing: the call is carried out",
        rule=request.rule,
    )


def conclude(keys: KeyStore, request: Request) -> Answer | Suspended:
    """What a request in this state means for the call.

    Raises:
        ApprovalDeniedError, ApprovalExpiredError: it will not run.
        FaultError: the stored fault of the execution; `OutcomeUnknownError` when nobody knows.
        StoreUnavailableError: the stored result was altered.
    """
    state = request.row.state
    if state in LIVE:
        return suspended(request)
    if state in _REFUSALS:
        raise refusal(request)
    if request.result is not None:
        outcome = _open(keys, request.row.id, request.result)
        if isinstance(outcome, GuardError):
            raise outcome
        return replace(outcome, approval_id=request.row.id)
    if state is State.FAILED:
        raise DownstreamUnavailableError(f"the approved call {request.row.id} was not sent")
    if request.forgotten:
        raise OutcomeUnknownError(
            f"the approved call {request.row.id} was sent long ago, and its result is not kept here any more",
            hint=f"the record tells what became of it: `mcp-guard audit show {request.row.id}`",
        )
    raise OutcomeUnknownError(f"the approved call {request.row.id} was sent, and its result is lost")


_REFUSALS = frozenset({State.DENIED, State.EXPIRED, State.CANCELLED, State.INVALIDATED})


def refusal(request: Request) -> GuardError:
    """Why a request that ended without running ended."""
    row = request.row
    why = f": {visible(row.reason)}" if row.reason else ""
    if row.state is State.DENIED:
        return ApprovalDeniedError(f"{visible(row.decided_by)} denied the request {row.id}{why}")
    if row.state is State.CANCELLED:
        return ApprovalDeniedError(f"the request {row.id} was cancelled")
    if row.state is State.INVALIDATED:
        return ApprovalExpiredError(f"the approval of {row.id} is void{why}", hint="repeat the call to ask again")
    if row.use_by_ns is not None:
        return ApprovalExpiredError(f"the request {row.id} was approved but not carried out in time")
    return ApprovalExpiredError(f"nobody decided the request {row.id} in time")


def _open(keys: KeyStore, approval_id: str, sealed: bytes) -> Answer | GuardError:
    outcome = _OUTCOME.validate_json(keys.open(_KEY, sealed, bound_to=f"{approval_id}/result"))
    if isinstance(outcome, Answer):
        return outcome
    known = {kind.code: kind for kind in _kinds(GuardError)}
    return known.get(outcome.code, OutcomeUnknownError)(outcome.message, hint=outcome.hint)


def _kinds(parent: type[GuardError]) -> Iterator[type[GuardError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _kinds(child)
