"""What the person at the client is asked, and what the client says of the answer. Frozen, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mcp_guard.model import MaskedText


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question for the person at the client, already masked and made visible."""

    approval_id: str
    message: MaskedText
    """At most 600 characters of plain text."""
    fingerprint: str
    """Short form of the action digest, e.g. K7QF-93WM."""
    type_fingerprint: bool
    grants: tuple[tuple[int, MaskedText], ...] = ()
    """Grants that may be given with the approval: index and one line of text that says all of its bounds."""
    url: str = ""
    """Address of the request on the page; it carries no authority."""
    again: int = 0
    """How many wrong fingerprints were typed before; the message then says so."""


@dataclass(frozen=True, slots=True)
class PromptAnswer:
    """The client's claim of what its user answered. `approve` only for an explicit one, perhaps with a grant."""

    verdict: Literal["approve", "deny", "dismissed"]
    reason: str = ""
    fingerprint: str = ""
    """What the person typed; the desk compares it where the prompt demands it."""
    grant: int | None = None
    again: int = 0
    """`Prompt.again` of the question that it answers; only the modern era brings it back."""


@dataclass(frozen=True, slots=True)
class AskClient:
    """Modern era: the question goes back to the client as InputRequiredResult."""

    prompt: Prompt
