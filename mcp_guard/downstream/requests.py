"""From a call to the request that goes downstream."""

from __future__ import annotations

from typing import Final

import mcp_types as types
from pydantic import JsonValue, ValidationError

from mcp_guard.errors import InvalidArgumentsError
from mcp_guard.model import GUARD_META, Call, CallKind, JsonDict, RawArguments

EXECUTION_ID: Final = GUARD_META + "execution-id"
"""Key in the downstream request's `_meta`: lets a server notice a second execution of one approval."""

_PROTOCOL_META: Final = "io.modelcontextprotocol/"


def forwarded_meta(meta: JsonDict, execution_id: str) -> JsonDict:
    """The client's `_meta` less progress token and protocol keys, which belong to the front's own request."""
    kept: JsonDict = {
        key: value for key, value in meta.items() if key != "progressToken" and not key.startswith(_PROTOCOL_META)
    }
    kept[EXECUTION_ID] = execution_id
    return kept


def build_request(call: Call, arguments: RawArguments, execution_id: str) -> types.ClientRequest:
    """The request of a call, with exactly these arguments.

    The arguments of a resource are its `uri`, those of a completion the `ref`, `argument` and `context` members of
    its parameters. Both go out as they were decided on and recorded; the names in the call only say where to.

    Raises:
        InvalidArgumentsError: the arguments do not have the shape of the method; no value is in the message.
    """
    meta = forwarded_meta(call.meta, execution_id)
    name = call.target.name
    try:
        if call.target.kind is CallKind.TOOL:
            return types.CallToolRequest.model_validate(
                {"params": {"name": name, "arguments": arguments.value, "_meta": meta}}
            )
        if call.target.kind is CallKind.RESOURCE:
            return types.ReadResourceRequest.model_validate(
                {"params": {"uri": arguments.value.get("uri"), "_meta": meta}}
            )
        if call.target.kind is CallKind.PROMPT:
            return types.GetPromptRequest.model_validate(
                {"params": {"name": name, "arguments": arguments.value, "_meta": meta}}
            )
        params: JsonDict = {**arguments.value, "ref": _own_ref(arguments.value.get("ref"), name), "_meta": meta}
        return types.CompleteRequest.model_validate({"params": params})
    except ValidationError as error:
        raise InvalidArgumentsError("the parameters do not have the shape of the method") from error


def _own_ref(ref: JsonValue, name: str) -> JsonValue:
    """A completion's reference; a prompt's under the downstream's own name."""
    return {**ref, "name": name} if isinstance(ref, dict) and ref.get("type") == "ref/prompt" else ref
