"""A downstream server without any SDK whose one tool writes a line with the time of each call, and nothing else."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

TOOLS = [
    {
        "name": "stamp",
        "description": "Write down when this was called",
        "inputSchema": {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
    }
]


def main() -> None:
    """Answer requests until stdin ends. The first argument is the file."""
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        answer = {"jsonrpc": "2.0", "id": message["id"], **_answer(file, message["method"], message.get("params"))}
        sys.stdout.buffer.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
        sys.stdout.buffer.flush()


def _answer(file: int, method: str, params: dict[str, Any] | None) -> dict[str, Any]:
    if method == "tools/call" and params is not None:
        os.write(file, json.dumps([params["arguments"]["number"], time.monotonic_ns()]).encode() + b"\n")
        return {"result": {"content": [{"type": "text", "text": "done"}]}}
    if method == "tools/list":
        return {"result": {"tools": TOOLS}}
    if method == "initialize" and params is not None:
        info = {"name": "stamp", "version": "1"}
        version = params["protocolVersion"]
        return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}}
    if method == "ping":
        return {"result": {}}
    return {"error": {"code": -32601, "message": "Method not found"}}


if __name__ == "__main__":
    main()
