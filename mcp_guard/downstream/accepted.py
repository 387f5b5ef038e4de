"""What the catalogue and the pool ask of the pins, and the answer where nothing is held to anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.model import Target

if TYPE_CHECKING:
    from mcp_guard.downstream.definition import Listing, Program


class Accepted(Protocol):
    """Which servers and tools are the ones that were accepted."""

    @property
    def generation(self) -> int:
        """Rises whenever an answer may have changed."""
        ...

    def knows(self, server: str) -> bool:
        """Whether this server was accepted once, or is not held to anything."""
        ...

    def held_tools(self, server: str) -> Mapping[str, str]:
        """Own names of tools that are held back whatever the server lists now, and why."""
        ...

    def server_objection(self, server: str) -> str | None:
        """Why nothing of this server may be used; None where there is no reason."""
        ...

    def tool_objection(self, server: str, tool: str, digest: str) -> str | None:
        """Why this tool may not be used with this definition; None where it may."""
        ...

    def item_objection(self, server: str, key: str, digest: str) -> str | None:
        """Why this prompt, resource or template may not be offered; None where it may."""
        ...

    def knows_item(self, server: str, key: str) -> bool:
        """Whether texts about it were accepted; a new resource is offered without."""
        ...

    def instructions_shown(self, server: str, text: str) -> bool:
        """Whether a server's instructions are the accepted ones."""
        ...


class Gate(Protocol):
    """What stands between a server and its being used."""

    async def before_start(self, server: ResolvedServer) -> Program | None:
        """Look at its program, if that matters; raises QuarantinedError where it must not be started."""
        ...

    async def listed(
        self, server: ResolvedServer, listing: Listing, *, first: bool, program: Program | None = None
    ) -> None:
        """Judge what one of its links listed, before any of it is offered.

        Args:
            server: The server.
            listing: Everything it offers.
            first: Whether it was just started.
            program: What `before_start` found when this link was started.

        Raises:
            QuarantinedError: it is to be ended: what was started may be another program than was looked at.
        """
        ...

    def admit(self, target: Target) -> None:
        """The last look before a call is sent; raises QuarantinedError."""
        ...


class Anything:
    """Implements both for servers that are only looked at: nothing is pinned, nothing is held back."""

    generation = 0

    def knows(self, server: str) -> bool:  # noqa: ARG002 - of every server
        """See `Accepted`."""
        return True

    def held_tools(self, server: str) -> Mapping[str, str]:  # noqa: ARG002
        """See `Accepted`."""
        return {}

    def server_objection(self, server: str) -> str | None:  # noqa: ARG002
        """See `Accepted`."""
        return None

    def tool_objection(self, server: str, tool: str, digest: str) -> str | None:  # noqa: ARG002
        """See `Accepted`."""
        return None

    def item_objection(self, server: str, key: str, digest: str) -> str | None:  # noqa: ARG002
        """See `Accepted`."""
        return None

    def knows_item(self, server: str, key: str) -> bool:  # noqa: ARG002
        """See `Accepted`."""
        return True

    def instructions_shown(self, server: str, text: str) -> bool:  # noqa: ARG002
        """See `Accepted`."""
        return True

    async def before_start(self, server: ResolvedServer) -> Program | None:  # noqa: ARG002
        """See `Gate`."""
        return None

    async def listed(
        self, server: ResolvedServer, listing: Listing, *, first: bool, program: Program | None = None
    ) -> None:
        """See `Gate`."""

    def admit(self, target: Target) -> None:
        """See `Gate`."""
