"""`mcp-guard demo` as a process, with everything in it real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 150


def demo(temporary: Path, *options: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MCP_GUARD_")}
    return subprocess.run(
        [sys.executable, "-m", "mcp_guard.cli.main", "demo", *options],
        env={**kept, "TMPDIR": str(temporary), "NO_COLOR": "1", "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def played(temporary: Path) -> subprocess.CompletedProcess[str]:
    return demo(temporary, "--auto")


def test_automatic_demo_ends_well_with_every_claim_checked(played: subprocess.CompletedProcess[str]) -> None:
    """docs/cli.md, `demo`: "N claims, N checked"; exit 0 only if every claim was checked."""
    assert played.returncode == 0, played.stdout + played.stderr
    counts = re.search(r"(\d+) claims, (\d+) checked", played.stdout)
    assert counts is not None
    assert counts[1] == counts[2]
    assert int(counts[1]) == len(re.findall(r"^ +✓ ", played.stdout, re.MULTILINE))
    assert "NO " not in played.stdout


def test_output_fits_80_columns_and_has_no_escape_codes_with_no_color(
    played: subprocess.CompletedProcess[str],
) -> None:
    """docs/cli.md, `demo`: works in 80 columns and with NO_COLOR."""
    assert max(len(line) for line in played.stdout.splitlines()) <= 80
    assert "\x1b" not in played.stdout
    assert played.stderr == ""


def test_demo_leaves_neither_files_nor_processes(
    played: subprocess.CompletedProcess[str],  # what is looked for comes after it
    temporary: Path,
) -> None:
    """docs/cli.md, `demo`: leaves nothing behind. Each of its processes has its folder on the command line."""
    assert list(temporary.iterdir()) == []
    assert str(temporary) not in command_lines()


def test_demo_without_a_terminal_says_what_to_do_instead(tmp_path: Path) -> None:
    """docs/cli.md, `demo`: the person presses a key; without a person `--auto` answers. CONTRIBUTING.md, habit 5."""
    ended = demo(tmp_path)

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == (
        "[usage] the demo asks a person, and there is no terminal here\n"
        "hint: run `mcp-guard demo --auto`; a second process answers then\n"
    )
    assert list(tmp_path.iterdir()) == []


def command_lines() -> str:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return listed.stdout
