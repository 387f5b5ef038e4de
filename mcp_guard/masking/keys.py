"""What the name of a field says about its value. Pure; cached per name."""

from __future__ import annotations

import re
from functools import lru_cache

from mcp_guard.masking.rules import SECRET
from mcp_guard.masking.validators import is_stop_value, looks_random

FIELD = re.compile(r'"(?P<k>[A-Za-z_][A-Za-z0-9_.\- ]{0,62})" ?:\s{0,3}"(?P<v>(?:[^"\\\x1f]|\\.){1,512}+)"')
"""A string field of JSON inside other text."""
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PASSWORD = frozenset(["password", "passwd", "pwd", "passphrase", "passcode", "passwort", "pass"])
_SECRET_WORDS = _PASSWORD | frozenset(
    ["secret", "secrets", "token", "credential", "credentials", "authorization", "apikey", "cookie"]
)
_KEY_OWNERS = frozenset(
    [
        "api",
        "access",
        "private",
        "auth",
        "encryption",
        "signing",
        "master",
        "shared",
        "account",
        "service",
        "client",
        "license",
        "webhook",
        "app",
    ]
)
_NOT_SECRET_LAST = frozenset(
    [
        "name",
        "names",
        "type",
        "types",
        "count",
        "counts",
        "limit",
        "length",
        "len",
        "size",
        "id",
        "ids",
        "url",
        "uri",
        "path",
        "file",
        "expiry",
        "expires",
        "expiration",
        "at",
        "in",
        "ttl",
        "version",
        "max",
        "min",
        "used",
        "usage",
        "policy",
        "rule",
        "rules",
        "format",
        "field",
        "label",
        "required",
        "enabled",
        "status",
        "hint",
        "cursor",
        "endpoint",
        "scheme",
        "method",
        "algorithm",
        "reset",
        "index",
        "budget",
        "cost",
        "price",
    ]
)
_NOT_SECRET = frozenset(
    [
        "max",
        "min",
        "total",
        "completion",
        "prompt",
        "progress",
        "next",
        "page",
        "continuation",
        "cancellation",
        "csrf",
        "public",
    ]
)
_PII = {
    "EMAIL": "email mail emailaddress e mail|email address|user email",
    "PHONE": "phone telephone mobile cell cellphone fax msisdn phonenumber|phone number|mobile number",
    "US_SSN": "ssn|social security number|social security",
    "IBAN": "iban",
    "CREDIT_CARD": "card number|credit card|creditcard|cardnumber|pan|cc number|credit card number|card",
    "DOB": "dob birthdate birthday|date of birth|birth date",
    "PERSON": "firstname lastname fullname surname|first name|last name|full name|given name|family name|middle name"
    "|maiden name|customer name|patient name|contact name|employee name|cardholder name|cardholder|card holder",
    "ADDRESS": "street|street address|postal address|home address|billing address|shipping address|mailing address"
    "|address line|address",
}
_PII_TAILS = {
    tuple(words.split()): kind
    for kind, spec in _PII.items()
    for group in spec.split("|")
    for words in (group.split() if len(group.split()) > 3 else [group])  # noqa: PLR2004 - a size that the line itself explains
}
_DIGITS_LEAST = {"PHONE": 7, "CREDIT_CARD": 12, "US_SSN": 9, "DOB": 4}
PERSONAL = frozenset({"EMAIL", "PHONE", "US_SSN", "DOB", "ADDRESS", "PERSON"})
"""Fields of these kinds next to a field `name` say that it names a person."""


def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORDS.findall(name[:64]))


@lru_cache(maxsize=4096)
def hint(name: str) -> str | None:
    """The type that a field of this name holds, or None."""
    words = _words(name)
    while words and words[-1].isdigit():
        words = words[:-1]
    if not words:
        return None
    return SECRET if _is_secret(words) else _pii(words)


def _is_secret(words: tuple[str, ...]) -> bool:
    if words[-1] in _NOT_SECRET_LAST or _NOT_SECRET & set(words):
        return False
    if words[-1] == "auth" or (words[-1] in ("key", "keys") and len(words) > 1 and words[-2] in _KEY_OWNERS):
        return True
    return bool(_SECRET_WORDS & set(words)) or words[-2:] in (("secret", "key"), ("session", "cookie"))


def _pii(words: tuple[str, ...]) -> str | None:
    for size in (3, 2, 1):
        tail = words[-size:]
        kind = _PII_TAILS.get(tail) or _PII_TAILS.get((*tail[:-1], tail[-1].removesuffix("s")))
        if kind and not (len(tail) == 1 and tail[0] in ("address", "card", "pan", "cell") and len(words) > 1):
            return kind
    return None


def is_password(name: str) -> bool:
    """Whether the name is that of a secret which people choose, so that also plain words count."""
    return bool(_PASSWORD & set(_words(name)))


def accepts(kind: str, name: str, value: str) -> bool:  # noqa: PLR0911 - judged, see the lines around
    """Whether `value` can be what its field name says."""
    if is_stop_value(value):
        return False
    if kind == SECRET:
        plain_word = value.isalpha() and (value.islower() or value.istitle()) and len(value) < 16  # noqa: PLR2004 - a size that the line itself explains
        return is_password(name) or not plain_word
    least = _DIGITS_LEAST.get(kind)
    if least:
        digits = sum(c.isdigit() for c in value)
        return least <= digits <= 19 and len(value) <= 40  # noqa: PLR2004 - a size that the line itself explains
    if kind == "EMAIL":
        return "@" in value
    if kind == "IBAN":
        return len(value) >= 15 and value[:2].isalpha()  # noqa: PLR2004 - a size that the line itself explains
    if kind == "ADDRESS":
        return " " in value and any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return any(c.isalpha() for c in value) and len(value) <= 120  # noqa: PLR2004 - a size that the line itself explains


def accepts_in_text(name: str, value: str, *, quoted: bool) -> bool:
    """The same for `name = value` in free text and code, where most values are expressions."""
    if is_stop_value(value) or value.lower() == name.lower():
        return False
    if quoted and is_password(name):
        return " " not in value or any(c.isdigit() for c in value)
    return len(value) >= 8 and looks_random(value) and value[0] not in "/.~\\"  # noqa: PLR2004 - a size that the line itself explains
