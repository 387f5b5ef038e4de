"""Definitions of tools, prompts and resources, and the output schema a client is shown. Pure."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import JsonValue

from mcp_guard.model import JsonDict

_UNTOUCHED = frozenset(
    {"name", "uri", "uriTemplate", "required", "type", "$ref", "$schema", "$id", "pattern", "format"}
)
_LEAF_LIMITS = frozenset(
    [
        "format",
        "pattern",
        "enum",
        "const",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "contentEncoding",
        "contentMediaType",
    ]
)
_BRANCHES = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def mask_definition(value: JsonDict, mask: Callable[[str], str]) -> JsonDict:
    """A copy with all strings masked except names, URIs and what a schema needs to work."""
    return {key: item if key in _UNTOUCHED and _plain(item) else _mask(item, mask) for key, item in value.items()}


def _plain(item: JsonValue) -> bool:
    return isinstance(item, str) or (isinstance(item, list) and all(isinstance(part, str) for part in item))


def _mask(value: JsonValue, mask: Callable[[str], str]) -> JsonValue:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_mask(item, mask) for item in value]
    return mask_definition(value, mask) if isinstance(value, dict) else value


def relax_schema(schema: JsonDict) -> JsonDict:
    """A copy in which a placeholder fits wherever a string or a number could stand."""
    relaxed: JsonDict = {key: item for key, item in schema.items() if key not in _LEAF_LIMITS}
    if "type" in relaxed:
        relaxed["type"] = _with_string(relaxed["type"])
    for key in _BRANCHES:
        branch = relaxed.get(key)
        if isinstance(branch, list):
            relaxed[key] = [relax_schema(item) if isinstance(item, dict) else item for item in branch]
    for key in _SINGLE:
        single = relaxed.get(key)
        if isinstance(single, dict):
            relaxed[key] = relax_schema(single)
    for key in _NAMED:
        named = relaxed.get(key)
        if isinstance(named, dict):
            relaxed[key] = {name: relax_schema(i) if isinstance(i, dict) else i for name, i in named.items()}
    branches = relaxed.get("oneOf")
    if isinstance(branches, list):
        # Relaxed branches overlap, so that "exactly one" could refuse what the server's own schema accepts.
        del relaxed["oneOf"]
        relaxed.setdefault("anyOf", branches)
    relaxed.pop("not", None)
    return relaxed


def _with_string(kind: JsonValue) -> JsonValue:
    kinds = kind if isinstance(kind, list) else [kind]
    if {"integer", "number"} & {str(k) for k in kinds} and "string" not in kinds:
        return [*kinds, "string"]
    return kind
