"""Numbers that only the words beside them, or a leading +, make a phone or a social security number. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mcp_guard.masking.findings import Finding
from mcp_guard.masking.validators import is_ssn

_NOT_DIGIT = re.compile(r"[^0-9]+")
_E164 = re.compile(r"\+(?:\(\d{1,4}\)|\d)(?:[ .()\-]{0,2}\d){6,14}(?![\w])", re.ASCII)
_WORDS = (
    "phone",
    "mobile",
    "tel",
    "fax",
    "call",
    "cell",
    "whatsapp",
    "contact",
    "dial",
    "number",
    "reach",
    "sms",
    "ring",
)
_GENERAL_WORDS = frozenset({"number", "call", "contact"})
_AFTER = re.compile(
    r"[a-z]{0,8}[^\w\x1f+(]{0,4}(?:[^\W\d_]{1,16}[^\w\x1f+(]{1,3}){0,5}(?P<v>[(\d][\d ().\-/]{5,17}\d)(?!\w)",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?:19|20)\d\d[\-/.]|\d{1,2}[/.\-]\d{1,2}[/.\-](?:19|20)\d\d|\d{1,3}(?:\.\d{1,3}){3}\b")
_MAYBE = re.compile(r"\d[\d ().\-/]{5}")
_SSN = re.compile(
    r"(?:ssn|social security(?: number| no\.?)?)\W{1,4}(?:(?:is|number|no)\W{1,3})?(?P<v>\d{9})(?!\w)", re.IGNORECASE
)
_INTERNATIONAL = range(8, 16)
"""Digits with country code. Source: ITU-T E.164."""
_LOCAL_LEAST = 7
_BARE_MOST = 11


def numbers_in_context(text: str, low: str) -> Iterator[Finding]:
    """Yield phones and social security numbers. `low` is `text` in lower case, of the same length."""
    if "+" in text:
        for match in _E164.finditer(text):
            clean = not text[match.start() - 1 : match.start()].isalnum() if match.start() else True
            if clean and match[0][1] != "0" and len(_NOT_DIGIT.sub("", match[0])) in _INTERNATIONAL:
                yield Finding(*match.span(), "PHONE", "e164")
    if "ssn" in low or "social security" in low:
        for match in _SSN.finditer(text):
            if is_ssn(match["v"]):
                yield Finding(*match.span("v"), "US_SSN", "context")
    if _MAYBE.search(text):
        for word in _WORDS:
            yield from _after(text, low, word)


def _after(text: str, low: str, word: str) -> Iterator[Finding]:
    at = low.find(word)
    while at >= 0:
        number = _AFTER.match(text, at + len(word))
        if number and _is_phone(number["v"], word):
            yield Finding(*number.span("v"), "PHONE", "context")
        at = low.find(word, at + len(word))


def _is_phone(value: str, word: str) -> bool:
    count = len(_NOT_DIGIT.sub("", value))
    plausible = _LOCAL_LEAST <= count < _INTERNATIONAL.stop and value.count("(") == value.count(")")
    if not plausible or _DATE.match(value):
        return False
    # A bare row of digits after a general word is an id more often than a phone.
    return not (value.isdigit() and (count > _BARE_MOST or word in _GENERAL_WORDS))
