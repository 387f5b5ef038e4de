"""Exit codes, and how an error becomes text (docs/cli.md)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mcp_guard.cli import main
from mcp_guard.cli.exit import CANNOT, INTERRUPTED, USAGE, report
from mcp_guard.errors import ConfigError, StoreUnavailableError
from tests.e2e.harness import basic

SECRET = "hunter2-canary"


def raising(error: BaseException) -> int:
    raise error


def test_an_interrupt_ends_with_130_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/cli.md, exit codes."""
    assert report(lambda: raising(KeyboardInterrupt())) == INTERRUPTED
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code"), [(StoreUnavailableError("the store is gone"), CANNOT), (ConfigError("no such key"), USAGE)]
)
def test_what_task_groups_wrap_is_told_as_what_it_is(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """decisions.md D4: code, sentence and hint, and nothing of what failed beside it."""
    group = ExceptionGroup(SECRET, [RuntimeError(SECRET), ExceptionGroup(SECRET, [error])])
    assert report(lambda: raising(group)) == code
    told = capsys.readouterr().err
    assert told == f"{error}\n"
    assert SECRET not in told


def test_what_nobody_foresaw_is_not_taken_for_success() -> None:
    """CONTRIBUTING.md, habit 3."""
    with pytest.raises(ExceptionGroup):
        report(lambda: raising(ExceptionGroup("", [RuntimeError()])))


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["audit", "tail"], 3, "[audit_unavailable] the log cannot be read: DatabaseError\nhint: `mcp-guard audit"),
        (["approvals", "revoke", "grt_none"], 1, "there is no such grant"),
        (["explain", "leaky", "get", "--args", SECRET], 2, "--args takes a JSON object"),
    ],
)
def test_a_command_that_cannot_do_its_work_says_why_in_one_sentence(
    words: list[str],
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """docs/cli.md, exit codes; security.md F12, S35."""
    guard = basic(tmp_path)
    slot = guard.data / "audit" / "00"
    slot.mkdir(parents=True)
    (slot / "2026-08.db").write_bytes(f"no database, {SECRET}".encode() * 60)
    monkeypatch.setattr(sys, "argv", ["mcp-guard", *words, "--config", str(guard.path)])
    with pytest.raises(SystemExit) as ended:
        main.run()
    out, err = capsys.readouterr()
    assert (ended.value.code, told in err) == (code, True)
    assert SECRET not in out + err
