"""The one path of a call: order, failures, and what is never forwarded (ARCHITECTURE.md, "One call")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest

from mcp_guard.errors import (
    ApprovalDeniedError,
    AuditUnavailableError,
    DownstreamUnavailableError,
    GuardError,
    InternalError,
    InvalidArgumentsError,
    MaskingError,
    OutcomeUnknownError,
    PlaceholderError,
    PolicyDeniedError,
    QuarantinedError,
    StoreUnavailableError,
)
from mcp_guard.model import (
    Answer,
    Call,
    Effect,
    RawResult,
    Receipt,
    Record,
)
from mcp_guard.permit import issue_permit
from tests.pipeline_bench import SECRET, SUSPENDED, Bench, a_call, a_run


class Leaving(Bench):
    """A client that leaves while a step is at work."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place
        self.leaves: Callable[[], None] = lambda: None

    async def confirm(self, _call: Call) -> None:
        await self._leave("confirm")

    async def append(self, record: Record) -> Receipt:
        await self._leave(record.type)
        return await super().append(record)

    async def _leave(self, place: str) -> None:
        if place == self.place:
            self.leaves()
        await anyio.lowlevel.checkpoint()


async def test_an_allowed_call_walks_the_line_in_its_order() -> None:
    """ARCHITECTURE.md, "One call"."""
    bench = Bench()
    answer = await bench.pipeline().handle(a_call(), bench)
    assert bench.steps == [
        "vault.get", "derive", "check", "decide", "call.intent", "confirm", "permit", "forward", "mask", "call.result",
    ]  # fmt: skip
    assert isinstance(answer, Answer)
    assert answer.receipt is not None


async def test_what_is_recorded_and_answered_holds_no_secret() -> None:
    """decisions.md D11; security.md S25."""
    bench = Bench()
    answer = await bench.pipeline().handle(a_call(), bench)
    assert SECRET not in repr((answer, bench.records, a_call(), bench.progress_seen))
    assert bench.progress_seen == ["half way with [SECRET]", None]


@pytest.mark.parametrize(
    ("step", "fault", "seen"),
    [
        ("vault.get", StoreUnavailableError("the store is gone"), StoreUnavailableError),
        ("derive", MaskingError("the engine failed"), MaskingError),
        ("derive", RuntimeError(SECRET), InternalError),
        ("check", InvalidArgumentsError("/x: type"), InvalidArgumentsError),
        ("decide", RuntimeError(SECRET), InternalError),
        ("call.intent", AuditUnavailableError("disk full"), AuditUnavailableError),
        ("confirm", QuarantinedError("another definition"), QuarantinedError),
        ("permit", InternalError("no"), InternalError),
    ],
)
async def test_a_fault_before_forwarding_forwards_nothing(step: str, fault: Exception, seen: type[GuardError]) -> None:
    """CONTRIBUTING.md, habit 3: fail closed."""
    bench = Bench(fail={step: fault})
    with pytest.raises(seen) as caught:
        await bench.pipeline().handle(a_call(), bench)
    assert bench.forwarded == []
    assert SECRET not in f"{caught.value}{bench.records}"


async def test_a_denied_call_is_recorded_and_not_forwarded() -> None:
    """decisions.md D4."""
    bench = Bench(effect=Effect.DENY)
    with pytest.raises(PolicyDeniedError, match="rule-1"):
        await bench.pipeline().handle(a_call(), bench)
    assert bench.forwarded == []
    assert [r.type for r in bench.records] == ["call.intent", "call.refused"]


async def test_a_placeholder_that_may_not_be_restored_refuses_the_call() -> None:
    """decisions.md D33: a known placeholder never goes unrestored into an argument."""
    bench = Bench(refused=("EMAIL_aaaaaaaaaa",))
    with pytest.raises(PlaceholderError, match=r"\[EMAIL_aaaaaaaaaa\]"):
        await bench.pipeline().handle(a_call(), bench)
    assert bench.forwarded == []


async def test_a_suspended_call_forwards_nothing_and_leaves_a_record() -> None:
    """docs/approvals.md S5."""
    bench = Bench(effect=Effect.REQUIRE_APPROVAL, settle_gives=SUSPENDED)
    assert await bench.pipeline().handle(a_call(), bench) is SUSPENDED
    assert bench.forwarded == []
    assert [r.type for r in bench.records] == ["call.intent", "call.suspended"]


