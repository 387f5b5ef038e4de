"""The names under which clients see tools and prompts (decisions.md D14)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from mcp_guard.config import servernames
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import ConfigError

LONGEST_NAME: Final = 64
"""What model providers accept."""

HOST_PREFIX: Final = 20
"""Kept free in names that the guard makes: hosts put `mcp__<id>__` in front."""

RESERVED: Final = f"{servernames.RESERVED}_"
"""Prefix of the guard's own tools."""

_ALLOWED: Final = re.compile(r"[A-Za-z0-9_.-]+\Z")
_FORBIDDEN: Final = re.compile(r"[^A-Za-z0-9_.-]")
_HASH_CHARS: Final = 8


def exposed_name(server: ResolvedServer, name: str) -> str:
    """Name of a server's tool or prompt for clients: the same for the same input in every run.

    A plain name that fits is never changed. One that is too long, or has characters that hosts refuse, is shortened
    and gets a hash of server and original name.
    """
    if server.names == "plain":
        longest, wanted = LONGEST_NAME, name
    else:
        longest, wanted = LONGEST_NAME - HOST_PREFIX, f"{server.name}_{name}"
    if len(wanted) <= longest and _ALLOWED.match(wanted):
        return wanted
    tag = hashlib.sha256(f"{server.name}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]
    return f"{_FORBIDDEN.sub('_', wanted)[: longest - _HASH_CHARS - 1]}_{tag}"


def check_servers(servers: Mapping[str, ResolvedServer]) -> None:
    """Refuse configurations whose names are ambiguous or reserved before anything starts.

    Raises:
        ConfigError: lists every problem.
    """
    problems = servernames.mixed_up(server.name for server in servers.values() if server.names == "prefixed")
    if problems:
        raise ConfigError("; ".join(problems.values()), hint="rename a server, or give it names: plain")
