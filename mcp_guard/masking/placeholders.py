"""Placeholders: `[EMAIL_k3f5q2m7xa]` = type and 10 base32 characters of a keyed digest (decisions.md D24). Pure.

Ten characters are 50 bits. The key is per scope, so a placeholder says nothing about another person's values, and
guesses cannot be tested without the key (security.md S37).
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import Literal

from mcp_guard.masking.rules import TYPES

Kind = Literal["str", "int"]

_NAMES = "|".join(sorted(TYPES, key=len, reverse=True))
_TOKEN = re.compile(
    rf"(?:\[|%5B)?(?<![A-Za-z0-9_])(?<!%5)(?P<t>{_NAMES})_(?P<d>[a-z2-7]{{10}})(?![A-Za-z0-9_])(?:\]|%5D)?"
    rf"|%5B(?P<t2>{_NAMES})_(?P<d2>[a-z2-7]{{10}})(?:%5D)?",
    re.IGNORECASE,
)


class Tagger:
    """Makes the placeholders of one scope."""

    def __init__(self, key: bytes, scope: str) -> None:
        self._key = hmac.digest(key, b"mcp-guard/placeholder/v1\0" + scope.encode(), "sha256")

    def token(self, kind: str, value: str, json_type: Kind = "str") -> str:
        """The token, without brackets. Spellings are kept apart, so that restoring gives back exactly what was."""
        message = f"{kind}\0{json_type}\0{value}".encode("utf-8", "surrogatepass")
        digest = hmac.digest(self._key, message, "sha256")
        return f"{kind}_{base64.b32encode(digest[:10]).decode()[:10].lower()}"

    def digest(self, value: str) -> str:
        """Sixteen hex characters that name a hidden value."""
        return hmac.digest(self._key, b"show\0" + value.encode("utf-8", "surrogatepass"), "sha256").hex()[:16]


def find_tokens(text: str) -> list[tuple[int, int, str]]:
    """(start, end, token) of everything that reads like a placeholder; brackets, case and %5B..%5D do not matter."""
    if "_" not in text:
        return []
    found = []
    for match in _TOKEN.finditer(text):
        kind, digest = (match["t"] or match["t2"]), (match["d"] or match["d2"])
        found.append((match.start(), match.end(), f"{kind.upper()}_{digest.lower()}"))
    return found
