"""Arguments against a tool's input schema, bounding what a hostile schema costs (decisions.md D23, threat S29).

The check protects people from prompts about hallucinated arguments. It is no security boundary, so a `pattern` that
is not surely cheap, a big `uniqueItems` and every `format` are left to the server, while a schema that is too big or
never ends is refused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
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
"""Characters of a value that a pattern is tried on."""
_MAX_KEY: Final = 200
_MAX_KEYS: Final = 20_000
"""Characters of all keys of one object, times the patterns tried on them."""
_ATOM: Final = re.compile(
    r"(?:\[\^?\]?(?:[^\\\[\]]|\\[dDwWsSntrfv.^$*+?{}()\[\]|\\/\-])*\]"  # a class
    r"|\\[dDwWsSntrfv.^$*+?{}()\[\]|\\/\-]|[^\\\[\](){}*+?|^$])"  # a character
    r"(?:\{\d{1,3}\}|(?P<variable>[*+?]|\{\d{1,3},\d{0,3}\}))?"
    r"|[\^$|]|\\[bB]"
)
"""What a pattern is made of that is evaluated here: no groups, look-around, back references, lazy repetition."""

_DIALECTS: Final = {
    "http://json-schema.org/draft-04/schema": jsonschema.Draft4Validator,
    "http://json-schema.org/draft-06/schema": jsonschema.Draft6Validator,
    "http://json-schema.org/draft-07/schema": jsonschema.Draft7Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema.Draft201909Validator,
}

_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


_Bound = Callable[[_Keyword, "_Budget"], _Keyword]


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
        if self._steps > _MAX_STEPS:
            raise _TooExpensiveError
        if self._steps % 64 == 0:
            self.look()

    def look(self) -> None:
        if time.monotonic() > self._until:
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
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - as for `fits`
            raise InvalidArgumentsError(f"the tool's input schema is not usable ({type(error).__name__})") from None
        if problems:
            raise InvalidArgumentsError("the arguments do not fit the input schema: " + "; ".join(problems))

    def fits(self, value: JsonValue) -> bool:
        """False where a value is known not to fit; True also where that cannot be judged within the budget."""
        self._budget.start()
        try:
            return bool(self._validator.is_valid(value))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - jsonschema raises anything on a schema that is none; Rust below it panics
            return True

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
    for name, bound in _BOUND.items():
        if name in keywords:
            keywords[name] = bound(keywords[name], budget)
    if _tries_patterns(schema):
        # It looks for patterns in every schema it can reach, so it is not bounded one object at a time.
        keywords |= {name: _never(keywords[name], budget) for name in ("unevaluatedProperties",) if name in keywords}
    # An empty registry: a reference to elsewhere is never fetched.
    made: Any = extend(cls, keywords)  # type: ignore[no-untyped-call] # untyped in types-jsonschema
    validator: Validator = made(_one_dialect(schema), registry=Registry())
    return validator


def _one_dialect(schema: JsonValue) -> JsonValue:
    """Without `$schema`: the library would judge a part that names a dialect by a validator without our bounds."""
    if isinstance(schema, dict):
        kept = {key: item for key, item in schema.items() if key != "$schema" or not isinstance(item, str)}
        return {key: _one_dialect(item) for key, item in kept.items()}
    return [_one_dialect(item) for item in schema] if isinstance(schema, list) else schema


def _tries_patterns(schema: JsonValue) -> bool:
    if isinstance(schema, dict) and schema.get("patternProperties"):
        return True
    return any(_tries_patterns(child) for child in children(schema))


def _counted(function: _Keyword, budget: _Budget) -> _Keyword:
    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        budget.spend()
        yield from function(validator, value, instance, schema) or ()

    return keyword


@lru_cache(maxsize=1024)
def _cheap(pattern: str) -> bool:
    """Whether a matcher surely needs no more than quadratic time: Python's runs on the event loop until it ends.

    Each repetition that can take back what it took, `?` included, raises the power of the worst case: one is allowed.
    """
    if len(pattern) > _MAX_PATTERN:
        return False
    at = variable = 0
    while at < len(pattern):
        atom = _ATOM.match(pattern, at)
        if atom is None:
            return False
        variable += atom["variable"] is not None
        at = atom.end()
    return variable <= 1


def _pattern(function: _Keyword, budget: _Budget) -> _Keyword:
    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if isinstance(instance, str) and len(instance) <= _MAX_SUBJECT and isinstance(value, str) and _cheap(value):
            budget.look()
            yield from function(validator, value, instance, schema) or ()

    return keyword


def _by_keys(function: _Keyword, budget: _Budget) -> _Keyword:
    """For the keywords that try `patternProperties` on keys; `additionalProperties` is one of them."""

    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        patterns = schema.get("patternProperties", {})
        if isinstance(instance, dict) and (not patterns or _keys_are_cheap(patterns, instance)):
            budget.look()
            yield from function(validator, value, instance, schema) or ()

    return keyword


def _keys_are_cheap(patterns: object, instance: dict[str, Any]) -> bool:
    if not isinstance(patterns, dict) or not all(_cheap(pattern) for pattern in patterns):
        return False
    sizes = [len(key) for key in instance]
    return max(sizes, default=0) <= _MAX_KEY and sum(sizes) * len(patterns) <= _MAX_KEYS


def _never(function: _Keyword, budget: _Budget) -> _Keyword:  # noqa: ARG001 - the shape of a replacement
    """Left to the server."""

    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001 - the library's signature
        return iter(())

    return keyword


def _unique(function: _Keyword, budget: _Budget) -> _Keyword:  # noqa: ARG001 - the shape of a replacement
    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if not isinstance(instance, list) or len(instance) <= _MAX_UNIQUE:
            yield from function(validator, value, instance, schema) or ()

    return keyword


_BOUND: Final[dict[str, _Bound]] = {
    "pattern": _pattern,
    "patternProperties": _by_keys,
    "additionalProperties": _by_keys,
    "uniqueItems": _unique,
}
