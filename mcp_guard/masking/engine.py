"""`scan`: where in a text secrets and personal data stand. Pure, linear, standard library only.

Cheap literals and one delimiter-first pattern find candidates; validators confirm them. Every pattern is bounded or
possessive, so no input makes it slow (security.md S10).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

from mcp_guard.masking import keys
from mcp_guard.masking.assignments import assignments, lower
from mcp_guard.masking.rules import ANCHORED, DIRECT, PRIVATE_KEY, SECRET, STRICT_BODY, TOKEN_RULES
from mcp_guard.masking.validators import entropy, iban_length, is_card, is_ssn, is_stop_value


class Finding(NamedTuple):
    """One thing found: `text[start:end]` is of `type`, by `rule`."""

    start: int
    end: int
    type: str
    rule: str


_CANDIDATE = re.compile(
    r"(?<![A-Za-z0-9_\-])(?:"
    r"(?P<ssn>\d{3}([\-. ])\d{2}\2\d{4}(?![\w]|[.\-]\d))"
    r"|(?P<card>(?:\d{4}([ \-])\d{4}\4\d{4}\4\d{1,7}|\d{4}([ \-])\d{6}\5\d{4,5}|\d{12,19})(?![\w]|\.\d))"
    r"|(?P<nanp>(?:1[\-. ])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[\-. ])[2-9]\d\d[\-. ]\d{4}(?![\w]|[.\-]\d)"
    r"(?:[ ,]{0,2}(?:x|ext\.?) ?\d{1,6}(?!\w))?)"
    r"|(?P<iban>[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9]))"
    r"|(?P<run>[A-Za-z0-9_\-]{16,}+))",
    re.ASCII,
)
_PREFIX = re.compile("(?<![A-Za-z0-9])(?:" + "|".join(map(re.escape, sorted(TOKEN_RULES, key=len, reverse=True))) + ")")
_BODY = {
    prefix: re.compile(STRICT_BODY.get(prefix, rf"[A-Za-z0-9_\-=.+/|%]{{{least},}}+"))
    for prefix, (_, least) in TOKEN_RULES.items()
}
_DIRECT = [(rule, literal, re.compile(body, re.ASCII)) for rule, literal, body in DIRECT]
_ANCHORED = [(rule, literal, re.compile(body, re.ASCII), back) for rule, literal, body, back in ANCHORED]
_DIGIT = re.compile(r"\d", re.ASCII)
_NOT_DIGIT = re.compile(r"[^0-9]+")
_PLAIN_RUN = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9\-]+")
_MAX_TOKEN = 16_384
_DOMAIN = re.compile(r"@(?:[\w\-]{1,63}\.){1,8}[^\W\d_][\w\-]{1,62}")
_LOCAL = re.compile(r"[\w.!#$%&'*+=?^{}~\-]{1,64}\Z")
_PERCENT_MAIL = re.compile(r"(?<![\w.+\-])[\w.+\-]{1,64}+%40(?:[A-Za-z0-9\-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w\-])")
_E164 = re.compile(r"(?<!\w)\+(?:\(\d{1,4}\)|\d)(?:[ .()\-]{0,2}\d){6,14}(?![\w])", re.ASCII)
_PHONE_WORDS = tuple(
    "phone mobile tel fax call cell whatsapp contact dial number reach sms ring".split()  # noqa: SIM905 - reads better
)
_PHONE_AFTER = re.compile(
    r"[a-z]{0,8}[^\w\x1f+(]{0,4}(?:[^\W\d_]{1,16}[^\w\x1f+(]{1,3}){0,5}(?P<v>[(\d][\d ().\-/]{5,17}\d)(?!\w)",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?:19|20)\d\d[\-/.]|\d{1,2}[/.\-]\d{1,2}[/.\-](?:19|20)\d\d|\d{1,3}(?:\.\d{1,3}){3}\b")
_SSN_WORD = re.compile(
    r"(?:ssn|social security(?: number| no\.?)?)\W{1,4}(?:(?:is|number|no)\W{1,3})?(?P<v>\d{9})(?!\w)", re.IGNORECASE
)
_USERINFO = re.compile(r"://[^\s/:@\"'<>\x1f]{0,128}+:(?P<v>[^\s/@\"'<>\x1f]{1,256})@(?=[\w.\[])")
_IPV4 = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w]|\.\d)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{6,39}(?![\w:])")
_VERSION = re.compile(r"\bv\Z|(?:\bver|version|release)[ :=\"']*\Z", re.IGNORECASE)
_LOCAL_NET = re.compile(r"(?:127|0|10|255)\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|169\.254\.|22[4-9]\.|2[34]\d\.")
_ESCAPES = (("\\n", " \n"), ("\\r", "  "), ("\\t", "  "))
_PEM_LONGEST = 16_384
_E164_DIGITS = (8, 15)
"""ITU-T E.164, with country code."""
_LOCAL_DIGITS = 7


def scan(text: str) -> list[Finding]:
    """Find everything in `text`, in order and without overlaps. Linear; callers bound the length (<= 8 KB a step)."""
    if "\\" in text:
        # Serialised text: a token right after an escape needs a boundary. Same length, so offsets stay.
        for escape, blank in _ESCAPES:
            text = text.replace(escape, blank)
    found = [*_keys_in_text(text), *private_keys(text), *_candidates(text), *_literals(text), *_numbers(text)]
    found += _network(text)
    return resolve(found)


def resolve(found: list[Finding]) -> list[Finding]:
    """Order findings; where two overlap the earlier one wins and grows over what sticks out."""
    if len(found) < 2:  # noqa: PLR2004 - a size that the line itself explains
        return found
    found.sort(key=lambda f: (f.start, -f.end))
    kept: list[Finding] = [found[0]]
    for finding in found[1:]:
        last = kept[-1]
        if finding.start >= last.end:
            kept.append(finding)
        elif finding.end > last.end:
            kept[-1] = last._replace(end=finding.end)
    return kept


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


def _keys_in_text(text: str) -> Iterator[Finding]:
    for start, end, rule in assignments(text):
        yield Finding(start, end, SECRET, rule)
    if '":' in text or '" :' in text:
        for match in keys.FIELD.finditer(text):
            kind = keys.hint(match["k"])
            if kind and kind != SECRET and keys.accepts(kind, match["k"], match["v"]):
                yield Finding(*match.span("v"), kind, "key")


def _candidates(text: str) -> Iterator[Finding]:
    done = 0
    for match in _CANDIDATE.finditer(text):
        kind = match.lastgroup
        start, end = match.span()
        if kind == "run":
            if start >= done and _has_digits(match[0]) and not _PLAIN_RUN.fullmatch(match[0]):
                for finding in _tokens(text, max(done, start - 24), end):
                    done = finding.end
                    yield finding
        else:
            yield from _number(text, start, end, kind or _kind_of(match))


def _has_digits(run: str) -> bool:
    """Tokens hold digits, words do not; Hugging Face issues tokens of letters alone."""
    return run.startswith(("hf_", "api_org_")) or _DIGIT.search(run) is not None


def _kind_of(match: re.Match[str]) -> str:
    return next(name for name in ("ssn", "card", "nanp", "iban") if match[name])


def _number(text: str, start: int, end: int, kind: str) -> Iterator[Finding]:
    value = text[start:end]
    if kind == "iban":
        length = iban_length(value.replace(" ", ""))
        if length:
            for spaces in range(length):
                if len(value[: length + spaces].replace(" ", "")) == length:
                    yield Finding(start, start + length + spaces, "IBAN", "iban")
                    return
        yield from _tokens(text, start, end)
        return
    digits = _NOT_DIGIT.sub("", value)
    if start and text[start - 1] == "." and start > 1 and text[start - 2].isdigit():
        return
    if kind == "card" and is_card(digits):
        yield Finding(start, end, "CREDIT_CARD", "card")
    elif kind == "ssn" and is_ssn(digits):
        yield Finding(start, end, "US_SSN", "ssn")
    elif kind == "nanp":
        yield Finding(start, end, "PHONE", "nanp")


def _tokens(text: str, start: int, end: int) -> Iterator[Finding]:
    prefix = _PREFIX.search(text, start, end)
    while prefix:
        body = _BODY[prefix[0]].match(text, prefix.end(), prefix.end() + _MAX_TOKEN)
        stop = prefix.end()
        if body:
            stop = prefix.end() + len(body[0].rstrip(".|"))
            secret = text[prefix.end() : stop]
            rule, least = TOKEN_RULES[prefix[0]]
            if len(secret) >= min(least, 16) and _has_digits(prefix[0] + secret) and entropy(secret[:256]) > 2.3:  # noqa: PLR2004 - a size that the line itself explains
                yield Finding(prefix.start(), stop, SECRET, rule)
            else:
                stop = prefix.end()
        prefix = _PREFIX.search(text, stop, end)


def _literals(text: str) -> Iterator[Finding]:
    for rule, literal, body in _DIRECT:
        at = text.find(literal)
        while at >= 0:
            match = body.match(text, at + len(literal))
            if match:
                yield Finding(*match.span(), SECRET, f"token:{rule}")
            at = text.find(literal, at + len(literal))
    for rule, literal, body, back in _ANCHORED:
        at = text.find(literal)
        while at >= 0:
            match = body.search(text, max(0, at - back), at + 80)
            if match:
                yield Finding(*match.span(), SECRET, f"token:{rule}")
            at = text.find(literal, at + len(literal))


def _numbers(text: str) -> Iterator[Finding]:
    if "+" in text:
        for match in _E164.finditer(text):
            if _E164_DIGITS[0] <= len(_NOT_DIGIT.sub("", match[0])) <= _E164_DIGITS[1] and match[0][1] != "0":
                yield Finding(*match.span(), "PHONE", "e164")
    low = lower(text)
    for word in _PHONE_WORDS:
        at = low.find(word)
        while at >= 0:
            number = _PHONE_AFTER.match(text, at + len(word))
            if number and _is_phone(number["v"], word):
                yield Finding(*number.span("v"), "PHONE", "context")
            at = low.find(word, at + len(word))
    for match in _SSN_WORD.finditer(text):
        if is_ssn(match["v"]):
            yield Finding(*match.span("v"), "US_SSN", "context")


def _is_phone(value: str, word: str) -> bool:
    count = len(_NOT_DIGIT.sub("", value))
    if not _LOCAL_DIGITS <= count <= _E164_DIGITS[1] or _DATE.match(value) or value.count("(") != value.count(")"):
        return False
    # A bare row of digits after a general word is an id more often than a phone.
    return not (value.isdigit() and (count > _LOCAL_DIGITS + 4 or word in ("number", "call", "contact")))


def _network(text: str) -> Iterator[Finding]:
    if "@" in text:
        logins = list(_USERINFO.finditer(text)) if "://" in text else []
        for match in logins:
            if not is_stop_value(match["v"]):
                yield Finding(*match.span("v"), SECRET, "url")
        yield from _mails(text, {match.end("v") for match in logins})
    if "%40" in text:
        yield from (Finding(*match.span(), "EMAIL", "email") for match in _PERCENT_MAIL.finditer(text))
    yield from _addresses_v4(text)
    if text.count(":") > 1:
        for match in _IPV6.finditer(text):
            if _is_public_v6(match[0]):
                yield Finding(*match.span(), "IP", "ipv6")


def _addresses_v4(text: str) -> Iterator[Finding]:
    for match in _IPV4.finditer(text):
        start = match.start()
        while start and match.start() - start < 3 and text[start - 1].isdigit():  # noqa: PLR2004 - a size that the line itself explains
            start -= 1
        value = text[start : match.end()]
        if start == match.start() or (start and (text[start - 1].isalnum() or text[start - 1] in "._-")):
            continue
        if _is_public_v4(value) and not _VERSION.search(text[max(0, start - 12) : start]):
            yield Finding(start, match.end(), "IP", "ipv4")


def _mails(text: str, hosts: set[int]) -> Iterator[Finding]:
    for match in _DOMAIN.finditer(text):
        at = match.start()
        if at in hosts:
            continue
        local = _LOCAL.search(text[max(0, at - 64) : at])
        if local:
            name = local[0].lstrip(".'{=&?#%$*!")
            before = text[max(0, at - len(name) - 3) : at - len(name)]
            if name and before != "://":
                yield Finding(at - len(name), match.end(), "EMAIL", "email")


def _is_public_v4(value: str) -> bool:
    parts = value.split(".")
    return all(int(p) < 256 and (p == "0" or p[0] != "0") for p in parts) and not _LOCAL_NET.match(value)  # noqa: PLR2004 - a size that the line itself explains


def _is_public_v6(value: str) -> bool:
    if value.count(":") < 3 and "::" not in value:  # noqa: PLR2004 - a size that the line itself explains
        return False
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast)