async def test_a_denial_by_a_reviewer_is_recorded_as_a_refusal() -> None:
    """approvals.md T5."""
    bench = Bench(effect=Effect.REQUIRE_APPROVAL, fail={"settle": ApprovalDeniedError("denied by bob")})
    with pytest.raises(ApprovalDeniedError):
        await bench.pipeline().handle(a_call(), bench)
    assert bench.forwarded == []
    assert [r.type for r in bench.records] == ["call.intent", "call.refused"]


async def test_a_client_that_leaves_while_waiting_is_recorded() -> None:
    """security.md F7."""
    bench = Bench(effect=Effect.REQUIRE_APPROVAL, leave=anyio.Event())
    assert bench.leave is not None
    async with anyio.create_task_group() as group:
        group.start_soon(bench.pipeline().handle, a_call(), bench)
        await bench.leave.wait()
        group.cancel_scope.cancel()
    assert [(r.type, r.outcome) for r in bench.records][-1] == ("call.suspended", "client_gone")
    assert bench.forwarded == []


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (DownstreamUnavailableError("crm is not running"), "downstream_unavailable"),
        (OutcomeUnknownError("crm went away"), "unknown"),
        (RuntimeError(SECRET), "internal"),
    ],
)
async def test_a_call_without_a_result_still_has_an_outcome_on_record(fault: Exception, outcome: str) -> None:
    """security.md F1."""
    bench = Bench(fail={"forward": fault})
    with pytest.raises(GuardError) as caught:
        await bench.pipeline().handle(a_call(), bench)
    assert [(r.type, r.outcome) for r in bench.records][-1] == ("call.result", outcome)
    assert SECRET not in f"{caught.value}{bench.records}"


async def test_a_result_that_cannot_be_masked_is_withheld() -> None:
    """docs/masking.md, "When it fails": any exception in masking = result withheld."""
    bench = Bench(fail={"mask": MaskingError("the engine failed")})
    with pytest.raises(MaskingError):
        await bench.pipeline().handle(a_call(), bench)
    assert bench.records[-1].outcome == "masking_failed"


async def test_a_result_that_cannot_be_recorded_is_withheld_and_the_error_says_that_it_ran() -> None:
    """docs/audit.md, "When it fails"."""
    bench = Bench(fail={"call.result": AuditUnavailableError("disk full")})
    with pytest.raises(AuditUnavailableError, match="the call did run"):
        await bench.pipeline().handle(a_call(), bench)


async def test_an_approved_call_is_marked_and_recorded_before_its_bytes() -> None:
    """decisions.md D26: T14, then call.forwarded, then bytes."""
    bench = Bench()
    run = a_run(bench)
    bench.steps.clear()
    answer = await bench.pipeline().run_approved(run, issue_permit("call_1", "apr_1"))
    assert bench.steps == ["mark_sent", "call.forwarded", "forward", "mask", "call.result"]
    assert answer.approval_id == "apr_1"


async def test_an_approval_that_ran_out_sends_nothing() -> None:
    """approvals.md T14."""
    bench = Bench()
    run = replace(a_run(bench), sends=False)
    with pytest.raises(InternalError):
        await bench.pipeline().run_approved(run, issue_permit("call_1", "apr_1"))
    assert bench.forwarded == []


async def test_an_approved_call_that_cannot_be_recorded_sends_nothing() -> None:
    """decisions.md D26: if that append fails, nothing is sent."""
    bench = Bench(fail={"call.forwarded": AuditUnavailableError("disk full")})
    run = a_run(bench)
    with pytest.raises(AuditUnavailableError):
        await bench.pipeline().run_approved(run, issue_permit("call_1", "apr_1"))
    assert bench.forwarded == []


async def test_a_permit_is_for_one_call_and_for_once() -> None:
    """ARCHITECTURE.md, "One call": a Permit is single use."""
    permit = issue_permit("call_1", "rule")
    with pytest.raises(InternalError):
        permit.use("call_2")
    permit.use("call_1")
    with pytest.raises(InternalError):
        permit.use("call_1")


async def test_a_downstream_error_stays_an_error_and_is_masked() -> None:
    """security.md S25: error.message and error.data."""
    bench = Bench(answer=RawResult(error={"code": -32000, "message": SECRET}))
    answer = await bench.pipeline().handle(a_call(), bench)
    assert isinstance(answer, Answer)
    assert answer.result is None
    assert SECRET not in repr(answer)
    assert bench.records[-1].outcome == "error"


async def test_a_call_that_the_log_says_was_sent_is_not_sent_again() -> None:
    """approvals.md I1: the store alone does not decide; its rows can be changed from outside."""
    bench = Bench(sent_before=True)
    run = a_run(bench)
    bench.steps.clear()
    with pytest.raises(AuditUnavailableError, match="not sent again"):
        await bench.pipeline().run_approved(run, issue_permit("call_1", "apr_1"))
    assert bench.steps == []


