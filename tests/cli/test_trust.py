"""`mcp-guard trust` as a person, a script and an agent with a shell use it (docs/manifests.md)."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from mcp_guard.cli.loading import load
from mcp_guard.cli.trust import review
from mcp_guard.errors import ConfigError, DownstreamUnavailableError, NotEligibleError, QuarantinedError, UsageError
from tests.cli.trust_bench import OBJECT, POSIX, SERVER, TOOLS, at_terminal, guard_of, written
from tests.e2e.harness import Guard, connected, raw_call, text_of


@POSIX
def test_a_person_sees_what_is_proposed_changes_single_tools_and_says_yes(tmp_path: Path) -> None:
    """docs/manifests.md, one question; what is hidden is shown (security.md S21)."""
    guard = guard_of(tmp_path)
    code, output = at_terminal(guard, "trust", "pages", typed="allow 9\nallow 4\nallow 3\ny\n")

    assert code == 0, output
    assert "\x1b[2J" not in output
    assert "\u202e" not in output
    assert "\u200b" not in output
    assert "get_half\\u{200b}page" in output
    assert 'List.\\u{1b}[2J\\u{202e}evil"' in output
    assert "[red]list[/red]" in output
    assert "there is no such number" in output
    assert "runs code, moves money or changes rights" in output
    assert "  1 looks read-only -> allow\n" in output
    assert "  1 runs code -> ask, critical\n" in output
    lines = [line for line in output.split("Write it so")[0].splitlines() if not line.startswith("  mcp-guard ")]
    assert max(map(len, lines)) <= 80
    tools = written(guard)["tools"]
    assert {name: entry["risk"] for name, entry in tools.items()} == {
        "get_page": "low", "[red]list[/red]": "high", "delete_page": "medium", "run_command": "critical",
    }  # fmt: skip
    assert json.loads((tmp_path / "guard.lock").read_text())["servers"]["pages"]["tools"].keys() >= {"get_page"}


@POSIX
@pytest.mark.parametrize("typed", ["\n", "\x04"])
def test_anything_but_yes_writes_nothing(tmp_path: Path, typed: str) -> None:
    """Silence is a no."""
    guard = guard_of(tmp_path)
    code, output = at_terminal(guard, "trust", "pages", typed=typed)
    assert (code, written(guard), (tmp_path / "guard.lock").exists()) == (1, None, False), output


def test_without_a_terminal_only_the_first_set_up_and_a_reviewer_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """decisions.md D25: an agent with a shell must not loosen what it may use; docs/security.md."""
    guard = guard_of(tmp_path)
    found = load(guard.path)
    with pytest.raises(UsageError, match="no terminal to ask at"):
        review(found, "pages", yes=False)
    assert written(guard) is None

    assert review(found, "pages", yes=True)
    assert written(guard)["reviewed"]["by"] == "first set-up"

    token = guard.json("reviewer", "add", "rita")["token"]
    (tmp_path / "manifests" / "pages.yaml").unlink()
    for wrong in ("", "mgr_wrong"):
        monkeypatch.setenv("MCP_GUARD_REVIEWER_TOKEN", wrong)
        with pytest.raises(NotEligibleError):
            review(found, "pages", yes=True)
        assert written(guard) is None
    monkeypatch.setenv("MCP_GUARD_REVIEWER_TOKEN", token)
    assert review(found, "pages", yes=True)
    assert written(guard)["reviewed"]["by"] == "rita"


@POSIX
async def test_a_reviewed_tool_runs_and_an_agent_cannot_review_one(tmp_path: Path) -> None:
    """decisions.md D25: once a guard has served, no terminal and no token is a no."""
    guard = guard_of(tmp_path)
    async with connected(guard) as client:
        asked = await raw_call(client, "pages_get_page", {"id": "1"})
        assert "NOT executed" in text_of(asked)
        assert "mcp-guard trust pages" in text_of(asked)
    refused = guard.cli("trust", "pages", "--yes")
    assert (refused.returncode, written(guard)) == (1, None)
    assert "needs a terminal or a reviewer's token" in refused.stderr

    code, output = guard.terminal("trust", "pages", "--yes")
    assert code == 0, output
    async with connected(guard) as client:
        assert text_of(await raw_call(client, "pages_get_page", {"id": "1"})) == "ran get_page"
        assert "NOT executed" in text_of(await raw_call(client, "pages_delete_page", {"id": "1"}))
        own = await raw_call(client, "pages_get_page", {"id": str(tmp_path / "manifests" / "pages.yaml")})
        assert "policy_denied" in json.dumps(own)


def test_json_without_yes_says_what_would_be_written_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/cli.md."""
    guard = guard_of(tmp_path)
    assert review(load(guard.path), "pages", yes=False, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["written"], found["pinned"], written(guard)) == (False, False, None)
    assert not (tmp_path / "guard.lock").exists()
    assert {one["tool"]: one["effect"] for one in found["tools"]} == {
        "get_page": "allow", "[red]list[/red]": "ask", "delete_page": "ask", "run_command": "ask, critical",
        "get_half\u200bpage": "ask",
    }  # fmt: skip


