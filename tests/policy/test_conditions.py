"""Conditions of rules."""

from __future__ import annotations

import signal
import sys
from collections import UserDict
from collections.abc import Iterator

import pytest

from mcp_guard.errors import ConfigError
from mcp_guard.policy.conditions import Condition, Outcome

CONTEXT = {
    "args": {"table": "users", "n": 2**60, "deep": {"list": [1, 2]}},
    "server": "crm",
    "tool": "drop",
    "environment": "prod",
    "principal": {"issuer": "os", "subject": "me", "label": ""},
    "risk": "high",
    "category": "deletion",
}


@pytest.mark.parametrize(
    "source",
    [
        'args.table != "scratch"',
        "args.n == 1152921504606846976",
        "args.deep.list.exists(x, x == 2)",
        'server == "crm" && tool == "drop" && environment == "prod" && risk == "high" && category == "deletion"',
        'principal.issuer == "os"',
        "!has(args.nothing)",
        'args.table.startsWith("us")',
    ],
)
def test_a_condition_speaks_of_the_call_and_its_circumstances(source: str) -> None:
    """decisions.md D13: CEL over args, server, tool, environment, principal, risk, category."""
    assert Condition(source).judge(CONTEXT) is Outcome.TRUE


def test_a_condition_that_is_false_is_false() -> None:
    """decisions.md D13."""
    assert Condition('args.table == "scratch"').judge(CONTEXT) is Outcome.FALSE


@pytest.mark.parametrize("source", ["args.missing == 1", "args.table > 3", "args.table", "1", "null", "[true]"])
def test_an_error_or_a_value_that_is_no_boolean_is_unclear(source: str) -> None:
    """decisions.md D13: decided by the effect of the rule; the error text is dropped."""
    assert Condition(source).judge(CONTEXT) is Outcome.UNCLEAR


@pytest.mark.parametrize("source", ["", "args..x", "args.x ==", "(" * 500 + ")" * 500, "canary +"])
def test_what_does_not_parse_is_a_configuration_error_without_its_text(source: str) -> None:
    """decisions.md D13."""
    with pytest.raises(ConfigError, match="is not valid CEL") as caught:
        Condition(source)

    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("source", ["arg.table == 1", "args.table == tabel", 'lower(args.table) == "x"'])
def test_a_name_that_can_never_exist_is_a_configuration_error(source: str) -> None:
    """A misspelt condition would else match, or never match, each call."""
    with pytest.raises(ConfigError, match="unknown name or function"):
        Condition("true && " + source.replace("args.table", '"x"'))


def test_without_the_package_a_condition_is_a_clear_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """decisions.md D13: where no wheel exists, conditions are a config error."""
    monkeypatch.setitem(sys.modules, "cel", None)
    with pytest.raises(ConfigError, match="has no build for this platform"):
        Condition("true")


class Interrupted(UserDict[str, object]):
    """A call during which somebody presses Ctrl-C."""

    def __iter__(self) -> Iterator[str]:
        signal.raise_signal(signal.SIGINT)
        return super().__iter__()


def test_ctrl_c_is_not_taken_for_an_unclear_condition() -> None:
    """decisions.md D13: nothing is decided by an interrupt."""
    condition = Condition("risk == 'high'")
    with pytest.raises(KeyboardInterrupt):
        condition.judge(Interrupted(CONTEXT))
