"""Definitions of tools, prompts and resources as clients see them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from mcp_guard.config.schema import MaskingConfig
from mcp_guard.errors import MaskingError
from mcp_guard.masking.masker import Masker
from mcp_guard.model import JsonDict

TOKEN = "ghp_2F2HIrOpxR7Ex4scUXHvfC2ifTfPUC5V9rJG"


def masker() -> Masker:
    return Masker(MaskingConfig(), b"k" * 32)


def tool(**schema: Any) -> JsonDict:
    return {"name": "t", "inputSchema": {"type": "object", **schema}}


def test_what_only_looks_like_a_name_is_masked() -> None:
    """security.md S25: `name` and `uri` are names at their place in the definition only."""
    definition: JsonDict = {
        **tool(
            properties={
                "name": {"type": "string", "default": {"name": TOKEN, "uri": TOKEN, TOKEN: 1}, "title": TOKEN},
                "uri": {"pattern": f"({TOKEN})?", "format": TOKEN, "examples": [{"$ref": TOKEN}]},
                "password": {"default": "hunter2-hunter2", "enum": [TOKEN], "const": TOKEN},
            },
            required=["name"],
        ),
        "_meta": {"name": TOKEN, "k": {"uri": TOKEN, TOKEN: True}},
        "annotations": {"title": TOKEN, "x": {"type": TOKEN}},
        "icons": [{"src": f"https://h/?token={TOKEN}"}],
    }
    shown: Any = masker().definition(definition)
    assert TOKEN not in json.dumps(shown)
    properties = shown["inputSchema"]["properties"]
    assert list(properties) == ["name", "uri", "password"]
    assert set(properties["uri"]) == {"examples"}
    assert shown["inputSchema"]["required"] == ["name"]


@pytest.mark.parametrize(
    "definition",
    [
        {**tool(), "name": TOKEN},
        {**tool(), TOKEN: 1},
        tool(properties={TOKEN: {}}),
        tool(properties={"a": {"properties": {TOKEN: {}}}}),
        tool(anyOf=[{"patternProperties": {TOKEN: {}}}]),
        tool(required=[TOKEN]),
        tool(dependentRequired={"a": [TOKEN]}),
        tool(**{"$id": f"https://h/{TOKEN}"}),
        tool(**{"$defs": {"a": {"$ref": f"#/$defs/{TOKEN}"}}}),
        {"name": "p", "arguments": [{"name": TOKEN}]},
        {"name": "r", "uri": f"https://h/?token={TOKEN}"},
        {"name": "r", "uriTemplate": f"https://h/{{x}}?token={TOKEN}"},
    ],
    ids=range(12),
)
def test_a_definition_with_a_secret_in_a_name_is_not_shown(definition: JsonDict) -> None:
    """Fail closed: a name that was changed would lead nowhere."""
    with pytest.raises(MaskingError, match="it is not offered") as caught:
        masker().definition(definition)
    assert TOKEN not in str(caught.value)


def test_a_resource_is_named_by_its_address_so_its_name_is_masked_and_people_may_stand_in_the_address() -> None:
    """docs/masking.md."""
    shown = masker().definition({"name": f"key {TOKEN}", "uri": "mail://bob@example.com", "title": "bob@example.com"})
    assert shown == {"name": "key [SECRET]", "uri": "mail://bob@example.com", "title": "[EMAIL]"}


def test_an_ordinary_schema_stays_as_it_is() -> None:
    """decisions.md D12."""
    definition = tool(
        properties={
            "a": {"type": ["string", "null"], "format": "date", "pattern": "^[0-9-]+$", "enum": ["x"]},
            "b": True,
        },
        required=["a"],
        additionalProperties=False,
        **{"$schema": "http://json-schema.org/draft-07/schema#", "$defs": {"n": {"$ref": "#/properties/a"}}},
    )
    assert masker().definition(definition) == definition


async def test_a_masked_result_fits_the_relaxed_schema_where_keys_are_masked() -> None:
    """decisions.md D12: clients raise on a result that breaks the schema."""
    schema: JsonDict = {
        "type": "object",
        "properties": {
            "people": {"patternProperties": {"^[^@]+@[^@]+$": {"type": "integer"}}, "additionalProperties": False},
            "keys": {"propertyNames": {"format": "email", "maxLength": 30}, "additionalProperties": {"const": 5}},
            "list": {"type": "array", "uniqueItems": True, "contains": {"const": "a@b.example"}, "maxContains": 1},
            "cases": {"if": {"properties": {"a": {"const": 1}}}, "then": {"required": ["z"]}},
            "one": {"oneOf": [{"const": "a@b.example"}, {"type": "string"}], "anyOf": [{"minLength": 3}]},
        },
        "additionalProperties": False,
    }
    result: JsonDict = {
        "people": {"bob@example.com": 3}, "keys": {"bob@example.com": 5}, "list": ["a@b.example", "c@d.example"],
        "cases": {"a": 2}, "one": "c@d.example",
    }  # fmt: skip
    masked: Any = (await masker().mask({"structuredContent": result}, scope="s", server="x")).json.value
    relaxed = masker().relax_schema(schema)
    jsonschema.Draft202012Validator(relaxed).validate(masked["structuredContent"])
    assert relaxed["additionalProperties"] is False


def test_a_definition_that_breaks_the_engine_is_not_offered_and_not_told() -> None:
    """security.md F18."""
    deep: Any = TOKEN
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(MaskingError, match="could not be masked; it is not offered") as caught:
        masker().definition({**tool(), "_meta": {"x": deep}})
    assert TOKEN not in str(caught.value)
    assert caught.value.__suppress_context__
