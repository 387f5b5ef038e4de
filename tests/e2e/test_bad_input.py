"""Bad configuration, folders, keys: a clear error with code and hint, nothing is lost (CONTRIBUTING.md, habit 5).

Each case runs the real program. What a call may do wrong is in `test_bad_calls.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError
from mcp.client.stdio import StdioServerParameters

from mcp_guard import system
from tests.e2e.harness import Guard, RawGuard, basic, connected, leaky, raw_call, text_of

FIXTURES = Path(__file__).parents[1] / "downstream" / "fixtures"
SECRET = "hunter2-hunter2"

BAD_CONFIG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": ({"rulez": SECRET}, ["rulez", "unknown key", "did you mean rules?"]),
    "wrong type": ({"approvals": {"hold_s": SECRET}}, ["approvals.hold_s", "must be a number"]),
    "missing command": ({"servers": {"x": {"env": {"A": SECRET}}}}, ["servers.x", "exactly one of command and url"]),
    "invalid manifest": ({"manifests": ["./bad.yaml"]}, ["bad.yaml:2: tools.a.riskk", "did you mean risk?"]),
    "absent manifest": ({"manifests": ["./no.yaml"]}, ["manifests[0]"]),
    "condition": ({"rules": [{"id": "r", "match": {"where": "args."}, "effect": "deny"}]}, ["rules[0].match.where"]),
    "two problems": ({"rulez": 1, "environment": [SECRET]}, ["2 problems", "rulez", "environment"]),
    "unset variable": (
        {"servers": {"x": {"command": "a", "env": {"KEY": "${env:NOT_SET_ANYWHERE}"}}}},
        ["servers.x.env.KEY", "NOT_SET_ANYWHERE is not set"],
    ),
}


@pytest.mark.parametrize(
    ("case", "command"),
    [*((case, "check") for case in BAD_CONFIG), ("unknown key", "serve"), ("unset variable", "serve")],
)
def test_a_bad_configuration_is_refused_whole_with_place_and_hint_and_no_value(
    tmp_path: Path, case: str, command: str
) -> None:
    """security.md F15, S38."""
    change, expected = BAD_CONFIG[case]
    (tmp_path / "bad.yaml").write_text("manifest: 1\ntools: {a: {riskk: low}}\n")
    guard = basic(tmp_path, **change)

    done = guard.cli(command)

    assert done.returncode == 2
    assert done.stderr.startswith("[config] ")
    assert "hint: " in done.stderr
    assert [part for part in expected if part not in done.stderr] == []
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not guard.data.exists()


def test_each_server_that_cannot_work_is_named_by_check_and_the_good_one_is_not_held_up(tmp_path: Path) -> None:
    """security.md F2: a missing command, an unreachable address, a program that ends at once."""
    bad: dict[str, Any] = {
        "gone": {"command": "no-such-program-anywhere"},
        "far": {"url": "http://127.0.0.1:9/mcp", "headers": {"Authorization": f"Bearer {SECRET}"}},
        "ends": {"command": sys.executable, "args": [str(FIXTURES / "raw_server.py"), "exit"]},
    }
    guard = basic(tmp_path, servers={"leaky": leaky(tmp_path), **bad})

    done = guard.cli("check", "--connect", "--json")

    assert done.returncode == 1
    states = {state["server"]: state for state in json.loads(done.stdout)["servers"]}
    assert {name: state["status"] for name, state in states.items()} == {
        "leaky": "ready",
        "gone": "failed",
        "far": "failed",
        "ends": "failed",
    }
    assert "its command is not found" in states["gone"]["reason"]
    assert "no connection to its url" in states["far"]["reason"]
    assert "exited with code 3" in states["ends"]["reason"]
    assert SECRET not in done.stdout + done.stderr


async def test_a_call_to_a_server_that_cannot_start_is_unavailable_and_others_are_served(tmp_path: Path) -> None:
    """security.md F2. What a dead server offers is known from its last run."""
    raw = {"command": sys.executable, "args": [str(FIXTURES / "raw_server.py")], "pins": "definitions"}
    guard = basic(tmp_path, servers={"leaky": leaky(tmp_path), "raw": raw}, rules=_allow_all())
    async with connected(guard) as client:
        assert "raw_echo" in [tool.name for tool in (await client.list_tools()).tools]
    server = tmp_path / "gone.py"
    server.write_text((FIXTURES / "raw_server.py").read_text())
    guard.config["servers"]["raw"] = {**raw, "args": [str(server)]}
    guard.write()
    async with connected(guard) as client:
        assert not (await raw_call(client, "raw_echo", {})).get("isError")
    server.write_text("raise SystemExit(3)")

    async with connected(guard) as client:
        refused = await raw_call(client, "raw_echo", {})
        answered = await raw_call(client, "leaky_echo", {"value": "hello"})

    assert refused["_meta"]["io.mcp-guard/error"]["code"] == "downstream_unavailable"
    assert "check --connect" in text_of(refused)
    assert text_of(answered) == "hello"


def _allow_all() -> list[dict[str, Any]]:
    return [{"id": "all", "effect": "allow", "reason": "test servers"}]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["serve"], 2),
        (["check", "--connect"], 2),
        (["approvals", "ls"], 2),
        (["reviewer", "add", "rita"], 2),
        (["audit", "verify"], 3),
    ],
    ids=["serve", "check", "approvals", "reviewer", "verify"],
)
def test_a_data_folder_that_cannot_be_written_is_an_error_with_a_hint(
    tmp_path: Path, command: list[str], code: int
) -> None:
    """security.md F10. Below a plain file nobody can write, not even the superuser."""
    (tmp_path / "file").write_text("in the way")
    guard = basic(tmp_path, data_dir="./file/data")

    done = guard.cli(*command)

    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert ("data folder" in done.stderr and "hint: " in done.stderr) or "no log to read" in done.stdout
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
async def test_no_call_runs_when_the_disk_is_full(tmp_path: Path) -> None:
    """security.md F10: "No audit, no call". A limit on the size of files stands for the full disk."""
    guard = basic(tmp_path, audit={"append_timeout_s": 1})
    guard.cli("serve")  # makes the files
    largest = max(path.stat().st_size for path in guard.data.rglob("*") if path.is_file())

    async with _limited(guard, largest + 40_000) as raw:
        await raw.request("tools/list", {})
        answers = [(await raw.call("leaky_echo", {"value": f"{n} " + "text " * 100}))["result"] for n in range(25)]

    refused = [answer for answer in answers if answer["isError"]]
    assert refused
    assert {answer["_meta"]["io.mcp-guard/error"]["code"] for answer in refused} == {"audit_unavailable"}
    assert any("has space" in text_of(answer) for answer in refused)
    # Each answer tells the truth: what was refused did not run; what ran unrecorded says so.
    withheld = [answer for answer in refused if "could not be recorded" in text_of(answer)]
    assert len(guard.effects()) == len(answers) - len(refused) + len(withheld)
    assert guard.cli("audit", "verify").returncode == 0


def _limited(guard: Guard, size: int) -> RawGuard:
    program = (
        "import resource, signal, sys; from mcp_guard.cli.main import run; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "
        f"sys.argv = ['mcp-guard', 'serve', '--config', {str(guard.path)!r}]; run()"
    )

    class Limited(Guard):
        def params(self, *extra: str) -> StdioServerParameters:
            return guard.params(*extra).model_copy(update={"args": ["-c", program]})

    return RawGuard(Limited(guard.folder, guard.config))


def test_a_configuration_that_came_with_a_repository_is_never_used(tmp_path: Path) -> None:
    """decisions.md D32."""
    repository = tmp_path / "cloned"
    repository.mkdir()
    guard = basic(repository)
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "APPDATA": str(tmp_path / "config")}

    for command in (["serve"], ["check", "--connect"], ["approvals", "ls"]):
        done = subprocess.run(
            [sys.executable, "-m", "mcp_guard.cli.main", *command],
            cwd=repository,
            env={key: value for key, value in {**_environ(), **home}.items() if key != "MCP_GUARD_CONFIG"},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )

        assert done.returncode == 2
        assert "is not used by itself: it may have come with a repository" in done.stderr
        assert "--config ./guard.yaml" in done.stderr
    assert not guard.data.exists()
    assert guard.effects() == []


def _environ() -> dict[str, str]:
    import os

    return dict(os.environ)


async def test_two_guards_on_one_data_folder_write_into_slots_of_their_own(tmp_path: Path) -> None:
    """decisions.md D7."""
    guard = basic(tmp_path)

    async with RawGuard(guard) as first, RawGuard(guard) as second:
        suspended = await first.call("leaky_delete_thing", {"id": 1})
        same = await second.call("leaky_delete_thing", {"id": 1})
        for raw in (first, second):
            assert text_of((await raw.call("leaky_echo", {"value": "hello"}))["result"]) == "hello"

        # Both are guards of one requester: the second attaches to the request that the first made.
        tickets = {answer["result"]["_meta"]["io.mcp-guard/approval"]["ticket"] for answer in (suspended, same)}
        assert len(tickets) == 1
        assert sorted(path.name for path in (guard.data / "audit").iterdir() if path.is_dir()) == ["00", "01"]
        assert guard.cli("audit", "verify").returncode == 0
    report = guard.json("audit", "verify")
    assert (report["outcome"], report["files"]) == ("OK", 2)


@pytest.mark.parametrize("command", [["serve"], ["approvals", "ls"], ["reviewer", "add", "rita"]], ids=" ".join)
def test_a_damaged_database_of_approvals_refuses_and_is_left_as_it_is(tmp_path: Path, command: list[str]) -> None:
    """security.md F12."""
    guard = basic(tmp_path)
    guard.reviewer()
    database = guard.data / "approvals.db"
    damaged = b"no database at all" * 500
    database.write_bytes(damaged)
    for beside in ("-wal", "-shm"):
        (guard.data / f"approvals.db{beside}").unlink(missing_ok=True)

    done = guard.cli(*command)

    assert done.returncode == 3
    assert done.stderr.startswith("[store_unavailable] ")
    assert "hint: " in done.stderr
    assert database.read_bytes() == damaged


def test_a_log_whose_key_is_gone_is_not_continued_and_cannot_be_verified(tmp_path: Path) -> None:
    """security.md F19; docs/cli.md: 2 is "a key is missing", which is not tampering."""
    guard = basic(tmp_path)
    assert guard.cli("serve").returncode == 0
    [key] = (guard.data / "keys").glob("checkpoint.*.key")
    kept = key.read_bytes()
    key.unlink()

    verified, served = guard.cli("audit", "verify"), guard.cli("serve")

    assert (verified.returncode, served.returncode) == (2, 3)
    assert "UNVERIFIABLE" in verified.stdout
    assert served.stderr.startswith("[audit_unavailable] the key that signed this log is missing\nhint: ")
    assert not key.exists()
    system.write_new_private(key, kept)
    assert guard.cli("audit", "verify").returncode == 0


def test_a_damaged_key_is_named_and_not_replaced(tmp_path: Path) -> None:
    """security.md F19."""
    guard = basic(tmp_path)
    guard.cli("serve")
    [key] = (guard.data / "keys").glob("vault.*.key")
    key.write_bytes(b"short")

    done = guard.cli("serve")

    assert done.returncode == 2
    assert "[config] a file of the key 'vault' is damaged" in done.stderr
    assert "backup" in done.stderr
    assert key.read_bytes() == b"short"


async def test_a_server_name_that_is_not_configured_is_told(tmp_path: Path) -> None:
    """docs/cli.md: `serve --server NAME`."""
    done = basic(tmp_path).cli("serve", "--server", "nobody")

    assert done.returncode == 2
    assert "no server named nobody" in done.stderr
    assert "it has: leaky" in done.stderr


async def test_an_unknown_name_is_a_protocol_error_that_is_recorded(tmp_path: Path) -> None:
    """MCP 2026-07-28, tools, "Error Handling": unknown tools are protocol errors."""
    guard = basic(tmp_path)

    async with connected(guard) as client:
        with pytest.raises(MCPError) as refused:
            await raw_call(client, "leaky_nothing", {})

    assert refused.value.code == -32602
    assert refused.value.data["code"] == "unknown_target"
    assert refused.value.data["hint"]
    assert guard.effects() == []
    assert "unknown_target" in [entry["outcome"] for entry in guard.json("audit", "tail")]
