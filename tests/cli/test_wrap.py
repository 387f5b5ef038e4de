"""`wrap`, `unwrap` and `status` as commands."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_guard.cli.main import run

SECRET = "canary-Zq7Kp2Lm9Rt4Vb6Nc1"
Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in a home of its own, without a terminal; gives exit code and all that was printed."""
    for name, value in (("HOME", tmp_path), ("XDG_CONFIG_HOME", tmp_path / "c"), ("XDG_DATA_HOME", tmp_path / "d")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("MCP_GUARD_CONFIG", raising=False)
    monkeypatch.setattr("platformdirs.user_config_path", lambda name, **_: tmp_path / "c" / name)
    monkeypatch.setattr("platformdirs.user_data_path", lambda name, **_: tmp_path / "d" / name)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.chdir(tmp_path)

    def called(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["mcp-guard", *words])
        with pytest.raises(SystemExit) as ended:
            run()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out + shown.err

    return called


@pytest.fixture
def host_file(tmp_path: Path) -> Path:
    path = tmp_path / "c/Claude/claude_desktop_config.json"
    path.parent.mkdir(parents=True)
    servers = {"a": {"command": "x", "env": {"TOKEN": SECRET}}, "s": {"type": "sse", "url": "https://x.example/sse"}}
    path.write_text(json.dumps({"mcpServers": servers}, indent=2), encoding="utf-8")
    return path


def test_outside_of_a_terminal_nothing_is_changed_without_yes(
    command: Command, host_file: Path, tmp_path: Path
) -> None:
    """docs/hosts.md: an agent's shell has no terminal."""
    before = host_file.read_bytes()
    code, shown = command("wrap")
    assert code == 2
    assert "hint: look at it with --dry-run, then pass --yes" in shown
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [host_file]
    assert command("wrap", "--yes")[0] == 0
    assert command("unwrap")[0] == 2
    assert host_file.read_bytes() != before
    assert command("unwrap", "--yes")[0] == 0
    assert host_file.read_bytes() == before


def test_a_dry_run_shows_all_without_a_secret_and_changes_nothing(
    command: Command, host_file: Path, tmp_path: Path
) -> None:
    """docs/hosts.md."""
    code, shown = command("wrap", "--dry-run")
    assert code == 0
    for said in (
        "Claude Desktop: ",
        '-      "command": "x",',
        '"TOKEN": "•••"',
        "guard.yaml is made, with 1 server: a",
        "1 plain secret moves into",
        "note: Claude Desktop: s stays as it is: it uses the old SSE transport",
        "nothing was changed",
    ):
        assert said in shown or said in " ".join(shown.split())
    assert SECRET not in shown
    assert max(len(line) for line in shown.splitlines() if line[:3] in ("  +", "  -")) <= 80
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [host_file]


def test_afterwards_it_says_what_to_restart_and_how_to_undo(command: Command, host_file: Path) -> None:
    """docs/hosts.md."""
    shown = command("wrap", "--yes")[1]
    assert "done: 1 server behind the guard" in shown
    assert "restart: Claude Desktop" in shown
    assert "undo: mcp-guard unwrap" in shown
    assert "nothing to do" in command("wrap", "--yes")[1]
    undone = command("unwrap", "--yes")[1]
    assert "exactly as it was before" in undone
    assert "restart: Claude Desktop" in undone
    assert "nothing to put back" in command("unwrap", "--yes")[1]


def test_status_names_who_goes_around_and_why(command: Command, host_file: Path, tmp_path: Path) -> None:
    """security.md S40; docs/cli.md."""
    code, shown = command("status", "--json")
    assert code == 1
    [host] = [host for host in json.loads(shown)["hosts"] if host["found"]]
    assert [(s["name"], s["state"]) for s in host["servers"]] == [("a", "bypassing"), ("s", "bypassing")]
    command("wrap", "--yes")
    code, shown = command("status")
    assert code == 1
    assert "it uses the old SSE transport" in shown
    assert "1 server through the guard, 1 around it" in shown
    assert "next: mcp-guard wrap" not in shown
    data = json.loads(host_file.read_text(encoding="utf-8"))
    del data["mcpServers"]["s"]
    host_file.write_text(json.dumps(data), encoding="utf-8")
    assert command("status")[0] == 0
    assert command("status", "--config", str(tmp_path / "other.yaml"))[0] == 1


def test_a_project_is_mentioned_and_wrapped_only_when_asked_for(command: Command, tmp_path: Path) -> None:
    """docs/hosts.md: its files are shared."""
    path = tmp_path / ".mcp.json"
    path.write_text('{"mcpServers": {"p": {"command": "x"}}}', encoding="utf-8")
    before = path.read_bytes()
    shown = command("wrap", "--yes")[1]
    assert "--project wraps it too" in " ".join(shown.split())
    assert path.read_bytes() == before
    command("wrap", "--yes", "--project")
    assert path.read_bytes() != before


def test_hidden_characters_in_a_hosts_file_are_made_visible(command: Command, host_file: Path) -> None:
    """security.md S15: a project's file is anybody's."""
    evil = "a\u202e\x1b[2J"
    host_file.write_text(json.dumps({"mcpServers": {evil: {"command": "x\u200b", "args": []}}}), encoding="utf-8")
    for words in (("wrap", "--dry-run"), ("status",)):
        shown = command(*words)[1]
        assert not {"\u202e", "\x1b", "\u200b"} & set(shown)


def test_status_says_that_a_guard_yaml_is_gone(command: Command, host_file: Path, tmp_path: Path) -> None:
    """security.md S40: what cannot start guards nothing."""
    host_file.write_text('{"mcpServers": {"a": {"command": "x"}}}', encoding="utf-8")
    command("wrap", "--yes")
    (tmp_path / "c/mcp-guard/guard.yaml").unlink()
    code, shown = command("status")
    assert code == 1
    assert "0 servers through the guard, 0 around it, 1 broken" in shown
    assert "next: mcp-guard unwrap, then mcp-guard wrap" in shown
    assert json.loads(command("status", "--json")[1])["hosts"]
    assert "the guard.yaml is gone" in " ".join(command("wrap", "--yes")[1].split())
    shown = command("unwrap", "--yes")[1]
    assert "guard.yaml" not in shown


@pytest.mark.parametrize("stops", [KeyboardInterrupt, EOFError])
def test_interrupted_at_the_question_it_changes_nothing(
    command: Command, host_file: Path, monkeypatch: pytest.MonkeyPatch, stops: type[BaseException]
) -> None:
    """docs/cli.md: exit 130."""
    before = host_file.read_bytes()

    def stop(*_: object, **__: object) -> str:
        raise stops

    monkeypatch.setattr("click.termui.visible_prompt_func", stop)
    monkeypatch.setattr("mcp_guard.cli.wrap.at_terminal", lambda: True)
    code, shown = command("wrap")
    assert code == 130
    assert "nothing was changed" in shown
    assert host_file.read_bytes() == before


def test_it_says_which_servers_to_trust(command: Command, host_file: Path) -> None:
    """docs/cli.md."""
    servers = {f"server{number}": {"command": "x", "args": [str(number)]} for number in range(20)}
    host_file.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    shown = " ".join(command("wrap", "--yes")[1].split())
    assert "next: mcp-guard trust --all so that what only reads does not ask: server0, server1," in shown
    assert "server11 and 8 more" in shown
    assert "server13" not in shown.partition("done:")[2]


def test_what_a_shipped_manifest_knows_or_only_its_host_starts_is_not_to_be_trusted_now(
    command: Command, host_file: Path
) -> None:
    """docs/hosts.md: a command that is told can be run."""
    memory = {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-memory"]}
    asks = {"command": "x", "args": ["${workspaceFolder}"]}
    host_file.write_text(json.dumps({"mcpServers": {"memory": memory, "here": asks}}), encoding="utf-8")
    said = " ".join(command("wrap", "--yes")[1].partition("undo:")[2].split())
    assert "next:" not in said
    assert "Only their host can start here: use them there once" in said
    assert "memory" not in said


def test_a_guard_yaml_of_ones_own_is_named_in_each_command(command: Command, host_file: Path, tmp_path: Path) -> None:
    """docs/cli.md: what is told can be copied."""
    path = tmp_path / "my guard.yaml"
    assert f"next: mcp-guard trust a --config '{path}'\n" in command("wrap", "--yes", "--config", str(path))[1]
    entry = {"b": {"command": "y"}}
    host_file.write_text(json.dumps({"mcpServers": entry}), encoding="utf-8")
    assert f"next: mcp-guard wrap --config '{path}'\n" in command("status", "--config", str(path))[1]


def test_at_a_terminal_it_reviews_at_once_or_says_why_not(
    command: Command, host_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/hosts.md: `wrap` asks for it at its end."""
    path = tmp_path / "c/mcp-guard/guard.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("version: 1\nid: t\nservers:\n  other: {command: x, env: {K: '${env:NOT_SET_HERE}'}}\n", "utf-8")
    monkeypatch.setattr("mcp_guard.cli.wrap.at_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    said = command("wrap")[1]
    assert "NOT_SET_HERE is not set" in " ".join(said.split())
    assert "later: mcp-guard trust --all\n" in said

    monkeypatch.setenv("NOT_SET_HERE", "x")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\nn\n"))
    host_file.write_text('{"mcpServers": {"b": {"command": "y"}}}', encoding="utf-8")
    said = command("wrap")[1]
    assert "Review the tools of this server now? Started for it: b." in said
    assert "later: mcp-guard trust --all\n" in said


def test_status_looks_at_one_file_and_remembers_those_that_were_wrapped_alone(
    command: Command, host_file: Path, tmp_path: Path
) -> None:
    """docs/hosts.md, `--file`."""
    other = tmp_path / "other.json"
    other.write_text('{"mcpServers": {"p": {"command": "x"}}}', encoding="utf-8")
    code, shown = command("status", "--file", str(other))
    assert (code, f"next: mcp-guard wrap --file {other}\n" in shown, "Claude" in shown) == (1, True, False)
    assert "other.json" not in command("status")[1]
    command("wrap", "--yes", "--file", str(other))
    assert command("status", "--file", str(other))[0] == 0
    assert "File: ~/other.json" in command("status")[1]
    assert "does not exist" in command("status", "--file", "none.json")[1]


def test_status_names_a_command_that_takes_the_project_too(command: Command, tmp_path: Path) -> None:
    """docs/hosts.md: files of a project are wrapped only when asked for."""
    (tmp_path / ".mcp.json").write_text('{"mcpServers": {"p": {"command": "x"}}}', encoding="utf-8")
    assert "next: mcp-guard wrap --project\n" in command("status")[1]


def test_refused_it_leaves_nothing_behind(
    command: Command, host_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/errors.md, host_file."""
    from mcp_guard.wrap import plan

    real = plan.plan_wrap

    def and_then(*args: object, **kwargs: object) -> object:
        found = real(*args, **kwargs)  # type: ignore[arg-type]
        host_file.write_bytes(host_file.read_bytes() + b"\n")
        return found

    monkeypatch.setattr(plan, "plan_wrap", and_then)
    before = sorted(tmp_path.rglob("*"))
    code, shown = command("wrap", "--yes")
    assert code == 2
    assert "[host_file]" in shown
    assert sorted(tmp_path.rglob("*")) == before
