"""What of the arguments may name a place that is changed, by the facts of the manifest. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from mcp_guard.model import ArgumentFact, Call, CallKind, Views

_NO_PLACE = frozenset({"content", "query", "recipient", "secret"})
_MAX_NAME = 4096
"""Characters of a text that may be a path where no fact says what it is."""


def changed_places(call: Call, views: Views) -> JsonValue:
    """Arguments of a tool that does more than read, less those of which the manifest says that they name no place.

    Of what no fact speaks of, as with a tool that nobody reviewed, short texts of one line stay. None where there is
    nothing to look at.
    """
    facts = call.target.facts
    if call.target.kind is not CallKind.TOOL or (facts.listed and set(facts.effects) <= {"read"}):
        return None
    resource = {} if facts.resource is None else {facts.resource: ArgumentFact("identifier")}
    return _places(views.for_downstream.value, "", {**resource, **facts.arguments}, None)


def _places(
    value: JsonValue, pointer: str, facts: Mapping[str, ArgumentFact], around: ArgumentFact | None
) -> JsonValue:
    """The value with None for what is no place; a fact holds for all below it that has no fact of its own."""
    fact = facts.get(pointer, around)
    role = fact.role if fact else None
    if isinstance(value, dict):
        keys = ((key, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}") for key in value)
        found = {key: _places(value[key], below, facts, fact) for key, below in keys}
        return {key: item for key, item in found.items() if item is not None or role not in _NO_PLACE}
    if isinstance(value, list):
        return [_places(item, f"{pointer}/{index}", facts, fact) for index, item in enumerate(value)]
    if not isinstance(value, str) or role in _NO_PLACE:
        return None
    return value if role or (len(value) <= _MAX_NAME and "\n" not in value) else None
