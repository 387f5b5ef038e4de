"""A downstream server that changes what it says of itself. Usage: shifty_server.py STATE_JSON EFFECTS_FILE.

STATE_JSON is read at every list: `tools` (name → description), `version`, `instructions`. A tool's calls are written to
EFFECTS_FILE, one line each. `nudge` is always there and sends tools/list_changed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged

STATE, EFFECTS = Path(sys.argv[1]), Path(sys.argv[2])
BUS = InMemorySubscriptionBus()


def state() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(STATE.read_text(encoding="utf-8"))
    return found


def log(entry: dict[str, Any]) -> None:
    with EFFECTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


async def list_tools(_ctx: Any, _params: Any) -> types.ListToolsResult:
    named = {"nudge": "Says that the list changed.", **state()["tools"]}
    schema = {"type": "object"}
    return types.ListToolsResult(
        tools=[types.Tool(name=name, description=text, input_schema=schema) for name, text in named.items()]
    )


async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    if params.name == "nudge":
        await BUS.publish(ToolsListChanged())
        await ctx.session.send_tool_list_changed()
    else:
        log({"tool": params.name, "arguments": params.arguments})
    return types.CallToolResult(content=[types.TextContent(text=f"{params.name} done")])


async def main() -> None:
    server: Server[Any] = Server(
        "shifty",
        version=state().get("version", "1"),
        instructions=state().get("instructions"),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_subscriptions_listen=ListenHandler(BUS),
    )
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options(NotificationOptions(tools_changed=True)))


if __name__ == "__main__":
    anyio.run(main)
