"""Names of servers that cannot stand beside each other, where tools are offered as `server_tool` (decisions.md D14)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mcp_guard.config.problems import Finding
from mcp_guard.config.schema import ServerConfig

RESERVED = "guard"
"""Tools of the guard itself begin with it and a `_`."""


@dataclass(slots=True)
class NamesInUse:
    """Names that are taken; tells whether one more could be mixed up with them."""

    names: set[str] = field(default_factory=set)
    _beginnings: set[str] = field(default_factory=set)
    """What stands before each `_` of the names."""

    def add(self, name: str) -> None:
        """Take a name."""
        self.names.add(name)
        self._beginnings.update(_beginnings(name))

    def mixed_up_with(self, name: str) -> bool:
        """Whether a tool's name could be of this server or of another: `a_b_c` is of `a` or of `a_b`."""
        if _reserved(name):
            return True
        return name in self._beginnings or any(part in self.names for part in _beginnings(name))


def _reserved(name: str) -> bool:
    return f"{name}_".startswith(f"{RESERVED}_")


def _beginnings(name: str) -> list[str]:
    return [name[:place] for place, character in enumerate(name) if character == "_"]


def in_use(names: Iterable[str]) -> NamesInUse:
    """Collect names."""
    found = NamesInUse()
    for name in names:
        found.add(name)
    return found


def mixed_up(names: Iterable[str]) -> dict[str, str]:
    """For each name that cannot stand beside the others, a sentence that says why."""
    known = in_use(names)
    found = {}
    for name in sorted(filter(known.mixed_up_with, known.names)):
        shorter = next((part for part in _beginnings(name) if part in known.names), None)
        if _reserved(name):
            found[name] = f"{RESERVED}_… is reserved for the tools of the guard"
        elif shorter is not None:
            found[name] = f"{name}_x could be a tool of {name} or of {shorter}"
    return found


def ambiguous_names(servers: Mapping[str, ServerConfig]) -> list[Finding]:
    """Names with which no guard could offer all these servers together; one that offers a single server can."""
    prefixed = [name for name, server in servers.items() if not server.disabled and server.names == "prefixed"]
    hint = "rename it, or use names: plain; `serve` without --server does not start like this"
    return [Finding(("servers", name), why, hint) for name, why in mixed_up(prefixed).items()]
