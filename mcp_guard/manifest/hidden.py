"""Characters that a screen hides and a model reads (security.md S21). Pure."""

from __future__ import annotations

import unicodedata
from typing import Final

from pydantic import JsonValue

from mcp_guard.model import JsonDict

EXACT: Final = frozenset({
    "name", "uri", "uriTemplate", "required", "pattern", "format", "$ref", "$dynamicRef", "$anchor", "$dynamicAnchor",
    "$id", "$schema", "mimeType", "const", "enum",
})  # fmt: skip
"""Members whose texts are compared or resolved: with other characters they would mean something else."""
_FILLERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Letters and marks by category, and nothing on a screen."""


def hides(text: str) -> bool:
    """Whether a text holds control, format or private characters; line breaks, tabs and emoji are no such thing."""
    if text.isascii() and text.isprintable():
        return False
    before = ""
    for character in text:
        joins_emoji = character in "\ufe0f\u200d" and unicodedata.category(before or "x") in ("So", "Sk", "Sm", "Mn")
        unseen = unicodedata.category(character)[0] == "C" or "\ufe00" <= character <= "\ufe0f" or character in _FILLERS
        if unseen and character not in "\n\r\t" and not joins_emoji:
            return True
        before = character
    return False


def hides_where_exact(definition: JsonDict) -> bool:
    """Whether a definition hides something where it cannot be written out: in a key, or in what has to stay exact."""
    pending: list[tuple[JsonValue, bool]] = [(definition, False)]
    while pending:
        node, exact = pending.pop()
        if isinstance(node, dict):
            if any(hides(key) for key in node):
                return True
            pending += [(item, exact or (key in EXACT and _stays(key, item))) for key, item in node.items()]
        elif isinstance(node, list):
            pending += [(item, exact) for item in node]
        elif exact and isinstance(node, str) and hides(node):
            return True
    return False


def _stays(key: str, item: JsonValue) -> bool:
    # A property that is called `name` has a schema; what `const` and `enum` hold is a value at any depth.
    return key in ("const", "enum") or not isinstance(item, dict)