def test_a_second_look_keeps_hand_edits_adds_what_is_new_and_accepts_nothing_unseen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/manifests.md; security.md S22: what changed besides the tools that were reviewed stays held back."""
    guard = guard_of(tmp_path, TOOLS[:3])
    assert review(load(guard.path), "pages", yes=True)
    path = tmp_path / "manifests" / "pages.yaml"
    path.write_text(path.read_text().replace("risk: low", "risk: medium"), encoding="utf-8")

    guard_of(tmp_path, [*TOOLS[:3], {"name": "list_pages", "inputSchema": OBJECT}])
    assert review(load(guard.path), "pages", yes=True)
    assert set(written(guard)["tools"]) == {"get_page", "delete_page", "run_command"}
    token = guard.json("reviewer", "add", "rita")["token"]
    assert guard.cli("pins", "accept", "pages", token=token).returncode == 0
    monkeypatch.setenv("MCP_GUARD_REVIEWER_TOKEN", token)
    assert review(load(guard.path), "pages", yes=True)
    risks = {name: entry["risk"] for name, entry in written(guard)["tools"].items()}
    assert risks == {"get_page": "medium", "delete_page": "high", "run_command": "critical", "list_pages": "low"}
    assert "list_pages" in json.loads((tmp_path / "guard.lock").read_text())["servers"]["pages"]["tools"]

    hidden = {"name": "get_half\u200bpage", "inputSchema": OBJECT}
    guard_of(tmp_path, [*TOOLS[:3], hidden, {"name": "list_more", "inputSchema": OBJECT}])
    capsys.readouterr()
    assert review(load(guard.path), "pages", yes=True)
    assert "mcp-guard pins diff pages" in capsys.readouterr().out
    assert "list_more" not in json.loads((tmp_path / "guard.lock").read_text())["servers"]["pages"]["tools"]


def test_what_cannot_be_reviewed_is_a_clear_error(tmp_path: Path) -> None:
    """Bad input: names, servers that do not start, files that cannot be read."""
    broken = {"command": sys.executable, "args": ["-c", "raise SystemExit(3)"]}
    guard = guard_of(tmp_path)
    guard.config["servers"] |= {"broken": broken, "off": {**broken, "disabled": True}}
    guard.config["servers"]["own"] = {**broken, "manifest": "manifests/own.yaml"}
    guard.write()
    (tmp_path / "manifests").mkdir()
    entry = {"effects": ["read"], "risk": "low", "why": "Reads."}
    facts = {"manifest": 1, "server": "own", "package": "pkg:pypi/own", "reviewed_version": "1", "tools": {"x": entry}}
    (tmp_path / "manifests" / "own.yaml").write_text(json.dumps(facts))
    found = load(guard.path)
    for server, kind, told in (
        ("nobody", UsageError, "is not in guard.yaml"),
        ("off", UsageError, "is disabled"),
        ("own", UsageError, "as a manifest of its own"),
        ("broken", DownstreamUnavailableError, "broken does not list its tools"),
    ):
        with pytest.raises(kind, match=told):
            review(found, server, yes=True)
    (tmp_path / "manifests" / "pages.yaml").write_text("tools: 7")
    with pytest.raises(NotEligibleError, match="another data folder"):
        review(found, "pages", yes=True)
    with pytest.raises(ConfigError, match=r"manifests/pages\.yaml:1"):
        review(found, "pages", yes=False, as_json=True)


def test_init_with_yes_trusts_all_servers_and_says_which_one_could_not_be(tmp_path: Path) -> None:
    """docs/manifests.md: asked for at the end of `init`."""
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    env = {"TOOLS": str(tmp_path / "tools.json")}
    pages = {"command": sys.executable, "args": [str(SERVER)], "env": env}
    host = {"mcpServers": {"pages": pages, "broken": {"command": sys.executable, "args": ["-c", ""]}}}
    (tmp_path / "host.json").write_text(json.dumps(host))
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "c")}
    guard = Guard(tmp_path, {}, home)
    done = guard.cli("init", "--from", str(tmp_path / "host.json"), "--yes")
    assert done.returncode == 1, done.stdout
    assert "broken: broken does not list its tools" in done.stdout
    assert "later: mcp-guard trust broken" in done.stdout
    assert set(written(guard)["tools"]) == {"get_page", "delete_page", "run_command", "[red]list[/red]"}


def another_install(guard: Guard, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data folder of one's own, with a reviewer of one's own, for the same guard.yaml; the token."""
    guard.config["data_dir"] = str(folder)
    guard.write()
    token: str = guard.json("reviewer", "add", "mallory")["token"]
    return token


