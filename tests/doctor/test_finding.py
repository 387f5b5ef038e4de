"""The table of findings, and its page (docs/doctor.md)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from mcp_guard.cli.main import run
from mcp_guard.doctor.finding import KINDS, Finding, Level, count, find, fine, told, with_option

PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `([a-z-]+)`\n\n(.+?)(?=\n##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = sorted({match for kind in KINDS.values() for match in re.findall(r"mcp-guard((?: [a-z]+)+)", kind.mend)})


def test_every_code_has_its_heading_and_every_heading_its_code() -> None:
    """docs/doctor.md: "Codes are stable"."""
    assert set(SECTIONS) == set(KINDS)


@pytest.mark.parametrize("code", [code for code in KINDS if code != "ok"])
def test_the_page_gives_the_level_of_each_code(code: str) -> None:
    assert SECTIONS[code].startswith(f"{KINDS[code].level}. ")


def _words(command: str, known: set[str]) -> list[str]:
    """The words of a command up to where its sentence goes on."""
    words = command.split()
    return [word for index, word in enumerate(words) if index == 0 or word in known]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_mends_something_exists(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person types what a finding says."""
    words = _words(command, {"verify", "diff", "ls"})
    monkeypatch.setattr(sys, "argv", ["mcp-guard", *words, "--help"])

    with pytest.raises(SystemExit) as ended:
        run()

    assert ended.value.code in (0, None)
    assert " ".join(words) in capsys.readouterr().out


@pytest.mark.parametrize("code", [code for code in KINDS if code != "ok"])
def test_every_finding_says_what_mends_it(code: str) -> None:
    names = {name: name.upper() for name in re.findall(r"(?<!\{)\{([a-z]+)\}", KINDS[code].mend)}

    finding = find(code, "Something is wrong.", **names)

    assert finding.mend
    assert "{" not in finding.mend.replace("${file:PATH}", "")


def test_what_others_wrote_is_shown_visibly_and_paths_are_quoted() -> None:
    """security.md S15."""
    finding = find("file-writable", "x\x1b[2J\u202ey", path=Path("/a b/c"), mode="go-w", detail=["\x07"])

    assert finding.text == "x\\u{1b}[2J\\u{202e}y"
    assert finding.detail == ("\\u{7}",)
    assert finding.mend == "chmod go-w '/a b/c'"
    assert finding.data()["level"] == "problem"


def test_levels_are_ordered_and_words_are_counted() -> None:
    assert [level.rank for level in Level] == [0, 1, 2, 3]
    assert (count(1, "file"), count(2, "file")) == ("1 file", "2 files")
    assert told(Path("/home/x/y"), Path("/home/x")) == "~/y"
    assert told(Path("/etc/y"), Path("/home/x")) == "/etc/y"
    assert fine("well").level is Level.OK


@pytest.mark.parametrize(
    ("mend", "told_so"),
    [
        ("mcp-guard trust crm", "mcp-guard trust --config X crm"),
        ("mend it, then run mcp-guard check --connect", "mend it, then run mcp-guard check --connect --config X"),
        ("mcp-guard pins diff crm", "mcp-guard pins diff --config X crm"),
        (
            "mcp-guard console (open requests), or mcp-guard approvals ls",
            "mcp-guard console --config X (open requests), or mcp-guard approvals ls --config X",
        ),
        (
            "mcp-guard wrap cursor --project, then restart Cursor",
            "mcp-guard wrap --config X cursor --project, then restart Cursor",
        ),
        ("pip install 'mcp-guard[notify]'", "pip install 'mcp-guard[notify]'"),
    ],
)
def test_a_guard_yaml_of_ones_own_is_named_in_each_command(mend: str, told_so: str) -> None:
    """docs/doctor.md: each finding with the command that mends it."""
    assert with_option(Finding("ok", "", mend), " --config X").mend == told_so
    assert with_option(Finding("ok", "", mend), "").mend == mend
