"""What a downstream server is and says of itself, as plain data, and the digest that tells tool definitions apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mcp_guard.canon import digest
from mcp_guard.model import JsonDict

MAX_NAME: Final = 128
"""Longest tool name of the specification, in characters."""


def definition_digest(tool: JsonDict) -> str:
    """Digest over all of a definition, since all of it reaches clients and models (threats S21, S22).

    Raises:
        GuardError: it has no canonical form.
    """
    return digest("tool-definition", tool)


@dataclass(frozen=True, slots=True)
class Listing:
    """Raw definitions by kind, unmasked. Plain JSON, so that it can be kept between runs."""

    tools: tuple[JsonDict, ...] = ()
    resources: tuple[JsonDict, ...] = ()
    templates: tuple[JsonDict, ...] = ()
    prompts: tuple[JsonDict, ...] = ()
    instructions: str = ""
    capabilities: tuple[str, ...] = ()
    """Of tools, resources, prompts, completions: what the server declared."""
    protocol: str = ""
    """Negotiated protocol revision."""
    server_info: str = ""
    """Name and version that the server says it has."""


@dataclass(frozen=True, slots=True)
class Program:
    """The program files that a server was started from. Empty for a remote server."""

    path: str = ""
    """As found on the PATH, symbolic links kept; a command with a folder in it as it is written."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 by path, as it is written in the command line."""
