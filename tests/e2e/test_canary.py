"""Secrets and personal data planted wherever a server or an agent can put them are found nowhere afterwards.

Source: security.md S25. One choke point for every outbound object; nothing of it on the client's wire, in a file below
the data folder, in the guard's log, or on a terminal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from tests.e2e.harness import PEOPLE, Guard, basic, connected, planted, raw_call, reviewing, text_of, until

ERAS = ("legacy", "auto")
TOOLS = (
    "text", "structured", "meta", "error", "exception", "progress", "stderr", "resource_content", "link", "people",
    "environment", "log",
)  # fmt: skip
CONFIGURED = "correct horse battery staple"
"""A secret that no detector knows: only the configuration says that it is one."""
IN_ARGUMENTS = {"token": "ghp_argumentsargumentsZq7Kp2Lm9Rt4Vb6Nc1x", "password": "Tr0ub4dor&3-arguments"}


async def nothing(*_: object) -> None:
    return None


async def touch_everything(client: Client) -> None:
    """Make the server say each of its secrets on each channel."""
    await client.list_tools()
    await client.list_resources()
    await client.list_resource_templates()
    await client.list_prompts()
    for tool in TOOLS:
        with contextlib.suppress(MCPError):
            await raw_call(client, f"leaky_leak_{tool}", {}, progress_callback=nothing)
    await client.read_resource("thing://1")
    await client.get_prompt("leaky_hello")
    reference = types.PromptReference(name="leaky_hello")
    await client.complete(reference, {"name": "whom", "value": "w"})


async def pass_arguments(client: Client) -> str:
    """Personal data goes through, secrets ask first; returns the ticket."""
    for value in PEOPLE.values():
        await raw_call(client, "leaky_echo", {"value": f"about {value}"})
    ticket = ""
    for key, secret in IN_ARGUMENTS.items():
        reply = await raw_call(client, "leaky_echo", {"value": f"{key}={secret}"})
        assert reply["isError"] is True
        assert "NOT executed" in text_of(reply)
        ticket = reply["_meta"]["io.mcp-guard/approval"]["ticket"]
        with contextlib.suppress(MCPError):
            await raw_call(client, f"leaky_{key}={secret}", {})
        with contextlib.suppress(MCPError):
            await client.read_resource(f"thing://1?{key}={secret}")
        await raw_call(client, "leaky_drop_thing", {"id": 1, key: secret})
        await raw_call(client, "leaky_read_thing", {"id": secret, key: secret})
    return ticket


def leaks(data: bytes, secrets: Mapping[str, str]) -> list[str]:
    """Names of the secrets in these bytes, also as JSON would write them."""
    return [name for name, secret in secrets.items() if secret.encode() in data]


def received(wire: Path) -> bytes:
    """What the client got, and what the guard wrote to stderr meanwhile."""
    return wire.read_bytes() + Path(f"{wire}.err").read_bytes()


def all_secrets() -> dict[str, str]:
    return {**planted(), **PEOPLE, **IN_ARGUMENTS, "configured": CONFIGURED}


def canary_guard(folder: Path) -> Guard:
    guard = basic(folder, approvals={"hold_s": 0.1})
    guard.config["servers"]["leaky"]["env"] = {"LEAKY_PLAIN": "${env:CANARY}"}
    guard.env["CANARY"] = CONFIGURED
    guard.write()
    return guard


@pytest.mark.parametrize("mode", ERAS)
async def test_no_planted_secret_is_seen_by_the_client_or_left_anywhere(mode: str, tmp_path: Path) -> None:
    """S25, D3, D4, D11: every channel of a server and of an agent, twice, so that remembered catalogues count too."""
    guard, wire = canary_guard(tmp_path), tmp_path / "wire"
    for _ in range(2):
        async with connected(guard, mode=mode, record=wire, logging_callback=nothing) as client:
            await touch_everything(client)
            await pass_arguments(client)
    assert leaks(received(wire), all_secrets()) == []
    assert leaks(guard.everything_written(), all_secrets()) == []


async def test_no_planted_secret_is_printed_by_the_commands(tmp_path: Path) -> None:
    """S25: what people and programs read of the record and of the requests."""
    guard = canary_guard(tmp_path)
    async with connected(guard) as client:
        await touch_everything(client)
        ticket = await pass_arguments(client)
    shown = terminal_output(guard, ticket)
    assert leaks(shown, all_secrets()) == []
    assert ticket.encode() in shown


def terminal_output(guard: Guard, ticket: str) -> bytes:
    """All that the commands print, for people and for programs."""
    leaked = next(entry.call_id for entry in guard.records() if entry.tool == "leaky/leak_text")
    commands: list[tuple[str, ...]] = [
        ("audit", "tail", "-n", "1000"),
        ("audit", "show", ticket),
        ("audit", "show", leaked),
        ("audit", "show", leaked, "--json"),
        ("audit", "verify"),
        ("approvals", "ls", "--all"),
        ("approvals", "show", ticket),
        ("approvals", "show", ticket, "--json"),
    ]
    done = [guard.cli(*command) for command in commands]
    assert [one.returncode for one in done] == [0] * len(commands)
    return "".join(one.stdout + one.stderr for one in done).encode()


async def test_what_the_canary_looks_for_did_reach_the_server_and_leave_it(tmp_path: Path) -> None:
    """The search itself is checked: without masking of results each kind of secret is on the wire."""
    guard = canary_guard(tmp_path)
    wire = tmp_path / "wire"
    guard.config["masking"] = {"results": {"pii": "off"}}
    guard.write()
    async with connected(guard, record=wire) as client:
        await touch_everything(client)
    found = leaks(received(wire), all_secrets())
    assert set(PEOPLE) <= set(found)
    ran = {one["tool"] for one in guard.effects()}
    assert ran == {*(f"leak_{tool}" for tool in TOOLS), "resource", "prompt", "completion"}


@pytest.mark.parametrize("mode", ERAS)
async def test_a_call_with_a_secret_asks_and_the_question_does_not_hold_it(mode: str, tmp_path: Path) -> None:
    """D33, `arguments.secrets: ask`: form, ticket, card and log are masked; the server gets the real value."""
    asked: list[str] = []

    async def person(_context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        asked.append(params.model_dump_json())
        return types.ElicitResult(action="cancel")

    guard, wire = basic(tmp_path, approvals={"hold_s": 0.5}), tmp_path / "wire"
    value = f"log in with {IN_ARGUMENTS['token']} please"
    async with connected(guard, mode=mode, record=wire, elicitation_callback=person) as client:
        suspended = await client.call_tool("leaky_echo", {"value": value})
        assert suspended.is_error
        async with reviewing(guard) as review:
            (request,) = await review.list_requests()
            assert IN_ARGUMENTS["token"] not in str(request.view)
            assert "[SECRET_" in str(request.view)
            token = await review.reviewers.add("rita", by="test")
            reviewer = await review.identify(user="", tty=False, token=token)
            await review.decide(request.row.id, "approve", reviewer, f"fine, {IN_ARGUMENTS['token']} is revoked")
        await until(lambda: guard.count("echo"))
        done = await raw_call(client, "guard_approval_wait", {"ticket": request.row.id})
        assert "[SECRET_" in text_of(done)
    assert guard.effects() == [{"tool": "echo", "arguments": {"value": value}}]
    assert len(asked) == 1
    everything = "".join(asked).encode() + received(wire) + guard.everything_written()
    assert leaks(everything, IN_ARGUMENTS) == []
