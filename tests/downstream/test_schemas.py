"""Arguments against input schemas, also hostile ones."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mcp_guard.downstream.bounds import schema_fits
from mcp_guard.downstream.schemas import BUDGET_S, ArgumentChecker
from mcp_guard.errors import InvalidArgumentsError
from mcp_guard.model import JsonDict

SCHEMA: JsonDict = {
    "type": "object",
    "properties": {
        "to": {"type": "string", "pattern": "^[a-z]+$"},
        "rows": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["to"],
    "additionalProperties": False,
}


def problem(schema: JsonDict, arguments: JsonDict) -> str:
    with pytest.raises(InvalidArgumentsError) as caught:
        ArgumentChecker(schema).check(arguments)
    return caught.value.message


def test_arguments_that_fit_pass() -> None:
    """decisions.md D23."""
    ArgumentChecker(SCHEMA).check({"to": "bob", "rows": [1, 2]})


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, "(root): required (to)"),
        ({"to": 5}, "/to: type (string)"),
        ({"to": "HUNTER2"}, "/to: pattern"),
        ({"to": "x", "rows": [1, "hunter2"]}, "/rows/1: type (integer)"),
        ({"to": "x", "hunter2": 1}, "(root): additionalProperties"),
    ],
)
def test_a_refusal_names_pointer_and_keyword_but_no_value(arguments: JsonDict, names: str) -> None:
    """decisions.md D4, D23; a key that the schema does not know is data too."""
    text = problem(SCHEMA, arguments)
    assert text == f"the arguments do not fit the input schema: {names}"
    assert "hunter2" not in text.lower()


def test_a_key_that_the_schema_does_not_name_is_not_shown() -> None:
    """Fail closed on text."""
    schema: JsonDict = {"type": "object", "additionalProperties": {"type": "integer"}}
    assert problem(schema, {"hunter2": "x"}).endswith("/*: type (integer)")


HOSTILE: list[tuple[JsonDict, JsonDict]] = [
    ({"properties": {"x": {"pattern": "^(a+)+$"}}}, {"x": "a" * 60 + "!"}),
    ({"properties": {"x": {"pattern": "^(a|a)*$"}}}, {"x": "a" * 60 + "!"}),
    ({"properties": {"x": {"pattern": ".*.*.*.*=!"}}}, {"x": "a" * 900}),
    ({"patternProperties": {"^(a+)+$": {}}}, {"a" * 60 + "!": 1}),
    ({"properties": {"x": {"pattern": "^(?:aa?)*b?$"}}}, {"x": "a" * 60 + "!"}),
    ({"properties": {"x": {"pattern": "a?" * 60 + "a" * 60}}}, {"x": "a" * 59}),
    ({"properties": {"x": {"pattern": "^a{0,30}a{0,30}a{0,30}a{0,30}a{0,30}a{0,30}b$"}}}, {"x": "a" * 200}),
    ({"items": {"type": "string"}, "properties": {"x": {"items": {"pattern": "x*y"}}}}, {"x": ["x" * 1000] * 3000}),
    ({"patternProperties": {"^(?:aa?)*b?$": {}}, "additionalProperties": False}, {"a" * 60 + "!": 1}),
    ({"allOf": [{"patternProperties": {"^(?:aa?)*b?$": {}}}], "unevaluatedProperties": False}, {"a" * 60 + "!": 1}),
    ({"patternProperties": {"x*y": {}}, "additionalProperties": False}, {"x" * 190 + str(n): n for n in range(5000)}),
    (
        {"properties": {"x": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "^(?:aa?)*b?$"}}},
        {"x": "a" * 60 + "!"},
    ),
    ({"properties": {"x": {"uniqueItems": True}}}, {"x": [{"n": n} for n in range(5000)]}),
    ({"$ref": "#"}, {}),
    ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, {}),
    ({"$ref": "http://127.0.0.1:9/schema"}, {}),
    ({"type": 5, "properties": 7, "required": 3, "pattern": 1}, {"x": 1}),
    ({"properties": {"x": {"pattern": "("}}}, {"x": "y"}),
    (
        {"items": {"anyOf": [{"const": n} for n in range(1000)]}, "properties": {"x": {"$ref": "#"}}},
        {"x": list(range(5000))},
    ),
]


@pytest.mark.parametrize(("schema", "arguments"), HOSTILE, ids=range(len(HOSTILE)))
def test_no_schema_costs_more_than_its_budget_or_leaves_the_machine(schema: JsonDict, arguments: JsonDict) -> None:
    """security.md S29: each of these stalls or crashes a naive validator; external references are never fetched."""
    started = time.perf_counter()
    with contextlib.suppress(InvalidArgumentsError):
        ArgumentChecker(schema).check(arguments)
    assert time.perf_counter() - started < BUDGET_S + 5.0


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "is too complex to check|is not usable"),
        ({"$ref": "http://127.0.0.1:9/schema"}, "refers to something outside of it"),
        ({"properties": {"x": {"required": 5}}, "type": 7}, "is not usable"),
    ],
)
def test_a_schema_that_cannot_be_checked_refuses_the_call(schema: JsonDict, reason: str) -> None:
    """Fail closed."""
    with pytest.raises(InvalidArgumentsError, match=reason):
        ArgumentChecker(schema).check({"x": "y"})


@pytest.mark.parametrize(
    ("pattern", "fits", "breaks"),
    [
        (r"^\d{4}-\d{2}-\d{2}$", "2026-01-02", "2026-1-2"),
        (r"^[\w.-]+$", "a.b-c", "a b"),
        ("^(get|put)?$", "", None),  # a group: left to the server
        (r"^\\+\\+$", "\\\\", None),  # two repetitions: left to the server
        ("(", "x", None),
    ],
)
def test_only_patterns_that_are_surely_cheap_are_tried(pattern: str, fits: str, breaks: str | None) -> None:
    """security.md S29; decisions.md D23: no security boundary, so the rest is left to the server."""
    checker = ArgumentChecker({"properties": {"x": {"type": "string", "pattern": pattern}}})
    checker.check({"x": fits})
    if breaks is None:
        checker.check({"x": "anything else"})
    else:
        with pytest.raises(InvalidArgumentsError, match="/x: pattern"):
            checker.check({"x": breaks})


def test_a_value_that_cannot_be_judged_counts_as_fitting() -> None:
    """decisions.md D12: the client judges again; nothing leaks by it."""
    assert ArgumentChecker(SCHEMA).fits({"to": "bob"})
    assert not ArgumentChecker(SCHEMA).fits({"to": 5})
    assert ArgumentChecker({"$ref": "#"}).fits({})


def test_schemas_above_the_bound_do_not_fit() -> None:
    """security.md S29."""
    big: Any = {"anyOf": [{"const": n} for n in range(5000)]}
    assert not schema_fits(big)
    assert not schema_fits(True)
    assert schema_fits(SCHEMA)


def _deeper(frames: int, check: Callable[[], None]) -> None:
    return check() if not frames else _deeper(frames - 1, check)


def test_a_schema_without_an_end_is_refused_however_deep_the_stack_is_already(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """security.md S29: at some depths the Rust below the validator panics, which is no Exception."""
    schemas: list[JsonDict] = [
        {"$ref": "#", "$id": "http://a/b"},
        {"anyOf": [{"not": {"$ref": "#"}}], "$id": "http://a/b", "$anchor": "a"},
        {"unevaluatedProperties": False, "allOf": [{"$ref": "#"}], "$id": "http://a/b"},
    ]
    for schema in schemas:
        checker = ArgumentChecker(schema)
        for frames in range(40):
            with pytest.raises(InvalidArgumentsError, match=r"is not usable|is too complex"):
                _deeper(frames, lambda checker=checker: checker.check({"a": {}}))  # type: ignore[misc]
        assert checker.fits({"a": {}})
    capfd.readouterr()  # a panic writes a constant line to stderr


def test_ctrl_c_is_not_taken_for_a_schema_that_is_none() -> None:
    """CONTRIBUTING.md, habit 3: nothing is judged by an interrupt."""

    class Interrupted(dict[str, Any]):
        def __iter__(self) -> Iterator[str]:
            signal.raise_signal(signal.SIGINT)
            return super().__iter__()

    checker = ArgumentChecker({"propertyNames": {"maxLength": 3}})
    for judge in (checker.check, checker.fits):
        with pytest.raises(KeyboardInterrupt):
            judge(Interrupted(a=1))