def test_another_data_folder_loosens_nothing_that_was_accepted_or_reviewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """decisions.md D25: a variable of the environment is enough to have a fresh data folder, and reviewers in it."""
    guard = guard_of(tmp_path)
    assert review(load(guard.path), "pages", yes=True)
    reviewed = tmp_path / "manifests" / "pages.yaml"
    text = reviewed.read_text(encoding="utf-8")
    reviewed.unlink()
    lock = (tmp_path / "guard.lock").read_bytes()

    guard.config["data_dir"] = str(tmp_path / "x")
    guard.write()
    with pytest.raises(NotEligibleError, match="another data folder"):
        review(load(guard.path), "pages", yes=True)
    monkeypatch.setenv("MCP_GUARD_REVIEWER_TOKEN", another_install(guard, tmp_path / "y", monkeypatch))
    with pytest.raises(NotEligibleError, match="another data folder"):
        review(load(guard.path), "pages", yes=True)
    assert (written(guard), (tmp_path / "guard.lock").read_bytes()) == (None, lock)

    (tmp_path / "guard.lock").unlink()
    reviewed.write_text(text, encoding="utf-8")
    with pytest.raises(NotEligibleError, match="another data folder"):
        review(load(guard.path), "pages", yes=True)
    assert not (tmp_path / "guard.lock").exists()


@POSIX
def test_a_person_at_a_terminal_lets_another_data_folder_decide_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/pins.md: guard.lock names the data folders."""
    guard = guard_of(tmp_path)
    assert review(load(guard.path), "pages", yes=True)
    monkeypatch.setenv("MCP_GUARD_REVIEWER_TOKEN", another_install(guard, tmp_path / "y", monkeypatch))
    code, output = guard.terminal("trust", "pages", "--yes")
    assert code == 0, output
    assert review(load(guard.path), "pages", yes=True)
    assert len(json.loads((tmp_path / "guard.lock").read_text())["installs"]) == 2


@POSIX
def test_a_server_that_rewrites_itself_while_it_starts_is_not_accepted(tmp_path: Path) -> None:
    """security.md S22: what is pinned is what was started for the look."""
    server = tmp_path / "server.py"
    changes = f"open({str(server)!r}, 'a').write('# evil')\n"
    server.write_text(SERVER.read_text(encoding="utf-8").replace("import json", f"import json\n{changes}", 1), "utf-8")
    before = hashlib.sha256(server.read_bytes()).hexdigest()
    guard = guard_of(tmp_path)
    guard.config["servers"]["pages"]["args"] = [str(server)]
    guard.write()
    with pytest.raises(QuarantinedError, match="its program files changed while it started"):
        review(load(guard.path), "pages", yes=True)
    assert hashlib.sha256(server.read_bytes()).hexdigest() != before
    assert (written(guard), (tmp_path / "guard.lock").exists()) == (None, False)


def test_a_server_without_a_folder_of_its_own_starts_beside_guard_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """security.md S39: what lies where a person happens to stand is not started."""
    evil, home = tmp_path / "evil", tmp_path / "home"
    for folder in (evil, home):
        folder.mkdir()
    (evil / "some_server.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    (home / "some_server.py").write_text(SERVER.read_text(encoding="utf-8"), encoding="utf-8")
    guard = guard_of(home)
    guard.config["servers"]["pages"]["args"] = ["-m", "some_server"]
    guard.write()
    monkeypatch.chdir(evil)
    assert review(load(guard.path), "pages", yes=False, as_json=True)
    assert not (tmp_path / "ran").exists()


def test_a_tool_with_a_name_of_the_guards_own_is_said_to_be_never_offered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """decisions.md D14: reserved names."""
    guard = guard_of(tmp_path, [{"name": "guard_status", "inputSchema": OBJECT}])
    guard.config["servers"]["pages"]["names"] = "plain"
    guard.write()
    assert review(load(guard.path), "pages", yes=True)
    assert "never offered" in " ".join(capsys.readouterr().out.split())
    assert written(guard) is None