async def test_a_further_round_keeps_its_call_only_while_the_call_still_asks() -> None:
    """A sealed state from the time when a rule asked must not lend its call id to calls that are allowed now."""
    asks = Bench(effect=Effect.REQUIRE_APPROVAL, settle_gives=SUSPENDED, resumed=("apr_1", None), same_call="call_0")
    await asks.pipeline().handle(a_call(), asks)
    assert {record.call_id for record in asks.records} == {"call_0"}
    allowed = Bench(resumed=("apr_1", None), same_call="call_0")
    await allowed.pipeline().handle(a_call(), allowed)
    assert {record.call_id for record in allowed.records} == {"call_1"}


async def test_a_denial_in_a_further_round_is_the_refusal_of_that_call() -> None:
    """docs/audit.md: one intent and one end for each call."""
    bench = Bench(
        effect=Effect.REQUIRE_APPROVAL,
        fail={"settle": ApprovalDeniedError("denied by rita")},
        resumed=("apr_1", None),
        same_call="call_0",
    )
    with pytest.raises(ApprovalDeniedError):
        await bench.pipeline().handle(a_call(), bench)
    assert [(r.type, r.call_id) for r in bench.records] == [("call.intent", "call_0"), ("call.refused", "call_0")]


async def test_a_round_that_fits_no_request_is_a_call_of_its_own() -> None:
    """security.md S11."""
    bench = Bench(effect=Effect.REQUIRE_APPROVAL, settle_gives=SUSPENDED, resumed=("apr_1", None))
    await bench.pipeline().handle(a_call(), bench)
    assert {record.call_id for record in bench.records} == {"call_1"}


async def test_a_call_cancelled_before_it_was_sent_has_an_end_on_record() -> None:
    """security.md F7."""
    started = anyio.Event()

    class Slow(Bench):
        async def forward(self, *_args: object, **_more: object) -> RawResult:
            started.set()
            await anyio.sleep_forever()
            raise AssertionError

    bench = Slow()
    pipeline = bench.pipeline()
    async with anyio.create_task_group() as group:
        group.start_soon(pipeline.handle, a_call(), bench)
        await started.wait()
        group.cancel_scope.cancel()
    assert (bench.records[-1].type, bench.records[-1].outcome) == ("call.refused", "cancelled")
    await pipeline.drained()


async def test_a_call_whose_client_leaves_before_it_is_sent_has_an_end_on_record_wherever_it_stood() -> None:
    """security.md F7: received, recorded, confirmed; nothing is forwarded, and one end for each intent."""
    for place in ("call.intent", "confirm"):
        bench = Leaving(place)
        async with anyio.create_task_group() as group:
            bench.leaves = group.cancel_scope.cancel
            group.start_soon(bench.pipeline().handle, a_call(), bench)
        assert bench.forwarded == []
        assert [(r.type, r.outcome) for r in bench.records] == [("call.intent", "allow"), ("call.refused", "cancelled")]


async def test_a_refusal_that_cannot_be_recorded_is_a_refusal_all_the_same() -> None:
    """security.md F10: the client hears of the log, and nothing is forwarded."""
    bench = Bench(fail={"confirm": QuarantinedError("changed"), "call.refused": AuditUnavailableError("disk full")})
    with pytest.raises(AuditUnavailableError):
        await bench.pipeline().handle(a_call(), bench)
    assert bench.forwarded == []


async def test_draining_waits_for_the_calls_that_are_on_their_way() -> None:
    """security.md F8."""
    go, started = anyio.Event(), anyio.Event()

    class Slow(Bench):
        async def forward(self, *_args: object, **_more: object) -> RawResult:
            started.set()
            await go.wait()
            self.steps.append("answered")
            return self.answer

    bench = Slow()
    pipeline = bench.pipeline()
    async with anyio.create_task_group() as group:
        group.start_soon(pipeline.handle, a_call(), bench)
        await started.wait()
        group.start_soon(pipeline.drained)
        go.set()
    await pipeline.drained()
    assert "answered" in bench.steps


async def test_a_masked_result_that_no_longer_fits_its_schema_becomes_text_only() -> None:
    """decisions.md D12: never unmasked data, and no result that the client's own check refuses."""
    bench = Bench(fits=False)
    answer = await bench.pipeline().handle(a_call(), bench)
    assert isinstance(answer, Answer)
    assert answer.result is not None
    result = answer.result.value
    assert isinstance(result, dict)
    assert result["isError"] is True
    assert "structuredContent" not in result
    assert "the call ran" in str(result["content"])
