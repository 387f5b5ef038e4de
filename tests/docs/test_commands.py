"""The commands in the documents exist (CONTRIBUTING.md, habit 11)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from mcp_guard.cli.main import run

ROOT = Path(__file__).parents[2]
TABLE_ROW = re.compile(r"^\| `mcp-guard ([^`]+)` \|", re.MULTILINE)
ROWS = TABLE_ROW.findall((ROOT / "docs" / "cli.md").read_text(encoding="utf-8"))


def _help(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["mcp-guard", *words, "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" [")[0])
def test_every_documented_command_exists_with_its_options(
    row: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/cli.md."""
    words = [word for word in re.sub(r"\[[^\]]*\]|--\w.*", "", row).split() if word.islower()]

    text = _help(words, monkeypatch, capsys)

    for option in re.findall(r"--[a-z-]+", row):
        assert option in text
    assert "--config" in text or words == ["demo"]


def test_every_command_group_of_the_readme_is_in_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`mcp-guard --help` is the second thing anybody does."""
    groups = TABLE_ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))

    text = _help([], monkeypatch, capsys)

    assert [group for group in groups if group not in text] == []


def test_every_exit_code_is_documented() -> None:
    """Scripts branch on them."""
    from mcp_guard.cli import exit as codes

    documented = set(re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), re.MULTILINE))

    assert documented == {str(value) for name, value in vars(codes).items() if name.isupper()}
