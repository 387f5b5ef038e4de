"""The page in a guard process. Light to import; the web modules are loaded when somebody has something to decide."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable

from anyio import to_thread

from mcp_guard.http.console.parts import PageParts


async def serve_when(asked: Callable[[], Awaitable[None]], parts: PageParts) -> None:
    """Serve the page from the moment that `asked` returns, for ever; another process may be first."""
    await asked()
    # In a thread: loading takes longer than a call may wait.
    await to_thread.run_sync(importlib.import_module, "mcp_guard.http.console.serving")
    from mcp_guard.http.console.serving import keep_serving

    await keep_serving(parts)
