"""`mcp-guard console`: a one-time link to the page, and the page itself where no guard serves it."""

from __future__ import annotations

import os
import webbrowser
from dataclasses import replace
from typing import Annotated

import anyio
import typer
from anyio import to_thread

from mcp_guard import logs, system
from mcp_guard.approval.channels.console import console_url
from mcp_guard.approval.signin import LINK_S
from mcp_guard.cli.approvals import TOKEN_VARIABLE
from mcp_guard.cli.options import ConfigOption, console, loaded
from mcp_guard.config.load import LoadedConfig
from mcp_guard.errors import ConfigError
from mcp_guard.http.console.parts import PageParts, open_parts
from mcp_guard.http.console.probe import serves_here
from mcp_guard.model import Principal
from mcp_guard.system import at_terminal


def command(
    config: ConfigOption = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the link in the browser as well.")] = False,
) -> None:
    """Print a link to the page where you decide; serve the page until Ctrl-C where no guard does.

    Needs a terminal, or a reviewer's token in MCP_GUARD_REVIEWER_TOKEN.
    """
    anyio.run(_main, loaded(config), open_browser)


async def _main(config: LoadedConfig, open_browser: bool) -> None:
    async with open_parts(config) as parts:
        code = await _code(parts)
        if await to_thread.run_sync(serves_here, parts.keys, parts.port):
            _tell(parts, code, "A running guard serves the page.", open_browser=open_browser)
            return
        await _serve(parts, code, open_browser=open_browser)


async def _code(parts: PageParts) -> str:
    """A one-time code for whoever sits here. Agents hold shells: without a terminal only a token counts (D25).

    Raises:
        NotEligibleError: no terminal and no token, or a token that nobody was given.
    """
    person = Principal("os", system.user_name(), os.environ.get("MCP_GUARD_PRINCIPAL", ""))
    reviewer = await parts.review.identify(
        user=person.subject,
        tty=at_terminal(),
        token=os.environ.get(TOKEN_VARIABLE),
        principal_key=person.key,
    )
    return await parts.signin.link(replace(reviewer, channel="console"))


async def _serve(parts: PageParts, code: str, *, open_browser: bool) -> None:
    from mcp_guard.http.console.serving import bind, serve_page

    listener = bind(parts.port)
    if listener is None:
        raise ConfigError(
            f"port {parts.port} is used by another program, so the page cannot be served there",
            hint="end that program, or set console.port in guard.yaml to another port and restart the host",
        )
    logs.configure(parts.mask)
    async with anyio.create_task_group() as group:
        await group.start(serve_page, parts, listener)
        _tell(parts, code, "Serving the page until Ctrl-C.", open_browser=open_browser)


def _tell(parts: PageParts, code: str, how: str, *, open_browser: bool) -> None:
    link = f"{console_url(parts.port, parts.keys)}login/{code}"
    out = console()
    out.print(f"Open this link within {LINK_S // 60} minutes; it signs you in once:\n\n  {link}\n\n{how}")
    if open_browser:
        webbrowser.open(link)
