"""The card that a reviewer reads before deciding."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mcp_guard.approval.prompt import quoted, visible
from mcp_guard.demo.claims import WIDTH


def card(request: dict[str, Any], *, agent: str) -> Panel:
    """Who wants what, on which resource, why it asks, and the fingerprint.

    Args:
        request: As `mcp-guard approvals show --json` prints it: masked.
        agent: What the requesting client calls itself.
    """
    view = request.get("view") or {}
    rows = (
        ("who", f"{agent} for {_requester(view)}"),
        ("what", f"{request.get('server', '')} / {request.get('tool', '')}"),
        ("with", quoted(view.get("arguments", {}))),
        ("resource", str(view.get("resource") or "")),
        ("why asked", _why(request, view)),
        ("fingerprint", str(request.get("fingerprint", ""))),
    )
    table = Table.grid(padding=(0, 2))
    table.add_column(width=11)
    table.add_column(width=WIDTH - 22, overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(Text(name, style="bold"), Text(visible(value)))
    return Panel(
        table,
        box=box.ROUNDED,
        title=Text("Approve this call?"),
        title_align="left",
        width=WIDTH - 3,
        border_style="yellow",
    )


def _requester(view: dict[str, Any]) -> str:
    who = view.get("requester")
    name = "/".join(str(part) for part in who.values() if part) if isinstance(who, dict) else ""
    return name if view.get("verified") else f"{name} (unverified)"


def _why(request: dict[str, Any], view: dict[str, Any]) -> str:
    reasons = view.get("reasons")
    given = [str(reason) for reason in reasons] if isinstance(reasons, list) else []
    return f"{request.get('risk', '')} risk; " + "; ".join(given)
