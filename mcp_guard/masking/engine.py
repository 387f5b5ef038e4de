"""`scan`: where in a text secrets and personal data stand. Pure, linear, standard library only.

Cheap literals and one delimiter-first pattern find candidates; validators confirm them. Every pattern is bounded or
possessive, so no input makes it slow (security.md S10).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mcp_guard.masking import keys
from mcp_guard.masking.assignments import assignments, lower
from mcp_guard.masking.candidates import Span, candidates
from mcp_guard.masking.encoded import decode_base64, unescape
from mcp_guard.masking.findings import Finding, resolve
from mcp_guard.masking.network import network
from mcp_guard.masking.phones import numbers_in_context
from mcp_guard.masking.rules import PRIVATE_KEY, SECRET, SECRET_TYPES, WITHOUT_DIGITS
from mcp_guard.masking.tokens import literals

_SUSPECT = re.compile("|".join([r"[\d@=:\"'`]|--", *WITHOUT_DIGITS]))
"""Without any of these no rule fires: each needs a digit, an @, a quote, or a sign between a name and its value."""
_ESCAPES = (("\\n", " \n"), ("\\r", "  "), ("\\t", "  "))
_PEM_LONGEST = 16_384


def may_hold(text: str) -> bool:
    """Whether `scan` could find anything at all; a fraction of its cost."""
    return _SUSPECT.search(text) is not None


def scan(text: str) -> list[Finding]:
    """Find everything in `text`, in order and without overlaps. Linear; callers bound the length (<= 8 KB a step)."""
    if not may_hold(text):
        return []
    encoded: list[Span] = []
    found = _find(text, encoded)
    found += encoded_findings(text, encoded)
    if "\\u00" in text:
        plain, places = unescape(text)
        found += [f._replace(start=places[f.start], end=places[f.end]) for f in _find(plain, [])]
    return resolve(found) if found else found


def encoded_findings(text: str, runs: list[Span]) -> list[Finding]:
    """Runs of base64 that hold something are found as a whole. One level: what is encoded twice stays unseen."""
    found = []
    for start, end in runs:
        plain = decode_base64(text[start:end])
        inner = _find(plain, []) if plain else []
        if inner:
            kind = next((f.type for f in inner if f.type in SECRET_TYPES), inner[0].type)
            found.append(Finding(start, end, kind, "encoded"))
    return found


def private_keys(text: str) -> Iterator[Finding]:
    """PEM and PGP private key blocks. A block without an end reaches 16 KB at most, so the search stays linear."""
    at = text.find("-----BEGIN ")
    while at >= 0:
        after = at + 11
        head_end = text.find("-----", after, after + 64)
        if head_end > 0 and "PRIVATE KEY" in text[after:head_end]:
            close = text.find("-----END", head_end, at + _PEM_LONGEST)
            tail = text.find("-----", close + 8, close + 80) if close > 0 else -1
            after = tail + 5 if tail > 0 else min(len(text), at + _PEM_LONGEST)
            yield Finding(at, after, PRIVATE_KEY, "pem")
        at = text.find("-----BEGIN ", after)


def _find(text: str, encoded: list[Span]) -> list[Finding]:
    if "\\" in text:
        # Serialised text: a token right after an escape needs a boundary. Same length, so offsets stay.
        for escape, blank in _ESCAPES:
            text = text.replace(escape, blank)
    low = lower(text)
    found = [Finding(start, end, SECRET, rule) for start, end, rule in assignments(text, low)]
    found += _fields(text)
    found += private_keys(text)
    found += candidates(text, encoded)
    found += literals(text)
    found += numbers_in_context(text, low)
    found += network(text)
    return found


def _fields(text: str) -> Iterator[Finding]:
    if '":' in text or '" :' in text:
        for match in keys.FIELD.finditer(text):
            kind = keys.hint(match["k"])
            if kind and kind != SECRET and keys.accepts(kind, match["k"], match["v"]):
                yield Finding(*match.span("v"), kind, "key")
