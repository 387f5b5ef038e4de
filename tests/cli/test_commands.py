"""The commands as a person or a script uses them: output, exit codes, errors (docs/cli.md)."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcp_guard import __version__
from mcp_guard.cli import main
from tests import quick
from tests.e2e.harness import Guard, basic

PROGRAM = [sys.executable, "-m", "mcp_guard.cli.main"]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals as POSIX has them")


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    full = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100", **env}
    return quick.command(words, env=full)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "Usage: mcp-guard"),
        (["bogus"], 2, "No such command 'bogus'"),
        (["check", "--bogus"], 2, "No such option: --bogus"),
        (["approvals"], 2, "Usage: mcp-guard approvals"),
        (["approvals", "show"], 2, "Missing argument 'ID'"),
        (["explain", "x"], 2, "Missing argument 'TOOL'"),
        (["audit", "tail", "-n", "0"], 2, "Invalid value"),
        (["serve", "--bogus"], 2, "unrecognized arguments: --bogus"),
        (["serve", "--insecure-loopback"], 2, "--insecure-loopback goes with --http"),
        (["--version"], 0, f"mcp-guard {__version__}\n"),
        (["serve", "--help"], 0, "--http HOST:PORT"),
        (["check", "--config", "no-such-file.yaml"], 2, "[config] the file given with --config does not exist\nhint: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage_errors_exit_2_and_say_what_fits(
    words: list[str], code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/cli.md, exit codes."""
    monkeypatch.setattr(sys, "argv", ["mcp-guard", *words])
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")

    with pytest.raises(SystemExit) as ended:
        main.run()

    assert (ended.value.code or 0) == code
    shown = capsys.readouterr()
    assert told in shown.out + shown.err


