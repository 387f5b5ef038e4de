"""What `wrap` makes of the servers of several hosts, and of a guard.yaml that is there already."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mcp_guard.config.hostfile import parse_host_file
from mcp_guard.config.load import load_config
from mcp_guard.errors import ConfigError, UsageError
from mcp_guard.wrap.locate import Machine, chosen_files, find_files
from mcp_guard.wrap.plan import usable_path
from tests.wrap.bench import COMMAND, PATH, Bench, entries
from tests.wrap.configs import CURSOR, VSCODE, WINDSURF

DESKTOP = ".config/Claude/claude_desktop_config.json"
OTHER = ".cursor/mcp.json"
SERVER = '{"mcpServers": {"files": {"command": "npx", "args": ["files", "%s"]}}}'
OWN = """# mine
version: 1
id: laptop
servers:
  crm:                       # the real one
    command: crm-server
    # keep this
rules:
  - {id: no-deletes, match: {server: crm, tool: "delete_*"}, effect: deny}
"""


def _own(bench: Bench, text: str = OWN) -> None:
    bench.config.parent.mkdir(parents=True)
    bench.config.write_text(text, encoding="utf-8")


def test_an_entry_gets_an_absolute_command_and_a_path(tmp_path: Path) -> None:
    """docs/hosts.md: hosts with a window have a short PATH."""
    bench = Bench(tmp_path)
    path = bench.write(DESKTOP, SERVER % "/a")
    bench.wrap()
    assert entries(path, "mcpServers")["files"] == {
        "command": COMMAND,
        "args": ["serve", "--config", str(bench.config), "--server", "files"],
        "env": {"PATH": PATH},
    }


def test_a_host_of_the_shell_keeps_its_own_path(tmp_path: Path) -> None:
    """decisions.md D29: a virtual environment of the shell reaches the server as before."""
    bench = Bench(tmp_path)
    path = bench.write(".claude.json", SERVER % "/a")
    bench.wrap()
    assert "env" not in entries(path, "mcpServers")["files"]


def test_relative_folders_do_not_get_into_the_path() -> None:
    """decisions.md D32: a project must not bring programs."""
    given = os.pathsep.join(["/usr/bin", ".", "", "node_modules/.bin", "/bin", "/usr/bin"])
    assert usable_path({"PATH": given}) == os.pathsep.join(["/usr/bin", "/bin"])


def test_equal_servers_of_two_hosts_are_one_and_others_of_that_name_are_two(tmp_path: Path) -> None:
    """decisions.md D14."""
    bench = Bench(tmp_path)
    bench.write(DESKTOP, SERVER % "/a")
    bench.write(OTHER, SERVER % "/a")
    bench.write(".claude.json", SERVER % "/b")
    bench.wrap()
    servers = bench.loaded().servers
    assert {name: server.args[1] for name, server in servers.items()} == {"files": "/a", "files-claude-code": "/b"}


def test_an_own_guard_yaml_keeps_its_comments_and_its_servers(tmp_path: Path) -> None:
    """docs/hosts.md: servers are added, nothing else changes."""
    bench = Bench(tmp_path)
    _own(bench)
    bench.write(DESKTOP, '{"mcpServers": {"crm": {"command": "crm-server"}, "new": {"command": "n"}}}')
    bench.wrap()
    text = bench.config.read_text(encoding="utf-8")
    added = "  new:\n    command: n\n"
    assert text == OWN.replace("rules:", added + "rules:")


def test_a_broken_guard_yaml_stops_everything(tmp_path: Path) -> None:
    """security.md S38: fail closed."""
    bench = Bench(tmp_path)
    _own(bench, "version: 1\nid: x\nserverz: {}\n")
    bench.write(DESKTOP, SERVER % "/a")
    before = bench.files()
    with pytest.raises(ConfigError, match="serverz"):
        bench.wrap()
    assert bench.files() == before


def test_wrapped_again_after_unwrap_the_same_servers_and_secret_files_are_used(tmp_path: Path) -> None:
    """docs/hosts.md: `unwrap` takes nothing out of guard.yaml."""
    bench = Bench(tmp_path)
    bench.write(OTHER, CURSOR)
    bench.write(".codeium/windsurf/mcp_config.json", WINDSURF)
    bench.wrap()
    first = {p: raw for p, raw in bench.files().items() if p.parent != bench.journal}
    bench.unwrap()
    bench.wrap()
    assert {p: raw for p, raw in bench.files().items() if p.parent != bench.journal} == first


def test_a_secret_that_changed_meanwhile_gets_a_file_of_its_own(tmp_path: Path) -> None:
    """docs/hosts.md: no secret is written over."""
    bench = Bench(tmp_path)
    for secret in ("canary-one", "canary-two"):
        text = json.dumps({"mcpServers": {"a": {"command": "x", "env": {"TOKEN": secret}}}})
        bench.write(DESKTOP, text)
        bench.wrap()
        bench.unwrap()
    tokens = {p.name: p.read_text() for p in (bench.config.parent / "secrets").glob("a*")}
    assert sorted(tokens.values()) == ["canary-one", "canary-two"]
    assert [s.env for s in bench.loaded().servers.values()] == [{"TOKEN": "canary-one"}, {"TOKEN": "canary-two"}]


def test_one_entry_can_offer_all_servers(tmp_path: Path) -> None:
    """docs/hosts.md, `--combined`; decisions.md D14."""
    bench = Bench(tmp_path)
    path = bench.write(OTHER, CURSOR)
    bench.wrap(combined=True)
    block = entries(path, "mcpServers")
    assert list(block) == ["mcp-guard"]
    assert block["mcp-guard"]["args"] == ["serve", "--config", str(bench.config)]
    assert block["mcp-guard"]["env"]["MCP_GUARD_HOST_FILES_ARG_3"] == "${workspaceFolder}"
    assert '// "old": {"command": "x"},' in path.read_text(encoding="utf-8")
    assert bench.wrap(combined=True).files == []
    bench.unwrap()
    assert path.read_text(encoding="utf-8") == CURSOR


def test_one_entry_for_all_takes_in_what_comes_later(tmp_path: Path) -> None:
    """docs/hosts.md: what one entry cannot keep stays."""
    bench = Bench(tmp_path)
    path = bench.write(DESKTOP, SERVER % "/a")
    bench.wrap(combined=True)
    block = parse_host_file(path.read_bytes(), path)
    block["mcpServers"] |= {"late": {"command": "l"}, "here": {"command": "h", "cwd": "/x"}}
    path.write_text(json.dumps(block), encoding="utf-8")
    plan = bench.wrap(combined=True)
    assert list(entries(path, "mcpServers")) == ["mcp-guard", "here"]
    assert plan.notes == ["Claude Desktop: here stays as it is: one entry for all cannot keep cwd"]
    assert set(bench.loaded().servers) == {"files", "late"}


def test_what_only_the_host_resolves_stays_with_the_host(tmp_path: Path) -> None:
    """docs/hosts.md: never broken, and never in guard.yaml."""
    bench = Bench(tmp_path)
    path = bench.write(".config/Code/User/mcp.json", VSCODE)
    bench.wrap()
    new = entries(path, "servers")
    assert new["perplexity"]["env"]["MCP_GUARD_HOST_PERPLEXITY_PERPLEXITY_API_KEY"] == "${input:perplexity-key}"
    assert new["db"]["cwd"] == "${workspaceFolder}"
    assert new["db"]["envFile"] == "${workspaceFolder}/.env"
    assert "${input" not in bench.config.read_text(encoding="utf-8")


def test_elsewhere_a_server_of_one_host_is_not_there_and_the_others_work(tmp_path: Path) -> None:
    """docs/hosts.md: one guard.yaml for all hosts."""
    bench = Bench(tmp_path)
    bench.write(".config/Code/User/mcp.json", VSCODE)
    bench.write(DESKTOP, SERVER % "/a")
    bench.wrap()
    loaded = bench.loaded()
    assert set(loaded.servers) == {"files"}
    assert sum("only the host that it belongs to" in warning for warning in loaded.warnings) == 3
    assert set(bench.loaded(only="files").servers) == {"files"}
    with pytest.raises(ConfigError, match="MCP_GUARD_HOST_DB_ARG_2 is not set"):
        bench.loaded(only="db")


def test_what_is_wrong_with_another_server_does_not_stop_the_wanted_one(tmp_path: Path) -> None:
    """docs/hosts.md: each entry works by itself; the secrets of the others are masked all the same."""
    text = OWN + "".join(f"  # {n}\n" for n in range(2))
    text = text.replace(
        "    # keep this\n",
        "  b: {command: b, env: {X: '${env:NOT_SET}'}}\n  c: {command: c, env: {K: '${env:SET}'}}\n",
    )
    bench = Bench(tmp_path)
    _own(bench, text)
    loaded = load_config(bench.config, {"SET": "canary-set"}, only="crm")
    assert set(loaded.servers) == {"crm"}
    assert "canary-set" in loaded.secrets
    with pytest.raises(ConfigError, match="NOT_SET"):
        load_config(bench.config, {"SET": "canary-set"})


def test_a_server_to_which_the_host_may_log_in_is_left_unless_asked_for(tmp_path: Path) -> None:
    """docs/hosts.md: nothing is broken."""
    bench = Bench(tmp_path)
    path = bench.write(OTHER, '{"mcpServers": {"tasks": {"url": "https://tasks.example/mcp"}}}')
    assert "its host may have to log in to it" in bench.wrap().notes[0]
    assert "url" in entries(path, "mcpServers")["tasks"]
    bench.wrap(remote=True)
    assert entries(path, "mcpServers")["tasks"]["command"] == COMMAND


def test_a_file_that_cannot_be_read_is_left_and_the_others_are_wrapped(tmp_path: Path) -> None:
    """docs/hosts.md: refuses politely."""
    bench = Bench(tmp_path)
    broken = bench.write(DESKTOP, '{"mcpServers": {canary')
    bench.write(OTHER, SERVER % "/a")
    plan = bench.wrap()
    assert [found.file.host for found in plan.files] == ["cursor"]
    assert "is not JSON that can be read: line 1, column 17; it was left as it is" in plan.notes[0]
    assert "canary" not in plan.notes[0]
    assert broken.read_text() == '{"mcpServers": {canary'
    with pytest.raises(ConfigError, match="line 1, column 17"):
        bench.wrap(file=broken)


def test_files_of_a_project_are_wrapped_only_when_asked_for(tmp_path: Path) -> None:
    """docs/hosts.md: they are shared with others."""
    machine = Machine(tmp_path, "linux", {}, tmp_path / "project")
    assert not any(file.shared for file in find_files(machine, project=False))
    shared = {file.path.name for file in find_files(machine, project=True) if file.shared}
    assert shared == {".mcp.json", "mcp.json", "config.toml"}


def test_hosts_can_be_chosen_by_name(tmp_path: Path) -> None:
    """docs/hosts.md."""
    machine = Machine(tmp_path, "linux", {"CODEX_HOME": "/c", "CLAUDE_CONFIG_DIR": "/d"}, tmp_path)
    assert [str(f.path) for f in chosen_files(["codex"], None, machine, project=False)] == ["/c/config.toml"]
    assert [str(f.path) for f in chosen_files(["claude-code"], None, machine, project=False)] == ["/d/.claude.json"]
    with pytest.raises(UsageError, match="no such host"):
        chosen_files(["emacs"], None, machine, project=False)
    with pytest.raises(UsageError, match="not both"):
        chosen_files(["codex"], Path("x"), machine, project=False)


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("repo/.mcp.json", "claude-code"),
        ("repo/.vscode/mcp.json", "vscode"),
        ("repo/.codex/config.toml", "codex"),
        ("any.json", "file"),
    ],
)
def test_a_named_file_is_known_by_its_name(tmp_path: Path, path: str, host: str) -> None:
    """docs/hosts.md, `--file`."""
    [found] = chosen_files([], tmp_path / path, Machine(tmp_path / "home", "linux", {}, tmp_path), project=False)
    assert (found.host, found.shared) == (host, host != "file")


def test_an_entry_whose_guard_is_gone_gets_this_one(tmp_path: Path) -> None:
    """docs/hosts.md: after the guard was installed elsewhere."""
    bench = Bench(tmp_path)
    text = SERVER.replace('"npx"', '"/gone/bin/mcp-guard"').replace('"files", "%s"', '"serve", "--server", "files"')
    path = bench.write(DESKTOP, text)
    plan = bench.wrap()
    assert entries(path, "mcpServers")["files"] == {"command": COMMAND, "args": ["serve", "--server", "files"]}
    assert plan.notes == ["Claude Desktop: the guard of files is gone; it gets this one"]
    assert bench.wrap().files == []
    bench.unwrap()
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("member", ["bearer_token_env_var", "env_http_headers"])
def test_the_name_of_a_variable_cannot_bring_a_reference_of_its_own(tmp_path: Path, member: str) -> None:
    """security.md S38: what only guard.yaml understands stays text of the host, also in a project's file for Codex."""
    bench = Bench(tmp_path)
    secret = tmp_path / "credentials"
    secret.write_text("canary0123456789abcdef", encoding="utf-8")
    name = "A}${file:" + secret.as_posix()
    value = f'"{name}"' if member == "bearer_token_env_var" else f'{{X-Client = "{name}"}}'
    bench.write(".codex/config.toml", f'[mcp_servers.web]\nurl = "https://example.com/mcp"\n{member} = {value}\n')
    bench.wrap()

    assert "credentials" not in bench.config.read_text(encoding="utf-8")
    assert "MCP_GUARD_HOST_WEB_" in bench.config.read_text(encoding="utf-8")


