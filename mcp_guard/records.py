"""What the pipeline writes to the audit log, as pure functions from a call to a `Record`."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import JsonValue

from mcp_guard.errors import GuardError, OutcomeUnknownError
from mcp_guard.model import (
    Answer,
    Call,
    CallContext,
    CallKind,
    Decision,
    JsonDict,
    MaskedText,
    MaskNote,
    Principal,
    Record,
    Views,
)
from mcp_guard.ports import ApprovedRun

MaskText = Callable[[str], MaskedText]


def intent(call: Call, views: Views, decision: Decision, mask: MaskText) -> Record:
    """What is about to happen and why it may: written before anything is done."""
    fields: JsonDict = {
        **_who(call.principal, call.context, mask),
        "target": {
            "kind": call.target.kind.value,
            "server": call.target.server,
            "exposed": mask(call.target.exposed),
            "name": mask(call.target.name),
            "definition_sha256": call.target.definition_digest,
            "server_identity": call.target.server_identity,
            "manifest": call.target.facts.manifest,
        },
        "decision": {
            "effect": decision.effect.value,
            "rule": decision.rule,
            "risk": decision.risk.value,
            "reasons": list(decision.reasons),
            "policy_sha256": decision.policy_digest,
        },
        "masks": _masks(views.notes),
        "restored": list(views.restored),
        "secrets": list(views.secrets),
    }
    return _record(call, "call.intent", decision.effect.value, fields).with_payload("args", views.for_log)


def refused(call: Call, error: GuardError) -> Record:
    """The guard said no, or broke before anything was sent."""
    return _record(call, "call.refused", error.code, {"error": error.code, "reason": error.message})


def unresolved(
    call_id: str, principal: Principal, context: CallContext, *, name: str, error: GuardError, mask: MaskText
) -> Record:
    """A call to something that is not there, is quarantined, or is a ticket of nobody's."""
    fields = {**_who(principal, context, mask), "name": mask(name[:200]), "error": error.code}
    return Record(
        "call.refused",
        call_id=call_id,
        session=context.session,
        actor=principal.key,
        tool="",
        outcome=error.code,
        fields=fields,
    )


def left(call: Call, outcome: str, *, approval: str | None = None) -> Record:
    """The client got a ticket, or went away, while its approval request lives on."""
    return _record(call, "call.suspended", outcome, {"approval": approval})


def delivered(call: Call, answer: Answer) -> Record:
    """An outcome was handed to a call that attached to an approval request."""
    fields: JsonDict = {"approval": answer.approval_id}
    return _record(call, "call.delivered", "error" if is_error(answer) else "ok", fields)


def picked_up(call_id: str, principal: Principal, context: CallContext, *, ticket: str, answer: Answer) -> Record:
    """The outcome of an approved call was handed over by its ticket."""
    return Record(
        "call.delivered",
        call_id=call_id,
        session=context.session,
        actor=principal.key,
        outcome="error" if is_error(answer) else "ok",
        fields={"approval": ticket},
    )


def not_sent(call: Call) -> Record:
    """The client cancelled before the call was sent."""
    return _record(call, "call.refused", "cancelled", {"error": "cancelled", "reason": "cancelled before it was sent"})


def forwarded(call: Call, run: ApprovedRun) -> Record:
    """An approved call is about to be sent."""
    return _record(call, "call.forwarded", "sent", {"approval": run.approval_id, "execution": run.execution_id})


def result(call: Call, answer: Answer) -> Record:
    """What came back, masked."""
    payload = answer.result if answer.error is None else answer.error
    record = _record(call, "call.result", "error" if is_error(answer) else "ok", {"masks": _masks(answer.notes)})
    return record if payload is None else record.with_payload("result", payload)


def no_result(call: Call, error: GuardError) -> Record:
    """The call was permitted, and there is no result to give: never sent, unknown, or withheld."""
    outcome = "unknown" if isinstance(error, OutcomeUnknownError) else error.code
    return _record(call, "call.result", outcome, {"error": error.code, "reason": error.message})


def is_error(answer: Answer) -> bool:
    """Whether the downstream reported a failure, as an error or as `isError`."""
    if answer.error is not None or answer.result is None:
        return True
    value = answer.result.value
    return isinstance(value, dict) and value.get("isError") is True


def _record(call: Call, kind: str, outcome: str, fields: JsonDict) -> Record:
    # Names of tools and prompts are matched against a list. A URI is free text: only the intent holds it, masked.
    name = "resource" if call.target.kind is CallKind.RESOURCE else call.target.name
    return Record(
        kind,
        call_id=call.call_id,
        session=call.context.session,
        actor=call.principal.key,
        tool=f"{call.target.server}/{name}",
        outcome=outcome,
        fields=fields,
    )


def _who(principal: Principal, context: CallContext, mask: MaskText) -> JsonDict:
    client = principal.client
    return {
        "requester": {
            "issuer": principal.issuer,
            "subject": principal.subject,
            "label": principal.label,
            "verified": principal.verified,
        },
        "client": {"name": mask(client.name), "version": mask(client.version)} if client else None,
        "context": {"transport": context.transport, "protocol": context.protocol, "host": context.host},
    }


def _masks(notes: tuple[MaskNote, ...]) -> list[JsonValue]:
    return [{"type": note.type, "count": note.count, "rule": note.rule} for note in notes]
