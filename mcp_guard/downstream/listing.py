"""What one downstream server offers, as it said itself: all pages, raw definitions."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final, Literal

import anyio
import anyio.lowlevel
import mcp_types as types
from mcp import MCPError
from pydantic import JsonValue, ValidationError

from mcp_guard.downstream.announced import ALL, ListKind
from mcp_guard.downstream.definition import Definition, Listing
from mcp_guard.downstream.link import Link
from mcp_guard.downstream.session import MAX_ITEMS
from mcp_guard.errors import FaultError
from mcp_guard.model import JsonDict

MAX_PAGES: Final = 100
"""Pages of one list that are followed; a paginator without an end cannot hang the guard."""

MAX_LIST_BYTES: Final = 4 * 1024 * 1024
"""Characters of one list as JSON, all pages together."""

_LIST_TIMEOUT_S: Final = 30.0
_MAX_INFO: Final = 200
_NOTHING: Final = Listing()


async def fetch_listing(link: Link, kinds: Collection[ListKind] = ALL, *, known: Listing = _NOTHING) -> Listing:
    """Ask a server for everything it offers. A list that fails is empty.

    Args:
        link: To the server.
        kinds: The lists to read; what `known` has of the others stays.
        known: What it offered before.

    Raises:
        DownstreamUnavailableError, OutcomeUnknownError: the link broke meanwhile.
    """
    caps = link.session.server_capabilities or types.ServerCapabilities()
    tools, resources, templates, prompts = known.tools, known.resources, known.templates, known.prompts
    if "tools" in kinds:
        tools = await _pages(link, types.ListToolsRequest, "tools") if caps.tools else ()
        if link.modern and not link.server.local and tools:
            await _learn_headers(link)
    if "resources" in kinds:
        resources = await _pages(link, types.ListResourcesRequest, "resources") if caps.resources else ()
        templates = (
            await _pages(link, types.ListResourceTemplatesRequest, "resourceTemplates") if caps.resources else ()
        )
    if "prompts" in kinds:
        prompts = await _pages(link, types.ListPromptsRequest, "prompts") if caps.prompts else ()
    names: tuple[Literal["tools", "resources", "prompts", "completions"], ...]
    names = ("tools", "resources", "prompts", "completions")
    return Listing(
        tools=tools,
        resources=resources,
        templates=templates,
        prompts=prompts,
        instructions=link.session.instructions or "",
        capabilities=tuple(name for name in names if getattr(caps, name) is not None),
        protocol=link.session.protocol_version or "",
        server_info=_said_of_itself(link.session.server_info),
    )


def _said_of_itself(info: types.Implementation | None) -> str:
    return "" if info is None else f"{info.name} {info.version}"[:_MAX_INFO]


async def _pages(link: Link, request: Any, key: str) -> tuple[JsonDict, ...]:
    found: list[JsonDict] = []
    room = MAX_LIST_BYTES
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        params = types.PaginatedRequestParams(cursor=cursor)
        answer = await link.request(request(params=params), timeout_s=_LIST_TIMEOUT_S)
        if answer.result is None:
            break
        items = answer.result.get(key)
        for item in items if isinstance(items, list) else ():
            room -= await _size(item) if room > 0 and len(found) < MAX_ITEMS else room
            if room <= 0:
                link.dispatcher.dropped += 1
            elif isinstance(item, dict):
                found.append(Definition(item))
        following = answer.result.get("nextCursor")
        if not isinstance(following, str) or following == cursor or room <= 0:
            break
        cursor = following
    return tuple(found)


async def _size(item: JsonValue) -> int:
    """Characters as JSON. Awaits, since a list may have thousands of items."""
    await anyio.lowlevel.checkpoint()
    return len(json.dumps(item))


async def _learn_headers(link: Link) -> None:
    """Let the SDK see the tools: a modern HTTP server may demand `Mcp-Param-*` headers that it derives from them."""
    cursor: str | None = None
    try:
        with anyio.move_on_after(_LIST_TIMEOUT_S):
            for _ in range(MAX_PAGES):
                page = await link.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
                cursor = page.next_cursor
                if cursor is None:
                    return
    except (MCPError, ValidationError) as error:
        raise FaultError(f"{link.server.name} does not list its tools twice the same way") from error
