"""Reading the servers out of the files of real hosts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from mcp_guard.config.hostfile import (
    host_server,
    host_servers,
    is_blank,
    parse_host_file,
    projects_with_servers,
    read_host_file,
    server_blocks,
    starts_the_guard,
)
from mcp_guard.errors import ConfigError

VS_CODE = """\
// my servers
{
  "inputs": [{"id": "key", "type": "promptString", "password": true,},], /* asked ** once */
  "servers": {
    "web": {"type": "http", "url": "https://example.com/mcp", "headers": {"X-Note": "a // b /* c */ ,}"}},
    "git": {"type": "stdio", "command": "uvx", "args": ["mcp-server-git",], "envFile": ".env"}, // last
  },
}
"""

CODEX = """\
model = "some-model"
[mcp_servers.files]
command = "npx"
args = ["-y", "@modelcontextprotocol/server-filesystem", "/srv"]
startup_timeout_sec = 20
tool_timeout_sec = 600000
enabled = false
[mcp_servers.files.env]
LEVEL = "debug"
[mcp_servers.web]
url = "https://example.com/mcp"
bearer_token_env_var = "WEB_TOKEN"
http_headers = { X-Team = "blue" }
"""


def _read(tmp_path: Path, name: str, text: str) -> dict[str, Any]:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_host_file(path)


def test_comments_and_trailing_commas_are_read_and_text_that_looks_like_them_is_kept(tmp_path: Path) -> None:
    """Host formats: VS Code's mcp.json is JSON with comments, its block is `servers`."""
    web, git = host_servers(_read(tmp_path, "mcp.json", VS_CODE))
    assert web.fields["headers"] == {"X-Note": "a // b /* c */ ,}"}
    assert git.fields == {"type": "stdio", "command": "uvx", "args": ["mcp-server-git"]}
    assert git.left_out == ("envFile",)


def test_codex_toml_is_read_with_its_own_spellings(tmp_path: Path) -> None:
    """Host formats: Codex."""
    files, web = host_servers(_read(tmp_path, "config.toml", CODEX))
    assert files.fields["disabled"] is True
    assert files.fields["start_timeout_s"] == 20
    assert files.fields["call_timeout_s"] == 86_400
    assert files.fields["env"] == {"LEVEL": "debug"}
    assert web.fields["headers"] == {"X-Team": "blue", "Authorization": "Bearer ${env:WEB_TOKEN}"}
    assert not files.left_out
    assert not web.left_out


def test_numbers_in_env_become_text_and_http_names_become_one(tmp_path: Path) -> None:
    """Host formats: hosts accept more spellings than the guard."""
    text = '{"mcpServers": {"a": {"command": "x", "env": {"N": 1, "B": true}}, "b": {"type": "streamable-http"}}}'
    a, b = host_servers(_read(tmp_path, "c.json", text))
    assert a.fields["env"] == {"N": "1", "B": "true"}
    assert b.fields["type"] == "http"


@pytest.mark.parametrize(
    "source",
    [
        {"mcpServers": {"a": {"command": "x"}}},
        {"servers": {"a": {"command": "x"}}},
        {"mcp_servers": {"a": {"command": "x"}}},
        {"editor.tabSize": 2, "mcp": {"servers": {"a": {"command": "x"}}}},
        {"a": {"command": "x"}},
    ],
    ids=["mcpServers", "servers", "mcp_servers", "settings", "bare"],
)
def test_each_known_block_is_found(source: dict[str, Any]) -> None:
    """Host formats."""
    assert [server.name for server in host_servers(source)] == ["a"]


def test_servers_of_single_projects_are_counted() -> None:
    """Host formats: Claude Code keeps them under `projects`."""
    source = {"projects": {"/a": {"mcpServers": {"x": {"command": "y"}}}, "/b": {"mcpServers": {}}}}
    assert projects_with_servers(source) == 1
    assert host_servers(source) == []


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.json", b'{"mcpServers": {"a": {"env": {"KEY": "canary-value"}}'),
        ("a.json", b'["canary-value"]'),
        ("a.json", b'{"other": "canary-value"}'),
        ("a.json", b'{"a": "canary-value \xff"}'),
        ("a.json", b'{"a": "canary-value \\ud800"}'),
        ("a.json", b"[" * 100_000),
        ("a.toml", b'a = "canary-value'),
        ("a.json", b""),
    ],
    ids=["cut", "list", "no-servers", "not-utf8", "half-character", "deep", "toml", "empty"],
)
def test_a_file_without_servers_is_refused_and_not_quoted(tmp_path: Path, name: str, raw: bytes) -> None:
    """Contract of `init`: bad input; no value is echoed."""
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        host_servers(read_host_file(tmp_path / name))
    assert "canary-value" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    """Contract of `init`: bad input."""
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(ConfigError):
            read_host_file(path)


