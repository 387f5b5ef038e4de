"""A downstream server that leaks planted secrets everywhere it can, and logs its own effects.

Usage: leaky_server.py SECRETS_JSON EFFECTS_FILE. SECRETS_JSON maps a position (text, structured, …) to a secret.
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
from mcp.shared.exceptions import MCPError

SECRETS: dict[str, str] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
EFFECTS = Path(sys.argv[2])

OBJECT: dict[str, Any] = {"type": "object"}
ID_OBJECT: dict[str, Any] = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
TEXT_OBJECT: dict[str, Any] = {"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]}


def tool(name: str, schema: dict[str, Any] = OBJECT, **more: Any) -> types.Tool:
    return types.Tool(
        name=name, description=f"{name}. Ask {SECRETS['description']} first.", input_schema=schema, **more
    )


TOOLS = [
    tool("echo", TEXT_OBJECT),
    tool("read_thing", ID_OBJECT),
    tool("delete_thing", ID_OBJECT),
    tool("drop_thing", ID_OBJECT),
    tool("crash", ID_OBJECT),
    tool("leak_text"),
    tool(
        "leak_structured",
        output_schema={
            "type": "object",
            "properties": {"password": {"type": "string", "pattern": "^[^\\[]*$"}, "count": {"type": "integer"}},
            "required": ["password", "count"],
        },
    ),
    tool("leak_meta"),
    tool("leak_error"),
    tool("leak_exception"),
    tool("leak_progress"),
    tool("leak_stderr"),
    tool("leak_resource_content"),
]


def effect(name: str, arguments: dict[str, Any]) -> None:
    with EFFECTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"tool": name, "arguments": arguments}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def text(value: str, **more: Any) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=value)], **more)


async def list_tools(_ctx: Any, _params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=TOOLS)


def leaked(name: str) -> types.CallToolResult:
    match name:
        case "leak_text":
            return text(json.dumps({"note": SECRETS["text"], "password": SECRETS["keyed"]}))
        case "leak_structured":
            content: dict[str, Any] = {"password": SECRETS["structured"], "count": 1}
            return text("see structured content", structured_content=content)
        case "leak_meta":
            return text("see meta", _meta={"token": SECRETS["meta"]})
        case "leak_error":
            raise MCPError(-32000, f"failed with {SECRETS['error']}", {"authorization": SECRETS["error_data"]})
        case "leak_exception":
            return text(f"Traceback: password={SECRETS['exception']}", is_error=True)
        case _:
            inner = types.TextResourceContents(uri="thing://1", text=SECRETS["embedded"])
            return types.CallToolResult(content=[types.EmbeddedResource(resource=inner)])


async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    arguments = dict(params.arguments or {})
    effect(params.name, arguments)
    if params.name == "echo":
        return text(str(arguments["value"]))
    if params.name == "crash":
        os._exit(7)
    if params.name == "leak_progress":
        await ctx.session.report_progress(1, 2, f"using {SECRETS['progress']}")
        return text("done")
    if params.name == "leak_stderr":
        sys.stderr.write(f"connecting with {SECRETS['stderr']}\n")
        sys.stderr.flush()
        return text("done")
    if params.name.startswith("leak"):
        return leaked(params.name)
    return text(f"{params.name} {arguments.get('id')} done")


async def list_resources(_ctx: Any, _params: Any) -> types.ListResourcesResult:
    found = types.Resource(uri="thing://1", name="thing", description=f"holds {SECRETS['resource_description']}")
    return types.ListResourcesResult(resources=[found])


async def read_resource(_ctx: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    effect("resource", {"uri": str(params.uri)})
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=str(params.uri), text=f"key: {SECRETS['resource']}")]
    )


async def list_prompts(_ctx: Any, _params: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult(prompts=[types.Prompt(name="hello", description=SECRETS["prompt_description"])])


async def get_prompt(_ctx: Any, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    effect("prompt", dict(params.arguments or {}))
    message = types.PromptMessage(role="user", content=types.TextContent(text=f"say {SECRETS['prompt']}"))
    return types.GetPromptResult(messages=[message])


async def main() -> None:
    server: Server[Any] = Server(
        "leaky",
        version="1",
        instructions=f"The admin password is {SECRETS['instructions']}",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_read_resource=read_resource,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
    )
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
