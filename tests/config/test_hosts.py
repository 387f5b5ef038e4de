"""Blocks for hosts."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from mcp_guard.config.hosts import COMBINED, host_blocks, host_config_files, host_entries
from mcp_guard.errors import UsageError

HOME = Path("/home/someone")
CONFIG = PurePosixPath("/home/someone/my config/guard.yaml")
COMMAND = ["/opt/guard/bin/mcp-guard"]


def _texts(servers: list[str], platform: str = "linux") -> dict[str, str]:
    entries = host_entries(COMMAND, CONFIG, servers)
    return {block.host: block.text for block in host_blocks(entries, HOME, platform)}


def test_one_entry_for_all_servers_is_the_default() -> None:
    """Decision D14."""
    assert host_entries(COMMAND, CONFIG) == {
        COMBINED: {"command": COMMAND[0], "args": ["serve", "--config", str(CONFIG)]}
    }


def test_each_server_can_have_an_entry_with_its_own_name() -> None:
    """Decision D14: the names that hosts' allow-lists know stay as they are."""
    entries = host_entries(COMMAND, CONFIG, ["files", "crm"])
    assert list(entries) == ["files", "crm"]
    assert entries["crm"]["args"] == ["serve", "--config", str(CONFIG), "--server", "crm"]


def test_a_command_of_several_words_is_kept() -> None:
    """Host formats: absolute command, for a guard that is started as a module."""
    entry = host_entries(["/usr/bin/python3", "-m", "mcp_guard.cli.main"], CONFIG)[COMBINED]
    assert entry["command"] == "/usr/bin/python3"
    assert entry["args"] == ["-m", "mcp_guard.cli.main", "serve", "--config", str(CONFIG)]


@pytest.mark.parametrize(
    ("command", "config"), [(["mcp-guard"], CONFIG), (COMMAND, PurePosixPath("guard.yaml"))], ids=["command", "config"]
)
def test_relative_paths_are_refused(command: list[str], config: PurePosixPath) -> None:
    """Host formats: hosts start servers in a folder of their own."""
    with pytest.raises(UsageError):
        host_entries(command, config)


def test_every_host_gets_its_own_shape() -> None:
    """Host formats."""
    texts = _texts(["files", "a.b"])
    entries = host_entries(COMMAND, CONFIG, ["files", "a.b"])
    typed = {name: {"type": "stdio", **entry} for name, entry in entries.items()}
    assert json.loads(texts["Claude Desktop"]) == {"mcpServers": entries}
    assert json.loads(texts["Cursor"]) == {"mcpServers": entries}
    assert json.loads(texts["Claude Code, one project"]) == {"mcpServers": typed}
    assert json.loads(texts["VS Code"]) == {"servers": typed}
    assert tomllib.loads(texts["Codex"]) == {"mcp_servers": entries}


def test_the_shell_command_survives_spaces_in_paths() -> None:
    """Host formats: `claude mcp add-json NAME JSON`."""
    words = shlex.split(_texts([])["Claude Code"])
    assert words[:6] == ["claude", "mcp", "add-json", "--scope", "user", COMBINED]
    assert json.loads(words[6])["args"][-1] == str(CONFIG)


def test_windows_gets_no_shell_command() -> None:
    """Host formats: shells of Windows quote JSON in different ways."""
    assert "Claude Code" not in _texts([], "win32")


@pytest.mark.parametrize(
    ("platform", "desktop"),
    [
        ("linux", ".config/Claude/claude_desktop_config.json"),
        ("darwin", "Library/Application Support/Claude/claude_desktop_config.json"),
        ("win32", "AppData/Roaming/Claude/claude_desktop_config.json"),
    ],
)
def test_the_files_of_hosts_are_known_on_each_system(platform: str, desktop: str) -> None:
    """Host formats; threat S38: calls must not reach into them (decision D32)."""
    files = host_config_files(HOME, platform)
    assert HOME / desktop in files
    assert {HOME / ".claude.json", HOME / ".cursor/mcp.json", HOME / ".codex/config.toml"} <= set(files)
    assert all(file.is_absolute() for file in files)


def test_a_moved_folder_of_applications_is_followed() -> None:
    """Decision D32: the files that count are protected, not those of the usual place."""
    moved = host_config_files(HOME, "linux", env={"XDG_CONFIG_HOME": "/moved"})
    assert Path("/moved/Claude/claude_desktop_config.json") in moved
    assert Path("/moved/Code/User/mcp.json") in host_config_files(HOME, "win32", env={"APPDATA": "/moved"})
