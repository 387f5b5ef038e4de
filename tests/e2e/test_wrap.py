"""`mcp-guard wrap` as a person runs it, and an independent client on the host's file before and after."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import text_of
from tests.e2e.test_node import CLIENTS, environment, run_client
from tests.e2e.test_reference_servers import installed, node_server

SECRET = "canary-Zq7Kp2Lm9Rt4Vb6Nc1"
HOST_FILE = "config/Claude/claude_desktop_config.json"


def guard(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of mcp-guard in a home of its own, outside of a terminal."""
    command = [sys.executable, "-m", "mcp_guard.cli.main", *words]
    env = {**environment(folder), "COLUMNS": "80", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=env, cwd=folder, stdin=subprocess.DEVNULL, timeout=60
    )


def host_file(folder: Path, servers: dict[str, Any]) -> Path:
    path = folder / HOST_FILE
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"theme": "dark", "mcpServers": servers}, indent="\t") + "\n", encoding="utf-8")
    return path


def alone(path: Path, name: str) -> Path:
    """A file with one entry of a host's file, as its host would start it."""
    entry = json.loads(path.read_text(encoding="utf-8"))["mcpServers"][name]
    one = path.parents[2] / f"{name}.json"
    one.write_text(json.dumps({"mcpServers": {name: entry}}), encoding="utf-8")
    return one


@pytest.mark.parametrize("script", CLIENTS)
@pytest.mark.parametrize("package", installed("server-filesystem"))
def test_wrapped_the_typescript_client_sees_the_same_tools_and_results(
    tmp_path: Path, script: str, package: str
) -> None:
    """docs/hosts.md: nothing broke; decisions.md D14: the same names."""
    data = tmp_path / "files"
    data.mkdir()
    (data / "note.txt").write_text("first line\nsecond line\n", encoding="utf-8")
    memory = node_server("server-memory", MEMORY_FILE_PATH=str(tmp_path / "memory.json"), API_TOKEN=SECRET)
    path = host_file(tmp_path, {"files": node_server(package, str(data)), "memory": memory})
    before = path.read_bytes()
    calls: dict[str, list[dict[str, Any]]] = {
        "files": [
            {"name": "read_text_file", "arguments": {"path": str(data / "note.txt")}},
            {"name": "list_directory", "arguments": {"path": str(data)}},
        ],
        "memory": [{"name": "read_graph", "arguments": {}}],
    }
    direct = {name: run_client(script, alone(path, name), calls[name]) for name in calls}

    done = guard(tmp_path, "wrap", "--yes")

    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + path.read_text(encoding="utf-8")
    for name, wanted in calls.items():
        guarded = run_client(script, alone(path, name), wanted)
        names = [tool["name"] for tool in guarded["tools"] if not tool["name"].startswith("guard_")]
        assert names == [tool["name"] for tool in direct[name]["tools"]]
        seen = {tool["name"]: tool["inputSchema"] for tool in guarded["tools"]}
        assert all(seen[tool["name"]] == tool["inputSchema"] for tool in direct[name]["tools"])
        for result, expected in zip(guarded["results"], direct[name]["results"], strict=True):
            assert text_of(result) == text_of(expected)
            assert result.get("structuredContent") == expected.get("structuredContent")
    undone = guard(tmp_path, "unwrap", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize(("answer", "changed"), [("y\nn\n", True), ("\n", False)])
def test_in_a_terminal_the_person_is_asked_once(tmp_path: Path, answer: str, changed: bool) -> None:  # noqa: FBT001 - a parameter
    """docs/hosts.md: shows, then asks."""
    path = host_file(tmp_path, {"a": {"command": "x"}})
    before = path.read_bytes()
    if sys.platform == "win32":
        pytest.skip("no pseudo-terminals")
    parent, child = pty.openpty()
    env = {**environment(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "mcp_guard.cli.main", "wrap"]
    with subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=env, cwd=tmp_path):
        os.close(child)
        os.write(parent, answer.encode())
        shown = b""
        while chunk := _read(parent):
            shown += chunk
    os.close(parent)
    assert shown.count(b"[y/N]") == 1
    assert shown.count(b"Review the tools of this server now?") == changed
    assert (path.read_bytes() != before) is changed


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""  # the other end of a terminal is closed
