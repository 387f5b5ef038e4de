"""A server over `stdio_front`, for tests that need a real process."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server

from mcp_guard.wire.stdio import stdio_front


def say(text: str, to: TextIO) -> None:
    print(text, file=to, flush=True)


async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[types.Tool(name="echo", input_schema={"type": "object"})])


async def call_tool(ctx: Any, params: Any) -> types.CallToolResult:
    say("a stray print", sys.stdout)
    if params.name == "slow":
        await anyio.sleep(30)
    return types.CallToolResult(content=[types.TextContent(type="text", text=json.dumps(params.arguments))])


async def main() -> None:
    server: Server[Any] = Server("front", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_front(lambda message: say(f"first {message['method']}", sys.stderr)) as (read, write):
        await server.run(read, write, server.create_initialization_options())
    say("stdout is back", sys.stdout)


anyio.run(main)
