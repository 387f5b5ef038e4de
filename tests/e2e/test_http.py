"""`serve --http`: the guard as a streamable HTTP server on loopback, and a server behind it that is one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.harness import Guard, basic, connected, raw_call, text_of

HERE = Path(__file__).parent
TOKEN = "downstream-token-9f3k2"
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
ACCEPT = {"content-type": "application/json", "accept": "application/json, text/event-stream"}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends the guard with SIGTERM")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Served:
    """A guard process that listens."""

    def __init__(self, guard: Guard, port: int, process: subprocess.Popen[str]) -> None:
        self.guard, self.port, self.process = guard, port, process
        self.url = f"http://127.0.0.1:{port}/mcp"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(self.guard.data / 'http.token').read_text()}"}

    @asynccontextmanager
    async def client(self, mode: str = "auto", **more: Any) -> AsyncIterator[Client]:
        async with httpx2.AsyncClient(headers=self.headers, timeout=30) as http:
            transport = streamable_http_client(self.url, http_client=http)
            async with Client(transport, mode=mode, cache=None, **more) as found:
                yield found

    def post(self, body: bytes = PING, **headers: str) -> httpx2.Response:
        return httpx2.post(self.url, content=body, headers={**ACCEPT, **headers})


@contextmanager
def serving(guard: Guard, *extra: str) -> Iterator[Served]:
    port = free_port()
    params = guard.params("--http", f"127.0.0.1:{port}", *extra)
    with subprocess.Popen(
        [params.command, *params.args],
        env=params.env,
        cwd=guard.folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        try:
            # The line is written once the socket listens.
            assert "listens on" in process.stderr.readline()
            yield Served(guard, port, process)
        finally:
            process.kill()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_of_each_era_lists_and_calls_tools(tmp_path: Path, mode: str) -> None:
    """The same guard behind another front: masked, refused and recorded alike."""
    guard = basic(tmp_path)
    with serving(guard) as served:
        async with served.client(mode) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            answer = await raw_call(client, "leaky_echo", {"value": "to jane@example.com"})
            denied = await raw_call(client, "leaky_drop_thing", {"id": 1})

    assert {"leaky_echo", "guard_approval_wait"} <= set(tools)
    assert "jane@example.com" not in json.dumps(answer)
    assert denied["_meta"]["io.mcp-guard/error"]["code"] == "policy_denied"
    assert [effect["tool"] for effect in guard.effects()] == ["echo"]
    assert guard.cli("audit", "verify").returncode == 0


async def test_who_may_speak_and_what_may_be_said(tmp_path: Path) -> None:
    """security.md S18, S33, S34 (token, Host, Origin), S1 (duplicate keys): refused before anything is done."""
    with serving(basic(tmp_path)) as served:

        def status(headers: dict[str, str], body: bytes = PING) -> int:
            return served.post(body, **headers).status_code

        token = served.headers
        wrong = {"Authorization": token["Authorization"][:-1] + "~"}
        unauthorized = served.post()
        assert unauthorized.status_code == 401
        assert unauthorized.headers["www-authenticate"] == "Bearer"
        assert "token file" in unauthorized.json()["hint"]
        assert status(wrong) == 401
        assert status({"Authorization": "Basic eDp5"}) == 401
        assert status({**token, "Host": f"evil.example:{served.port}"}) == 421
        assert status({**token, "Origin": "http://evil.example"}) == 403
        twice = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping"}'
        refused = served.post(twice, **token)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == -32700
        assert status(token, b"x" * (5 << 20)) == 413
        assert status(token, b"[" + PING + b"]") == 400
        assert status({}, twice) == 401  # the token comes before the body is looked at

        mode = (served.guard.data / "http.token").stat().st_mode
        assert mode & 0o777 == 0o600


async def test_without_a_token_only_on_demand(tmp_path: Path) -> None:
    """docs/cli.md: `--insecure-loopback`. Host and Origin are still checked."""
    with serving(basic(tmp_path), "--insecure-loopback") as served:
        assert served.post().status_code != 401
        assert served.post(Host="evil.example").status_code == 421
    assert not (served.guard.data / "http.token").exists()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_reviewer_in_another_process_approves_a_call_while_it_is_held(tmp_path: Path, mode: str) -> None:
    """decisions.md D25, D35: team mode, by token; approved, it runs at once, and the held call answers."""
    guard = basic(tmp_path, approvals={"hold_s": 30})
    token = guard.reviewer()
    with serving(guard) as served:
        async with served.client(mode) as client:
            results: list[dict[str, Any]] = []

            async def call() -> None:
                results.append(await raw_call(client, "leaky_delete_thing", {"id": 7}))

            async with anyio.create_task_group() as group:
                group.start_soon(call)
                ticket = await _pending(guard)
                others = await raw_call(client, "leaky_echo", {"value": "meanwhile"})
                assert results == []
                done = await anyio.to_thread.run_sync(lambda: guard.approve(ticket, token=token))
                assert done.returncode == 0, done.stderr

    assert text_of(others) == "meanwhile"
    assert text_of(results[0]) == "delete_thing 7 done"
    assert [effect["tool"] for effect in guard.effects()] == ["echo", "delete_thing"]


async def _pending(guard: Guard) -> str:
    with anyio.fail_after(20):
        while True:
            found = await anyio.to_thread.run_sync(lambda: guard.json("approvals", "ls"))
            if found:
                return str(found[0]["id"])


async def test_after_the_hold_the_outcome_is_fetched_by_ticket_also_in_a_new_session(tmp_path: Path) -> None:
    """decisions.md D6: a ticket; approvals.md S7."""
    guard = basic(tmp_path)
    token = guard.reviewer()
    with serving(guard) as served:
        async with served.client() as client:
            suspended = await raw_call(client, "leaky_delete_thing", {"id": 7})
        ticket = suspended["_meta"]["io.mcp-guard/approval"]["ticket"]
        assert "NOT executed" in text_of(suspended)
        guard.approve(ticket, token=token)
        async with served.client() as client:
            outcome = await raw_call(client, "guard_approval_wait", {"ticket": ticket})

    assert text_of(outcome) == "delete_thing 7 done"
    assert len(guard.effects()) == 1


async def test_the_requester_approves_nothing_over_http(tmp_path: Path) -> None:
    """decisions.md D25: team mode; nobody to ask is said at once, and the client is never asked."""
    guard = basic(tmp_path)

    async def accept(*_: Any) -> Any:
        raise AssertionError("the requester's own client was asked")

    with serving(guard) as served:
        async with served.client(elicitation_callback=accept) as client:
            refused = await raw_call(client, "leaky_delete_thing", {"id": 7})

    assert refused["isError"]
    assert guard.effects() == []


@pytest.mark.parametrize(
    ("address", "config", "told"),
    [
        ("0.0.0.0:8750", {}, "not a loopback address"),
        ("example.com:8750", {}, "not a loopback address"),
        ("127.0.0.1", {}, "--http takes HOST:PORT"),
        ("127.0.0.1:8750", {"approvals": {"mode": "personal"}}, "approvals.mode: personal does not go with --http"),
    ],
)
def test_what_cannot_be_served_safely_is_a_config_error(
    tmp_path: Path, address: str, config: dict[str, Any], told: str
) -> None:
    """security.md S34; decisions.md D25."""
    done = basic(tmp_path, **config).cli("serve", "--http", address)

    assert done.returncode == 2
    assert told in done.stderr
    assert "hint: " in done.stderr


def test_a_port_that_is_taken_is_a_config_error(tmp_path: Path) -> None:
    """docs/cli.md: 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        done = basic(tmp_path).cli("serve", "--http", address)

    assert done.returncode == 2
    assert f"[config] cannot listen on {address}\nhint: " in done.stderr
    assert "listens on" not in done.stderr


