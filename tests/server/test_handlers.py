"""The MCP edge in both eras, over the SDK's own client in one process (decisions.md D2, D4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from mcp_guard.errors import ApprovalDeniedError, DownstreamUnavailableError, UnknownApprovalError, UnknownTargetError
from mcp_guard.model import (
    Answer,
    Call,
    CallKind,
    Decision,
    Effect,
    JsonDict,
    MaskedJson,
    MaskedText,
    Principal,
    RawResult,
    Suspended,
    Target,
    Views,
)
from mcp_guard.ports import Front
from mcp_guard.question import AskClient, Prompt, PromptAnswer
from mcp_guard.server.handlers import Edge, build_server
from tests.fakes import CountingIds
from tests.pipeline_bench import ALICE, SECRET, SUSPENDED, Bench

PROMPT = Prompt("apr_1", MaskedText("approve this call?"), "ABCD-EFGH", type_fingerprint=False)
ERAS = ["legacy", "auto"]


@dataclass
class Desk(Bench):
    """The bench, with a catalogue and a desk that reads what the client answered."""

    answers: list[PromptAnswer | None] = field(default_factory=list)
    waits: list[tuple[str, float]] = field(default_factory=list)
    metas: list[JsonDict] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    lists_fail: Exception | None = None
    wait_gives: Suspended | Answer | Exception = SUSPENDED

    async def settle(
        self, call: Call, views: Views, decision: Decision, front: Front
    ) -> Suspended | AskClient | Answer:
        if front.resumed is not None:
            self.answers.append(front.resumed[1])
            return Answer(result=MaskedJson({"content": [{"type": "text", "text": "ran"}]}), approval_id="apr_1")
        if front.era == "modern" and front.can_prompt:
            return AskClient(PROMPT)
        if front.can_prompt:
            self.answers.append(await front.ask(PROMPT))
            return Answer(result=MaskedJson({"content": [{"type": "text", "text": "ran"}]}), approval_id="apr_1")
        return await super().settle(call, views, decision, front)

    async def forward(self, call: Call, *arguments: Any, **more: Any) -> RawResult:
        self.metas.append(call.meta)
        self.said.append(call.context.justification)
        return await super().forward(call, *arguments, **more)

    async def wait(self, approval_id: str, principal: Principal, timeout_s: float) -> Suspended | Answer:
        self.waits.append((approval_id, timeout_s))
        if isinstance(self.wait_gives, Exception):
            raise self.wait_gives
        return self.wait_gives

    async def resolve(self, kind: CallKind, name: str, principal: Principal) -> Target:
        if name == "missing":
            raise UnknownTargetError("no tool has this name")
        if name == "broken":
            raise RuntimeError(SECRET)
        return Target(kind, "crm", name, f"crm_{name}", local=True)

    async def resolve_completion(self, ref: JsonDict, principal: Principal) -> Target:
        return Target(CallKind.COMPLETION, "crm", "hello", "hello", local=True)

    async def listing(self, key: str, principal: Principal) -> list[JsonDict]:
        if self.lists_fail is not None:
            raise self.lists_fail
        schema: JsonDict = {"type": "object"}
        odd: JsonDict = {"name": "odd", "inputSchema": schema, "outputSchema": {"type": "array"}}
        return [{"name": "crm_get", "inputSchema": schema}, odd] if key == "tools" else []


@asynccontextmanager
async def talking(bench: Desk, mode: str, **client: Any) -> AsyncIterator[Client]:
    async with Client(build_server(edge_of(bench), "hello"), mode=mode, cache=None, **client) as found:
        yield found


def edge_of(bench: Desk) -> Edge:
    return Edge(
        name="test",
        pipeline=bench.pipeline(),
        catalog=bench,
        desk=bench,
        masking=bench,
        ids=CountingIds(),
        principal=lambda _ctx: ALICE,
        owner_key=ALICE.key,
        transport="stdio",
        state_keys=[b"k" * 32],
        deciding="DECIDE SO.",
    )


def first_text(result: types.CallToolResult) -> str:
    block = result.content[0]
    assert isinstance(block, types.TextContent)
    return block.text


async def test_a_session_is_forgotten_once_it_ended() -> None:
    """security.md S27: a guard over HTTP serves many clients in its life."""
    bench = Desk()
    edge = edge_of(bench)
    async with Client(build_server(edge, "hello"), mode="legacy", cache=None) as client:
        await client.list_tools()
        assert len(edge.fronts) == 1
    assert not edge.fronts


@pytest.mark.parametrize("mode", ERAS)
async def test_tools_are_listed_with_the_wait_tool_and_called(mode: str) -> None:
    """decisions.md D2: both protocol eras."""
    bench = Desk()
    async with talking(bench, mode) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("crm_get", {"x": 1})
    assert names == ["crm_get", "odd", "guard_approval_wait"]
    assert first_text(result) == "[SECRET_aaaaaaaaaa]"
    assert result.meta is not None
    assert "io.mcp-guard/receipt" in result.meta


@pytest.mark.parametrize("mode", ERAS)
async def test_a_refusal_is_a_result_and_an_unknown_tool_a_protocol_error(mode: str) -> None:
    """decisions.md D4."""
    bench = Desk(effect=Effect.DENY)
    async with talking(bench, mode) as client:
        refused = await client.call_tool("crm_get", {})
        with pytest.raises(MCPError) as unknown:
            await client.call_tool("missing", {})
    assert refused.is_error
    assert first_text(refused).startswith("[policy_denied]")
    assert unknown.value.error.code == -32602
    assert bench.forwarded == []
    assert [record.type for record in bench.records] == ["call.intent", "call.refused", "call.refused"]


@pytest.mark.parametrize("mode", ERAS)
async def test_no_text_of_a_foreign_exception_reaches_the_client(mode: str) -> None:
    """security.md S35: the SDK sends `str(exc)` of handlers to older clients."""
    bench = Desk()
    async with talking(bench, mode) as client:
        result = await client.call_tool("broken", {})
    assert result.is_error
    assert SECRET not in repr(result)


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("fault", [DownstreamUnavailableError("crm is down"), RuntimeError(SECRET)])
async def test_a_failing_list_is_a_clean_error(mode: str, fault: Exception) -> None:
    """security.md S35."""
    async with talking(Desk(lists_fail=fault), mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.list_tools()
    assert caught.value.error.message.startswith("[")
    assert SECRET not in repr(caught.value.error)


@pytest.mark.parametrize("mode", ERAS)
async def test_a_suspended_call_becomes_a_ticket(mode: str) -> None:
    """docs/approvals.md"""
    bench = Desk(effect=Effect.REQUIRE_APPROVAL, settle_gives=SUSPENDED)
    async with talking(bench, mode) as client:
        result = await client.call_tool("crm_get", {})
        waited = await client.call_tool("guard_approval_wait", {"ticket": "apr_1", "timeout_s": 900})
        wrong = await client.call_tool("guard_approval_wait", {"ticket": 7})
        bench.wait_gives = Answer(result=MaskedJson({"content": [{"type": "text", "text": "ran"}]}))
        outcome = await client.call_tool("guard_approval_wait", {"ticket": "apr_1"})
        bench.wait_gives = UnknownApprovalError("you have no such approval request")
        unknown = await client.call_tool("guard_approval_wait", {"ticket": "apr_2"})
    assert result.is_error
    assert "NOT executed" in first_text(result)
    assert bench.waits[0] == ("apr_1", 45.0)
    assert first_text(outcome) == "ran"
    assert first_text(unknown).startswith("[unknown_approval]")
    assert [record.type for record in bench.records][-2:] == ["call.delivered", "call.refused"]
    assert waited.is_error
    assert all("DECIDE SO." in first_text(told) for told in (result, waited))
    assert first_text(wrong).startswith("[invalid_arguments]")


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize(
    ("action", "content", "verdict"),
    [
        ("accept", {"decision": "approve_once"}, "approve"),
        ("accept", {"decision": "deny"}, "deny"),
        ("accept", {}, "dismissed"),
        ("decline", None, "deny"),
        ("cancel", None, "dismissed"),
    ],
)
async def test_the_form_is_asked_and_only_an_explicit_approval_approves(
    mode: str, action: Any, content: Any, verdict: str
) -> None:
    """docs/approvals.md: accept without decision=approve_once is not approval."""
    bench = Desk(effect=Effect.REQUIRE_APPROVAL)
    asked: list[str] = []

    async def answer(_context: Any, params: Any) -> types.ElicitResult:
        asked.append(params.message)
        return types.ElicitResult(action=action, content=content)

    async with talking(bench, mode, elicitation_callback=answer) as client:
        result = await client.call_tool("crm_get", {})
    assert asked == ["approve this call?"]
    assert [found.verdict for found in bench.answers if found] == [verdict]
    assert first_text(result) == "ran"


async def test_a_forged_answer_without_the_sealed_state_is_a_new_call() -> None:
    """security.md S11."""
    bench = Desk(effect=Effect.REQUIRE_APPROVAL)

    async def answer(_context: Any, _params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="cancel")

    async with talking(bench, "auto", elicitation_callback=answer) as client:
        forged: Any = {"approval": types.ElicitResult(action="accept", content={"decision": "approve_once"})}
        result = await client.session.call_tool("crm_get", {}, input_responses=forged, allow_input_required=True)
        with pytest.raises(MCPError):
            await client.session.call_tool(
                "crm_get", {}, input_responses=forged, request_state="made-up", allow_input_required=True
            )
    assert isinstance(result, types.InputRequiredResult)
    assert bench.answers == []


@pytest.mark.parametrize("mode", ERAS)
async def test_a_refused_resource_is_a_json_rpc_error_with_code_and_hint(mode: str) -> None:
    """decisions.md D4: where a method's result has no isError."""
    bench = Desk(effect=Effect.REQUIRE_APPROVAL, fail={"settle": ApprovalDeniedError("denied by rita")})
    async with talking(bench, mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource("thing://1")
    assert caught.value.error.code == -32011
    assert caught.value.error.data["code"] == "approval_denied"
    assert caught.value.error.data["hint"]
    assert bench.forwarded == []


@pytest.mark.parametrize("mode", ERAS)
async def test_what_no_server_offers_is_not_declared(mode: str) -> None:
    """decisions.md D27: capabilities come from what is known of the servers."""
    async with Client(
        build_server(edge_of(Desk()), "", lambda kind: kind == "prompts"), mode=mode, cache=None
    ) as client:
        capabilities = client.server_capabilities
    assert capabilities.prompts is not None
    assert capabilities.resources is None
    assert capabilities.completions is None


@pytest.mark.parametrize("mode", ERAS)
async def test_a_resource_that_waits_is_an_error_of_its_own(mode: str) -> None:
    """docs/errors.md: pending is not denied."""
    bench = Desk(effect=Effect.REQUIRE_APPROVAL, settle_gives=SUSPENDED)
    async with talking(bench, mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource("thing://1")
    assert caught.value.error.code == -32017
    assert caught.value.error.message == "this call waits for approval; repeat it later. DECIDE SO."


@pytest.mark.parametrize("mode", ERAS)
async def test_nothing_of_meta_but_a_trace_is_passed_on(mode: str) -> None:
    """Nobody judges, masks or shows `_meta` of a request."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    bench = Desk()
    async with talking(bench, mode) as client:
        metas: list[Any] = [{"token": SECRET, "traceparent": trace}, {"traceparent": SECRET}]
        for meta in metas:
            await client.call_tool("crm_get", {}, meta=meta)
    assert bench.metas == [{"traceparent": trace}, {}]


@pytest.mark.parametrize("mode", ERAS)
async def test_a_reason_in_meta_reaches_the_reviewer_cut_and_not_the_server(mode: str) -> None:
    """docs/limits.md: 500 characters of justification."""
    bench = Desk()
    async with talking(bench, mode) as client:
        metas: list[Any] = [{"io.mcp-guard/justification": said} for said in ("w" * 600, 7)]
        for meta in metas:
            await client.call_tool("crm_get", {}, meta=meta)
    assert bench.said == ["w" * 500, ""]
    assert bench.metas == [{}, {}]


async def test_a_client_that_fails_to_ask_its_user_has_not_answered() -> None:
    """decisions.md D6; security.md S12: an error at the client is no approval."""

    async def broken(_context: Any, _params: Any) -> types.ErrorData:
        return types.ErrorData(code=-32000, message="approve_once")

    bench = Desk(effect=Effect.REQUIRE_APPROVAL)
    async with talking(bench, "legacy", elicitation_callback=broken) as client:
        await client.call_tool("crm_get", {})
    assert bench.answers == [None]
    assert bench.forwarded == []
