"""Addresses and names that may not be what the eye reads: mixed scripts, right-to-left letters, foreign signs (S15).

These characters are on the screen, so `prompt.visible` leaves them alone. Only names, addresses and paths are looked
at: in prose, scripts mix every day.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from pydantic import JsonValue

from mcp_guard.model import JsonDict

_ALIKE = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "GEORGIAN", "LISU"})
"""Scripts with letters that look like letters of another one."""
_STYLED = frozenset({"MATHEMATICAL", "FULLWIDTH", "CIRCLED", "SQUARED", "PARENTHESIZED", "DOUBLE-STRUCK"})
"""First words of the names of letters that are drawings of Latin ones."""
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
_SIGNS = frozenset("\u2044\u2215\u29f8\u2571\u2024\u3002\uff0e\uff61\u0589\ua789\u02d0\u2236\ua4f8\u01c3\ufe52\ufe55")
"""Slashes, dots and colons that are none."""
_HOSTLIKE = re.compile(r"[\w@][.@/\\:\u3002\uff0e\uff61\u2024]")
_PUNYCODE = re.compile(r"(?<![\w-])xn--", re.IGNORECASE)
_MAX_VALUE = 2_000
"""Characters of one value that are looked at."""
_MAX_VALUES = 500
_MAX_DOUBTS = 5
_MAX_DEPTH = 16


def oddities(text: str) -> list[str]:
    """What makes this name or address doubtful: `mixes Latin and Cyrillic letters`. Empty for an ordinary one."""
    found = ["has punycode (xn--), which stands for other letters than it shows"] if _PUNYCODE.search(text) else []
    if text.isascii():
        return found
    scripts = _scripts(text)
    if len(scripts) > 1:
        found.append(f"mixes {' and '.join(sorted(scripts, key=lambda name: (name != 'Latin', name)))} letters")
    directions = {unicodedata.bidirectional(character) for character in set(text)}
    if directions & _RIGHT_TO_LEFT and directions & {"L", "EN", "AN"}:
        found.append("has right-to-left letters beside others, so a screen may reorder it")
    if not _SIGNS.isdisjoint(text) or _hides_signs(text):
        found.append("has signs that only look like a slash, a dot or a colon")
    return found


def doubts(view: JsonDict) -> list[str]:
    """One line for each doubtful name, address or path of a request: `to: mixes Latin and Cyrillic letters`."""
    lines: list[str] = []
    for name, text in _values(view):
        lines += doubts_in(name, text)
    lines += _of_recipients(view)
    lines = list(dict.fromkeys(lines))
    more = len(lines) - _MAX_DOUBTS
    return lines if more <= 0 else [*lines[:_MAX_DOUBTS], f"+{more} more like these"]


def _of_recipients(view: JsonDict) -> Iterator[str]:
    """What was said of real addresses that the view masks (`recipients`)."""
    items = view.get("recipients")
    for item in items if isinstance(items, list) else []:
        lines = item.get("doubts") if isinstance(item, dict) else None
        yield from (str(line) for line in lines) if isinstance(lines, list) else ()


def doubts_in(name: str, text: str) -> list[str]:
    """One line for each doubt about the value of this name."""
    return [f"{name[:80]}: {odd}" for word in _words(text[:_MAX_VALUE]) for odd in oddities(word)]


def _values(view: JsonDict) -> Iterator[tuple[str, str]]:
    for name in ("server", "tool", "resource"):
        value = view.get(name)
        if isinstance(value, str):
            yield name, value
    left = _MAX_VALUES
    for name, value in _leaves("", view.get("arguments"), 0):
        left -= 1
        if left < 0:
            return
        yield name, value


def _leaves(name: str, value: JsonValue, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name or "value", value
    elif isinstance(value, dict) and depth < _MAX_DEPTH:
        for key, item in value.items():
            yield "the name of an argument", key
            yield from _leaves(name or key, item, depth + 1)
    elif isinstance(value, list) and depth < _MAX_DEPTH:
        for item in value:
            yield from _leaves(name, item, depth + 1)


def _words(text: str) -> list[str]:
    """All of a short value without blanks; of prose only what looks like an address or a path."""
    words = text.split()
    if text.isascii():
        return [word for word in words if _PUNYCODE.search(word) and _hostlike(word)]
    return words if len(words) == 1 else [word for word in words if _hostlike(word)]


def _hostlike(word: str) -> bool:
    # Two looks, each linear: one pattern for the whole word would try every sign against every end.
    return re.fullmatch(r"\w", word[-1]) is not None and _HOSTLIKE.search(word, 0, len(word) - 1) is not None


def _scripts(text: str) -> set[str]:
    names = {unicodedata.name(c, "").partition(" ")[0] for c in set(text) if c.isalpha() and not c.isascii()}
    found = {name.capitalize() for name in names if name in _ALIKE}
    found |= {"styled" for name in names if name in _STYLED}
    if any(c.isascii() and c.isalpha() for c in text):
        found.add("Latin")
    return found


def _hides_signs(text: str) -> bool:
    return any(
        not c.isascii() and unicodedata.normalize("NFKC", c) in {".", "/", "\\", ":", "@", "-"} for c in set(text)
    )
