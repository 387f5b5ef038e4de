"""Carries "the lists changed" from the callbacks of the links to the clients."""

from __future__ import annotations

import anyio

from mcp_guard.server.handlers import Edge, announce_changes


class Changes:
    """Changes since the clients were told."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def ring(self) -> None:
        """Note a change."""
        self._event.set()

    async def spread(self, edge: Edge) -> None:
        """Tell the clients of every change, for ever."""
        while True:
            await self._event.wait()
            self._event = anyio.Event()
            await announce_changes(edge)
