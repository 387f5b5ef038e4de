"""The type checker refuses what must not be possible (ARCHITECTURE.md, "Types carry it")."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_guard.errors import InternalError
from mcp_guard.permit import Permit, issue_permit

ROOT = Path(__file__).parents[2]
REFUSED = Path(__file__).with_name("refused.py")
IGNORE = re.compile(r"  # type: ignore\[([a-z-]+)")


def _mypy(file: Path) -> str:
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", str(file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def test_every_forbidden_line_is_refused_and_every_allowed_line_is_not() -> None:
    """CONTRIBUTING.md, habit 2: the negative typing test comes with the type. An unneeded ignore is itself an error."""
    assert len(IGNORE.findall(REFUSED.read_text(encoding="utf-8"))) > 30
    assert _mypy(REFUSED) == ""


def test_the_assertion_bites_when_a_line_would_be_accepted(tmp_path: Path) -> None:
    """An ignore above code that mypy accepts must be reported, else the test above proves nothing."""
    accepted = tmp_path / "accepted.py"
    accepted.write_text("number: int = 1  # type: ignore[assignment]\n", encoding="utf-8")

    assert "[unused-ignore]" in _mypy(accepted)


@pytest.mark.parametrize("seal", [None, object(), "seal"])
def test_a_permit_made_elsewhere_is_refused_at_run_time_too(seal: object) -> None:
    """Who silences the type checker still gets no permit."""
    with pytest.raises(InternalError):
        Permit("call", "rule", seal=seal)  # type: ignore[arg-type]


def test_a_permit_lets_one_call_through_once() -> None:
    """ARCHITECTURE.md, step 5: "a `Permit` is single use"."""
    permit = issue_permit("call", "rule")
    with pytest.raises(InternalError):
        permit.use("another call")
    permit.use("call")
    with pytest.raises(InternalError):
        permit.use("call")
