"""What the name of a field says about its value. Pure; cached per name."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from mcp_guard.masking.rules import SECRET
from mcp_guard.masking.validators import has_digit, is_stop_value, looks_generated, looks_random

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
    "EMAIL": "email|mail|emailaddress|e mail|email address|user email",
    "PHONE": "phone|telephone|mobile|cell|cellphone|fax|msisdn|phonenumber|phone number|mobile number",
    "US_SSN": "ssn|social security number|social security",
    "IBAN": "iban",
    "CREDIT_CARD": "card number|credit card|creditcard|cardnumber|pan|cc number|credit card number|card",
    "DOB": "dob|birthdate|birthday|date of birth|birth date",
    "PERSON": "firstname|lastname|fullname|surname|first name|last name|full name|given name|family name|middle name"
    "|maiden name|customer name|patient name|contact name|employee name|cardholder name|cardholder|card holder",
    "ADDRESS": "street|street address|postal address|home address|billing address|shipping address|mailing address"
    "|address line|address",
}
_PII_TAILS = {tuple(words.split()): kind for kind, spec in _PII.items() for words in spec.split("|")}
_GLUED = ("token", "secret", "password", "passwd", "apikey", "secretkey", "accesskey", "authkey")
"""Ends of names that are written as one word."""
_NOT_VALUE = re.compile(
    r"[\w./\-]+\.(?:key|pem|crt|txt|sh|py|js|json|ya?ml|env|conf|properties)"
    r"|(?:[a-z]+[._\-])+(?:password|passwd|secret|token|credentials|key)",
    re.IGNORECASE,
)
"""Names of files, and names of settings that hold a secret elsewhere."""
_WORD_MOST = 16
_NUMBER_MOST = 40
_DIGITS_MOST = 19
_IBAN_LEAST = 15
_NAME_MOST = 120
_TEXT_LEAST = 8
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
    last = words[-1]
    if last in _NOT_SECRET_LAST or _NOT_SECRET & set(words):
        return False
    if (
        last == "auth"
        or last.endswith(_GLUED)
        or (last in ("key", "keys") and words[-2:-1] and words[-2] in _KEY_OWNERS)
    ):
        return True
    if last == "sid" and {"auth", "session", "connect"} & set(words):
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


def accepts(kind: str, name: str, value: str) -> bool:
    """Whether `value` can be what its field name says."""
    return not is_stop_value(value) and _ACCEPTS[kind](name, value)


def accepts_in_text(name: str, value: str, *, quoted: bool) -> bool:
    """The same for `name = value` in free text and code, where most values are expressions."""
    if is_stop_value(value) or value.lower() == name.lower() or value[0] in "/~" or _NOT_VALUE.fullmatch(value):
        return False
    if quoted and is_password(name):
        return " " not in value or has_digit(value)
    if len(value) < _TEXT_LEAST or value[0] in ".\\":
        return False
    return looks_generated(value) if quoted else looks_random(value)


def _secret(name: str, value: str) -> bool:
    plain_word = value.isalpha() and (value.islower() or value.istitle()) and len(value) < _WORD_MOST
    return is_password(name) or not plain_word


def _digits(least: int) -> Callable[[str, str], bool]:
    return lambda _, value: len(value) <= _NUMBER_MOST and least <= sum(c.isdigit() for c in value) <= _DIGITS_MOST


_ACCEPTS: dict[str, Callable[[str, str], bool]] = {
    SECRET: _secret,
    "PHONE": _digits(7),
    "CREDIT_CARD": _digits(12),
    "US_SSN": _digits(9),
    "DOB": _digits(4),
    "EMAIL": lambda _, value: "@" in value,
    "IBAN": lambda _, value: len(value) >= _IBAN_LEAST and value[:2].isalpha(),
    "ADDRESS": lambda _, value: " " in value and has_digit(value) and any(c.isalpha() for c in value),
    "PERSON": lambda _, value: len(value) <= _NAME_MOST and any(c.isalpha() for c in value),
}
