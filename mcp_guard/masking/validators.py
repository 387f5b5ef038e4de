"""Checks that tell a real number or secret from something that only looks like one. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter

from mcp_guard.masking.rules import STOP_VALUES

_IIN = re.compile(
    r"(?:4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-59]|[689]\d)\d{11,13}|6(?:011|5\d\d|4[4-9]\d|22\d)\d{12}(?:\d{3})?|(?:35|62)\d{14,17}"
    r"|(?:5018|5020|5038|6304|6759|676[1-3])\d{8,15}|(?:2131|1800)\d{11})\Z",
    re.ASCII,
)
_IBAN_LENGTHS = {
    code[:2]: int(code[2:])
    for code in [
        "AL28",
        "AD24",
        "AT20",
        "AZ28",
        "BH22",
        "BY28",
        "BE16",
        "BA20",
        "BR29",
        "BG22",
        "CR22",
        "HR21",
        "CY28",
        "CZ24",
        "DK18",
        "DO28",
        "TL23",
        "EE20",
        "EG29",
        "FO18",
        "FI18",
        "FR27",
        "GE22",
        "DE22",
        "GI23",
        "GR27",
        "GL18",
        "GT28",
        "HU28",
        "IS26",
        "IQ23",
        "IE22",
        "IL23",
        "IT27",
        "JO30",
        "KZ20",
        "XK20",
        "KW30",
        "LV21",
        "LB28",
        "LY25",
        "LI21",
        "LT20",
        "LU20",
        "MT31",
        "MR27",
        "MU30",
        "MD24",
        "MC27",
        "ME22",
        "NL18",
        "MK19",
        "NO15",
        "PK24",
        "PS29",
        "PL28",
        "PT25",
        "QA29",
        "RO24",
        "LC32",
        "SM27",
        "ST25",
        "SA24",
        "RS22",
        "SC31",
        "SK24",
        "SI19",
        "ES24",
        "SD18",
        "SE24",
        "CH21",
        "TN24",
        "TR26",
        "UA29",
        "AE23",
        "GB22",
        "VA22",
        "VG24",
    ]
}
_PLACEHOLDER = re.compile(
    r"[x*.\-_#?•]{3,}|#{2,}.*|<[^>]*>?|\$(?:[a-z_]\w*|\d|[{(].*)|#\{.*|%\(?\w.*|\{[^\"\\]*|\[[^\]]*\]?|\*.*|@.*|&\w.*"
    r"|(?:your|example|my|insert|replace)[_\- ].*|[a-z][a-z_]{2,40}_[a-z2-7]{10}",
    re.DOTALL,
)
"""On lower case. References, masks, instructions to the reader, our own placeholders."""
_REFERENCE = re.compile(r"\b(?:environ|getenv|process\.env|secrets?\.|vars?\.)")
_REFERENCE_PARTS = ("env", "secret", "var")
_DIGIT = re.compile(r"\d")
_LETTER = re.compile(r"[^\W\d_]")
_JUDGED = 128
"""Characters at the start of a value that decide: what stands in for a secret, or is random, shows there."""
_NINE = 9
_RANDOM_LEAST = 3.0
_GENERATED_LEAST = 20
"""Letters; hardly any word is longer."""


def luhn(digits: str) -> bool:
    """Whether a string of ASCII digits has a right Luhn check digit. Source: ISO/IEC 7812-1."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - _NINE if number > _NINE else number
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether 12 to 19 digits are a card number: known issuer range, right length, Luhn."""
    return len(set(digits)) > 1 and _IIN.match(digits) is not None and luhn(digits)


def iban_length(text: str) -> int:
    """Number of characters of the IBAN at the start of `text` (no spaces), 0 when there is none. ISO 13616."""
    length = _IBAN_LENGTHS.get(text[:2], 0)
    if not length or len(text) < length:
        return 0
    turned = text[4:length] + text[:4]
    return length if int("".join(str(int(char, 36)) for char in turned)) % 97 == 1 else 0


def is_ssn(digits: str) -> bool:
    """Whether nine digits can be a US social security number (SSA ranges since 2011)."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def entropy(text: str) -> float:
    """Shannon entropy in bits per character."""
    length = len(text)
    return -sum(n / length * math.log2(n / length) for n in Counter(text).values())


def is_stop_value(value: str) -> bool:
    """Whether a value only stands in for a secret: a reference, a mask, a type name, a placeholder."""
    bare = value[:_JUDGED].strip().lower()
    if bare == bare[:1] * len(bare) or bare in STOP_VALUES or _PLACEHOLDER.fullmatch(bare):
        return True
    return any(part in bare for part in _REFERENCE_PARTS) and _REFERENCE.search(bare) is not None


def has_digit(text: str) -> bool:
    """Whether any character is a decimal digit."""
    return _DIGIT.search(text) is not None


def looks_random(value: str) -> bool:
    """Whether a value reads like a generated secret rather than like a word."""
    return has_digit(value) and _LETTER.search(value) is not None and entropy(value[:_JUDGED]) > _RANDOM_LEAST


def looks_generated(value: str) -> bool:
    """The same, and also a long row of letters in one case."""
    letters = len(value) >= _GENERATED_LEAST and value.replace("-", "a").replace("_", "a").isalpha()
    one_case = letters and (value.islower() or value.isupper()) and value.count("_") + value.count("-") < len(value) / 6
    return looks_random(value) or (one_case and entropy(value[:_JUDGED]) > _RANDOM_LEAST)
