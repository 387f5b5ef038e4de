"""The SDK's client through a real guard to real servers, in both eras of the protocol."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from tests.e2e.harness import Guard, basic, connected, planted, raw_call, text_of, until

ERAS = ("legacy", "auto")
TIME = {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]}


def several(folder: Path) -> Guard:
    """The leaking server, git and time behind one guard."""
    repository = folder / "repository"
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    guard = basic(folder)
    guard.config["servers"] |= {
        "git": {"command": sys.executable, "args": ["-m", "mcp_server_git", "--repository", str(repository)]},
        "time": TIME,
    }
    guard.write()
    return guard


@pytest.mark.parametrize("mode", ERAS)
async def test_tools_of_several_servers_are_listed_with_their_names_and_called(mode: str, tmp_path: Path) -> None:
    """D14, D27: one guard, three servers, each under its prefix."""
    guard = several(tmp_path)
    async with connected(guard, mode=mode) as client:
        assert client.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"leaky_echo", "git_git_status", "time_get_current_time", "guard_approval_wait"} <= names
        status = await client.call_tool("git_git_status", {"repo_path": str(tmp_path / "repository")})
        assert "No commits yet" in status.content[0].text  # type: ignore[union-attr]
        now = await client.call_tool("time_get_current_time", {"timezone": "Europe/Berlin"})
        assert "Europe/Berlin" in now.content[0].text  # type: ignore[union-attr]
        assert text_of(await raw_call(client, "leaky_echo", {"value": "hello"})) == "hello"


@pytest.mark.parametrize("mode", ERAS)
async def test_progress_arrives_masked(mode: str, tmp_path: Path) -> None:
    """S25: progress messages are a side channel."""
    seen: list[tuple[float, float | None, str | None]] = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        seen.append((done, total, message))

    async with connected(basic(tmp_path), mode=mode) as client:
        await raw_call(client, "leaky_leak_progress", {}, progress_callback=note)
    assert [(done, total) for done, total, _ in seen] == [(1, 2)]
    assert seen[0][2] is not None
    assert seen[0][2].startswith("using ")
    assert planted()["progress"] not in seen[0][2]


@pytest.mark.parametrize("mode", ERAS)
async def test_a_cancelled_call_is_cancelled_at_the_server(mode: str, tmp_path: Path) -> None:
    """Protocol, cancellation: the server is told, the other calls go on, and the record says what happened."""
    guard = basic(tmp_path)
    async with connected(guard, mode=mode) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(raw_call, client, "leaky_slow", {"id": 1})
            await until(lambda: guard.count("slow"))
            assert text_of(await raw_call(client, "leaky_echo", {"value": "meanwhile"})) == "meanwhile"
            group.cancel_scope.cancel()
        await until(lambda: guard.count("slow was cancelled"))
        assert text_of(await raw_call(client, "leaky_echo", {"value": "after"})) == "after"
    ended = [entry for entry in guard.records() if (entry.type, entry.tool) == ("call.result", "leaky/slow")]
    assert [entry.outcome for entry in ended] in (["unknown"], ["error"])


async def test_instructions_of_known_servers_are_passed_on_masked(tmp_path: Path) -> None:
    """D27: from the second run on, and never with the server's secret."""
    guard = basic(tmp_path)
    async with connected(guard) as client:
        await client.list_tools()
    for mode in ERAS:
        async with connected(guard, mode=mode) as client:
            found = client.instructions or ""
        assert "[leaky] The admin password is" in found
        assert planted()["instructions"] not in found


async def test_one_server_alone_keeps_its_plain_names(tmp_path: Path) -> None:
    """D14: `serve --server NAME`, the shape of one host entry a server."""
    guard = several(tmp_path)
    async with connected(guard, "--server", "leaky") as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"echo", "delete_thing"} <= names
        assert not any("git_status" in name for name in names)
        assert text_of(await raw_call(client, "echo", {"value": "plain"})) == "plain"
        assert "[policy_denied]" in text_of(await raw_call(client, "drop_thing", {"id": 1}))


