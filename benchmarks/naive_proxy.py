"""A proxy as most people would write it on the SDK: no masking, no policy, no record. The peer to compare with."""

from __future__ import annotations

import sys

import anyio
import mcp_types as types
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server


def build(session: ClientSession) -> Server[dict[str, object]]:
    """Return a server that hands every request to `session`."""

    async def list_tools(
        _context: ServerRequestContext[dict[str, object]], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return await session.list_tools()

    async def call_tool(
        _context: ServerRequestContext[dict[str, object]], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        return await session.call_tool(params.name, params.arguments)

    return Server("naive", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


async def main() -> None:
    """Serve stdio until the client goes; the command of the downstream is on the command line."""
    parameters = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:])
    async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
        await session.initialize()
        await session.list_tools()
        server = build(session)
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
