"""A raw JSON-RPC client over the pipes of a child process: cheap enough never to be what is measured."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

PROTOCOL = "2025-11-25"
STOP_TIMEOUT_S = 10


class BenchError(RuntimeError):
    """A target did not answer as it should; a figure from it would mean nothing."""


class Client:
    """One child process and the conversation with it."""

    def __init__(self, command: list[str], *, stderr: Path, environment: Mapping[str, str]) -> None:
        self._stderr_path = stderr
        self._stderr = stderr.open("wb")
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, env=dict(environment)
        )
        self._next_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._pipe(self._process.stdin).close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipe(self._process.stdout).close()
        self._stderr.close()

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send one request and return its result.

        Raises:
            BenchError: the target closed its output, or answered with an error.
        """
        wanted = self._send(method, params)
        while True:
            message = self._receive()
            if message.get("id") == wanted and "method" not in message:
                return self._result(message)

    def open(self) -> None:
        """Do the handshake."""
        client = {"name": "bench", "version": "1"}
        self.request("initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client})
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def echo(self, name: str, text: str) -> None:
        """One call, sent and answered.

        Raises:
            BenchError: the answer is not the text that was sent.
        """
        self._check(self.request("tools/call", {"name": name, "arguments": {"text": text}}), text)

    def echo_many(self, name: str, text: str, *, calls: int, in_flight: int) -> None:
        """`calls` calls, of which up to `in_flight` wait for an answer at once."""
        params = {"name": name, "arguments": {"text": text}}
        waiting = {self._send("tools/call", params) for _ in range(min(in_flight, calls))}
        left = calls - len(waiting)
        while waiting:
            message = self._receive()
            if "method" in message or message.get("id") not in waiting:
                continue
            self._check(self._result(message), text)
            waiting.remove(message["id"])
            if left:
                left -= 1
                waiting.add(self._send("tools/call", params))

    def _send(self, method: str, params: dict[str, Any]) -> int:
        self._next_id += 1
        self._write({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        return self._next_id

    def _write(self, message: dict[str, Any]) -> None:
        pipe = self._pipe(self._process.stdin)
        try:
            pipe.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _receive(self) -> dict[str, Any]:
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise self._ended()
        message: dict[str, Any] = json.loads(line)
        return message

    def _ended(self) -> BenchError:
        self._process.wait(STOP_TIMEOUT_S)
        return BenchError(f"the target ended; its stderr:\n{self._stderr_path.read_text(errors='replace')[-2000:]}")

    @staticmethod
    def _result(message: dict[str, Any]) -> dict[str, Any]:
        if "result" not in message:
            raise BenchError(f"the target answered with an error: {message.get('error')}")
        result: dict[str, Any] = message["result"]
        return result

    @staticmethod
    def _check(result: dict[str, Any], text: str) -> None:
        if result.get("isError") or result["content"][0]["text"] != text:
            raise BenchError(f"the answer is not the echo: {result}")

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise BenchError("the child has no pipe")
        return pipe


def seconds_to_import(module: str, environment: Mapping[str, str]) -> float:
    """Wall seconds of a fresh interpreter that imports `module` and ends."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, env=dict(environment))
    return time.perf_counter() - started
