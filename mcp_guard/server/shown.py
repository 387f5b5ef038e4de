"""Definitions as clients see them: what a screen or a model would not notice is made visible (security.md S21).

What has to stay exact hides nothing: the catalogue offers no definition that does (`manifest.hidden`).
"""

from __future__ import annotations

import re
from typing import Final

from pydantic import JsonValue

from mcp_guard.approval.prompt import visible
from mcp_guard.manifest.hidden import EXACT
from mcp_guard.model import JsonDict

_FREE: Final = frozenset({"default", "examples"})
"""Values that are read and not compared, whatever their members are called."""
_LINES: Final = re.compile(r"(\r?\n|\t|(?<=[\u2190-\u2bff\u3030-\u3299\U0001f000-\U0001faff])\ufe0f)")
"""Line breaks, tabs, and the mark that makes a sign before it an emoji: those hide nothing."""


def visible_text(text: str) -> str:
    """`visible`, with line breaks and tabs as they are."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(part if index % 2 else visible(part) for index, part in enumerate(_LINES.split(text)))


def visible_definition(definition: JsonDict) -> JsonDict:
    """A definition whose texts hide nothing; names, addresses and what a schema hangs on stay exact."""
    return {key: _shown(key, item) for key, item in definition.items()}


def _shown(key: str, item: JsonValue) -> JsonValue:
    if key in _FREE:
        return _all_shown(item)
    if key in ("const", "enum"):
        return item
    if isinstance(item, dict):
        return visible_definition(item)
    if key in EXACT:
        return item
    if isinstance(item, list):
        return [_shown("", part) for part in item]
    return visible_text(item) if isinstance(item, str) else item


def _all_shown(item: JsonValue) -> JsonValue:
    if isinstance(item, dict):
        return {key: _all_shown(part) for key, part in item.items()}
    if isinstance(item, list):
        return [_all_shown(part) for part in item]
    return visible_text(item) if isinstance(item, str) else item
