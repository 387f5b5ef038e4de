"""Secrets that their issuers gave a recognisable form: prefixes, fixed words in addresses. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from mcp_guard.masking.findings import Finding
from mcp_guard.masking.rules import ANCHORED, DIRECT, SECRET, STRICT_BODY, TOKEN_RULES, WITHOUT_DIGITS
from mcp_guard.masking.validators import entropy, has_digit


def _by_first_letter(prefixes: list[str]) -> str:
    """An alternation that decides by one character, then by the rest: longest first, so the exact rule wins."""
    groups = defaultdict(list)
    for prefix in sorted(prefixes, key=len, reverse=True):
        groups[prefix[0]].append(re.escape(prefix[1:]))
    return "|".join(f"{first}(?:{'|'.join(rest)})" for first, rest in groups.items())


_PREFIX = re.compile(f"(?<![A-Za-z0-9])(?:{_by_first_letter(list(TOKEN_RULES))})")
_BODY = {
    prefix: re.compile(STRICT_BODY.get(prefix, rf"[A-Za-z0-9_\-=.+/|%]{{{least},}}+"))
    for prefix, (_, least) in TOKEN_RULES.items()
}
_DIRECT = [(rule, literal, re.compile(body, re.ASCII)) for rule, literal, body in DIRECT]
_ANCHORED = [
    (rule, literal, re.compile(rf"{left}\Z", re.ASCII), re.compile(right, re.ASCII), back)
    for rule, left, literal, right, back in ANCHORED
]
_LONGEST = 16_384
_LEAST = 16
_LEAST_ENTROPY = 2.3
"""Bits per character; `AKIAXXXXXXXXXXXXXXXX` and other samples have less."""


def tokens(text: str, start: int, end: int) -> Iterator[Finding]:
    """Tokens whose prefix begins in `text[start:end]`; they may end behind it."""
    prefix = _PREFIX.search(text, start, end)
    while prefix:
        stop = prefix.end()
        body = _BODY[prefix[0]].match(text, stop, stop + _LONGEST)
        if body:
            rule, least = TOKEN_RULES[prefix[0]]
            secret = body[0].rstrip(".|")
            digits = prefix[0] in WITHOUT_DIGITS or has_digit(prefix[0] + secret)
            if digits and len(secret) >= min(least, _LEAST) and entropy(secret[:256]) > _LEAST_ENTROPY:
                stop += len(secret)
                yield Finding(prefix.start(), stop, SECRET, rule)
        prefix = _PREFIX.search(text, stop, end)


def literals(text: str) -> Iterator[Finding]:
    """Secrets behind or around a fixed string."""
    for rule, literal, body in _DIRECT:
        for at in _places(text, literal):
            match = body.match(text, at + len(literal))
            if match:
                yield Finding(*match.span(), SECRET, f"token:{rule}")
    for rule, literal, left, right, back in _ANCHORED:
        for at in _places(text, literal):
            if not text[at - 1 : at].isalnum():
                continue  # at once, since `|` and `-us` are common
            before = left.search(text, max(0, at - back), at)
            after = right.match(text, at + len(literal)) if before else None
            if before and after:
                yield Finding(before.start(), after.end(), SECRET, f"token:{rule}")


def _places(text: str, literal: str) -> Iterator[int]:
    at = text.find(literal)
    while at >= 0:
        yield at
        at = text.find(literal, at + len(literal))
