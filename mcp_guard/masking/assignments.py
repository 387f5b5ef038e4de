"""`name = value`, `name: value`, `Authorization: Bearer …` in free text, code and serialised JSON. Pure, linear."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mcp_guard.masking import keys
from mcp_guard.masking.rules import COMMANDS, KEYWORDS, SECRET
from mcp_guard.masking.validators import has_digit, is_stop_value, looks_generated, looks_random

_KEYWORD = re.compile("|".join(KEYWORDS))
_LEFT = re.compile(r"[\w.\-]{0,40}\Z")
_REST = re.compile(
    r"(?P<k>[\w.\-]{0,40}+)(?P<c>\\{0,3}[\"'\]]){0,2}[ \t]{0,24}+(?P<s>=>|:=|={1,3}|:|[ \t]|(?<=[ \t]))[ \t]{0,24}"
    r"(?P<list>\[\s{0,8})?(?:(?P<e>\\{1,3})\"(?P<eq>[^\"\\\n\x1f]{1,1024})\\"
    r"|\"(?P<dq>(?:[^\"\\\n\x1f]|\\.){1,1024}+)\"|'(?P<sq>(?:[^'\\\n\x1f]|\\.){1,1024}+)'|`(?P<bq>[^`\n\x1f]{1,1024}+)`"
    r"|(?P<v>[^\s\"'`,;<>{}()\[\]\\\x1f]{4,512}+)(?P<after>[(\[]?))"
)
_VALUES = ("eq", "dq", "sq", "bq", "v")
_NEXT_ITEM = re.compile(r"\\{0,3}[\"']\s{0,8},\s{0,8}\\{0,3}[\"'](?P<v>[^\"'\\\n\x1f]{1,1024}+)")
_ITEMS_MOST = 64
_SCHEME = re.compile(r"\b(?:bearer|basic|token|apikey)[ \t]{1,3}(?P<v>[A-Za-z0-9+/_.=\-~]{12,4096}+)", re.IGNORECASE)
_SCHEME_WORDS = ("bearer", "basic", "token ", "apikey ")
_COMMANDS = [(literal, re.compile(command, re.IGNORECASE)) for literal, command in COMMANDS]
_VALUE_END = re.compile(r"[^\s\"'`,;<>{}()\[\]\\\x1f]*+")
_ENV = re.compile(r"(?:^|[\s;&\"'?])(?:export )?[A-Z][A-Z0-9_]{2,60}=\Z")
_YAML = re.compile(r"(?:^|\n)[ \t]*(?:#[ \t]*|- )?[\w.\-]{1,60}[ \t]*[:=][ \t]*\Z")
_ID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]{22}|[a-z]+(?:[\-_./][a-z]+)*\d{0,3}")
_GENERIC_NAMES = ("key", "signature", "session")
_GENERIC_LEAST = 16
_PATH_SLASHES = 4
_ITEM_LEAST = 12


def lower(text: str) -> str:
    """Lower case of the same length, so that offsets stay (some capitals become two characters)."""
    low = text.lower()
    return low if len(low) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def assignments(text: str, low: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, rule) of values whose names say that they are secrets. `low` is `lower(text)`."""
    done = 0
    for word in _KEYWORD.finditer(low):
        rest = _REST.match(text, word.end()) if word.start() >= done else None
        for span in _judge(text, word, rest) if rest else ():
            done = span[1]
            yield (*span, "name")
    if any(word in low for word in _SCHEME_WORDS):
        for match in _SCHEME.finditer(text):
            if looks_random(match["v"]) and not is_stop_value(match["v"]):
                yield (*match.span("v"), "scheme")
    for literal, command in _COMMANDS:
        at = low.find(literal)
        while at >= 0:
            found = command.match(text, at)
            if found and found["v"] and not is_stop_value(found["v"]) and not found["v"].isdigit():
                yield (*found.span("v"), "command")
            at = low.find(literal, at + len(literal))


def _judge(text: str, word: re.Match[str], rest: re.Match[str]) -> list[tuple[int, int]]:
    """The spans of the value, or of the values of a list, if they are secret."""
    left = _LEFT.search(text, max(0, word.start() - 40), word.start())
    name = (left[0] if left else "") + text[word.start() : rest.end("k")]
    group = next(g for g in _VALUES if rest[g] is not None)
    value = rest[group]
    if rest["list"]:
        return _items(text, name, rest, group) if group != "v" else []
    if keys.hint(name) != SECRET and not _is_generic(name, value):
        return []
    quoted = group != "v"
    if rest["s"].strip() == "" and not (quoted or name.startswith("-")):
        return []
    if quoted:
        good = keys.accepts_in_text(name, value, quoted=True) and not (group == "bq" and " " in value)
    else:
        good = not rest["after"] and _bare(text, name, value, rest)
    if not good:
        return []
    start, end = rest.span(group)
    tail = None if quoted else _VALUE_END.match(text, end)
    return [(start, tail.end() if tail else end)]


def _is_generic(name: str, value: str) -> bool:
    """Whether a name that does not say "secret" by itself has a value that does."""
    named = name.lower().endswith(_GENERIC_NAMES) and len(value) >= _GENERIC_LEAST
    return named and looks_random(value) and value.count("/") < _PATH_SLASHES and not _ID.fullmatch(value)


def _items(text: str, name: str, rest: re.Match[str], group: str) -> list[tuple[int, int]]:
    """Lists under a name such as `tokens` hold words as often as secrets: each value must look generated."""
    if keys.hint(name.removesuffix("s")) != SECRET:
        return []
    spans, match = [rest.span(group)], _NEXT_ITEM.match(text, rest.end(group))
    while match and len(spans) < _ITEMS_MOST:
        spans.append(match.span("v"))
        match = _NEXT_ITEM.match(text, match.end())
    return [(a, b) for a, b in spans if b - a >= _ITEM_LEAST and " " not in text[a:b] and looks_generated(text[a:b])]


def _bare(text: str, name: str, value: str, rest: re.Match[str]) -> bool:
    if is_stop_value(value) or value.lower() == name.lower() or (value[0] == "-" and not rest["s"].strip()):
        return False
    start, end = rest.span("v")
    line_end = end >= len(text) or text[end] in "\n\r\x1f"
    before = text[max(0, start - 70) : start]
    env = bool(_ENV.search(before))
    configured = env or (line_end and bool(_YAML.search(before)))
    word_like = value.replace("_", "a").replace(".", "a").isalpha()
    if keys.is_password(name):
        if word_like:
            return configured and "." not in value
        return has_digit(value) or configured or not value[0].isalpha()
    if env and looks_generated(value):
        return True
    return not word_like and keys.accepts_in_text(name, value, quoted=False)
