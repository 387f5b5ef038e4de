"""Programs that must not type-check: each ignore is an assertion, since mypy reports an ignore that is not needed.

The guarantees are those of mcp_guard/model.py: what reviewers, records and clients see was masked, what runs was
permitted, and a permit comes from policy or from the approval desk only. Nothing here is ever run.
"""

from __future__ import annotations

from mcp_guard.model import (
    Answer,
    Call,
    Decision,
    JsonDict,
    Masked,
    MaskedJson,
    RawArguments,
    RawResult,
    Record,
    Suspended,
    VaultEntry,
    Views,
)
from mcp_guard.permit import Permit
from mcp_guard.ports import ApprovalPort, ApprovedRun, AuditTrail, Downstreams, Executor, Front, MaskingPort, PolicyPort
from mcp_guard.question import Prompt


def a_record_takes_no_raw_arguments(call: Call, views: Views) -> None:
    Record("call.intent", payloads={"args": call.arguments})  # type: ignore[dict-item]
    Record("call.intent", payloads={"args": views.for_downstream})  # type: ignore[dict-item]
    Record("call.intent", payloads={"args": call.arguments.value})  # type: ignore[dict-item]
    Record("call.intent", fields={"args": call.arguments})  # type: ignore[dict-item]
    Record("call.result", payloads={"result": RawResult()})  # type: ignore[dict-item]
    Record("call.intent", payloads={"args": views.for_log})


def a_prompt_takes_masked_text_only(text: str, views: Views, masking: MaskingPort) -> None:
    Prompt("apr", text, "K7QF-93WM", type_fingerprint=False)  # type: ignore[arg-type]
    Prompt("apr", views.for_reviewer, "K7QF-93WM", type_fingerprint=False)  # type: ignore[arg-type]
    Prompt("apr", masking.text(text), "K7QF-93WM", type_fingerprint=False)


def an_answer_is_masked(raw: RawResult, plain: JsonDict, call: Call, masked: Masked) -> None:
    Answer(result=raw)  # type: ignore[arg-type]
    Answer(result=raw.result)  # type: ignore[arg-type]
    Answer(error=raw.error)  # type: ignore[arg-type]
    Answer(result=plain)  # type: ignore[arg-type]
    Answer(result=call.arguments)  # type: ignore[arg-type]
    Answer(result=masked)  # type: ignore[arg-type]
    Answer(result=masked.json)


def masked_and_raw_values_are_not_exchangeable(views: Views, plain: JsonDict) -> None:
    raw: RawArguments = views.for_reviewer  # type: ignore[assignment]
    masked: MaskedJson = views.for_downstream  # type: ignore[assignment]
    also_masked: MaskedJson = plain  # type: ignore[assignment]
    dictionary: JsonDict = views.for_log  # type: ignore[assignment]
    del raw, masked, also_masked, dictionary


async def progress_is_masked(front: Front, message: str) -> None:
    await front.progress(1.0, None, message)  # type: ignore[arg-type]


async def forwarding_needs_a_permit(
    pool: Downstreams, call: Call, views: Views, decision: Decision, suspended: Suspended, permit: Permit
) -> None:
    await pool.forward(call, decision, views.for_downstream, execution_id="e", progress=None)  # type: ignore[arg-type]
    await pool.forward(call, suspended, views.for_downstream, execution_id="e", progress=None)  # type: ignore[arg-type]
    await pool.forward(call, None, views.for_downstream, execution_id="e", progress=None)  # type: ignore[arg-type]
    await pool.forward(call, permit, views.for_reviewer, execution_id="e", progress=None)  # type: ignore[arg-type]
    await pool.forward(call, permit, call.arguments.value, execution_id="e", progress=None)  # type: ignore[arg-type]
    await pool.forward(call, views.for_downstream, execution_id="e", progress=None)  # type: ignore[call-arg, arg-type]
    await pool.forward(call, permit, views.for_downstream, execution_id="e", progress=None)


async def running_an_approved_call_needs_a_permit(
    run: ApprovedRun, executor: Executor, decision: Decision, permit: Permit
) -> None:
    await executor(run, decision)  # type: ignore[arg-type]
    await executor(permit, run)  # type: ignore[arg-type]
    await executor(run, permit)


def a_permit_needs_the_seal(decision: Decision) -> None:
    Permit("call", "rule")  # type: ignore[call-arg]
    Permit("call", "rule", seal=object())  # type: ignore[arg-type]
    Permit("call", "rule", seal=None)  # type: ignore[arg-type]
    permit: Permit = decision  # type: ignore[assignment]
    del permit


async def a_suspended_call_is_neither_permit_nor_answer(
    desk: ApprovalPort, call: Call, views: Views, decision: Decision, front: Front
) -> None:
    permit: Permit = await desk.settle(call, views, decision, front)  # type: ignore[assignment]
    answer: Answer = await desk.settle(call, views, decision, front)  # type: ignore[assignment]
    del permit, answer


def decisions_are_made_on_the_views(policy: PolicyPort, call: Call, views: Views) -> None:
    policy.decide(call, views.for_downstream)  # type: ignore[arg-type]
    policy.decide(call, call.arguments)  # type: ignore[arg-type]


async def the_log_takes_records_only(trail: AuditTrail, call: Call, plain: JsonDict) -> None:
    await trail.append(call)  # type: ignore[arg-type]
    await trail.append(plain)  # type: ignore[arg-type]


def what_was_decided_stays(decision: Decision, call: Call, views: Views, entry: VaultEntry) -> None:
    decision.rule = "another"  # type: ignore[misc]
    call.arguments = RawArguments({})  # type: ignore[misc]
    views.for_downstream = RawArguments({})  # type: ignore[misc]
    entry.scope = "somebody else"  # type: ignore[misc]
