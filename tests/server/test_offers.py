"""What clients see of all servers together (decisions.md D12, D27)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
import pytest

from mcp_guard.config.schema import MaskingConfig
from mcp_guard.downstream.catalog import Catalog
from mcp_guard.downstream.copies import CopyStore
from mcp_guard.downstream.definition import Listing
from mcp_guard.downstream.lockfile import LockFile
from mcp_guard.downstream.pins import Pins
from mcp_guard.downstream.pool import Pool
from mcp_guard.downstream.remembered import Remembered
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import ConfigError, DownstreamUnavailableError, UnknownTargetError
from mcp_guard.keystore import KeyStore
from mcp_guard.masking.masker import Masker
from mcp_guard.model import UNREVIEWED, CallKind, JsonDict, MaskedText, Principal
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
async def offers(changes: list[str], *, remembered: Remembered | None = None) -> AsyncIterator[Offers]:
    held: Literal["program", "off"] = "program" if remembered is None else "off"
    servers = {"crm": ResolvedServer("crm", "id", command=("no-such-program-anywhere",), pins=held)}
    catalog = Catalog(
        servers, facts_of=lambda _server, _tool, _annotations, _definition: UNREVIEWED, remembered=remembered
    )
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


async def test_no_call_is_judged_by_what_an_unpinned_server_said_in_the_last_run(tmp_path: Path) -> None:
    """docs/pins.md, `pins: off`: its tools may be others by now; it is listed at once, and called when it listed."""
    remembered = Remembered(tmp_path / "catalogue", KeyStore(tmp_path / "keys"))
    server = ResolvedServer("crm", "id", command=("no-such-program-anywhere",), pins="off")
    assert remembered.save(server, Listing(tools=(TOOL,)))
    async with offers([], remembered=remembered) as found:
        assert len(await found.listing("tools", ALICE)) == 1
        with pytest.raises(DownstreamUnavailableError, match="has not said yet"):
            await found.resolve(CallKind.TOOL, "crm_get", ALICE)
        found.update("crm", Listing(tools=(TOOL,)))
        assert (await found.resolve(CallKind.TOOL, "crm_get", ALICE)).name == "get"


class _Broken(Pins):
    """Pins whose lock cannot be looked at."""

    looked = 0
    looked_often: anyio.Event

    def reload(self) -> bool:
        self.looked += 1
        if self.looked == 3:
            self.looked_often.set()
        raise ConfigError("broken")


async def test_what_is_wrong_with_the_lock_ends_no_session_and_refuses_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """decisions.md D14: fail closed for tools, not for the process."""
    monkeypatch.setattr("mcp_guard.server.offers._WATCH_S", 0.001)
    keys = KeyStore(tmp_path / "keys")
    file = LockFile(tmp_path / "guard.lock")
    pins = _Broken(file, CopyStore(tmp_path / "pins", keys), {}, mask=MaskedText, log=lambda _: None)
    pins.looked_often = anyio.Event()
    catalog = Catalog({}, facts_of=lambda *_: UNREVIEWED, pins=pins)
    pool = Pool({}, mask_text=MaskedText, log=lambda _: None, on_listing=lambda _server, _listing: None)
    found = Offers(catalog, pool, Masker(MaskingConfig(), b"k" * 32), on_change=lambda: None, pins=pins)
    async with pool.running(), anyio.create_task_group() as tasks:
        tasks.start_soon(found.watch)
        with anyio.fail_after(5):
            await pins.looked_often.wait()
        with pytest.raises(ConfigError):
            await found.resolve(CallKind.TOOL, "x", ALICE)
        tasks.cancel_scope.cancel()
