"""Strict JSON-RPC reader and writer (decisions.md D3, D22; threats S1 to S5).

What one parser reads and another reads differently is refused: duplicate keys, NaN, infinities, numbers out of range,
lone surrogates, invalid UTF-8, deep nesting. So the bytes that were judged are the bytes that are meant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import jiter
import pydantic_core
from mcp.shared.message import SessionMessage
from mcp_types import ErrorData, JSONRPCError, JSONRPCMessage, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse
from pydantic import BaseModel, JsonValue

from mcp_guard.errors import WireError
from mcp_guard.model import JsonDict

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600

MAX_ID_CHARS: Final = 256
MAX_INT_BITS: Final = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one peer's messages."""

    line_bytes: int
    """Longest line without its newline."""
    nodes: int
    """JSON values in one message."""
    depth: int = 100
    """Nested arrays and objects."""


FRONT: Final = Limits(line_bytes=4 << 20, nodes=100_000)
"""What a client may send."""

DOWNSTREAM: Final = Limits(line_bytes=32 << 20, nodes=1_000_000)
"""What a downstream server may send."""


def parse_message(line: bytes, limits: Limits = FRONT) -> JsonDict:
    """Read one JSON-RPC 2.0 message.

    Args:
        line: One message, without the newline. Surrounding white space is legal.
        limits: Bounds of the peer.

    Returns:
        The message object. Members that the envelope does not know are still in it.

    Raises:
        WireError: -32700 when it is not strict JSON, -32600 when it is no acceptable message. The text is constant.

    Source:
        JSON-RPC 2.0 §4 and §5; MCP 2026-07-28 basic (no batch, id is a string or an integer, never null).
    """
    if len(line) > limits.line_bytes:
        raise WireError("the message is too long", rpc=INVALID_REQUEST)
    value = _parse_json(line)
    if not isinstance(value, dict):
        raise WireError("the message is not one JSON object", rpc=INVALID_REQUEST)
    request_id = readable_id(value)
    problem = _size_problem(value, limits) or _envelope_problem(value)
    if problem is not None:
        raise WireError(problem, rpc=INVALID_REQUEST, request_id=request_id)
    return value


def readable_id(message: JsonDict) -> str | int | None:
    """The id of a message where it is one that an answer may carry, else None."""
    value = message.get("id")
    if isinstance(value, str):
        return value if len(value) <= MAX_ID_CHARS else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value.bit_length() <= MAX_INT_BITS else None
    return None


def _parse_json(line: bytes) -> JsonValue:
    try:
        value: JsonValue = jiter.from_json(line, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="keys")
    except ValueError as error:
        text = str(error)
        request_id = _salvage_id(line)
        if text.startswith("recursion limit"):
            raise WireError("the message is nested too deep", rpc=INVALID_REQUEST, request_id=request_id) from None
        if text.startswith("number out of range"):
            raise WireError("a number is out of range", rpc=INVALID_REQUEST, request_id=request_id) from None
        # `from None`: the text of jiter can hold a key of the message.
        raise WireError("the message is not strict JSON", rpc=PARSE_ERROR, request_id=request_id) from None
    return value


def _salvage_id(line: bytes) -> str | int | None:
    # A line that is JSON apart from a duplicate key or NaN still tells whom to answer; a client with an id waits.
    try:
        value = jiter.from_json(line, cache_mode="none")
    except ValueError:
        return None
    return readable_id(value) if isinstance(value, dict) else None


def _size_problem(message: JsonDict, limits: Limits) -> str | None:
    level: list[JsonDict | list[JsonValue]] = [message]
    nodes = depth = 0
    while level:
        depth += 1
        if depth > limits.depth:
            return "the message is nested too deep"
        deeper: list[JsonDict | list[JsonValue]] = []
        for container in level:
            nodes += len(container)
            if nodes > limits.nodes:
                return "the message has too many values"
            for item in container.values() if isinstance(container, dict) else container:
                if isinstance(item, dict | list):
                    deeper.append(item)
                elif not _number_fits(item):
                    return "a number is out of range"
        level = deeper
    return None


