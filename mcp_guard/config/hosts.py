"""Ready-to-paste entries for the hosts people use, and where hosts keep their configuration.

Pure data and text. Command and configuration path are absolute: hosts start servers with a short PATH and in a folder
of their own.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from pydantic import JsonValue

from mcp_guard.errors import UsageError
from mcp_guard.model import JsonDict

COMBINED = "mcp-guard"
"""Name of the entry that offers all servers."""

PROJECT_FILES = (
    ".mcp.json",
    ".cursor/mcp.json",
    ".vscode/mcp.json",
    ".codex/config.toml",
    ".claude/settings.json",
    ".claude/settings.local.json",
)
"""Where hosts look for servers inside a project, relative to its folder."""

_EDITORS = ("Code", "Code - Insiders", "VSCodium")
_SERVER_FILES = (
    ("claude-desktop", "apps", "Claude/claude_desktop_config.json"),
    ("claude-code", "claude", ".claude.json"),
    ("cursor", "home", ".cursor/mcp.json"),
    *(("vscode", "apps", f"{editor}/User/{name}") for editor in _EDITORS for name in ("mcp.json", "settings.json")),
    ("codex", "codex", "config.toml"),
    ("windsurf", "home", ".codeium/windsurf/mcp_config.json"),
    ("claude-code", "project", ".mcp.json"),
    ("cursor", "project", ".cursor/mcp.json"),
    ("vscode", "project", ".vscode/mcp.json"),
    ("codex", "project", ".codex/config.toml"),
)
"""Host, the folder it is in, and the file with its servers."""
_GLOBS = (
    ("vscode", "apps", "Code*/User/profiles/*/mcp.json"),
    ("claude-desktop", "local", "Packages/Claude_*/LocalCache/Roaming/Claude/claude_desktop_config.json"),
)
"""Files whose path holds a name that the host chose: profiles, and the store's package on Windows."""
_HOME_FILES = (".claude.json", ".claude/settings.json", ".codex/config.toml", ".gemini/settings.json")
_APP_FOLDER = {"darwin": ("", "Library/Application Support"), "win32": ("APPDATA", "AppData/Roaming")}
_ELSEWHERE = ("XDG_CONFIG_HOME", ".config")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class HostBlock:
    """What to paste for one host."""

    host: str
    where: str
    """The file it belongs into, or `shell` for a command."""
    text: str


@dataclass(frozen=True, slots=True)
class ServerFile:
    """A file in which a host keeps its servers."""

    host: str
    path: Path
    shared: bool = False
    """Whether it lies in a project, and so goes to others with it."""


def server_files(
    home: Path, platform: str, project: Path | None = None, env: Mapping[str, str] | None = None
) -> list[ServerFile]:
    """Files in which hosts keep their servers, whether they exist or not. Arguments as for `host_config_files`."""
    given = env or {}
    variable, usual = _APP_FOLDER.get(platform, _ELSEWHERE)
    folders = {
        "home": home,
        "apps": Path(given.get(variable) or home / usual),
        "claude": Path(given.get("CLAUDE_CONFIG_DIR") or home),
        "codex": Path(given.get("CODEX_HOME") or home / ".codex"),
        "local": Path(given.get("LOCALAPPDATA") or home / "AppData/Local"),
    } | ({} if project is None else {"project": project})
    known = [
        ServerFile(host, folders[base] / name, base == "project")
        for host, base, name in _SERVER_FILES
        if base in folders
    ]
    chosen = [ServerFile(host, path) for host, base, glob in _GLOBS for path in sorted(folders[base].glob(glob))]
    return known + chosen


def host_config_files(home: Path, platform: str, env: Mapping[str, str] | None = None) -> list[Path]:
    """Files in which hosts keep servers, permissions or hooks, whether they exist or not.

    Args:
        home: The user's home folder.
        platform: As `sys.platform`.
        env: Environment, in which the system may name another folder for applications' files.
    """
    files = [home / name for name in _HOME_FILES] + [file.path for file in server_files(home, platform, env=env)]
    return list(dict.fromkeys(files))


def host_entries(command: Sequence[str], config: PurePath, servers: Sequence[str] = ()) -> dict[str, JsonDict]:
    """The entries that start the guard: one for all servers, or one per server in `servers`.

    Args:
        command: The guard's own command; its first item is an absolute path.
        config: Absolute path of guard.yaml.
        servers: Names in guard.yaml. Each gets an entry of its own, with its plain tool names.

    Raises:
        UsageError: a path is not absolute.
    """
    if not (PurePath(command[0]).is_absolute() and config.is_absolute()):
        raise UsageError("host blocks need an absolute command and configuration path")
    serve = [*command[1:], "serve", "--config", str(config)]
    if not servers:
        return {COMBINED: _entry(command[0], serve)}
    return {name: _entry(command[0], [*serve, "--server", name]) for name in servers}


def host_blocks(
    entries: Mapping[str, JsonDict], home: Path, platform: str, env: Mapping[str, str] | None = None
) -> list[HostBlock]:
    """Blocks for Claude Desktop, Claude Code, Cursor, VS Code and Codex.

    Args:
        entries: From `host_entries`.
        home: The user's home folder, to name the files.
        platform: As `sys.platform`.
        env: See `host_config_files`.
    """
    plain = _json({"mcpServers": dict(entries)})
    typed: dict[str, JsonValue] = {name: {"type": "stdio", **entry} for name, entry in entries.items()}
    files = {file.name: file for file in host_config_files(home, platform, env=env)}
    desktop = files["claude_desktop_config.json"]
    blocks = [HostBlock("Claude Desktop", str(desktop), plain)]
    if platform != "win32":
        # The two shells of Windows quote JSON in ways that differ by version; the file works everywhere.
        lines = [f"claude mcp add-json --scope user {name} {shlex.quote(_line(typed[name]))}" for name in typed]
        blocks.append(HostBlock("Claude Code", "shell", "\n".join(lines)))
    return [
        *blocks,
        HostBlock("Claude Code, one project", ".mcp.json", _json({"mcpServers": typed})),
        HostBlock("Cursor", str(home / ".cursor" / "mcp.json"), plain),
        HostBlock("VS Code", ".vscode/mcp.json", _json({"servers": typed})),
        HostBlock("Codex", str(files["config.toml"]), "\n\n".join(_toml(n, e) for n, e in entries.items())),
    ]


def _entry(command: str, args: list[str]) -> JsonDict:
    return {"command": command, "args": [*args]}


def _json(value: JsonDict) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _line(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)


def _toml(name: str, entry: JsonDict) -> str:
    # A JSON string or list of strings without \u surrogates is TOML as well.
    key = name if _BARE_KEY.fullmatch(name) else _line(name)
    return "\n".join([f"[mcp_servers.{key}]", *(f"{field} = {_line(value)}" for field, value in entry.items())])
