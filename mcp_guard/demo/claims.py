"""What the demo says, checked at the moment it says it. Everything is laid out for 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

WIDTH = 80
INDENT = 3
_COLUMNS = (28, 15, WIDTH - INDENT - 28 - 15)


class Claims:
    """Prints each claim with its check, and counts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.mark = "ok" if console.options.ascii_only else "✓"
        """Stands before what was checked and is true."""
        self.made = 0
        self.held = 0

    def claim(self, text: str, ok: bool) -> None:  # noqa: FBT001 - the second half of a claim is its check
        """Print one sentence and whether it is true. A sentence that is not true fails the demo."""
        self.made += 1
        self.held += ok
        say(self._console, text, mark=self.mark if ok else "NO", style="green" if ok else "bold red")

    @property
    def all_held(self) -> bool:
        """Whether something was claimed and nothing was wrong."""
        return self.made > 0 and self.made == self.held

    @property
    def summary(self) -> str:
        """`N claims, N checked`, and how many did not hold."""
        wrong = self.made - self.held
        return f"{self.made} claims, {self.made} checked" + (f", {wrong} WRONG" if wrong else "")


def say(console: Console, text: str, *, mark: str = "", style: str = "") -> None:
    """Print text at the demo's indent, wrapped, with a mark before its first line."""
    for number, line in enumerate(textwrap.wrap(text, WIDTH - INDENT - 1) or [""]):
        head = mark.rjust(INDENT - 1).ljust(INDENT) if number == 0 else " " * INDENT
        console.print(Text.assemble((head, style), line))


def three_columns(console: Console, rows: Sequence[tuple[str, str, str]]) -> None:
    """Print *agent sees | guard did | server got*; a cell that is too long is cut."""
    header = ("agent sees", "guard did", "server got, and holds")
    for number, row in enumerate([header, *rows]):
        styles = ("bold",) * 3 if number == 0 else ("cyan", "yellow", "")
        cells = [cut(cell, width - 1).ljust(width) for cell, width in zip(row, _COLUMNS, strict=True)]
        line = Text(" " * INDENT)
        for cell, style in zip(cells, styles, strict=True):
            line.append(cell, style=style)
        line.rstrip()
        console.print(line)


def cut(text: str, width: int) -> str:
    """At most `width` characters; what was cut is marked."""
    return text if len(text) <= width else text[: width - 1] + "…"