def _number_fits(item: JsonValue) -> bool:
    if isinstance(item, float):
        return math.isfinite(item)
    return not isinstance(item, int) or item.bit_length() <= MAX_INT_BITS


def _envelope_problem(message: JsonDict) -> str | None:
    if message.get("jsonrpc") != "2.0":
        return "jsonrpc must be 2.0"
    if "method" in message:
        return _request_problem(message)
    return _response_problem(message)


def _request_problem(message: JsonDict) -> str | None:
    if not isinstance(message["method"], str):
        return "method must be a string"
    if "result" in message or "error" in message:
        return "a message is a request or a response, not both"
    if "id" in message and readable_id(message) is None:
        return "id must be an integer or a string of at most 256 characters"
    return _params_problem(message["params"]) if "params" in message else None


def _params_problem(params: JsonValue) -> str | None:
    if not isinstance(params, dict):
        return "params must be an object"
    meta = params.get("_meta", {})
    if not isinstance(meta, dict):
        return "_meta must be an object"
    token = meta.get("progressToken", "")
    if not isinstance(token, str | int) or isinstance(token, bool):
        return "progressToken must be a string or an integer"
    return None


def _response_problem(message: JsonDict) -> str | None:
    if "id" not in message or ("result" in message) == ("error" in message):
        return "a response has an id and either result or error"
    if readable_id(message) is None and not ("error" in message and message["id"] is None):
        return "id must be an integer or a string, or null in an error"
    if "result" in message:
        return None if isinstance(message["result"], dict) else "result must be an object"
    error = message["error"]
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return "error must be an object with a message"
    code = error.get("code")
    return None if isinstance(code, int) and not isinstance(code, bool) else "error must have an integer code"


def to_session_message(message: JsonDict) -> SessionMessage:
    """Convert what `parse_message` returned into the SDK's type. Unknown envelope members are left out.

    The models are built without validation: `parse_message` has checked every field they hold.
    """
    if "method" in message:
        kept = _only(message, "jsonrpc", "id", "method", "params")
        model = JSONRPCRequest if "id" in message else JSONRPCNotification
        return SessionMessage(model.model_construct(set(kept), **kept))
    if "result" in message:
        kept = _only(message, "jsonrpc", "id", "result")
        return SessionMessage(JSONRPCResponse.model_construct(set(kept), **kept))
    known = _only(message["error"], "code", "message", "data")
    data = ErrorData.model_construct(set(known), **known)
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=readable_id(message), error=data))


def _only(value: JsonValue, *names: str) -> dict[str, Any]:
    return {name: value[name] for name in names if name in value} if isinstance(value, dict) else {}


def dump(message: SessionMessage) -> bytes:
    """One line, with its newline. Fields that were never set are left out.

    Raises:
        ValueError: a value has no JSON form (lone surrogate, foreign type, too deep).
    """
    return dump_json(_fields(message.message))


def dump_json(value: JsonValue) -> bytes:
    """Any JSON value as one line, with its newline.

    Raises:
        ValueError: it has no JSON form.
    """
    # pydantic_core, not orjson: integers above 2^64 are legal here. It never writes a raw newline.
    return pydantic_core.to_json(value, inf_nan_mode="constants") + b"\n"


def _fields(message: JSONRPCMessage) -> JsonDict:
    fields = _set_fields(message)
    if isinstance(message, JSONRPCError):
        fields["error"] = _set_fields(message.error)
    return fields


def _set_fields(model: BaseModel) -> JsonDict:
    names = model.model_fields_set
    return {name: getattr(model, name) for name in type(model).model_fields if name in names}


def error_message(request_id: str | int | None, code: int, text: str) -> JsonDict:
    """A JSON-RPC error response with constant text."""
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": text}}
