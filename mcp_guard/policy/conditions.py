"""Conditions of rules: CEL, compiled once, evaluated only for rules that match by name (decisions.md D13)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

from mcp_guard.errors import ConfigError

NAMES = ("args", "server", "tool", "environment", "principal", "risk", "category")
"""What a condition may speak of."""

_SAMPLE: Mapping[str, object] = {
    "args": {},
    "server": "",
    "tool": "",
    "environment": "",
    "principal": {"issuer": "", "subject": "", "label": ""},
    "risk": "low",
    "category": "",
}


class Outcome(Enum):
    """What a condition says of a call."""

    TRUE = "true"
    FALSE = "false"
    UNCLEAR = "unclear"
    """It failed, or gave something else than true or false."""


class _Program(Protocol):
    def execute(self, context: dict[str, object]) -> object: ...


class Condition:
    """One compiled condition."""

    def __init__(self, source: str) -> None:
        """Compile.

        Raises:
            ConfigError: it does not parse, speaks of an unknown name, or this platform has no CEL.
        """
        self._program = _compile(source)
        if _speaks_of_unknown(self._program):
            raise ConfigError("the condition uses an unknown name or function", hint=f"known names: {', '.join(NAMES)}")

    def judge(self, context: Mapping[str, object]) -> Outcome:
        """Evaluate; whatever goes wrong is UNCLEAR, and its text is dropped: it may hold values of the call."""
        try:
            result = self._program.execute(dict(context))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - a panic of the Rust library is not an Exception
            return Outcome.UNCLEAR
        if result is True:
            return Outcome.TRUE
        return Outcome.FALSE if result is False else Outcome.UNCLEAR


def _compile(source: str) -> _Program:
    try:
        import cel
    except ImportError:
        raise ConfigError(
            "conditions (`where`) need the package common-expression-language, which has no build for this platform",
            hint="remove `where`, or run the guard on Linux, macOS or Windows x64",
        ) from None
    try:
        program: _Program = cel.compile(source)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a panic of the Rust library is not an Exception
        raise ConfigError("the condition is not valid CEL", hint='example: args.table != "scratch"') from None
    return program


def _speaks_of_unknown(program: _Program) -> bool:
    """Run once over empty arguments: a missing argument is fine, a name that can never exist is not."""
    sample: dict[str, Any] = dict(_SAMPLE)
    try:
        program.execute(sample)
    except RuntimeError as error:
        return "Undefined variable or function" in str(error)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - any other failure depends on the arguments, and is judged in the call
        return False
    return False
