"""What an input schema gives away; more of it in test_propose."""

from __future__ import annotations

from typing import Any

from mcp_guard.manifest.shape import MAX_NODES, arguments, signs
from mcp_guard.manifest.words import Looks


def test_arguments_are_found_at_every_depth_and_the_outer_ones_are_marked() -> None:
    """docs/manifests.md."""
    schema: Any = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": True}}}}
    found, whole = arguments(schema)
    assert whole
    assert {(one.name, one.top) for one in found} == {("a", True), ("b", False)}


def test_a_schema_without_end_is_looked_at_up_to_a_bound() -> None:
    """CONTRIBUTING.md, habit 9."""
    deep: Any = {"type": "object"}
    for _ in range(MAX_NODES * 2):
        deep = {"items": deep}
    assert arguments(deep)[1] is False


def test_a_plain_schema_says_nothing_of_change() -> None:
    """No false alarms."""
    schema: Any = {"type": "object", "properties": {"id": {"type": "string"}, "limit": {"type": "integer"}}}
    assert list(signs(schema)) == []


def test_a_sentence_holds_names_of_the_guards_own_list_only() -> None:
    """security.md S21: nothing of the server gets into what a reviewer reads."""
    schema: Any = {
        "type": "object",
        "properties": {"command": {}, "evil \x1b[31m": {"enum": ["delete \x07"]}, "action": {}},
    }
    told = dict(signs(schema))
    assert Looks.EXECUTE in told
    assert all(text.isprintable() for text in told.values())
