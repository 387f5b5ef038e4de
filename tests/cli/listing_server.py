"""A server that lists the tools of the file named by TOOLS, whatever they are, and answers every call with its name."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    method = message.get("method")
    if method == "initialize":
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "listing", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": json.loads(Path(os.environ["TOOLS"]).read_text(encoding="utf-8"))}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": f"ran {message['params']['name']}"}]}
    return None


for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked and "method" in asked:
        result = answer(asked)
        rest = {"error": {"code": -32601, "message": "unknown"}} if result is None else {"result": result}
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **rest}) + "\n")
        sys.stdout.flush()