def test_many_comments_after_a_comma_take_no_time(tmp_path: Path) -> None:
    """Threat S38: a file must not be able to hang its reader."""
    text = '{"mcpServers": {"a": {"command": "x"}}, ' + "/* a */ // b //\n" * 5_000 + '"z": 1,}'
    assert [server.name for server in host_servers(_read(tmp_path, "c.json", text))] == ["a"]


@pytest.mark.parametrize(
    ("fields", "own"),
    [
        ({"command": "/opt/bin/mcp-guard", "args": ["serve", "--config", "/g.yaml"]}, True),
        ({"command": "C:\\x\\mcp-guard.exe", "args": []}, True),
        ({"command": "python", "args": ["-m", "mcp_guard.cli.main", "serve"]}, True),
        ({"command": "uvx", "args": ["mcp-guard", "serve"]}, True),
        ({"command": "python", "args": ["-m", "mcp_guard.demo.crm"]}, False),
        ({"command": "node", "args": "serve"}, False),
        ({"url": "https://example.com/mcp"}, False),
    ],
)
def test_the_guard_knows_its_own_entry(fields: dict[str, Any], own: bool) -> None:  # noqa: FBT001 - a table
    """Host formats: no double wrapping."""
    assert starts_the_guard(fields) is own


def test_other_spellings_of_an_address_and_its_headers_are_understood() -> None:
    """Host formats: Windsurf, Codex."""
    windsurf = host_server("a", {"serverUrl": "https://a.example/mcp"})
    codex = host_server(
        "b",
        {
            "url": "https://b.example/mcp",
            "http_headers": {"X": "1"},
            "env_http_headers": {"Y": "Y_VARIABLE"},
            "bearer_token_env_var": "TOKEN",
        },
    )
    assert windsurf.fields == {"url": "https://a.example/mcp"}
    assert codex.fields["headers"] == {"X": "1", "Y": "${env:Y_VARIABLE}", "Authorization": "Bearer ${env:TOKEN}"}
    assert (windsurf.left_out, codex.left_out) == ((), ())


def test_all_blocks_of_servers_are_found() -> None:
    """Host formats: Claude Code keeps some per project."""
    source = {"mcpServers": {}, "mcp": {"servers": {}}, "projects": {"/a": {"mcpServers": {}}, "/b": {}, "/c": 1}}
    assert server_blocks(source) == [("mcpServers",), ("mcp", "servers"), ("projects", "/a", "mcpServers")]


@pytest.mark.parametrize(("text", "blank"), [("", True), ("// a\n/* {} */ \r\n", True), ("{}", False), ("# a", False)])
def test_a_file_without_content_is_told_from_a_broken_one(text: str, blank: bool) -> None:  # noqa: FBT001 - a parameter
    """Host formats: hosts make empty files."""
    assert is_blank(text.encode(), Path("mcp.json")) is blank
    assert is_blank(b"# a\n", Path("config.toml"))


@pytest.mark.parametrize(
    "shape",
    ["/*", "{/* ", '"\\"', '"', "//", ",", ", ", ",/**/", ",//\n", ",/*,", "[", "/", '"a\n', '"\\', "/**", ",\n\n"],
)
def test_a_large_file_that_is_not_closed_is_read_in_time(shape: str) -> None:
    """Bad input: nothing is tried from each place to the end; a project's file is anybody's."""
    raw = (shape * (1_000_000 // len(shape))).encode()
    start = time.process_time()
    with pytest.raises(ConfigError):
        parse_host_file(raw, Path("mcp.json"))
    is_blank(raw, Path("mcp.json"))
    assert time.process_time() - start < 5


def test_a_file_that_no_system_opens_is_a_clear_error(tmp_path: Path) -> None:
    """Bad input."""
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        read_host_file(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("a.json", '{"a": 1,\n /* x\n y */ "b": }', ": line 3, column 12"),
        ("a.json", '{"a": [1, 2,],\n // c\n "b" 3}', ": line 3, column 6"),
        ("a.toml", "[a]\nb = \n", ": line 2, column 5"),
        ("a.toml", '[a]\nb = """', ": end of document"),
        ("a.json", "[" * 100_000, ""),
    ],
)
def test_a_file_that_cannot_be_read_is_told_by_line_and_column(name: str, text: str, place: str) -> None:
    """docs/hosts.md: also behind comments, which are the host's; nothing of the file is quoted."""
    kind = name[2:].upper()
    with pytest.raises(ConfigError) as found:
        parse_host_file(text.encode(), Path(name))
    assert found.value.message == f"{name} is not {kind} that can be read{place}"