def test_codex_keeps_the_space_and_the_comment_above_the_next_table(tmp_path: Path) -> None:
    """docs/hosts.md: comments and order stay."""
    bench = Bench(tmp_path)
    text = """[mcp_servers.a]
url = "http://localhost:1/mcp"

[mcp_servers.a.http_headers]
X = "y"

# about b
[mcp_servers.b]
url = "http://localhost:2/mcp"

[tools]
web = true
"""
    path = bench.write(".codex/config.toml", text)
    bench.wrap()
    wrapped = path.read_text(encoding="utf-8")
    assert '"--server", "a"]\n\n# about b\n[mcp_servers.b]\n' in wrapped
    assert '"--server", "b"]\n\n[tools]\nweb = true\n' in wrapped


@pytest.mark.parametrize("text", ["", "{}", '{"mcpServers": {}}'])
def test_a_named_file_without_servers_is_said_to_have_none(tmp_path: Path, text: str) -> None:
    """docs/hosts.md, `--file`."""
    bench = Bench(tmp_path)
    path = bench.write("mine.json", text)
    plan = bench.plan(file=path)
    assert (plan.files, plan.notes) == ([], [f"{path}: there are no servers in it"])


def test_an_empty_command_is_left_as_it_is_and_said_to_be_empty(tmp_path: Path) -> None:
    """docs/hosts.md: `wrap` says why."""
    bench = Bench(tmp_path)
    bench.write(DESKTOP, '{"mcpServers": {"a": {"command": " "}}}')
    assert bench.wrap().notes == [
        "Claude Desktop: a stays as it is: it is not valid: command is empty: it names the program that is started"
    ]


def test_names_are_written_only_where_one_entry_offers_all(tmp_path: Path) -> None:
    """decisions.md D14: an entry of its own serves the server's own names."""
    bench = Bench(tmp_path)
    bench.write(DESKTOP, SERVER % "/a")
    bench.wrap()
    assert bench.loaded().config.servers["files"].names == "prefixed"
    assert "names: prefixed" not in bench.config.read_text(encoding="utf-8")
    bench.write(OTHER, SERVER % "/b")
    bench.wrap(combined=True)
    assert "names: prefixed" in bench.config.read_text(encoding="utf-8")
