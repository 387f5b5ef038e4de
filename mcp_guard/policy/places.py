"""What of the arguments may name a place that is changed, by the facts of the manifest. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import JsonValue

from mcp_guard.manifest.spelling import MAX_PATH, Query, Vague, bare, looks_like_path, shortened
from mcp_guard.model import ArgumentFact, Call, CallKind, Views

_NO_PLACE = frozenset({"content", "query", "recipient", "secret"})
_WORD = re.compile(r"[^$%@:]+")
_ABSOLUTE = re.compile(r"/|~|\\\\|[A-Za-z]:[\\/]|file:", re.IGNORECASE)


def changed_places(call: Call, views: Views) -> JsonValue:
    """Arguments of a tool that does more than read, less those of which the manifest says that they name no place.

    Of what no fact speaks of, as with a tool that nobody reviewed, short texts of one line stay; so does an absolute
    path or a `file:` address in all but content. None where there is nothing to look at.
    """
    facts = call.target.facts
    if call.target.kind is not CallKind.TOOL or (facts.listed and set(facts.effects) <= {"read"}):
        return None
    arguments = dict(facts.arguments)
    named = arguments.get(facts.resource) if facts.resource is not None else None
    if facts.resource is not None and (named is None or named.role != "content"):
        arguments[facts.resource] = ArgumentFact("identifier")
    return _places(views.for_downstream.value, "", arguments, None)


def read_places(call: Call, views: Views) -> JsonValue:
    """The arguments, with what the manifest calls a query marked as such."""
    arguments = call.target.facts.arguments
    if all(fact.role != "query" for fact in arguments.values()):
        return views.for_downstream.value
    return _with_queries(views.for_downstream.value, "", arguments, None)


def _with_queries(
    value: JsonValue, pointer: str, facts: Mapping[str, ArgumentFact], around: ArgumentFact | None
) -> JsonValue:
    fact = facts.get(pointer, around)
    if isinstance(value, dict):
        return {key: _with_queries(value[key], _below(pointer, key), facts, fact) for key in value}
    if isinstance(value, list):
        return [_with_queries(item, f"{pointer}/{index}", facts, fact) for index, item in enumerate(value)]
    return Query(value) if isinstance(value, str) and fact is not None and fact.role == "query" else value


def _below(pointer: str, key: str) -> str:
    return f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"


def _places(
    value: JsonValue, pointer: str, facts: Mapping[str, ArgumentFact], around: ArgumentFact | None
) -> JsonValue:
    """The value with None for what is no place; a fact holds for all below it that has no fact of its own."""
    fact = facts.get(pointer, around)
    role = fact.role if fact else None
    if isinstance(value, dict):
        found = {key: _places(value[key], _below(pointer, key), facts, fact) for key in value}
        return {key: item for key, item in found.items() if item is not None or role not in _NO_PLACE}
    if isinstance(value, list):
        return [_places(item, f"{pointer}/{index}", facts, fact) for index, item in enumerate(value)]
    return _place(value, role) if isinstance(value, str) else None


def _place(text: str, role: str | None) -> str | None:
    stripped = bare(text)
    if role in _NO_PLACE and (role == "content" or not _ABSOLUTE.match(stripped)):
        return None
    if role == "identifier":
        # Said to be a name: a mere word may then be that of a file in the working directory.
        return f"./{stripped}" if _WORD.fullmatch(stripped) and not looks_like_path(stripped) else text
    short = shortened(stripped)
    if short is None or "\n" in short:
        return None
    place = text if len(text) <= MAX_PATH else short
    return Vague(place) if role is None else place
