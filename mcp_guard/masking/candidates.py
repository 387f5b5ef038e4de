"""Candidates that their shape gives away: card numbers, SSNs, phones, IBANs, and long runs that may be tokens. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mcp_guard.masking.encoded import widen
from mcp_guard.masking.findings import Finding
from mcp_guard.masking.rules import WITHOUT_DIGITS
from mcp_guard.masking.tokens import tokens
from mcp_guard.masking.validators import has_digit, iban_length, is_card, is_ssn

Span = tuple[int, int]

_NANP = r"[2-9]\d\d[\-. ]\d{4}(?![\w]|[.\-]\d)(?:[ ,]{0,2}(?:x|ext\.?) ?\d{1,6}(?!\w))?"
_CANDIDATE = re.compile(
    # A delimiter, then alternatives that each begin with one class of characters: `re` skips to delimiters and rules
    # out alternatives without trying them. The empty group at the end of an alternative names it.
    r"[^A-Za-z0-9_\-](?:"
    r"\d\d\d(?P<a>[\-. ])\d\d(?P=a)\d{4}(?![\w]|[.\-]\d)(?P<ssn>)"
    r"|\d\d\d\d(?:(?P<b>[ \-])\d{4}(?P=b)\d{4}(?P=b)\d{1,7}|(?P<c>[ \-])\d{6}(?P=c)\d{4,5}|\d{8,15})"
    r"(?![\w]|\.\d)(?P<card>)"
    rf"|[2-9]\d\d[\-. ]{_NANP}(?P<phone>)"
    rf"|1[\-. ](?:\([2-9]\d\d\) ?|[2-9]\d\d[\-. ]){_NANP}(?P<phone_1>)"
    rf"|\([2-9]\d\d\) ?{_NANP}(?P<phone_area>)"
    r"|[A-Z][A-Z]\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])(?P<iban>)"
    r"|[A-Za-z0-9_\-][A-Za-z0-9_\-]{15,}+(?P<run>))",
    re.ASCII,
)
_NOT_DIGIT = re.compile(r"[^0-9]+")
_PLAIN_RUN = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9\-]+|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}"
)
"""UUIDs, numbers with dashes, and digests: what no issuer's prefix can begin."""
_PREFIX_BEFORE = 24
"""A prefix may hold a character that ends a run; it begins at most so many characters before it."""
_ENCODED_LEAST = 24


def candidates(text: str, encoded: list[Span]) -> Iterator[Finding]:
    """Yield what the validators confirm; runs that could be base64 are added to `encoded`."""
    done = decoded = 0
    for match in _CANDIDATE.finditer("\n" + text):
        start, end = match.start(), match.end() - 1  # without the delimiter; the line break before the text counts one
        if start < done:
            continue
        if match.lastgroup != "run":
            yield from _number(text, start, end, match.lastgroup or "")
            continue
        run = text[start:end]
        if not run.islower() and not run.isupper() and start >= decoded:
            span = widen(text, start, end, decoded)
            decoded = span[1]
            if decoded - span[0] >= _ENCODED_LEAST:
                encoded.append(span)
        if (has_digit(run) or run.startswith(WITHOUT_DIGITS)) and not _PLAIN_RUN.fullmatch(run):
            for finding in tokens(text, max(done, start - _PREFIX_BEFORE), end):
                done = finding.end
                yield finding


def _number(text: str, start: int, end: int, kind: str) -> Iterator[Finding]:
    if kind == "iban":
        yield from _iban(text, start, end)
        return
    if text[start - 1 : start] == "." and text[max(0, start - 2) : start - 1].isdigit():
        return  # the tail of a longer dotted number
    digits = _NOT_DIGIT.sub("", text[start:end])
    if kind == "card" and is_card(digits):
        yield Finding(start, end, "CREDIT_CARD", "card")
    elif kind == "ssn" and is_ssn(digits):
        yield Finding(start, end, "US_SSN", "ssn")
    elif kind.startswith("phone"):
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
