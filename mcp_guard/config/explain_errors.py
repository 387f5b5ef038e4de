"""Turn pydantic's errors into findings: constant text, key names and allowed choices, never a value."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, JsonValue, ValidationError

from mcp_guard.config.problems import Finding, Place

_UNION = ("str", "list[str]")

_WHAT = {
    "missing": "this key is required",
    "extra_forbidden": "unknown key",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a block of keys",
    "model_type": "must be a block of keys",
    "model_attributes_type": "must be a block of keys",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "has characters that are not allowed here, or is too long",
    "finite_number": "must be a finite number",
}
_BOUNDS = {
    "greater_than": ("must be greater than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
    "string_too_long": ("must have at most this many characters:", "max_length"),
    "too_long": ("must have at most this many items:", "max_length"),
    "literal_error": ("must be", "expected"),
}

FOREIGN = {
    "autoApprove": "a host's own approval list; write a rule with effect: allow and a reason",
    "alwaysAllow": "a host's own approval list; write a rule with effect: allow and a reason",
    "envFile": "use ${file:PATH} or ${env:NAME} in env",
    "timeout": "say call_timeout_s or start_timeout_s, in seconds",
    "approval_mode": "say approvals: {mode: …}",
    "inputs": "a host's own inputs; use ${env:NAME}",
}
"""Keys that other programs know, with what to write here instead."""


def findings_of(error: ValidationError, data: JsonValue, model: type[BaseModel]) -> list[Finding]:
    """One finding for each error, at the place in the document.

    Args:
        error: What `model` raised for `data`.
        data: The parsed document.
        model: For suggestions of similar keys.
    """
    found = [_finding(item, data, model) for item in error.errors(include_url=False, include_input=False)]
    # `str | list[str]` errs twice: the branch that got further knows better.
    places = {f.place for f in found}
    return [f for f in found if not (f.what == _BOTH and any(_below(p, f.place) for p in places))]


_BOTH = "must be text or a list of texts"


def _below(place: Place, other: Place) -> bool:
    return len(place) > len(other) and place[: len(other)] == other


def _finding(item: Mapping[str, Any], data: JsonValue, model: type[BaseModel]) -> Finding:
    place, skipped = _locate(item["loc"], data)
    kind = item["type"]
    if kind in ("string_type", "list_type") and any(s in _UNION for s in skipped) and place == _plain(item["loc"]):
        return Finding(place, _BOTH)
    if kind == "value_error":
        return Finding(place, str(item["ctx"]["error"]))  # text of our own validators
    if kind in _BOUNDS:
        text, key = _BOUNDS[kind]
        return Finding(place, f"{text} {item['ctx'][key]}".replace("False", "false"))
    if kind == "extra_forbidden":
        return Finding(place, _WHAT[kind], _suggest(place, model))
    if item["loc"] and item["loc"][-1] == "[key]":
        return Finding(place, "a name may hold letters, digits, dot, dash and underscore, at most 64")
    return Finding(place, _WHAT.get(kind, "is not valid here"))


def _plain(loc: tuple[str | int, ...]) -> Place:
    return loc[:-1]


def _locate(loc: tuple[str | int, ...], data: JsonValue) -> tuple[Place, list[str | int]]:
    """The place in the document; the steps of pydantic that are no keys (branches of a union) are skipped."""
    place: list[str | int] = []
    skipped: list[str | int] = []
    here: Any = data
    for number, step in enumerate(loc):
        if isinstance(here, dict) and (step in here or (number == len(loc) - 1 and step != "[key]")):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        else:
            skipped.append(step)
            continue
        place.append(step)
    return tuple(place), skipped


def _suggest(place: Place, model: type[BaseModel]) -> str:
    key = str(place[-1])
    if key in FOREIGN:
        return FOREIGN[key]
    near = difflib.get_close_matches(key, sorted(_fields_at(model, place[:-1])), n=1)
    return f"did you mean {near[0]}?" if near else ""


def _fields_at(model: type[BaseModel], place: Place) -> Iterable[str]:
    """Field names of the model at a place: follows fields, list items and dictionary values."""
    here: type[BaseModel] | None = model
    pending: Any = None
    for step in place:
        if pending is None and here is not None and isinstance(step, str) and step in here.model_fields:
            annotation = here.model_fields[step].annotation
            here = _model_in(annotation)
            pending = None if here is annotation else here
        elif pending is not None:
            pending = None  # an index of a list, or a name of a dictionary
        else:
            return ()
    return () if here is None else here.model_fields


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
