"""How `mcp-guard trust` shows the tools of a server: text of the server only with its hidden characters visible."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mcp_guard.approval.prompt import clip
from mcp_guard.cli.options import console
from mcp_guard.config.schema import GuardConfig
from mcp_guard.manifest.propose import CLASSES
from mcp_guard.manifest.trust import Row, Standing
from mcp_guard.model import Effect, JsonDict, Risk
from mcp_guard.policy.rules import default_effect

_CRITICAL: Final = "ask, critical"
_HELD: Final = "refused"
_STYLE: Final = {"allow": "green", "ask": "yellow", _CRITICAL: "bold red", "deny": "red", _HELD: "red"}
_LOOKS: Final = {
    Standing.YOURS: "yours",
    Standing.SHIPPED: "reviewed",
    Standing.HELD: "held back",
    Standing.ODD: "odd",
}
_WIDTH: Final = 100
_TOOL: Final = 24
"""Columns for the names of tools."""
_PIECE: Final = re.compile(r"[A-Z]?[^A-Z_\-./ ]*[_\-./ ]?")
"""Of a name, up to where it may be broken: after `_` and the like, and before a capital."""
_NAME: Final = 64
"""Characters of a tool's name in the table."""
_SHOWN: Final = 400
"""Characters of a definition that hides something."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What belongs below the table. Commands are whole, so that they can be copied."""

    seen_on: str
    """The day on which the guard saw these tools behind their host; empty for a server that was started here."""
    look_at: str
    accept: str
    reviewed_in: str
    """File with an earlier review; empty where there is none."""
    add_reviewer: str
    """Empty where there is a reviewer."""


