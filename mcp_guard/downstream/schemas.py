"""Arguments against a tool's input schema, bounding what a hostile schema costs (decisions.md D23, threat S29).

The check protects people from prompts about hallucinated arguments. It is no security boundary, so an expensive
`pattern` or `uniqueItems` is left to the server, while a schema that is too big or never ends is refused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import jsonschema
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from mcp_guard.downstream.bounds import children
from mcp_guard.errors import InvalidArgumentsError
from mcp_guard.model import JsonDict

BUDGET_S: Final = 0.1
"""Time for one validation."""

_MAX_STEPS: Final = 50_000
_MAX_ERRORS: Final = 5
_MAX_UNIQUE: Final = 200
_MAX_PATTERN: Final = 200
_MAX_SUBJECT: Final = 1_000
_NESTED_REPEAT: Final = re.compile(r"[+*}]\)?[+*{]|\([^()]*[+*{|][^()]*\)[+*{]|\\[1-9]|\([^()]*\([^()]*[+*{|]")
"""Patterns that can take exponential time in a backtracking matcher, recognised broadly."""

_OPEN_REPEAT: Final = re.compile(r"[*+]|\{\d*,")
_MAX_REPEATS: Final = 2
"""Each open repetition raises the power of the worst case by one."""

_DIALECTS: Final = {
    "http://json-schema.org/draft-04/schema": jsonschema.Draft4Validator,
    "http://json-schema.org/draft-06/schema": jsonschema.Draft6Validator,
    "http://json-schema.org/draft-07/schema": jsonschema.Draft7Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema.Draft201909Validator,
}

_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class _TooExpensiveError(Exception):
    pass


class _Budget:
    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._steps = 0
        self._until = time.monotonic() + BUDGET_S

    def spend(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS or (self._steps % 64 == 0 and time.monotonic() > self._until):
            raise _TooExpensiveError


class ArgumentChecker:
    """One compiled input schema."""

    def __init__(self, schema: JsonDict) -> None:
        self._budget = _Budget()
        self._names = frozenset(_property_names(schema))
        self._validator = _compile(schema, self._budget)

    def check(self, arguments: JsonDict) -> None:
        """Accept or refuse.

        Raises:
            InvalidArgumentsError: names JSON Pointer and keyword of up to five problems, never a value.
        """
        self._budget.start()
        problems: list[str] = []
        try:
            for error in self._validator.iter_errors(arguments):
                problems.append(self._describe(error))
                if len(problems) == _MAX_ERRORS:
                    break
        except _TooExpensiveError:
            raise InvalidArgumentsError("the tool's input schema is too complex to check") from None
        except Unresolvable:
            raise InvalidArgumentsError("the tool's input schema refers to something outside of it") from None
        except Exception as error:  # noqa: BLE001 - boundary: jsonschema raises anything on a schema that is none
            raise InvalidArgumentsError(f"the tool's input schema is not usable ({type(error).__name__})") from None
        if problems:
            raise InvalidArgumentsError("the arguments do not fit the input schema: " + "; ".join(problems))

    def _describe(self, error: ValidationError) -> str:
        # A key that the schema does not know is data, so it is not shown.
        steps = [str(step) if isinstance(step, int) or step in self._names else "*" for step in error.absolute_path]
        pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps) or "(root)"
        text = f"{pointer}: {error.validator}"
        if error.validator == "required" and isinstance(error.instance, dict):
            wanted: Any = error.validator_value
            missing = [name for name in wanted if isinstance(name, str) and name not in error.instance]
            text += f" ({', '.join(missing[:_MAX_ERRORS])})"
        elif error.validator == "type":
            text += f" ({error.validator_value})"
        return text


def _property_names(schema: JsonValue) -> Iterator[str]:
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            yield from properties
    for child in children(schema):
        yield from _property_names(child)


def _compile(schema: JsonDict, budget: _Budget) -> Validator:
    dialect = schema.get("$schema")
    base = _DIALECTS.get(dialect.rstrip("#"), jsonschema.Draft202012Validator) if isinstance(dialect, str) else None
    cls = base or jsonschema.Draft202012Validator
    keywords = {name: _counted(function, budget) for name, function in cls.VALIDATORS.items()}
    for name, bound in (("pattern", _pattern), ("patternProperties", _pattern_properties), ("uniqueItems", _unique)):
        keywords[name] = bound(keywords[name])
    # An empty registry: a reference to elsewhere is never fetched.
    made: Any = extend(cls, keywords)  # type: ignore[no-untyped-call] # untyped in types-jsonschema
    validator: Validator = made(schema, registry=Registry())
    return validator


def _counted(function: _Keyword, budget: _Budget) -> _Keyword:
    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        budget.spend()
        yield from function(validator, value, instance, schema) or ()

    return keyword


def _cheap(pattern: object) -> bool:
    if not isinstance(pattern, str) or len(pattern) > _MAX_PATTERN or _NESTED_REPEAT.search(pattern):
        return False
    return len(_OPEN_REPEAT.findall(pattern)) <= _MAX_REPEATS


def _pattern(function: _Keyword) -> _Keyword:
    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if _cheap(value) and not (isinstance(instance, str) and len(instance) > _MAX_SUBJECT):
            yield from function(validator, value, instance, schema) or ()

    return keyword


def _pattern_properties(function: _Keyword) -> _Keyword:
    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        short = not isinstance(instance, dict) or all(len(key) <= _MAX_SUBJECT for key in instance)
        if short and isinstance(value, dict) and all(_cheap(pattern) for pattern in value):
            yield from function(validator, value, instance, schema) or ()

    return keyword


def _unique(function: _Keyword) -> _Keyword:
    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if not isinstance(instance, list) or len(instance) <= _MAX_UNIQUE:
            yield from function(validator, value, instance, schema) or ()

    return keyword
