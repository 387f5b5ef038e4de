"""What `mcp-guard trust` looks at: the tools of a server as it lists them now, and which of them are held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from mcp_guard.cli.options import follow_up, keys_of
from mcp_guard.config.load import LoadedConfig
from mcp_guard.downstream.definition import Listing, Program, definition_digest
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import DownstreamUnavailableError, GuardError, QuarantinedError, UsageError
from mcp_guard.manifest.trust import Row, Standing

if TYPE_CHECKING:
    from mcp_guard.downstream.pins import Pins
    from mcp_guard.downstream.pool import ServerState
    from mcp_guard.masking.masker import Masker

_START_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a person is asked about."""

    server: ResolvedServer
    listing: Listing
    program: Program
    """Its files before it was started: it could change them while the person thinks."""
    on: str = ""
    """For a server that only its host can start: the day on which the guard saw these tools there."""


def look(found: LoadedConfig, servers: Sequence[str]) -> dict[str, Seen | GuardError]:
    """Start servers side by side and read their tools; of those that only a host starts, take what the guard saw.

    Raises:
        ConfigError: the data folder cannot be used.
    """
    from mcp_guard.downstream.program import observe
    from mcp_guard.parts import from_own_folder, prepare_data_dir, probe_listings, resolve_servers

    prepare_data_dir(found.data_dir)
    resolved = from_own_folder(resolve_servers(found), found)
    seen: dict[str, Seen | GuardError] = {
        name: _remembered(found, name) for name in servers if name in found.config.servers and name not in resolved
    }
    here = {name: resolved[name] for name in servers if name in resolved}
    programs: dict[str, Program] = {}
    for name, server in here.items():
        try:
            programs[name] = observe(server) if server.pins == "program" else Program()
        except GuardError as error:
            seen[name] = error
    only = servers[0] if len(servers) == 1 else None
    asked = replace(found, servers={name: found.servers[name] for name in programs})

    async def probe() -> None:
        for name, (state, listing) in (await probe_listings(asked, only, timeout_s=_START_S, level="warning")).items():
            seen[name] = _silent(found, name, state) if listing is None else Seen(here[name], listing, programs[name])

    if programs:
        anyio.run(probe)
    return {name: seen[name] for name in servers}


def _silent(found: LoadedConfig, server: str, state: ServerState) -> GuardError:
    if state.held:
        return QuarantinedError(f"{server} is {state.reason}", hint=state.held)
    return DownstreamUnavailableError(
        f"{server} does not list its tools: {state.reason or 'it is still starting'}",
        hint=f"`{follow_up('check --connect', found.path)}` shows what it writes to stderr",
    )


def _remembered(found: LoadedConfig, server: str) -> Seen | GuardError:
    """The tools of a server that only its host can start, as a guard behind that host saw them last."""
    from mcp_guard.parts import lock_and_copies, resolve_servers

    if found.config.servers[server].disabled:
        return UsageError(f"{server} is disabled in {found.path.name}", hint="remove `disabled: true` to review it")
    _, store = lock_and_copies(found, keys_of(found))
    kept = store.load(server).latest
    if kept is None:
        again = follow_up(f"trust {server}", found.path)
        return UsageError(
            f"{server} can only be started by the host that it belongs to, which sets its variables",
            hint=f"restart that host and use the server once; then `{again}` reviews what the guard saw there",
        )
    # Never started, so that its references need not be known.
    written = replace(found, servers={**found.servers, server: found.config.servers[server]})
    listing = Listing(tools=tuple(kept.tools.values()), instructions=kept.instructions, server_info=kept.server_info)
    return Seen(resolve_servers(written)[server], listing, Program(), _day(store.folder / f"{server}.sealed"))


def _day(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()


def pins_for(found: LoadedConfig, seen: Seen, mask: Masker) -> Pins:
    """The pins of all servers, with the one that was looked at."""
    from mcp_guard.parts import open_pins, resolve_servers

    servers = resolve_servers(found)
    return open_pins(
        found, {**servers, seen.server.name: servers.get(seen.server.name, seen.server)}, keys_of(found), mask
    )


def held_back(pins: Pins, seen: Seen) -> Mapping[str, str]:
    """Tools that are not what was accepted, and why: nobody reviews them before they were looked at and accepted."""
    name = seen.server.name
    if not pins.knows(name):
        return {}
    found: dict[str, str] = {}
    for tool in seen.listing.tools:
        own = str(tool.get("name"))
        try:
            why = pins.tool_objection(name, own, definition_digest(tool))
        except GuardError:
            continue  # not usable, so it is not offered: the table says so
        if why is not None:
            found.setdefault(own, why)
    return found


def without_held(rows: Sequence[Row], held: Mapping[str, str]) -> list[Row]:
    """The rows with nothing proposed for what is held back; what is proposed stays first."""
    made = [
        replace(row, standing=Standing.HELD, why=f"Held back: {held[row.tool]}.", looks=None, entry=None)
        if row.tool in held and row.standing is not Standing.ODD
        else row
        for row in rows
    ]
    return sorted(made, key=lambda row: not row.proposed)


def check_names(found: LoadedConfig, server: str) -> None:
    """Whether trust may write the manifest of this server.

    Raises:
        UsageError: there is no such server, or its manifest is a file of the user's own.
    """
    from mcp_guard.manifest.find import named_manifests
    from mcp_guard.manifest.user import user_manifest_path

    if server not in found.config.servers:
        listed = ", ".join(found.config.servers) or "no server"
        raise UsageError("this server is not in guard.yaml", hint=f"it has: {listed}")
    if user_manifest_path(found.folder, server) in named_manifests(found.config, found.folder):
        raise UsageError(
            "guard.yaml names the file manifests/… of this server as a manifest of its own",
            hint="edit that file, or move it to another name",
        )
