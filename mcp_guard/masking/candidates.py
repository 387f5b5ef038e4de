"""Candidates that their shape gives away: card numbers, SSNs, phones, IBANs, and long runs that may be tokens. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mcp_guard.masking.encoded import widen
from mcp_guard.masking.findings import Finding
from mcp_guard.masking.tokens import tokens
from mcp_guard.masking.validators import iban_length, is_card, is_ssn

Span = tuple[int, int]

_CANDIDATE = re.compile(
    # One delimiter is consumed and the rest only looked at: the search then skips from delimiter to delimiter.
    r"[^A-Za-z0-9_\-](?="
    r"(?P<ssn>\d{3}([\-. ])\d{2}\2\d{4}(?![\w]|[.\-]\d))"
    r"|(?P<card>(?:\d{4}([ \-])\d{4}\4\d{4}\4\d{1,7}|\d{4}([ \-])\d{6}\5\d{4,5}|\d{12,19})(?![\w]|\.\d))"
    r"|(?P<nanp>(?:1[\-. ])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[\-. ])[2-9]\d\d[\-. ]\d{4}(?![\w]|[.\-]\d)"
    r"(?:[ ,]{0,2}(?:x|ext\.?) ?\d{1,6}(?!\w))?)"
    r"|(?P<iban>[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9]))"
    r"|(?P<run>[A-Za-z0-9_\-]{16,}+))",
    re.ASCII,
)
_KINDS = ("run", "ssn", "card", "nanp", "iban")
_NOT_DIGIT = re.compile(r"[^0-9]+")
_DIGIT = re.compile(r"\d", re.ASCII)
_PLAIN_RUN = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9\-]+|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}"
)
"""UUIDs, numbers with dashes, and digests: what no issuer's prefix can begin."""
_ISSUED_WITHOUT_DIGITS = ("hf_", "api_org_", "AKIA", "ASIA")
_PREFIX_BEFORE = 24
"""A prefix may hold a character that ends a run; it begins at most so many characters before it."""
_ENCODED_LEAST = 24


def candidates(text: str, encoded: list[Span]) -> Iterator[Finding]:
    """Yield what the validators confirm; runs that could be base64 are added to `encoded`."""
    done = decoded = 0
    for match in _CANDIDATE.finditer("\n" + text):
        kind = match.lastgroup if match.lastgroup in _KINDS else _kind_of(match)
        start, end = (place - 1 for place in match.span(kind))
        if start < done:
            continue
        done = end
        if kind != "run":
            yield from _number(text, start, end, kind)
            continue
        run = match["run"]
        if not run.islower() and not run.isupper() and start >= decoded:
            span = widen(text, start, end, decoded)
            decoded = span[1]
            if decoded - span[0] >= _ENCODED_LEAST:
                encoded.append(span)
        if (_DIGIT.search(run) or run.startswith(_ISSUED_WITHOUT_DIGITS)) and not _PLAIN_RUN.fullmatch(run):
            for finding in tokens(text, max(0, start - _PREFIX_BEFORE), end):
                done = max(done, finding.end)
                yield finding


def _kind_of(match: re.Match[str]) -> str:
    return next(name for name in _KINDS if match[name])


def _number(text: str, start: int, end: int, kind: str) -> Iterator[Finding]:
    value = text[start:end]
    if kind == "iban":
        yield from _iban(text, start, end)
        return
    digits = _NOT_DIGIT.sub("", value)
    if text[start - 1 : start] == "." and text[max(0, start - 2) : start - 1].isdigit():
        return  # the tail of a longer dotted number
    if kind == "card" and is_card(digits):
        yield Finding(start, end, "CREDIT_CARD", "card")
    elif kind == "ssn" and is_ssn(digits):
        yield Finding(start, end, "US_SSN", "ssn")
    elif kind == "nanp":
        yield Finding(start, end, "PHONE", "nanp")


def _iban(text: str, start: int, end: int) -> Iterator[Finding]:
    value = text[start:end]
    length = iban_length(value.replace(" ", ""))
    if not length:
        yield from tokens(text, start, end)
        return
    for spaces in range(length):
        if len(value[: length + spaces].replace(" ", "")) == length:
            yield Finding(start, start + length + spaces, "IBAN", "iban")
            return
