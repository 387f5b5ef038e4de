"""The stdio front in a real process, and over descriptors in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest, JSONRPCResponse

from mcp_guard.wire.reader import FRONT
from mcp_guard.wire.stdio import MAX_IN_FLIGHT, serve_fds

SERVER = str(Path(__file__).with_name("front_server.py"))
INIT = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


class Peer:
    """A client that speaks bytes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        assert process.stdout
        self.process, self._in, self._out = process, process.stdin, process.stdout

    def send(self, line: bytes) -> None:
        self._in.write(line + b"\n")
        self._in.flush()

    def request(self, request_id: object, method: str, params: object = None) -> None:
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}}
        self.send(json.dumps(message).encode())

    def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._out.readline())
        return found

    def close(self) -> tuple[bytes, bytes]:
        return self.process.communicate(timeout=10)


@contextmanager
def peer() -> Iterator[Peer]:
    command = [sys.executable, SERVER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        connected = Peer(process)
        connected.request(0, "initialize", INIT)
        assert connected.answer()["id"] == 0
        connected.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        try:
            yield connected
        finally:
            process.kill()


def test_bad_lines_are_answered_and_the_stream_goes_on() -> None:
    """decisions.md D3; security.md S1, S4, S5."""
    with peer() as client:
        client.send(b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}')
        assert client.answer()["error"]["code"] == -32700
        client.send(b"\xff\xfe garbage")
        assert client.answer() == {
            "jsonrpc": "2.0",
            "id": None,
            "error": {"code": -32700, "message": "the message is not strict JSON"},
        }
        client.send(b"x" * (FRONT.line_bytes + 10))
        assert client.answer()["error"]["code"] == -32600
        client.send(b"")
        client.request(2, "ping")
        assert client.answer()["id"] == 2


def test_stray_prints_reach_stderr_and_eof_ends_the_server() -> None:
    """decisions.md D20: a print of a library must not corrupt the wire."""
    with peer() as client:
        client.request("a", "tools/call", {"name": "echo", "arguments": {"x": 1}})
        answer = client.answer()
        assert answer["result"]["content"][0]["text"] == '{"x": 1}'
        out, err = client.close()
        assert client.process.returncode == 0
        assert b"a stray print" in err
        assert b"first initialize" in err
        assert out == b"stdout is back\n"


def test_an_id_in_flight_is_refused_also_in_its_other_spelling() -> None:
    """security.md S5: the SDK would overwrite the first request, and takes "7" and 7 for one id."""
    with peer() as client:
        client.request(7, "tools/call", {"name": "slow", "arguments": {}})
        client.request("7", "ping")
        assert client.answer()["error"]["code"] == -32600
        client.send(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}')
        client.request("7", "ping")
        assert client.answer()["result"] == {}


def test_files_instead_of_pipes_work_by_threads(tmp_path: Path) -> None:
    """decisions.md D20: an event loop cannot poll plain files."""
    lines = [
        {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INIT},
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
    ]
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"\n".join(json.dumps(line).encode() for line in lines))
    with source.open("rb") as stdin, target.open("wb") as stdout:
        done = subprocess.run([sys.executable, SERVER], stdin=stdin, stdout=stdout, timeout=10, check=False)
    assert done.returncode == 0
    answers = [json.loads(line) for line in target.read_bytes().splitlines() if line.startswith(b"{")]
    assert 0 in {answer["id"] for answer in answers}


async def test_the_sdk_client_works_over_it_in_both_eras() -> None:
    """decisions.md D2: both protocol eras on stdio."""
    for mode, version in (("legacy", "2025-11-25"), ("auto", "2026-07-28")):
        async with Client(StdioServerParameters(command=sys.executable, args=[SERVER]), mode=mode) as client:
            assert client.protocol_version == version
            assert (await client.call_tool("echo", {"n": 2**70})).content[0].text == json.dumps({"n": 2**70})  # type: ignore[union-attr]


@contextmanager
def pipes() -> Iterator[tuple[int, int, int, int]]:
    fds = (*os.pipe(), *os.pipe())
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


@contextmanager
def descriptor(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


ANSWER = SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={}))


async def test_requests_above_the_bound_in_flight_are_refused() -> None:
    """security.md F17: caps, -32015."""
    with pipes() as (read, feed, drain, write):
        async with serve_fds(read, write) as (inbox, outbox):
            for number in range(MAX_IN_FLIGHT + 1):
                line = b'{"jsonrpc":"2.0","id":%d,"method":"ping"}\n' % number
                await anyio.to_thread.run_sync(os.write, feed, line)
                if number < MAX_IN_FLIGHT:
                    await inbox.receive()
            refused = json.loads(await anyio.to_thread.run_sync(os.read, drain, 65536))
            assert refused["error"]["code"] == -32015
            await outbox.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=0, result={})))
            await anyio.to_thread.run_sync(os.read, drain, 65536)
            await anyio.to_thread.run_sync(os.write, feed, b'{"jsonrpc":"2.0","id":0,"method":"ping"}\n')
            message = await inbox.receive()
            assert isinstance(message, SessionMessage)
            assert isinstance(message.message, JSONRPCRequest)


async def test_a_client_that_does_not_read_holds_back_the_sender_only() -> None:
    """decisions.md D20: back-pressure; security.md F3: a full pipe must not block others."""
    answer = SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={"x": "y" * (1 << 20)}))
    received = 0
    with pipes() as (read, _feed, drain, write):
        async with serve_fds(read, write) as (_inbox, outbox):
            with anyio.move_on_after(0.2) as scope:
                for _ in range(3):
                    await outbox.send(answer)
            assert scope.cancelled_caught
            while received < 1 << 20:
                received += len(await anyio.to_thread.run_sync(os.read, drain, 1 << 16))


async def test_an_answer_without_json_form_becomes_an_error_not_silence() -> None:
    """decisions.md D3: never silence."""
    with pipes() as (read, _feed, drain, write):
        async with serve_fds(read, write) as (_inbox, outbox):
            await outbox.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={"x": "\ud800"})))
            answer = json.loads(await anyio.to_thread.run_sync(os.read, drain, 65536))
    assert answer["id"] == 1
    assert answer["error"]["code"] == -32603


async def test_a_file_that_cannot_be_written_is_a_client_that_is_gone(tmp_path: Path) -> None:
    """security.md F7: an answer that goes nowhere is an error for its sender, and not a success."""
    (tmp_path / "out").write_bytes(b"")
    with pipes() as (read, *_), descriptor(tmp_path / "out", os.O_RDONLY) as unwritable:
        async with serve_fds(read, unwritable) as (_inbox, outbox):
            await outbox.send(ANSWER)
            with anyio.fail_after(5):
                while not outbox._sink.is_closing():  # noqa: ASYNC110 - a thread of its own writes
                    await anyio.sleep(0.005)
            with pytest.raises(anyio.BrokenResourceError):
                await outbox.send(ANSWER)


async def test_a_file_that_cannot_be_read_is_a_client_that_is_gone(tmp_path: Path) -> None:
    """security.md F7: the guard ends, and does not wait for a client for ever."""
    with pipes() as (*_, write), descriptor(tmp_path / "in", os.O_WRONLY | os.O_CREAT) as unreadable:
        async with serve_fds(unreadable, write) as (inbox, _outbox):
            with anyio.fail_after(5), pytest.raises(anyio.EndOfStream):
                await inbox.receive()
