"""A guard in front of a server that lists whatever tools a test wants, to review them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.harness import Guard

SERVER = Path(__file__).parent / "listing_server.py"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="terminals as POSIX has them")
OBJECT = {"type": "object", "properties": {"id": {"type": "string"}}}
TOOLS: list[dict[str, Any]] = [
    {"name": "run_command", "inputSchema": {"type": "object", "properties": {"command": {"type": "string"}}}},
    {"name": "delete_page", "inputSchema": OBJECT},
    {"name": "get_page", "inputSchema": OBJECT},
    {"name": "get_half\u200bpage", "inputSchema": OBJECT},
    {"name": "[red]list[/red]", "description": "List.\x1b[2J\u202eevil", "inputSchema": OBJECT},
]


def guard_of(folder: Path, tools: list[dict[str, Any]] | None = None, **more: Any) -> Guard:
    file = folder / "tools.json"
    file.write_text(json.dumps(TOOLS if tools is None else tools), encoding="utf-8")
    server = {"command": sys.executable, "args": [str(SERVER)], "env": {"TOOLS": str(file)}}
    config = {"version": 1, "id": "t", "data_dir": "./guard-data", "approvals": {"hold_s": 0.2}}
    guard = Guard(folder, {**config, "servers": {"pages": server}, **more}, {"COLUMNS": "80", "TERM": "dumb"})
    guard.write()
    return guard


def written(guard: Guard, server: str = "pages") -> Any:
    path = guard.folder / "manifests" / f"{server}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def at_terminal(guard: Guard, *words: str, typed: str) -> tuple[int, str]:
    """Run a command on a pseudo-terminal with these lines already typed."""
    code, output = guard.terminal(*words, typed=typed)
    return code, output.replace("\r\n", "\n")
