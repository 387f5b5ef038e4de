"""One downstream server as the configuration names it, with all references resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class ResolvedServer:
    """Built by the app from `ServerConfig`. `env` and `headers` hold resolved secrets and are not shown."""

    name: str
    identity: str
    """Keyed digest over what the configuration says of it (`parts.resolve_servers`). A catalogue of another identity
    is not used, and no approval for another one runs."""
    command: tuple[str, ...] = ()
    """Program and arguments of a local stdio server; empty for a remote one."""
    url: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to the inherited environment."""
    inherit: bool = True
    """Whether a child gets the guard's environment (decisions.md D29), or only the few names every program needs."""
    withheld: frozenset[str] = frozenset()
    """Names of variables that a child does not inherit: the configuration reads them for other servers."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: Path | None = None
    """None: the folder that the host gave to the guard."""
    names: Literal["plain", "prefixed"] = "prefixed"
    start_timeout_s: float = 30.0
    call_timeout_s: float = 300.0
    pins: Literal["program", "definitions", "off"] = "program"
    """What `guard.lock` holds it to."""
    written: tuple[str, ...] = ()
    """Command and arguments, or the URL, as the configuration has them: references unresolved."""

    @property
    def local(self) -> bool:
        """Whether it is a local stdio server."""
        return self.url is None
