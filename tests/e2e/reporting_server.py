"""A downstream server that writes down what it sees of its surroundings, and offers everything in small pages.

Usage: reporting_server.py FILE. Each line of FILE is one report: working folder and environment of this process.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

FILE = Path(sys.argv[1])
PAGE = 2
COUNT = 5
TOOLS = [
    types.Tool(
        name=name,
        description=f"Tells {what}.",
        input_schema={"type": "object", "properties": {}, "additionalProperties": False},
        annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )
    for name, what in (
        ("where_am_i", "the working folder of this process"),
        ("what_time_zone", "the time zone of this process"),
        ("which_process", "the number of this process"),
    )
]
RESOURCES = [types.Resource(uri=f"report://{number}", name=f"report {number}") for number in range(COUNT)]
TEMPLATES = [
    types.ResourceTemplate(uri_template=f"report://{number}/{{day}}", name=f"report {number} of a day")
    for number in range(COUNT)
]
PROMPTS = [types.Prompt(name=f"report-{number}", description="Asks for a report.") for number in range(COUNT)]


def page(items: list[Any], params: Any) -> tuple[list[Any], str | None]:
    """One page, and the cursor of the next one."""
    start = int(params.cursor) if params is not None and params.cursor else 0
    more = start + PAGE < len(items)
    return items[start : start + PAGE], str(start + PAGE) if more else None


async def list_tools(_ctx: Any, params: Any) -> types.ListToolsResult:
    items, cursor = page(TOOLS, params)
    return types.ListToolsResult(tools=items, next_cursor=cursor)


async def list_resources(_ctx: Any, params: Any) -> types.ListResourcesResult:
    items, cursor = page(RESOURCES, params)
    return types.ListResourcesResult(resources=items, next_cursor=cursor)


async def list_templates(_ctx: Any, params: Any) -> types.ListResourceTemplatesResult:
    items, cursor = page(TEMPLATES, params)
    return types.ListResourceTemplatesResult(resource_templates=items, next_cursor=cursor)


async def list_prompts(_ctx: Any, params: Any) -> types.ListPromptsResult:
    items, cursor = page(PROMPTS, params)
    return types.ListPromptsResult(prompts=items, next_cursor=cursor)


async def call_tool(_ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    report = {"cwd": str(Path.cwd()), "environment": dict(os.environ)}
    async with await anyio.open_file(FILE, "a", encoding="utf-8") as file:
        await file.write(json.dumps(report) + "\n")
    return types.CallToolResult(content=[types.TextContent(text=f"{params.name}: {report['cwd']}")])


async def main() -> None:
    server: Server[Any] = Server(
        "reporter",
        version="1",
        on_list_tools=list_tools,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_list_prompts=list_prompts,
        on_call_tool=call_tool,
    )
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
