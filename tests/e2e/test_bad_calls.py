"""Bad calls, lines, servers and decisions: an answer with code and hint, nothing forwarded that should not be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.e2e.harness import Guard, RawGuard, basic, connected, raw_call, text_of

RAW_SERVER = Path(__file__).parents[1] / "downstream" / "fixtures" / "raw_server.py"


def _call_line(value: bytes, request_id: bytes = b"900", key: bytes = b"value") -> bytes:
    return b'{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"leaky_echo","arguments":{"%s":%s}}}' % (
        request_id,
        key,
        value,
    )


BAD_LINES: list[tuple[str, bytes, int, int | None]] = [
    ("two ids", b'{"jsonrpc":"2.0","id":900,"id":901,"method":"ping"}', -32700, 901),
    ("duplicate argument", _call_line(b'"a","value":"b"'), -32700, 900),
    ("duplicate argument, escaped", _call_line(rb'"a","v\u0061lue":"b"'), -32700, 900),
    ("NaN", _call_line(b"NaN"), -32700, 900),
    ("a number out of range", _call_line(b"1e400"), -32600, 900),
    ("a lone surrogate", _call_line(rb'"\ud800"'), -32700, None),
    ("deep nesting", _call_line(b"[" * 150 + b"]" * 150), -32600, 900),
    ("a batch", b"[" + _call_line(b'"a"') + b"]", -32600, None),
    ("invalid UTF-8", _call_line(b'"\xff\xfe"'), -32700, None),
    ("a huge line", _call_line(b'"' + b"x" * (5 << 20) + b'"'), -32600, None),
    ("no JSON", b"hello", -32700, None),
    ("neither request nor response", b'{"jsonrpc":"2.0","id":900}', -32600, 900),
    ("arguments that are no object", _call_line(b"1").replace(b'{"value":1}', b"[1]"), -32602, 900),
]


async def test_each_bad_line_of_a_client_is_answered_and_the_stream_goes_on(tmp_path: Path) -> None:
    """security.md S1 to S5; decisions.md D3: "Refusals are answered, never silent"."""
    guard = basic(tmp_path)

    async with RawGuard(guard) as raw:
        await raw.request("tools/list", {})
        for name, line, code, request_id in BAD_LINES:
            await raw.send(line)
            answer = await _next_error(raw)

            assert answer["error"]["code"] == code, name
            assert answer["id"] in {request_id, None}, name
            # What is wrong is said in constant text.
            assert "ghp_" not in answer["error"]["message"], name
            assert len(answer["error"]["message"]) < 100, name
        good = await raw.call("leaky_echo", {"value": "still here"})

    assert text_of(good["result"]) == "still here"
    assert [effect["arguments"] for effect in guard.effects()] == [{"value": "still here"}]


async def _next_error(raw: RawGuard) -> dict[str, Any]:
    with anyio.fail_after(10):
        while True:
            message = await raw.receive()
            if "error" in message:
                return message


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("crash", "outcome_unknown"),
        ("garbage", "outcome_unknown"),
        ("invalid_result", None),
        ("few_garbage", None),
        ("endless", "outcome_unknown"),
    ],
)
async def test_what_a_broken_server_sends_never_breaks_the_guard(tmp_path: Path, mode: str, code: str | None) -> None:
    """security.md F1, F4."""
    guard = basic(tmp_path)
    guard.config["servers"]["raw"] = {
        "command": sys.executable,
        "args": [str(RAW_SERVER), mode],
        "call_timeout_s": 5,
        "names": "plain",
    }
    guard.config["rules"].append({"id": "raw", "match": {"server": "raw"}, "effect": "allow", "reason": "a test"})
    guard.write()

    async with RawGuard(guard) as raw:
        await raw.request("tools/list", {})
        answer = await raw.call("echo", {})
        other = await raw.call("leaky_echo", {"value": "others go on"})

    shown = json.dumps(answer)
    assert "hunter2" not in shown
    if code is not None:
        assert answer["result"]["_meta"]["io.mcp-guard/error"]["code"] == code
        assert "check at the server" in text_of(answer["result"])
    assert text_of(other["result"]) == "others go on"
    assert guard.cli("audit", "verify").returncode == 0


async def test_a_server_that_crashes_in_a_call_ran_it_once_and_comes_back(tmp_path: Path) -> None:
    """security.md F1: unknown if bytes were written; started again with back-off; never repeated by the guard."""
    guard = basic(tmp_path)

    async with RawGuard(guard) as raw:
        await raw.request("tools/list", {})
        crashed = (await raw.call("leaky_crash", {"id": 1}))["result"]
        with anyio.fail_after(20):
            while True:
                after = (await raw.call("leaky_echo", {"value": "back"}))["result"]
                if not after["isError"]:
                    break
                assert after["_meta"]["io.mcp-guard/error"]["code"] == "downstream_unavailable"

    assert crashed["_meta"]["io.mcp-guard/error"]["code"] == "outcome_unknown"
    assert [effect["tool"] for effect in guard.effects()] == ["crash", "echo"]
    outcomes = [e["outcome"] for e in guard.json("audit", "tail", "-n", "1000") if e["tool"] == "leaky/crash"]
    assert outcomes == ["allow", "unknown"]


BAD_ARGUMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("leaky_read_thing", {}, "required (id)"),
    ("leaky_read_thing", {"id": "seven"}, "/id: type (integer)"),
    ("leaky_delete_thing", {"id": [1]}, "/id: type (integer)"),
    ("guard_approval_wait", {"ticket": 7}, "takes a ticket"),
]


async def test_arguments_that_break_the_schema_are_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    """decisions.md D23."""
    guard = basic(tmp_path)

    async with connected(guard) as client:
        for tool, arguments, told in BAD_ARGUMENTS:
            result = await raw_call(client, tool, arguments)

            assert result["isError"]
            assert result["_meta"]["io.mcp-guard/error"]["code"] == "invalid_arguments"
            assert told in text_of(result)
            assert "hint: " in text_of(result)
            assert "seven" not in text_of(result)

    assert guard.effects() == []
    assert guard.json("approvals", "ls", "--all") == []


async def test_a_tool_in_no_manifest_asks_and_says_how_its_owner_can_settle_that(tmp_path: Path) -> None:
    """decisions.md D30: a tool in no manifest counts as high."""
    guard = basic(tmp_path, rules=[])

    async with connected(guard) as client:
        result = await raw_call(client, "leaky_echo", {"value": "hello"})

    assert result["_meta"]["io.mcp-guard/approval"]["state"] == "pending"
    assert "match: {server: leaky, tool: echo}" in text_of(result)
    assert guard.effects() == []


@pytest.mark.skipif(sys.platform == "win32", reason="symlinks need a privilege on Windows")
async def test_an_argument_that_leads_into_the_guards_own_files_is_denied_whatever_the_rules_say(
    tmp_path: Path,
) -> None:
    """decisions.md D32: a tool that could write there could approve its own calls."""
    folder = tmp_path / "Folder"
    folder.mkdir()
    guard = basic(folder, rules=[{"id": "all", "effect": "allow", "reason": "a test server"}])
    guard.env["HOME"] = str(tmp_path)
    (folder / "innocent").symlink_to(guard.data)
    shapes = {
        "plain": str(guard.data / "approvals.db"),
        "dots": f"{folder}/x/../guard-data/keys",
        "symlink": str(folder / "innocent" / "keys" / "vault.1.key"),
        "relative": "guard-data/approvals.db",
        "file url": (guard.path).as_uri(),
        "home": "~/Folder/guard.yaml",
        "case": str(guard.data).upper() + "/approvals.db",
        "in a command line": f"cp x '{guard.data}/approvals.db'",
    }

    async with connected(guard) as client:
        for shape, value in shapes.items():
            refused = await raw_call(client, "leaky_echo", {"value": value})

            assert refused["_meta"]["io.mcp-guard/error"]["code"] == "policy_denied", shape
            assert "builtin" in text_of(refused), shape
        fine = await raw_call(client, "leaky_echo", {"value": str(tmp_path / "notes.txt")})

    assert not fine["isError"]
    assert len(guard.effects()) == 1


async def _suspended(guard: Guard) -> str:
    async with connected(guard) as client:
        result = await raw_call(client, "leaky_delete_thing", {"id": 1})
    return str(result["_meta"]["io.mcp-guard/approval"]["ticket"])


async def test_a_second_decision_changes_nothing_and_says_who_was_first(tmp_path: Path) -> None:
    """approvals.md T4, T5, I5; security.md S13."""
    guard = basic(tmp_path)
    rita, sam = guard.reviewer("rita"), guard.reviewer("sam")
    ticket = await _suspended(guard)
    first = guard.cli("approvals", "deny", ticket, "--reason", "not today", token=rita)

    second = guard.approve(ticket, token=sam)

    assert first.returncode == 0
    assert second.returncode == 1
    assert second.stderr.startswith(f"[already_decided] the request {ticket} is denied already by rita\nhint: ")
    async with connected(guard) as client:
        outcome = await raw_call(client, "guard_approval_wait", {"ticket": ticket})
    assert outcome["_meta"]["io.mcp-guard/error"]["code"] == "approval_denied"
    assert guard.effects() == []


async def test_only_a_registered_token_decides(tmp_path: Path) -> None:
    """decisions.md D25."""
    guard = basic(tmp_path)
    token = guard.reviewer()
    ticket = await _suspended(guard)

    refused = [
        guard.cli("approvals", "approve", ticket),
        guard.approve(ticket, token=token[:-1] + ("A" if token[-1] != "A" else "B")),
        guard.cli("approvals", "approve", "apr_unknown", token=token),
    ]

    assert [done.returncode for done in refused] == [1, 1, 1]
    assert [done.stderr.split("]")[0] for done in refused] == ["[not_eligible", "[not_eligible", "[unknown_approval"]
    assert all("hint: " in done.stderr for done in refused)
    assert token not in guard.everything_written().decode("latin-1")
    assert guard.json("approvals", "show", ticket)["state"] == "pending"


async def test_somebody_elses_ticket_gives_nothing(tmp_path: Path) -> None:
    """security.md S11, S27: an id alone is no right."""
    guard = basic(tmp_path)
    ticket = await _suspended(guard)
    guard.env["MCP_GUARD_PRINCIPAL"] = "another-agent"

    async with connected(guard) as client:
        results = [
            await raw_call(client, "guard_approval_wait", {"ticket": text, "timeout_s": 0})
            for text in (ticket, "apr_unknown")
        ]

    codes = [result["_meta"]["io.mcp-guard/error"]["code"] for result in results]
    assert codes == ["unknown_approval", "unknown_approval"]