def print_table(server: str, rows: Sequence[Row], config: GuardConfig) -> None:
    """Print one row for each tool, what is proposed with numbers, and what the proposal comes to."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("tool", no_wrap=True)
    table.add_column("looks", no_wrap=True)
    table.add_column("then", no_wrap=True)
    table.add_column("why", overflow="fold")
    for number, row in enumerate(rows, 1):
        then = then_of(row, config)
        table.add_row(
            str(number) if row.proposed else "",
            Text("\n".join(_folded(_name(row.tool)))),
            looks_of(row) + (" *" if row.standing is Standing.CHANGED else ""),
            Text(then, style=_STYLE[then]),
            Text(row.why),
        )
    out = Console(highlight=False, markup=False, emoji=False)
    out.print(Text(f"{server}: {_count(len(rows), 'tool')}\n"))
    out.print(table)
    if any(row.standing is Standing.CHANGED for row in rows):
        out.print("\n* is not as it was when it was reviewed.")
    for row in rows:
        if row.hidden:
            out.print(Text(f"\nhidden characters in {_name(row.tool)}: {_quoted(row.text)}"))
    out.print(Text("\n" + summary_text(server, rows, config)))


def print_notes(server: str, rows: Sequence[Row], config: GuardConfig, notes: Notes) -> None:
    """Print what a person has to know before they answer."""
    standings = [row.standing for row in rows]
    if notes.seen_on:
        say(f"\nOnly its host can start {server}: these are its tools as the guard saw them there on {notes.seen_on}.")
    held = standings.count(Standing.HELD)
    if held:
        say(
            f"\n{_count(held, 'tool')} of {server} {'is' if held == 1 else 'are'} held back: new, or changed since "
            "it was accepted. This review leaves them out. Look at the change, accept it if you expected it, and "
            "then review again:"
        )
        _commands(notes.look_at, notes.accept)
    if notes.reviewed_in and Standing.YOURS in standings:
        say("\nWhat you decided earlier is in this file. Change `risk` there, or take a tool out to be asked anew:")
        _commands(notes.reviewed_in)
    if notes.add_reviewer and any(then_of(row, config) == _CRITICAL for row in rows):
        say("\nask, critical: such a call is refused as long as there is no reviewer to ask. This adds one:")
        _commands(notes.add_reviewer)


def say(text: str) -> None:
    """Print a sentence, broken between words; an empty line before it stays."""
    body = text.lstrip("\n")
    width = min(shutil.get_terminal_size().columns, _WIDTH)
    shown = textwrap.fill(body, width, break_long_words=False, break_on_hyphens=False)
    console().print("\n" * (len(text) - len(body)) + shown)


def _commands(*lines: str) -> None:
    # Not wrapped: a command or a path is copied as one line.
    for line in lines:
        console().print(f"  {line}")


def summary_text(server: str, rows: Sequence[Row], config: GuardConfig) -> str:
    """What is proposed, in one line for each kind: `14 look read-only -> allow`."""
    lines: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.looks is not None:
            key = (CLASSES[row.looks].many, effect_of(row.risk, config))
            lines[key] = lines.get(key, 0) + 1
    known = sum(row.standing in (Standing.YOURS, Standing.SHIPPED) for row in rows)
    odd = sum(row.standing is Standing.ODD for row in rows)
    if odd:
        lines["are odd", effect_of(Risk.HIGH, config)] = odd
    told = [f"  {number:>3} {_singular(many, number)} -> {then}" for (many, then), number in lines.items()]
    held = sum(row.standing is Standing.HELD for row in rows)
    told += [f"  {held:>3} {'is' if held == 1 else 'are'} held back -> {_HELD}"] if held else []
    told += [f"  {known:>3} {'is' if known == 1 else 'are'} reviewed already"] if known else []
    return "\n".join([f"{server}:", *told])


def then_of(row: Row, config: GuardConfig) -> str:
    """What happens to a call of a tool."""
    return _HELD if row.standing is Standing.HELD else effect_of(row.risk, config)


def effect_of(risk: Risk, config: GuardConfig) -> str:
    """What happens to a call where no rule matches: allow, ask, `ask, critical` (needs a reviewer), deny."""
    effect = default_effect(config, risk)
    if effect is Effect.REQUIRE_APPROVAL:
        return _CRITICAL if risk is Risk.CRITICAL else "ask"
    return effect.value


def looks_of(row: Row) -> str:
    """What a tool looks like, or who reviewed it."""
    return CLASSES[row.looks].one if row.looks is not None else _LOOKS[row.standing]


def as_json(server: str, rows: Sequence[Row], config: GuardConfig, *, written: bool, pinned: bool) -> JsonDict:
    """The table for programs."""
    tools: list[JsonValue] = [
        {
            "tool": row.tool,
            "standing": row.standing.value,
            "looks": looks_of(row),
            "risk": row.risk.value,
            "effect": then_of(row, config),
            "effects": [] if row.entry is None else [*row.entry.effects],
            "why": row.why,
            "hidden_characters": row.hidden,
        }
        for row in rows
    ]
    done = written and any(row.proposed for row in rows)
    return {"server": server, "written": done, "pinned": pinned, "tools": tools}


def _singular(many: str, number: int) -> str:
    """`look read-only` for one."""
    verb, _, rest = many.partition(" ")
    ones = {"are": "is", "may": "may"}
    return many if number != 1 else f"{ones.get(verb, verb + 's')} {rest}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _name(name: str) -> str:
    """A name, and where it has letters that may look like others, a second time with their numbers."""
    spelt = "".join(c if c.isascii() else f"\\u{{{ord(c):x}}}" for c in name)
    shown = clip(name, _NAME)
    return shown if name.isascii() or shown == spelt else f"{shown} ({clip(spelt, _NAME)})"


def _folded(name: str) -> list[str]:
    """A name in lines of `_TOOL` columns, broken after `_` and the like; only a longer word is broken inside."""
    lines = [""]
    for piece in filter(None, _PIECE.findall(name)):
        if lines[-1] and len(lines[-1]) + len(piece) > _TOOL:
            lines.append("")
        lines[-1] += piece
    return [line[start : start + _TOOL].rstrip() for line in lines for start in range(0, max(len(line), 1), _TOOL)]


def _quoted(text: str) -> str:
    return '"' + clip(text.replace("\n", " "), _SHOWN) + '"' if text else "in its name or arguments"
