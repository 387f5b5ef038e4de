"""A downstream server that leaks planted secrets everywhere it can, and logs its own effects.

Usage: leaky_server.py SECRETS_JSON EFFECTS_FILE. SECRETS_JSON maps a position (text, structured, …) to a secret.
Each line of EFFECTS_FILE is one thing it did: tool, arguments, and the execution id that the guard gave it.
A call of `slow` ends when the file EFFECTS_FILE.release exists.
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
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPError

SECRETS: dict[str, str] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
EFFECTS = Path(sys.argv[2])
RELEASE = anyio.Path(sys.argv[2] + ".release")
EXECUTION = "io.mcp-guard/execution-id"
POLL_S = 0.02
BUS = InMemorySubscriptionBus()

OBJECT: dict[str, Any] = {"type": "object"}
ID_OBJECT: dict[str, Any] = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
TEXT_OBJECT: dict[str, Any] = {"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]}


def tool(name: str, schema: dict[str, Any] = OBJECT, **more: Any) -> types.Tool:
    return types.Tool(
        name=name, description=f"{name}. Ask {SECRETS['description']} first.", input_schema=schema, **more
    )


LEAKING_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"key": {"type": "string", "description": SECRETS["schema"], "default": SECRETS["default"]}},
}


TOOLS = [
    tool("echo", TEXT_OBJECT),
    tool("read_thing", ID_OBJECT),
    tool("delete_thing", ID_OBJECT),
    tool("drop_thing", ID_OBJECT),
    tool("crash", ID_OBJECT),
    tool("slow", ID_OBJECT),
    tool("grow"),
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
    tool("leak_link", LEAKING_SCHEMA, title=SECRETS["title"], annotations=types.ToolAnnotations(title=SECRETS["hint"])),
    tool("leak_people"),
    tool("leak_environment"),
    tool("leak_log"),
]


def effect(name: str, arguments: dict[str, Any], params: Any = None) -> None:
    meta = dict(params.meta or {}) if params is not None else {}
    line = {"tool": name, "arguments": arguments, "execution": meta.get(EXECUTION)}
    with EFFECTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def text(value: str, **more: Any) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=value)], **more)


async def list_tools(_ctx: Any, _params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=TOOLS)


PEOPLE = json.loads(SECRETS["people"])


def leaked_blocks() -> dict[str, types.CallToolResult]:
    """Results with a secret in them, by tool."""
    numbers = {"card": int(PEOPLE["card"]), "nested": json.dumps({"again": json.dumps(PEOPLE)})}
    inner = types.TextResourceContents(uri="thing://1", text=SECRETS["embedded"])
    link = types.ResourceLink(uri="thing://1", name="thing", title=SECRETS["link"], description=SECRETS["link"])
    said = types.TextContent(text="see link", _meta={"api_key": SECRETS["content_meta"]})
    structured: dict[str, Any] = {"password": SECRETS["structured"], "count": 1}
    return {
        "leak_text": text(json.dumps({"note": SECRETS["text"], "password": SECRETS["keyed"]})),
        "leak_structured": text("see structured content", structured_content=structured),
        "leak_meta": text("see meta", _meta={"token": SECRETS["meta"], SECRETS["meta_key"]: 1}),
        "leak_exception": text(f"Traceback: password={SECRETS['exception']}", is_error=True),
        "leak_resource_content": types.CallToolResult(content=[types.EmbeddedResource(resource=inner)]),
        "leak_link": types.CallToolResult(content=[link, said]),
        "leak_people": text(json.dumps(PEOPLE), structured_content={"people": PEOPLE, "numbers": numbers}),
        "leak_environment": text(f"connected with {os.environ.get('LEAKY_PLAIN', '')}"),
    }


async def slow(arguments: dict[str, Any], params: types.CallToolRequestParams) -> types.CallToolResult:
    try:
        while not await RELEASE.exists():  # noqa: ASYNC110 - another process makes the file
            await anyio.sleep(POLL_S)
    except anyio.get_cancelled_exc_class():
        effect("slow was cancelled", arguments, params)
        raise
    return text("slow done")


async def grow(ctx: Any) -> types.CallToolResult:
    TOOLS.append(tool("grown"))
    await BUS.publish(ToolsListChanged())
    await ctx.session.send_tool_list_changed()
    return text("grown")


async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    arguments = dict(params.arguments or {})
    effect(params.name, arguments, params)
    match params.name:
        case "echo":
            return text(str(arguments["value"]))
        case "crash":
            os._exit(7)
        case "slow":
            return await slow(arguments, params)
        case "grow":
            return await grow(ctx)
        case "leak_progress":
            await ctx.session.report_progress(1, 2, f"using {SECRETS['progress']}")
        case "leak_stderr":
            sys.stderr.write(f"connecting with {SECRETS['stderr']}\n")
            sys.stderr.flush()
        case "leak_log":
            await ctx.session.send_log_message("error", {"token": SECRETS["log"]}, logger=SECRETS["log"])
        case "leak_error":
            raise MCPError(-32000, f"failed with {SECRETS['error']}", {"authorization": SECRETS["error_data"]})
        case name if name in (blocks := leaked_blocks()):
            return blocks[name]
    return text(f"{params.name} {arguments.get('id', '')} done")


async def list_resources(_ctx: Any, _params: Any) -> types.ListResourcesResult:
    found = types.Resource(uri="thing://1", name="thing", description=f"holds {SECRETS['resource_description']}")
    return types.ListResourcesResult(resources=[found])


async def read_resource(_ctx: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    effect("resource", {"uri": str(params.uri)}, params)
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=str(params.uri), text=f"key: {SECRETS['resource']}")]
    )


async def list_prompts(_ctx: Any, _params: Any) -> types.ListPromptsResult:
    argument = types.PromptArgument(name="whom", description=f"like {SECRETS['prompt_argument']}")
    found = types.Prompt(name="hello", description=SECRETS["prompt_description"], arguments=[argument])
    return types.ListPromptsResult(prompts=[found])


async def get_prompt(_ctx: Any, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    effect("prompt", dict(params.arguments or {}), params)
    message = types.PromptMessage(role="user", content=types.TextContent(text=f"say {SECRETS['prompt']}"))
    return types.GetPromptResult(messages=[message])


async def list_templates(_ctx: Any, _params: Any) -> types.ListResourceTemplatesResult:
    found = types.ResourceTemplate(uri_template="thing://{id}", name="things", description=SECRETS["template"])
    return types.ListResourceTemplatesResult(resource_templates=[found])


async def complete(_ctx: Any, params: types.CompleteRequestParams) -> types.CompleteResult:
    effect("completion", {}, params)
    return types.CompleteResult(completion=types.Completion(values=["world", SECRETS["completion"]]))


async def main() -> None:
    server: Server[Any] = Server(
        "leaky",
        version="1",
        instructions=f"The admin password is {SECRETS['instructions']}",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_subscriptions_listen=ListenHandler(BUS),
    )
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options(NotificationOptions(tools_changed=True)))


if __name__ == "__main__":
    anyio.run(main)
