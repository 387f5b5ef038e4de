"""Sentences about quarantine: constant text, and names through the masker and made visible."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path
from typing import Final

from mcp_guard.downstream.lockfile import Quarantine
from mcp_guard.errors import ConfigError
from mcp_guard.model import MaskedText

BROKEN_LOCK: Final = "guard.lock is not usable"
"""Why everything is held back."""

MOST_LOGGED: Final = 5
MOST_RECORDED: Final = 50
"""Lines about single tools and the like in the log, and in one record."""
_NAMED: Final = 3

_CAUSES: Final = {
    "command": "command in guard.yaml",
    "program": "program",
    "files": "program files",
    "server_info": "name or version",
}


def causes(why: Collection[str]) -> str:
    """Why a whole server is held back, as a noun."""
    return ", ".join(text for key, text in _CAUSES.items() if key in why) or "identity"


def held_tool(why: list[str]) -> str:
    """Why one tool, prompt, resource or template is held back."""
    shadowed = [reason for reason in why if reason.startswith("shadows ")]
    if shadowed:
        return f"{shadowed[0].partition(' ')[2]} has this name already"
    if "new" in why:
        return "it is new since its server was accepted"
    return f"its {', '.join(why) or 'definition'} changed since it was accepted"


def lines(held: Quarantine, mask: Callable[[str], MaskedText]) -> list[str]:
    """One line for each thing that is held back."""
    found = [f"the server: its {causes(held.server)} changed since it was accepted"] if held.server else []
    if held.instructions:
        found.append("its instructions changed since they were accepted")
    found += [f"tool {plain(mask(name))}: {held_tool(why)}" for name, why in held.tools.items()]
    return found + [f"{plain(mask(key))}: {held_tool(why)}" for key, why in held.others.items()]


def summary(held: Quarantine, mask: Callable[[str], MaskedText], *, most: int) -> list[str]:
    """`lines`; one line for all tools and the like where there are more than `most`, which would bury the rest."""
    number = len(held.tools) + len(held.others)
    if number <= most:
        return lines(held, mask)
    named = [plain(mask(name)) for name in islice((*held.tools, *held.others), _NAMED)]
    several = f"{count(number, 'item')} that changed or are new, such as {', '.join(named)}"
    return [*lines(Quarantine(server=held.server, instructions=held.instructions), mask), several]


def plain(text: str) -> str:
    """A name for a log line: what a screen would not show is written out, as `approval.prompt.visible` does."""
    return "".join(letter if letter.isprintable() else f"\\u{{{ord(letter):x}}}" for letter in text)


def mending(server: str, why: str) -> str:
    """The command that shows a person what is the matter."""
    return "mcp-guard doctor" if why == BROKEN_LOCK else f"mcp-guard pins diff {server}"


def count(number: int, noun: str) -> str:
    """`1 tool`, `2 tools`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def not_written(path: Path, error: OSError) -> ConfigError:
    """The lock cannot be written."""
    return ConfigError(
        f"{path} cannot be written ({error.strerror})",
        hint="make its folder writable for you, or set `pins: off` for servers that need none",
    )
