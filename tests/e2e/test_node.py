"""An independent client, the TypeScript SDK, starts the guard by a host block that `mcp-guard init` printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Guard, leaky, text_of
from tests.e2e.test_reference_servers import PACKAGES, installed, node, node_server

FOLDER = Path(__file__).parent / "node"
CLIENTS = ["client.mjs"] if node() and (PACKAGES / "sdk" / "package.json").exists() else []
"""Empty where Node or its packages are not there: `install.py` says so, and fails where CI is set."""


def registered(folder: Path, servers: dict[str, Any]) -> tuple[Guard, Path]:
    """A guard in front of a host's servers, and the host's new file with the printed block in place of them."""
    before, after = folder / "before.json", folder / "after.json"
    before.write_text(json.dumps({"mcpServers": servers}))
    guard = Guard(folder, {})
    command = [sys.executable, "-m", "mcp_guard.cli.main", "init", "--from", str(before), "--config", str(guard.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(folder))
    assert done.returncode == 0, done.stderr
    text = guard.path.read_text()
    assert "hold_s: 45.0" in text
    guard.path.write_text(text.replace("hold_s: 45.0", "hold_s: 0.3"))
    block = done.stdout.split("== Claude Desktop: ")[1].split("\n", 1)[1].split("\n\n==")[0]
    after.write_text(block)
    assert json.loads(before.read_text()) == {"mcpServers": servers}
    return guard, after


def environment(folder: Path) -> dict[str, str]:
    """A home of its own, so that the data folder of the user is not touched."""
    own = {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), "XDG_CONFIG_HOME": str(folder / "config")}
    return {**os.environ, **own}


def run_client(script: str, host_file: Path, calls: list[dict[str, Any]], answer: str = "none") -> dict[str, Any]:
    done = subprocess.run(
        [node() or "", str(FOLDER / script), str(host_file), json.dumps(calls), answer],
        cwd=host_file.parent,
        env=environment(host_file.parent),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("script", CLIENTS)
@pytest.mark.parametrize("package", installed("server-filesystem"))
def test_a_printed_block_lists_and_calls_tools_of_two_servers(tmp_path: Path, script: str, package: str) -> None:
    """docs/cli.md, `init`: what is printed is what a host needs. Both servers are reviewed, so reading just runs."""
    data = tmp_path / "files"
    data.mkdir()
    (data / "note.txt").write_text("call jane@example.com")
    memory = node_server("server-memory", MEMORY_FILE_PATH=str(tmp_path / "memory.json"))
    _, host_file = registered(tmp_path, {"files": node_server(package, str(data)), "memory": memory})

    found = run_client(
        script,
        host_file,
        [
            {"name": "files_read_text_file", "arguments": {"path": str(data / "note.txt")}},
            {"name": "memory_read_graph", "arguments": {}},
            {"name": "files_write_file", "arguments": {"path": str(data / "new.txt"), "content": "x"}},
        ],
    )

    names = {tool["name"] for tool in found["tools"]}
    assert {"files_read_text_file", "memory_create_entities", "guard_approval_wait"} <= names
    read, graph, written = found["results"]
    assert "call [EMAIL_" in text_of(read)
    assert "jane@example.com" not in json.dumps(found)
    assert "entities" in text_of(graph)
    assert not graph.get("isError")
    assert written["_meta"]["io.mcp-guard/approval"]["state"] == "pending"
    assert not (data / "new.txt").exists()


@pytest.mark.parametrize("script", CLIENTS)
@pytest.mark.parametrize(
    ("answer", "effects", "told"),
    [
        ("approve", 1, "delete_thing 7 done"),
        ("wrong", 0, "NOT executed"),
        ("cancel", 0, "NOT executed"),
        ("decline", 0, "[approval_denied]"),
    ],
)
def test_a_call_runs_only_when_the_person_at_the_client_approves_what_is_shown(
    tmp_path: Path, script: str, answer: str, effects: int, told: str
) -> None:
    """decisions.md D6, D25; security.md S15: a high risk is approved by typing the fingerprint."""
    guard, host_file = registered(tmp_path, {"leaky": leaky(tmp_path)})

    found = run_client(script, host_file, [{"name": "delete_thing", "arguments": {"id": 7}}], answer)

    [prompt], [result] = found["prompts"][:1], found["results"]
    assert "Tool: leaky.delete_thing" in prompt["message"]
    assert '"id" = 7' in prompt["message"]
    assert told in text_of(result)
    assert result.get("isError", False) is (effects == 0)
    assert [effect["tool"] for effect in guard.effects()] == ["delete_thing"] * effects


def test_node_is_there_where_the_whole_suite_has_to_run() -> None:
    """In continuous integration nothing is left out in silence."""
    assert CLIENTS or not os.environ.get("CI")
