"""How `mcp-guard pins` shows differences: masked, hidden characters visible, old above new."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Iterator

from pydantic import JsonValue
from rich.text import Text

from mcp_guard.approval.prompt import visible
from mcp_guard.cli.options import console
from mcp_guard.downstream import report
from mcp_guard.downstream.copies import Copies
from mcp_guard.downstream.lockfile import Quarantine, ServerPin
from mcp_guard.downstream.release import Change, back, changes, reverted
from mcp_guard.model import JsonDict, MaskedText

_CONTEXT = 1
"""Unchanged lines around a changed one."""
_MAX_LINES = 60
"""Lines of one field in the short form; a longer difference says how much is left out."""

_SAME_AGAIN = "    Now it is what was accepted again; accepting lifts the quarantine and changes nothing else."


class Masks:
    """Text of servers, for people: masked, then made visible line by line."""

    def __init__(self, mask: Callable[[str], MaskedText]) -> None:
        self.mask = mask

    def line(self, text: str) -> str:
        """One line."""
        return visible(self.mask(text))

    def lines(self, value: JsonValue) -> list[str]:
        """A text by its lines, anything else as indented JSON."""
        if value is None or value == "":
            return []
        text = value if isinstance(value, str) else json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
        return [visible(line) for line in self.mask(text).split("\n")]


def print_row(name: str, mode: str, pin: ServerPin | None, masks: Masks) -> None:
    """One server of `pins ls`."""
    out, row = console(), Text(f"{name}  ", style="bold")
    if mode == "off":
        row.append("held to nothing (pins: off)", style="dim")
    elif pin is None:
        row.append("not accepted yet: its first start accepts it as it is then", style="dim")
    else:
        row.append(f"{report.count(len(pin.tools), 'tool')}, accepted by {visible(pin.accepted_by)}", style="not bold")
    out.print(row)
    for line in report.lines(pin.quarantine, masks.mask) if pin is not None and mode != "off" else []:
        out.print(Text.assemble("  ", ("quarantined", "bold red"), f"  {line}"))


def print_changes(
    server: str,
    pin: ServerPin,
    copies: Copies,
    masks: Masks,
    *,
    only: Collection[str] | None = None,
    whole: bool = False,
) -> int:
    """What is held back of a server, field by field; returns how many lines of it were left out.

    Args:
        server: Its name.
        pin: Of the server.
        copies: Of the server.
        masks: For what it says.
        only: These tools and the like alone.
        whole: Leave out no line.
    """
    out, held, left_out = console(), pin.quarantine, 0
    out.print(Text.assemble((server, "bold"), f", accepted by {visible(pin.accepted_by)}"))
    found = changes(pin, copies)
    if not only:
        left_out += _print_itself([change for change in found if change.tool is None], pin, copies, masks, whole=whole)
    for other, kind in ((False, held.tools), (True, held.others)):
        for name, why in kind.items():
            if only and name not in only:
                continue
            what = masks.line(name) if other else f"tool {masks.line(name)}"
            out.print(Text(f"\n  {what}: {report.held_tool(why)}", style="bold red"))
            fields = [change for change in found if (change.tool, change.other) == (name, other)]
            left_out += _print_fields(fields, masks, whole=whole)
            if reverted(pin, copies, name, other=other):
                out.print(_SAME_AGAIN)
    out.print("")
    return left_out


def _print_itself(found: list[Change], pin: ServerPin, copies: Copies, masks: Masks, *, whole: bool) -> int:
    """The server as a whole, and its instructions; returns how many lines were left out."""
    out, held, left_out = console(), pin.quarantine, 0
    for part in (Quarantine(server=held.server), Quarantine(instructions=held.instructions)):
        for line in report.lines(part, masks.mask):
            out.print(Text(f"\n  {line}", style="bold red"))
            own = [change for change in found if (change.field == "instructions") == part.instructions]
            left_out += _print_fields(own, masks, whole=whole)
            if part.server and back(pin, copies):
                out.print(_SAME_AGAIN)
    return left_out


def as_json(
    server: str, pin: ServerPin, copies: Copies, masks: Masks, *, only: Collection[str] | None = None
) -> JsonDict:
    """The same for programs, every line; hidden characters are visible here as well."""
    return {
        "server": server,
        "accepted_by": pin.accepted_by,
        "quarantined": [masks.line(line) for line in report.lines(pin.quarantine, masks.mask)],
        "changes": [
            {
                "tool": None if change.tool is None else masks.line(change.tool),
                "field": masks.line(change.field),
                "old": None if change.old is None else "\n".join(masks.lines(change.old)),
                "new": None if change.new is None else "\n".join(masks.lines(change.new)),
            }
            for change in changes(pin, copies)
            if not only or change.tool in only
        ],
    }


def _print_fields(found: list[Change], masks: Masks, *, whole: bool) -> int:
    """Returns how many lines were left out."""
    out, left_out = console(), 0
    for change in found:
        out.print(f"    {masks.line(change.field)}")
        shown = list(_difference(masks.lines(change.old), masks.lines(change.new)))
        end = len(shown) if whole else _MAX_LINES
        for line in shown[:end]:
            style = {"-": "red", "+": "green"}.get(line[0], "dim")
            out.print(Text(f"    {line}", style=style))
        if len(shown) > end:
            out.print(f"    … {report.count(len(shown) - end, 'more line')} left out; --all shows every line")
            left_out += len(shown) - end
    return left_out


def _difference(old: list[str], new: list[str]) -> Iterator[str]:
    if old == new:
        yield "  (the same when masked)"
    for index, line in enumerate(list(difflib.unified_diff(old, new, n=_CONTEXT, lineterm=""))[2:]):
        if not line.startswith("@@"):
            yield f"{line[0]} {line[1:]}"
        elif index:
            yield "  …"
