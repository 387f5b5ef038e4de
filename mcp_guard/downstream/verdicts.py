"""What the lock says of servers, tools and all else: what may be offered, and what may be called."""

from __future__ import annotations

from collections.abc import Mapping

from mcp_guard.downstream import report
from mcp_guard.downstream.definition import Listing
from mcp_guard.downstream.lockfile import Lock, Quarantine, ServerPin
from mcp_guard.downstream.others import is_resource, keys_of, others_of
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.downstream.snapshot import NEW, instructions_accepted, tool_pin
from mcp_guard.errors import QuarantinedError
from mcp_guard.model import CallKind, MaskedText, Target


class Verdicts:
    """One state of the lock, and what is held back besides; who changes it raises `generation`.

    Args:
        lock: What was accepted.
        servers: Those of this process, in the order of the configuration.
    """

    def __init__(self, lock: Lock, servers: Mapping[str, ResolvedServer]) -> None:
        self._lock = lock
        self._servers = servers
        self._unsaved: dict[str, Quarantine] = {}
        self._joined: dict[str, tuple[Quarantine, Quarantine, Quarantine]] = {}
        self._unusable = ""
        self.generation = 0
        """Raised whenever what is accepted may have changed."""

    @property
    def servers(self) -> Mapping[str, ResolvedServer]:
        """The servers with the names that the lock froze (decisions.md D14)."""
        return self._servers

    def knows(self, server: str) -> bool:
        """Whether this server was accepted once, or is not held to anything."""
        return server in self._lock.servers or self._servers[server].pins == "off"

    def held_tools(self, server: str) -> Mapping[str, str]:
        """Own names of tools that are held back whatever the server lists now, and why."""
        pin = self._lock.servers.get(server)
        if pin is None or self._servers[server].pins == "off":
            return {}
        whole, held = self.server_objection(server), self._held(server, pin).tools
        if whole is not None:
            return dict.fromkeys((*pin.tools, *held), whole)
        return {tool: report.held_tool(why) for tool, why in held.items()}

    def server_objection(self, server: str) -> str | None:
        """Why nothing of this server may be used; None where there is no reason."""
        resolved, pin = self._servers[server], self._lock.servers.get(server)
        if resolved.pins == "off":
            return None
        if self._unusable:
            return self._unusable
        if pin is None or resolved.pins == "definitions":
            return None
        why = self._held(server, pin).server
        return f"its {report.causes(why)} changed since it was accepted" if why else None

    def tool_objection(self, server: str, tool: str, digest: str) -> str | None:
        """Why this tool may not be used with this definition; None where it may."""
        if self._servers[server].pins == "off":
            return None
        whole = self.server_objection(server)
        if whole is not None:
            return whole
        pin = self._lock.servers.get(server)
        if pin is None:
            return "it was not accepted yet"
        held = self._held(server, pin).tools.get(tool)
        if held is not None:
            return report.held_tool(held)
        known = pin.tools.get(tool)
        return None if known is not None and known.digest == digest else report.held_tool(["new"] if not known else [])

    def item_objection(self, server: str, key: str, digest: str) -> str | None:
        """Why this prompt, resource or template may not be offered; None where it may. New resources may (`others`)."""
        if self._servers[server].pins == "off":
            return None
        whole, pin = self.server_objection(server), self._lock.servers.get(server)
        if whole is not None or pin is None:
            return whole or "it was not accepted yet"
        held, known = self._held(server, pin).others.get(key), pin.others.get(key)
        if held is not None:
            return report.held_tool(held)
        if known is None:
            return None if is_resource(key) else report.held_tool([NEW])
        return None if known.digest == digest else report.held_tool([])

    def knows_item(self, server: str, key: str) -> bool:
        """Whether texts about it were accepted."""
        pin = self._lock.servers.get(server)
        return self._servers[server].pins == "off" or (pin is not None and key in pin.others)

    def objections(self, server: str, listing: Listing) -> list[tuple[str, str]]:
        """Everything in a listing that may not be offered: (`server`, `instructions`, `tool` or `other`; its name)."""
        found = [("server", server)] if self.server_objection(server) is not None else []
        if not self.instructions_shown(server, listing.instructions):
            found.append(("instructions", ""))
        for tool in listing.tools:
            made = tool_pin(tool)
            if made is not None and self.tool_objection(server, str(tool.get("name")), made.digest) is not None:
                found.append(("tool", str(tool.get("name"))))
        for key, item in others_of(listing, MaskedText).items():
            made = tool_pin(item)
            if made is not None and self.item_objection(server, key, made.digest) is not None:
                found.append(("other", key))
        return found

    def instructions_shown(self, server: str, text: str) -> bool:
        """Whether a server's instructions are the accepted ones."""
        if self._servers[server].pins == "off":
            return True
        pin = self._lock.servers.get(server)
        if pin is None or self.server_objection(server) is not None or self._held(server, pin).instructions:
            return False
        return instructions_accepted(pin, text)

    def admit(self, target: Target) -> None:
        """The last look before a call is sent.

        Raises:
            QuarantinedError: it may not be used.
        """
        why, what = self.server_objection(target.server), "server"
        if target.kind is CallKind.TOOL:
            why, what = self.tool_objection(target.server, target.name, target.definition_digest), "tool"
        elif why is None:
            why, what = self._other_objection(target), target.kind.value
        if why is not None:
            hint = f"do not retry; the user runs `{report.mending(target.server, why)}`"
            raise QuarantinedError(f"the {what} is quarantined: {why}", hint=hint)

    def _other_objection(self, target: Target) -> str | None:
        """Why this prompt or resource may not be asked for. By its name: the call brings no definition."""
        if self._servers[target.server].pins == "off":
            return None
        pin = self._lock.servers.get(target.server)
        if pin is None:
            return "it was not accepted yet"
        held = self._held(target.server, pin).others
        return next((report.held_tool(held[key]) for key in keys_of(target.kind, target.name) if key in held), None)

    def _held(self, server: str, pin: ServerPin) -> Quarantine:
        unsaved = self._unsaved.get(server)
        if unsaved is None:
            return pin.quarantine
        known = self._joined.get(server)
        if known is None or known[0] is not pin.quarantine or known[1] is not unsaved:
            # Asked for each tool, and it is long where there are many.
            known = self._joined[server] = pin.quarantine, unsaved, pin.quarantine.joined(unsaved)
        return known[2]
