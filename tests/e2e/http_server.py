"""A downstream server over streamable HTTP on loopback: tells which headers it got. Usage: http_server.py PORT LOG."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server.lowlevel import Server

PORT, LOG = int(sys.argv[1]), Path(sys.argv[2])


def log(entry: dict[str, Any]) -> None:
    with LOG.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


async def list_tools(_ctx: Any, _params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[types.Tool(name="echo", input_schema={"type": "object"})])


async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    headers = {key: ctx.request.headers.get(key) for key in ("authorization", "x-team")}
    log({"headers": headers, "arguments": params.arguments})
    # A server that answers with what it was given must not get the guard's credentials to the client.
    return types.CallToolResult(content=[types.TextContent(text=f"you sent {headers['authorization']}")])


if __name__ == "__main__":
    server: Server[Any] = Server("remote", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    uvicorn.run(server.streamable_http_app(host="127.0.0.1"), host="127.0.0.1", port=PORT, log_level="error")
