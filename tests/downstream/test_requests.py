"""From a call to the request that goes downstream."""

from __future__ import annotations

import pytest

from mcp_guard.downstream.requests import build_request, forwarded_meta
from mcp_guard.errors import InvalidArgumentsError
from mcp_guard.model import Call, CallContext, CallKind, JsonDict, Principal, RawArguments, Target


def dump(kind: CallKind, name: str, arguments: JsonDict) -> JsonDict:
    target = Target(kind, "s", name, f"s_{name}", local=True)
    call = Call("c", target, RawArguments({}), Principal("os", "me"), CallContext("stdio", "2025-11-25", "s"))
    request = build_request(call, RawArguments(arguments), "x_1")
    return dict(request.model_dump(by_alias=True, mode="json", exclude_none=True))


def test_only_the_given_arguments_are_sent_not_those_of_the_call() -> None:
    """decisions.md D28: exactly what was decided on."""
    meta: JsonDict = {"io.mcp-guard/execution-id": "x_1"}
    assert dump(CallKind.TOOL, "t", {"a": None}) == {
        "method": "tools/call",
        "params": {"name": "t", "arguments": {"a": None}, "_meta": meta},
    }
    resource: JsonDict = {"uri": "file:///x y"}
    assert dump(CallKind.RESOURCE, "file:///x [EMAIL_k3f7q2m5xa]", resource)["params"] == {**resource, "_meta": meta}


def test_a_completion_refers_to_the_downstreams_own_name() -> None:
    """decisions.md D37."""
    argument: JsonDict = {"name": "a", "value": "b"}
    ref: JsonDict = {"type": "ref/prompt", "name": "s_p"}
    params = dump(CallKind.COMPLETION, "p", {"ref": ref, "argument": argument})["params"]
    assert isinstance(params, dict)
    assert params["ref"] == {"type": "ref/prompt", "name": "p"}
    assert params["argument"] == argument


def test_a_completion_for_a_template_goes_out_as_it_was_decided_on() -> None:
    """decisions.md D28: masking may have changed the reference."""
    ref: JsonDict = {"type": "ref/resource", "uri": "x://a/{b}"}
    params = dump(CallKind.COMPLETION, "x://c/{b}", {"ref": ref, "argument": {"name": "b", "value": ""}})["params"]
    assert isinstance(params, dict)
    assert params["ref"] == ref


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (CallKind.PROMPT, {"x": ["hunter2"]}),
        (CallKind.COMPLETION, {"ref": "hunter2"}),
        (CallKind.RESOURCE, {"url": "hunter2"}),
    ],
)
def test_parameters_of_another_shape_are_refused_without_their_value(kind: CallKind, arguments: JsonDict) -> None:
    """decisions.md D4."""
    with pytest.raises(InvalidArgumentsError) as caught:
        dump(kind, "p", arguments)
    assert "hunter2" not in str(caught.value)


def test_keys_that_belong_to_the_fronts_own_request_stay_behind() -> None:
    """MCP 2025-11-25, "Lifecycle": an older downstream answers -32600 to a request that carries the envelope."""
    meta: JsonDict = {"progressToken": 1, "io.modelcontextprotocol/protocolVersion": "x", "traceparent": "00-1"}
    assert forwarded_meta(meta, "x_1") == {"traceparent": "00-1", "io.mcp-guard/execution-id": "x_1"}