def growing(folder: Path) -> Guard:
    """A server whose new tools need nobody's word (docs/pins.md)."""
    guard = basic(folder)
    guard.config["servers"]["leaky"]["pins"] = "off"
    guard.write()
    return guard


async def grown_is_listed(client: Client) -> bool:
    return "leaky_grown" in {tool.name for tool in (await client.list_tools()).tools}


async def test_a_tool_that_is_added_later_is_announced_and_callable_in_the_older_era(tmp_path: Path) -> None:
    """Protocol, notifications/tools/list_changed: who lists only when told finds the tool."""
    send, told = anyio.create_memory_object_stream[None](100)

    async def hear(message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            send.send_nowait(None)

    with send, told:
        async with connected(growing(tmp_path), mode="legacy", message_handler=hear) as client:
            assert not await grown_is_listed(client)
            await raw_call(client, "leaky_grow", {})
            with anyio.fail_after(10):
                await told.receive()
                while not await grown_is_listed(client):
                    await told.receive()
            assert text_of(await raw_call(client, "leaky_grown", {})) == "grown  done"


async def test_a_tool_that_is_added_later_is_announced_to_a_modern_subscriber(tmp_path: Path) -> None:
    """Protocol 2026-07-28, subscriptions/listen."""
    async with connected(growing(tmp_path), mode="auto") as client:
        assert not await grown_is_listed(client)
        async with client.listen(tools_list_changed=True) as events:
            await raw_call(client, "leaky_grow", {})
            with anyio.fail_after(10):
                async for _ in events:
                    if await grown_is_listed(client):
                        break


async def test_a_server_that_cannot_start_and_one_that_is_silent_keep_nobody_waiting(tmp_path: Path) -> None:
    """F2, D27: `initialize` never waits, and calls to the others go through at once."""
    guard = basic(tmp_path)
    guard.config["servers"] |= {
        "broken": {"command": str(tmp_path / "no-such-program")},
        "exits": {"command": sys.executable, "args": ["-c", "raise SystemExit(3)"]},
        "silent": {"command": sys.executable, "args": ["-c", "import sys; sys.stdin.read()"]},
    }
    guard.write()
    began = time.monotonic()
    async with connected(guard, mode="legacy") as client:
        connected_after = time.monotonic() - began
        assert text_of(await raw_call(client, "leaky_echo", {"value": "here"})) == "here"
        called_after = time.monotonic() - began
    assert connected_after < 10
    assert called_after < 20


@pytest.mark.parametrize("mode", ERAS)
async def test_a_crash_in_a_call_is_an_unknown_outcome_and_the_next_call_works(mode: str, tmp_path: Path) -> None:
    """F1: never sent again, and the server is started again."""
    guard = basic(tmp_path)
    async with connected(guard, mode=mode) as client:
        crashed = await raw_call(client, "leaky_crash", {"id": 1})
        assert crashed["isError"] is True
        assert "[outcome_unknown]" in text_of(crashed)
        assert crashed["_meta"]["io.mcp-guard/error"]["code"] == "outcome_unknown"

        async def works() -> bool:
            return text_of(await raw_call(client, "leaky_echo", {"value": "again"})) == "again"

        await until(works)
    assert guard.count("crash") == 1


@pytest.mark.parametrize("mode", ERAS)
async def test_errors_of_the_guard_carry_their_code_where_a_result_cannot(mode: str, tmp_path: Path) -> None:
    """D4: an unknown tool and an unknown prompt are JSON-RPC errors with our code."""
    async with connected(basic(tmp_path), mode=mode) as client:
        for attempt in (
            lambda: raw_call(client, "leaky_nothing", {}),
            lambda: client.get_prompt("leaky_nothing"),
        ):
            with pytest.raises(MCPError) as caught:
                await attempt()
            assert caught.value.error.data["code"] == "unknown_target"
