"""Names of several servers: which stay as they were, which one would take from another (security.md S23). Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from mcp_guard.downstream.lockfile import Lock, Quarantine, ServerPin
from mcp_guard.downstream.names import exposed_name
from mcp_guard.downstream.others import is_resource
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.downstream.snapshot import NEW, Snapshot


def shadows(
    server: ResolvedServer,
    snapshot: Snapshot,
    servers: Mapping[str, ResolvedServer],
    lock: Lock,
    owners: Collection[str],
) -> Quarantine:
    """What a server offers under a name or an address that was accepted of another one.

    Args:
        server: The server.
        snapshot: What it is now.
        servers: All of them.
        lock: What was accepted.
        owners: Servers whose names count.
    """
    found = Quarantine()
    for name in owners:
        if name == server.name or name not in servers or name not in lock.servers:
            continue
        pin, why = lock.servers[name], [NEW, f"shadows {name}"]
        tools = {exposed_name(servers[name], tool) for tool in pin.tools}
        others = {_exposed(servers[name], key) for key in pin.others}
        mine = Quarantine(
            tools={tool: why for tool in snapshot.tools if exposed_name(server, tool) in tools},
            others={key: why for key in snapshot.others if _exposed(server, key) in others},
        )
        found = found.joined(mine)
    return found


def _exposed(server: ResolvedServer, key: str) -> str:
    """A key as clients know it: the names of prompts get a prefix, addresses do not."""
    kind, _, name = key.partition(" ")
    return key if is_resource(key) or kind == "template" else f"{kind} {exposed_name(server, name)}"


def only(found: Quarantine, new: Quarantine, pin: ServerPin) -> Quarantine:
    """The part of `found` that is about what a server did not have when it was accepted."""
    return Quarantine(
        tools={name: why for name, why in found.tools.items() if NEW in new.tools.get(name, ())},
        others={key: why for key, why in found.others.items() if key not in pin.others},
    )


def frozen_names(
    servers: Mapping[str, ResolvedServer], lock: Lock, log: Callable[[str], None]
) -> dict[str, ResolvedServer]:
    """The servers with the way of naming that the lock froze (decisions.md D14)."""
    found = dict(servers)
    for name, server in servers.items():
        pin = lock.servers.get(name)
        if server.pins == "off" or pin is None or pin.names in (None, server.names):
            continue
        log(
            f"{name}: guard.yaml says names: {server.names}, guard.lock froze {pin.names}, which stays: hosts' "
            f"allow-lists know these names; `mcp-guard pins accept {name}` takes the new ones"
        )
        found[name] = replace(server, names=pin.names or server.names)
    return found
