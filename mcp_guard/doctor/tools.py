"""Tools that nobody has reviewed, and tools that are not what was accepted."""

from __future__ import annotations

from collections.abc import Mapping

from mcp_guard.config.load import LoadedConfig
from mcp_guard.doctor.finding import Finding, count, find, fine
from mcp_guard.doctor.servers import Probe
from mcp_guard.doctor.setup import Setup
from mcp_guard.downstream.definition import Listing, definition_digest
from mcp_guard.downstream.lockfile import LOCK_NAME, LockFile, Quarantine
from mcp_guard.errors import ConfigError
from mcp_guard.manifest.find import Shelf
from mcp_guard.model import JsonDict


def review(loaded: LoadedConfig, probes: Mapping[str, Probe]) -> list[Finding]:
    """What the manifests say of the tools that the servers list now.

    Args:
        loaded: The configuration.
        probes: How each server did.
    """
    found = []
    for server, probed in probes.items():
        listing = probed.listing
        left = 0 if listing is None else unreviewed(loaded, server, listing)
        if listing is not None and left:
            text = f"Server {server}: {left} of {count(len(listing.tools), 'tool')} not reviewed yet; each call asks."
            found.append(find("tools-unreviewed", text, server=server))
    return found


def unreviewed(loaded: LoadedConfig, server: str, listing: Listing) -> int:
    """How many tools of a listing no manifest knows, or knows under another definition."""
    facts_for = Shelf().bind(loaded.config, loaded.folder).facts_for
    facts = [
        facts_for(server, str(tool.get("name")), _annotations(tool), definition_digest(tool)) for tool in listing.tools
    ]
    return sum(not one.listed for one in facts)


def _annotations(tool: JsonDict) -> JsonDict:
    found = tool.get("annotations")
    return found if isinstance(found, dict) else {}


def pins(setup: Setup) -> list[Finding]:
    """What `guard.lock` holds back, and whether it can be used."""
    if setup.loaded is None or setup.path is None:
        return []
    file = LockFile(setup.path.with_name(LOCK_NAME))
    try:
        lock = file.read()
    except ConfigError as error:
        return [find("pins-unusable", f"{error.message}.", path=file.path)]
    if lock is None:
        return []
    running = [name for name, server in setup.loaded.config.servers.items() if not server.disabled]
    held = {name: lock.servers[name].quarantine for name in running if name in lock.servers}
    found = [
        find("tools-quarantined", f"Server {name}: {_held(quarantine)} changed since it was accepted.", server=name)
        for name, quarantine in held.items()
        if not quarantine.empty
    ]
    return found or [fine(f"{count(len(held), 'server')} pinned")]


def _held(quarantine: Quarantine) -> str:
    if quarantine.server:
        return "all of it is held back, since its program"
    if quarantine.tools:
        return f"{count(len(quarantine.tools), 'tool')} held back, new or"
    return "its instructions are held back, since they"
