"""What clients see of all servers together (decisions.md D12, D27)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mcp_guard.config.schema import MaskingConfig
from mcp_guard.downstream.catalog import Catalog
from mcp_guard.downstream.listing import Listing
from mcp_guard.downstream.pool import Pool
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import UnknownTargetError
from mcp_guard.masking.masker import Masker
from mcp_guard.model import UNREVIEWED, CallKind, JsonDict, Principal
from mcp_guard.server.offers import Offers

ALICE = Principal("os", "alice")
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
TOOL: JsonDict = {
    "name": "get",
    "description": f"uses {TOKEN}",
    "inputSchema": {"type": "object", "properties": {"password": {"type": "string"}}},
    "outputSchema": {"type": "object", "properties": {"email": {"type": "string", "format": "email"}}},
}


@asynccontextmanager
async def offers(changes: list[str]) -> AsyncIterator[Offers]:
    servers = {"crm": ResolvedServer("crm", "id", command=("no-such-program-anywhere",))}
    catalog = Catalog(servers, facts_of=lambda _server, _tool, _annotations: UNREVIEWED)
    masker = Masker(MaskingConfig(), b"k" * 32)
    pool = Pool(servers, mask_text=masker.text, log=lambda _text: None, on_listing=lambda _server, _listing: None)
    async with pool.running():
        yield Offers(catalog, pool, masker, on_change=lambda: changes.append("changed"))


async def test_definitions_are_masked_and_output_schemas_relaxed() -> None:
    """decisions.md D12; security.md S25: descriptions."""
    async with offers([]) as found:
        found.update("crm", Listing(tools=(TOOL,), instructions=f"log in with {TOKEN}"))
        tools = await found.listing("tools", ALICE)
        instructions = found.instructions()
    assert TOKEN not in f"{tools}{instructions}"
    assert tools[0]["name"] == "crm_get"
    assert tools[0]["inputSchema"] == TOOL["inputSchema"]
    assert "format" not in str(tools[0]["outputSchema"])


async def test_a_listing_that_did_not_change_is_not_announced() -> None:
    """list_changed costs every client a round trip."""
    changes: list[str] = []
    async with offers(changes) as found:
        found.update("crm", Listing(tools=(TOOL,)))
        found.update("crm", Listing(tools=(TOOL,)))
    assert changes == ["changed"]


async def test_an_unknown_name_is_refused_once_no_server_is_starting_any_more() -> None:
    """security.md S7, F2: a server that cannot start does not block."""
    async with offers([]) as found:
        for kind in (CallKind.TOOL, CallKind.PROMPT, CallKind.RESOURCE):
            with pytest.raises(UnknownTargetError):
                await found.resolve(kind, "nothing", ALICE)
        with pytest.raises(UnknownTargetError):
            await found.resolve_completion({"type": "ref/prompt", "name": "nothing"}, ALICE)


async def test_a_definition_with_a_secret_in_its_name_is_not_offered_and_the_others_are() -> None:
    """security.md S25, S30: one bad item never takes the list with it."""
    bad: JsonDict = {"name": TOKEN, "inputSchema": {"type": "object"}}
    async with offers([]) as found:
        found.update("crm", Listing(tools=(bad, TOOL)))
        tools = await found.listing("tools", ALICE)
        again = await found.listing("tools", ALICE)
    assert [tool["name"] for tool in tools] == ["crm_get"]
    assert again is tools