async def test_sigterm_drains_and_leaves_no_process_behind(tmp_path: Path) -> None:
    """security.md F8: stops, drains, records, ends its children."""
    guard = basic(tmp_path)
    with serving(guard) as served:
        async with served.client("legacy") as client:
            await raw_call(client, "leaky_echo", {"value": "hello"})
            pid = _child(served.process.pid)
            served.process.send_signal(signal.SIGTERM)
            code = await anyio.to_thread.run_sync(lambda: served.process.wait(15))

    assert code == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert guard.json("audit", "tail", "-n", "1")[0]["type"] == "log.closed"


def _child(parent: int) -> int:
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:
            continue
        if fields.get("PPid") == str(parent):
            return int(fields["Pid"])
    return pytest.skip("there is no /proc on this system")


@contextmanager
def http_downstream(port: int, log: Path) -> Iterator[None]:
    with subprocess.Popen([sys.executable, str(HERE / "http_server.py"), str(port), str(log)]) as process:
        try:
            yield
        finally:
            process.terminate()


async def test_a_server_over_http_gets_its_own_headers_and_nothing_of_the_client(tmp_path: Path) -> None:
    """decisions.md D31; security.md S33: tokens of the client are never passed through; references are masked."""
    port, log = free_port(), tmp_path / "http.effects"
    remote = {
        "url": f"http://127.0.0.1:{port}/mcp",
        "headers": {"Authorization": "Bearer ${env:REMOTE_TOKEN}", "X-Team": "blue"},
        "names": "plain",
    }
    guard = basic(
        tmp_path, servers={"remote": remote}, rules=[{"id": "all", "effect": "allow", "reason": "a test server"}]
    )
    guard.env["REMOTE_TOKEN"] = TOKEN

    with http_downstream(port, log):
        async with connected(guard, mode="legacy") as client:
            with anyio.fail_after(30):
                while "echo" not in [tool.name for tool in (await client.list_tools()).tools]:
                    pass
            over_stdio = await raw_call(client, "echo", {"n": 1})
        with serving(guard) as served:
            async with served.client() as client:
                over_http = await raw_call(client, "echo", {"n": 2})

    got = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["headers"] for entry in got] == [{"authorization": f"Bearer {TOKEN}", "x-team": "blue"}] * 2
    assert [entry["arguments"] for entry in got] == [{"n": 1}, {"n": 2}]
    for answer in (over_stdio, over_http):
        assert TOKEN not in json.dumps(answer)
        assert "you sent" in text_of(answer)
    assert TOKEN.encode() not in guard.everything_written()
