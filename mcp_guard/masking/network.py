"""E-mail addresses, logins in URLs, public IP addresses. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from mcp_guard.masking.findings import Finding
from mcp_guard.masking.rules import SECRET
from mcp_guard.masking.validators import is_stop_value

_DOMAIN = re.compile(r"@(?:[\w\-]{1,63}\.){1,8}[^\W\d_][\w\-]{1,62}")
_LOCAL = re.compile(r"[\w.!#$%&'*+=?^{}~\-]{1,64}\Z")
_KEY = re.compile(r"(?:.*[&?])?[+\-]?[A-Za-z_]\w*=(?=.)")
"""Before an address: the key of an assignment (perhaps in a diff) or of a query. It is not part of the address."""
_PERCENT_MAIL = re.compile(r"(?<![\w.+\-])[\w.+\-]{1,64}+%40(?:[A-Za-z0-9\-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w\-])")
_USERINFO = re.compile(r"://[^\s/:@\"'<>\x1f]{0,128}+:(?P<v>[^\s/@\"'<>\x1f]{1,256})@(?=[\w.\[])")
_IPV4_TAIL = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w]|\.\d)", re.ASCII)
_IPV4_HEAD = re.compile(r"(?<![\w.\-])\d{1,3}\Z", re.ASCII)
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IPV6_HEAD = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}\Z")
_IPV6 = re.compile(r"[0-9A-Fa-f:]{6,39}(?![\w:])")
_VERSION = re.compile(r"\bv\Z|(?:\bver|version|release)[ :=\"']*\Z", re.IGNORECASE)
_LOCAL_NET = re.compile(r"(?:127|0|10|255)\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|169\.254\.|22[4-9]\.|2[34]\d\.")
_OCTET_MOST = 255
_IPV6_LEAST_COLONS = 3
"""Of an address that is not shortened by `::`; a time of day has two."""
_MAIL_LOCAL = 64
"""Octets of the part before the @. Source: RFC 5321, 4.5.3.1.1."""


def network(text: str) -> Iterator[Finding]:
    """Yield what is found, in no order."""
    if "@" in text:
        logins = list(_USERINFO.finditer(text)) if "://" in text else []
        for match in logins:
            if not is_stop_value(match["v"]):
                yield Finding(*match.span("v"), SECRET, "url")
        yield from _mails(text, {match.end("v") for match in logins})
    if "%40" in text:
        yield from (Finding(*match.span(), "EMAIL", "email") for match in _PERCENT_MAIL.finditer(text))
    yield from _addresses_v4(text)
    yield from _addresses_v6(text)


def _mails(text: str, hosts: set[int]) -> Iterator[Finding]:
    for match in _DOMAIN.finditer(text):
        at = match.start()
        local = _LOCAL.search(text, max(0, at - _MAIL_LOCAL), at) if at not in hosts else None
        if local:
            name = local[0].lstrip(".'{=&?#%$*!")
            key = _KEY.match(name)
            name = name[key.end() :].lstrip(".'{=") if key else name
            before = text[max(0, at - len(name) - 3) : at - len(name)]
            if name and before != "://":
                yield Finding(at - len(name), match.end(), "EMAIL", "email")


def _addresses_v4(text: str) -> Iterator[Finding]:
    for match in _IPV4_TAIL.finditer(text):
        head = _IPV4_HEAD.search(text, max(0, match.start() - 3), match.start())
        if not head:
            continue
        start = head.start()
        if _is_public_v4(text[start : match.end()]) and not _VERSION.search(text, max(0, start - 12), start):
            yield Finding(start, match.end(), "IP", "ipv4")


def _addresses_v6(text: str) -> Iterator[Finding]:
    done = 0
    for match in _COLONS.finditer(text):
        head = _IPV6_HEAD.search(text, max(0, match.start() - 4), match.start()) if match.start() >= done else None
        whole = _IPV6.match(text, head.start()) if head else None
        if whole:
            done = whole.end()
            if _is_public_v6(whole[0]):
                yield Finding(*whole.span(), "IP", "ipv6")


def _is_public_v4(value: str) -> bool:
    if _LOCAL_NET.match(value):
        return False
    return all(int(part) <= _OCTET_MOST and (part == "0" or part[0] != "0") for part in value.split("."))


def _is_public_v6(value: str) -> bool:
    if value.count(":") < _IPV6_LEAST_COLONS and "::" not in value:
        return False
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast)