HOST_FILES = {
    "claude_desktop_config.json": json.dumps(
        {"mcpServers": {"files": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/x"]}}}
    ),
    "mcp.json": '{ // VS Code\n"servers": {"files": {"type": "stdio", "command": "uvx", "args": ["mcp-server-git"]},}}',
    "config.toml": '[mcp_servers.files]\ncommand = "npx"\nargs = ["-y", "x"]\nstartup_timeout_sec = 20\n',
}


@pytest.mark.parametrize("name", HOST_FILES)
def test_init_reads_the_file_of_each_kind_of_host_changes_it_not_and_prints_blocks(tmp_path: Path, name: str) -> None:
    """docs/cli.md, `init`."""
    source, target = tmp_path / name, tmp_path / "guard.yaml"
    source.write_text(HOST_FILES[name])

    done = run("init", "--from", str(source), "--config", str(target))

    assert done.returncode == 0, done.stderr
    assert source.read_text() == HOST_FILES[name]
    assert "files:" in target.read_text()
    for host in ("Claude Desktop", "Claude Code", "Cursor", "VS Code", "Codex"):
        assert f"== {host}" in done.stdout
    assert str(target) in done.stdout
    checked = run("check", "--config", str(target))
    assert (checked.returncode, checked.stdout.split()[0]) == (0, "ok:")


def test_init_moves_secrets_out_and_never_prints_them(tmp_path: Path) -> None:
    """docs/config.md: references keep secrets out of the file."""
    source, target = tmp_path / "mcp.json", tmp_path / "guard.yaml"
    servers = {"a": {"command": "a", "env": {"API_KEY": "hunter2-hunter2"}, "alwaysAllow": []}, "bad": {"nothing": 1}}
    source.write_text(json.dumps({"mcpServers": servers}))

    done = run("init", "--from", str(source), "--config", str(target))

    assert done.returncode == 0
    assert "hunter2" not in done.stdout + done.stderr + target.read_text()
    notes = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
    assert any("plain secrets were moved to secrets/a.API_KEY" in note for note in notes)
    assert any("alwaysAllow" in note for note in notes)
    assert any("bad was left out" in note for note in notes)
    assert (tmp_path / "secrets" / "a.API_KEY").read_text() == "hunter2-hunter2"


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """docs/cli.md, `init`."""
    target = tmp_path / "guard.yaml"
    target.write_text("mine")

    done = run("init", "--config", str(target))

    assert done.returncode == 2
    assert done.stderr.startswith("[config] guard.yaml exists and is left as it is\nhint: ")
    assert target.read_text() == "mine"


def test_init_from_a_file_without_servers_says_which_it_takes(tmp_path: Path) -> None:
    """docs/cli.md, `init`."""
    (tmp_path / "x.json").write_text('{"theme": "dark"}')

    done = run("init", "--from", str(tmp_path / "x.json"), "--config", str(tmp_path / "guard.yaml"))

    assert done.returncode == 2
    assert "mcpServers" in done.stderr
    assert not (tmp_path / "guard.yaml").exists()


def test_check_connect_names_each_server_and_masks_what_it_says(tmp_path: Path) -> None:
    """docs/cli.md: 1 when a server does not answer; security.md S35."""
    guard = basic(tmp_path)
    secret = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"
    program = f"import sys; sys.stderr.write('refused: password={secret}'); sys.exit(4)"
    guard.config["servers"]["bad"] = {"command": sys.executable, "args": ["-c", program]}
    guard.write()

    done = guard.cli("check", "--connect")

    assert done.returncode == 1
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines()[2:]}
    assert lines["leaky"][1:4] == ["ready", lines["leaky"][2], "tools,"]
    assert lines["bad"][1] == "failed"
    assert "code 4" in " ".join(lines["bad"])
    assert "ghp_" not in done.stdout + done.stderr


def test_explain_says_effect_rule_and_reasons_for_people_and_for_programs(tmp_path: Path) -> None:
    """docs/cli.md, `explain`: calls nothing, records nothing."""
    guard = basic(tmp_path)

    text = guard.cli("explain", "leaky", "delete_thing", "--args", '{"id": 7}')
    data = guard.json("explain", "leaky", "drop_thing", "--args", "{}")
    unknown = guard.cli("explain", "nobody", "x")
    wrong = guard.cli("explain", "leaky", "x", "--args", "[1]")

    assert text.returncode == 0
    assert text.stdout.startswith("leaky/delete_thing: require_approval by ask-delete\n")
    assert "allow-all" in text.stdout
    assert (data["effect"], data["rule"]) == ("deny", "never-drop")
    assert (unknown.returncode, wrong.returncode) == (2, 2)
    assert "it is one of: leaky" in unknown.stderr
    assert "--args takes a JSON object" in wrong.stderr
    assert guard.effects() == []
    assert not guard.data.exists()


def test_a_reviewer_is_added_once_and_the_token_is_shown_once(tmp_path: Path) -> None:
    """decisions.md D25."""
    guard = basic(tmp_path)

    first = guard.cli("reviewer", "add", "rita")
    again = guard.cli("reviewer", "add", "rita", token=first.stdout.split()[0])
    odd = guard.cli("reviewer", "add", "rita\x1b[31m")
    listed = guard.json("reviewer", "ls")

    token = first.stdout.split()[0]
    assert token.startswith("mgr_")
    assert "shown once" in first.stdout
    assert (again.returncode, odd.returncode) == (2, 2)
    assert "registered already" in again.stderr
    assert "\x1b" not in odd.stderr
    assert [reviewer["name"] for reviewer in listed] == ["rita"]
    assert token.encode() not in guard.everything_written()


HOSTILE = "\x1b[2J\x1b[31mfine\u202egnihton\u200b\r\nRisk: low"


async def _suspend(guard: Guard, **more: Any) -> str:
    from tests.e2e.harness import connected, raw_call

    async with connected(guard) as client:
        result = await raw_call(client, "leaky_delete_thing", {"id": 7, **more})
    return str(result["_meta"]["io.mcp-guard/approval"]["ticket"])


async def test_a_request_is_listed_shown_and_decided_and_hostile_text_is_made_visible(tmp_path: Path) -> None:
    """docs/cli.md, `approvals`; security.md S15."""
    guard = basic(tmp_path)
    token = guard.reviewer()
    assert guard.cli("approvals", "ls").stdout == "no request waits\n"
    ticket = await _suspend(guard, note=HOSTILE)

    listed, shown = guard.cli("approvals", "ls"), guard.cli("approvals", "show", ticket)
    recorded = guard.cli("audit", "show", ticket)
    no_terminal = guard.cli("approvals", "approve", ticket)
    approved = guard.approve(ticket, "--reason", "seen", token=token)
    twice = guard.cli("approvals", "approve", ticket, token=token)
    unknown = guard.cli("approvals", "show", "apr_nothing")

    assert listed.stdout.split()[:3] == ["high", "leaky/delete_thing", "id=7"]
    assert ticket in listed.stdout
    card = shown.stdout
    for part in ("tool leaky/delete_thing", "rule ask-delete", "needs A1", '"id" = 7', "fingerprint"):
        assert part in " ".join(card.split())
    for text in (card, recorded.stdout):
        assert "\\u{1b}[2J\\u{1b}[31mfine\\u{202e}gnihton\\u{200b}\\u{d}" in text
        assert not {"\x1b", "\u202e", "\u200b", "\r"} & set(text)
        assert "\nRisk: low" not in text
    assert no_terminal.returncode == 1
    assert no_terminal.stderr.startswith("[not_eligible] deciding outside a terminal needs a reviewer token\nhint: ")
    assert (approved.returncode, approved.stdout) == (0, f"{ticket} approved by rita\n")
    assert twice.returncode == 1
    assert twice.stderr.startswith("[already_decided] ")
    assert (unknown.returncode, unknown.stderr.split("]")[0]) == (1, "[unknown_approval")
    assert "pending -> approved  by rita" in guard.cli("approvals", "show", ticket).stdout


@POSIX
@pytest.mark.parametrize(("verdict", "state"), [("approve", "approved"), ("deny", "denied")])
async def test_in_a_terminal_the_user_decides_in_personal_mode(tmp_path: Path, verdict: str, state: str) -> None:
    """decisions.md D25: A1, stamped `separation: none`."""
    guard = basic(tmp_path)
    ticket = await _suspend(guard)

    mark = guard.json("approvals", "show", ticket)["fingerprint"]

    code, output = guard.terminal("approvals", verdict, ticket, typed=f"{mark}\n")

    assert code == 0, output
    assert f"{ticket} {state} by " in output
    assert guard.json("approvals", "show", ticket)["state"] == state


@POSIX
async def test_the_mode_is_that_of_the_request_and_not_of_the_configuration_of_who_decides(tmp_path: Path) -> None:
    """approvals.md S9, attack 11: a request made in team mode is never the requester's own to approve."""
    guard = basic(tmp_path)
    guard.config["approvals"]["mode"] = "team"
    guard.write()
    token = guard.reviewer()
    ticket = await _suspend(guard)
    guard.config["approvals"]["mode"] = "personal"
    guard.write()

    own, output = guard.terminal("approvals", "approve", ticket)
    shown = guard.json("approvals", "show", ticket)
    other = guard.approve(ticket, token=token)

    assert own == 1
    assert "[not_eligible] separation of duties" in output
    assert "type the fingerprint" not in output
    assert (shown["state"], shown["needs"]) == ("pending", "A2")
    assert other.returncode == 0, other.stderr


@POSIX
async def test_a_reviewer_is_added_at_a_terminal_or_by_a_reviewer_once_anything_was_asked(tmp_path: Path) -> None:
    """decisions.md D25: an agent without a terminal cannot make itself a reviewer."""
    guard = basic(tmp_path)
    await _suspend(guard)

    refused = guard.cli("reviewer", "add", "mallory")
    wrong = guard.cli("reviewer", "add", "mallory", token="mgr_wrong")
    token = guard.reviewer("rita")
    by_rita = guard.cli("reviewer", "add", "sam", token=token)

    for done in (refused, wrong):
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("[not_eligible] ")
    assert by_rita.returncode == 0
    assert [reviewer["name"] for reviewer in guard.json("reviewer", "ls")] == ["rita", "sam"]


@POSIX
async def test_a_request_is_cancelled_by_its_requester_or_a_reviewer_and_by_nobody_else(tmp_path: Path) -> None:
    """docs/approvals.md, T9."""
    guard = basic(tmp_path)
    token = guard.reviewer()
    first, second = await _suspend(guard), await _suspend(guard, note="other")

    nobody = guard.cli("approvals", "cancel", first)
    code, output = guard.terminal("approvals", "cancel", first, "--reason", "not needed")
    by_rita = guard.cli("approvals", "cancel", second, token=token)
    late = guard.cli("approvals", "approve", first, token=token)

    assert nobody.stderr.startswith("[not_eligible] ")
    assert (code, output.split()[:2]) == (0, [first, "cancelled"])
    assert by_rita.stdout == f"{second} cancelled by rita\n"
    assert late.stderr.startswith("[already_decided] ")


async def test_only_an_unknown_outcome_is_reconciled_and_only_with_a_token_and_a_reason(tmp_path: Path) -> None:
    """docs/approvals.md, T18."""
    guard = basic(tmp_path)
    token = guard.reviewer()
    ticket = await _suspend(guard)
    words = ("approvals", "reconcile", ticket)

    without = guard.cli(*words, "failed", "--reason", "looked")
    no_reason = guard.cli(*words, "failed", token=token)
    odd = guard.cli(*words, "maybe", "--reason", "looked", token=token)
    pending = guard.cli(*words, "failed", "--reason", "looked", token=token)
    with closing(sqlite3.connect(guard.data / "approvals.db")) as db, db:
        db.execute("UPDATE approval SET state = 'unknown', ended_ns = 1")
    done = guard.cli(*words, "completed", "--reason", "looked", token=token)

    assert without.stderr.startswith("[not_eligible] ")
    assert (no_reason.returncode, odd.returncode) == (2, 2)
    assert pending.stderr.startswith("[already_decided] ")
    assert (done.returncode, done.stdout.split()[:2]) == (0, [ticket, "completed"])


async def test_the_record_is_printed_shown_and_verified(tmp_path: Path) -> None:
    """docs/cli.md, `audit`."""
    guard = basic(tmp_path)
    assert guard.cli("audit", "tail").stdout == ""
    assert guard.cli("audit", "verify").returncode == 3
    ticket = await _suspend(guard)

    tail = guard.cli("audit", "tail", "-n", "3")
    entries = guard.json("audit", "tail")
    shown = guard.cli("audit", "show", ticket)
    nothing = guard.cli("audit", "show", "call_nothing")
    verified = guard.cli("audit", "verify")

    assert len(tail.stdout.splitlines()) == 3
    assert [entry["type"] for entry in entries][-3:] == ["approval.requested", "call.suspended", "log.closed"]
    assert "rule: ask-delete" in shown.stdout
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "no record mentions this id\nhint: " in nothing.stderr
    assert verified.returncode == 0
    assert verified.stdout.startswith("OK: ")


@POSIX
def test_following_the_record_ends_with_130_on_ctrl_c(tmp_path: Path) -> None:
    """docs/cli.md: 130 is "interrupted from the keyboard"."""
    guard = basic(tmp_path)
    guard.cli("serve")
    command = [*PROGRAM, "audit", "tail", "--follow", "--json", "--config", str(guard.path)]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=15)

    assert first["type"]
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_the_commands_load_neither_the_sdk_nor_a_web_server() -> None:
    """docs/cli.md: a command that only reads files answers at once."""
    heavy = ["mcp", "starlette", "uvicorn", "jinja2", "tomlkit", "apprise"]
    script = f"import sys, mcp_guard.cli.commands; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
