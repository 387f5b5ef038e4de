"""Definitions of tools, prompts and resources, and the output schema a client is shown. Pure."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import JsonValue

from mcp_guard.model import JsonDict

_ROUTED = ("name", "uri", "uriTemplate")
"""What a client sends back to name the thing."""
_KEYWORDS = frozenset({"$ref", "$dynamicRef", "$anchor", "$dynamicAnchor", "$id", "$schema", "required"})
"""Keywords of a schema that other parts of it hang on."""
_HINTS = frozenset({"pattern", "format"})
"""Keywords that a schema works without."""
_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
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
_SINGLE = ("items", "additionalProperties", "contains", "additionalItems")
_NAMED = ("properties", "$defs", "definitions", "dependentSchemas")
_NAMES_ANY = (*_NAMED, "patternProperties", "dependentRequired", "dependencies")
_SCHEMAS = frozenset({*_BRANCHES, *_SINGLE, "not", "if", "then", "else", "propertyNames", "unevaluatedItems",
                      "unevaluatedProperties", "contentSchema"})  # fmt: skip
_UNRELAXED = (
    "not", "if", "then", "else", "patternProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems",
    "uniqueItems", "maxContains",
)  # fmt: skip
"""What masked keys and values may break, however it is relaxed."""


class CannotHideError(Exception):
    """A definition does not work without what must not be shown."""


class DefinitionMasker:
    """Masks definitions of tools, prompts and resources.

    Args:
        mask: Masks any JSON value.
        shown: Whether a text may be shown as it is.
        shown_uri: The same for addresses, where only secrets count.
    """

    def __init__(
        self,
        mask: Callable[[JsonValue], JsonValue],
        *,
        shown: Callable[[str], bool],
        shown_uri: Callable[[str], bool],
    ) -> None:
        self._mask, self._shown, self._shown_uri = mask, shown, shown_uri

    def definition(self, value: JsonDict) -> JsonDict:
        """A copy with everything masked except the names, addresses and keywords that it needs to work.

        Raises:
            CannotHideError: one of those would have to be masked.
        """
        resource = "uri" in value or "uriTemplate" in value
        made: JsonDict = {}
        for key, item in value.items():
            if key in _ROUTED and isinstance(item, str) and not (resource and key == "name"):
                self._demand(item, uri=resource)
                made[key] = item
            elif key in ("inputSchema", "outputSchema"):
                made[key] = self._schema(item)
            elif key == "arguments" and isinstance(item, list):
                made[key] = [self.definition(part) if isinstance(part, dict) else self._mask(part) for part in item]
            else:
                self._demand(key)
                made[key] = self._mask(item)
        return made

    def _demand(self, name: str, *, uri: bool = False) -> None:
        if not (self._shown_uri if uri else self._shown)(name):
            raise CannotHideError

    def _schema(self, schema: JsonValue) -> JsonValue:
        if isinstance(schema, list):
            return [self._schema(part) for part in schema]
        if not isinstance(schema, dict):
            return schema if schema is None or isinstance(schema, bool) else self._mask(schema)
        made: JsonDict = {}
        for key, item in schema.items():
            self._demand(key)
            if key in _HINTS and isinstance(item, str):
                if self._shown(item):
                    made[key] = item
            else:
                made[key] = self._keyword(key, item)
        return made

    def _keyword(self, key: str, item: JsonValue) -> JsonValue:
        if key in _NAMES_ANY and isinstance(item, dict):
            return {name: self._member(name, part) for name, part in item.items()}
        if key in _SCHEMAS:
            return self._schema(item)
        texts = item if isinstance(item, list) else [item]
        if key == "type" and all(text in _TYPES for text in texts if isinstance(text, str)):
            return item
        if key in _KEYWORDS and all(isinstance(text, str) for text in texts):
            for text in texts:
                self._demand(str(text))
            return item
        return self._mask(item)

    def _member(self, name: str, part: JsonValue) -> JsonValue:
        self._demand(name)
        if isinstance(part, list):
            return self._keyword("required", part)
        return self._schema(part)


def relax_schema(schema: JsonDict) -> JsonDict:
    """A copy in which a placeholder fits wherever a string, a number or a key could stand."""
    relaxed: JsonDict = {key: item for key, item in schema.items() if key not in _LEAF_LIMITS}
    if relaxed.get("patternProperties"):
        # A key of a pattern may become a placeholder, which no pattern describes.
        relaxed.pop("additionalProperties", None)
    for key in _UNRELAXED:
        relaxed.pop(key, None)
    if "type" in relaxed:
        relaxed["type"] = _with_string(relaxed["type"])
    for key in (*_BRANCHES, *_SINGLE):
        if key in relaxed:
            relaxed[key] = _relaxed(relaxed[key])
    for key in _NAMED:
        named = relaxed.get(key)
        if isinstance(named, dict):
            relaxed[key] = {name: _relaxed(item) for name, item in named.items()}
    branches = relaxed.get("oneOf")
    if isinstance(branches, list):
        # Relaxed branches overlap, so that "exactly one" could refuse what the server's own schema accepts.
        del relaxed["oneOf"]
        if "anyOf" in relaxed:
            every = relaxed.get("allOf")
            relaxed["allOf"] = [*(every if isinstance(every, list) else []), {"anyOf": branches}]
        else:
            relaxed["anyOf"] = branches
    return relaxed


def _relaxed(item: JsonValue) -> JsonValue:
    if isinstance(item, list):
        return [_relaxed(part) for part in item]
    return relax_schema(item) if isinstance(item, dict) else item


def _with_string(kind: JsonValue) -> JsonValue:
    kinds = kind if isinstance(kind, list) else [kind]
    if {"integer", "number"} & {str(k) for k in kinds} and "string" not in kinds:
        return [*kinds, "string"]
    return kind
