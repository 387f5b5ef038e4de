"""What a downstream server is and says of itself, as plain data, and the digest that tells tool definitions apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import JsonValue

from mcp_guard.canon import digest
from mcp_guard.model import JsonDict

T = TypeVar("T")

MAX_NAME: Final = 128
"""Longest tool name of the specification, in characters."""


class Definition(dict[str, JsonValue]):
    """One raw definition of a tool, prompt, resource or template. Nobody changes it once it is made.

    Digests of thousands of them take seconds, so each is worked out once.
    """

    __slots__ = ("memo",)

    def __init__(self, raw: JsonDict) -> None:
        super().__init__(raw)
        self.memo: dict[Callable[..., Any], Any] = {}


def worked_out(what: Callable[[JsonDict], T], definition: JsonDict) -> T:
    """What a pure function makes of a definition; of a `Definition`, what it made the first time."""
    if not isinstance(definition, Definition):
        return what(definition)
    if what not in definition.memo:
        definition.memo[what] = what(definition)
    found: T = definition.memo[what]
    return found


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


Stamp = tuple[int, ...]
"""Device, inode, size, and times of change of a file's content and of its entry, in ns; of a link and its target."""


@dataclass(frozen=True, slots=True)
class Program:
    """The program files that a server was started from. Empty for a remote server."""

    path: str = ""
    """As found on the PATH, symbolic links kept; a command with a folder in it as it is written."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 by path, as it is written in the command line."""
    stamps: dict[str, Stamp] = field(default_factory=dict, compare=False)
    """By the same path, what the system says of the file. The same program elsewhere has others."""

    def same_files(self, other: Program) -> bool:
        """Whether nothing was put in their place, or written into them, between two looks at one place."""
        return self == other and self.stamps == other.stamps
