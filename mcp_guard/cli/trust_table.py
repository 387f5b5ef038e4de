"""How `mcp-guard trust` shows the tools of a server: text of the server only with its hidden characters visible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mcp_guard.approval.prompt import clip
from mcp_guard.config.schema import GuardConfig
from mcp_guard.manifest.propose import CLASSES
from mcp_guard.manifest.trust import Row, Standing
from mcp_guard.model import Effect, JsonDict, Risk
from mcp_guard.policy.rules import default_effect

_STYLE: Final = {"allow": "green", "ask": "yellow", "ask, critical": "bold red", "deny": "red"}
_LOOKS: Final = {Standing.YOURS: "yours", Standing.SHIPPED: "reviewed", Standing.ODD: "odd"}
_NAME: Final = 64
"""Characters of a tool's name in the table."""
_SHOWN: Final = 400
"""Characters of a definition that hides something."""


def print_table(server: str, rows: Sequence[Row], config: GuardConfig) -> None:
    """Print one row for each tool, what is proposed with numbers, and what the proposal comes to."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("tool", overflow="fold", max_width=28)
    table.add_column("looks", no_wrap=True)
    table.add_column("then", no_wrap=True)
    table.add_column("why", overflow="fold")
    for number, row in enumerate(rows, 1):
        then = effect_of(row.risk, config)
        table.add_row(
            str(number) if row.proposed else "",
            Text(_name(row.tool)),
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
    told += [f"  {known:>3} {'is' if known == 1 else 'are'} reviewed already"] if known else []
    return "\n".join([f"{server}:", *told])


def effect_of(risk: Risk, config: GuardConfig) -> str:
    """What happens to a call where no rule matches: allow, ask, `ask, critical` (needs a reviewer), deny."""
    effect = default_effect(config, risk)
    if effect is Effect.REQUIRE_APPROVAL:
        return "ask, critical" if risk is Risk.CRITICAL else "ask"
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
            "effect": effect_of(row.risk, config),
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


def _quoted(text: str) -> str:
    return '"' + clip(text.replace("\n", " "), _SHOWN) + '"' if text else "in its name or arguments"
