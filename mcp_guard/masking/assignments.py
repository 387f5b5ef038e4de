"""`name = value`, `name: value`, `Authorization: Bearer …` in free text, code and serialised JSON. Pure, linear."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mcp_guard.masking import keys
from mcp_guard.masking.rules import KEYWORDS, SECRET
from mcp_guard.masking.validators import is_stop_value, looks_random

_KEYWORD = re.compile("|".join(KEYWORDS))
_LEFT = re.compile(r"[\w.\-]{0,40}\Z")
_REST = re.compile(
    r"(?P<k>[\w.\-]{0,40}+)(?P<c>\\{0,3}[\"'\]]){0,2}[ \t]{0,4}(?P<s>=>|:=|={1,3}|:|[ \t])[ \t]{0,4}"
    r"(?:(?P<e>\\{1,3})\"(?P<eq>[^\"\\\n\x1f]{1,1024})\\"
    r"|\"(?P<dq>(?:[^\"\\\n\x1f]|\\.){1,1024}+)\"|'(?P<sq>(?:[^'\\\n\x1f]|\\.){1,1024}+)'|`(?P<bq>[^`\n\x1f]{1,1024}+)`"
    r"|(?P<v>[^\s\"'`,;<>{}()\[\]\\\x1f]{4,512}+)(?P<after>[(\[]?))"
)
_SCHEME = re.compile(r"\b(?:bearer|basic|token|apikey)[ \t]{1,3}(?P<v>[A-Za-z0-9+/_.=\-~]{12,4096}+)", re.IGNORECASE)
_VALUE_END = re.compile(r"[^\s\"'`,;<>{}()\[\]\\\x1f]*+")
_ENV = re.compile(r"(?:^|[\s;&\"'?])(?:export )?[A-Z][A-Z0-9_]{2,60}=\Z")
_YAML = re.compile(r"(?:^|\n)[ \t]*(?:- )?[\w.\-]{1,60}[ \t]*[:=][ \t]*\Z")
_GENERIC_LEAST = 16


def lower(text: str) -> str:
    """Lower case of the same length, so that offsets stay (some capitals become two characters)."""
    low = text.lower()
    return low if len(low) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def assignments(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, rule) of values whose names say that they are secrets."""
    low = lower(text)
    done = 0
    for word in _KEYWORD.finditer(low):
        if word.start() < done:
            continue
        rest = _REST.match(text, word.end())
        if rest:
            span = _judge(text, word, rest)
            if span:
                done = span[1]
                yield (*span, "name")
    if "bearer" in low or "basic" in low or "token " in low or "apikey " in low:
        for match in _SCHEME.finditer(text):
            if looks_random(match["v"]) and not is_stop_value(match["v"]):
                yield (*match.span("v"), "scheme")


def _judge(text: str, word: re.Match[str], rest: re.Match[str]) -> tuple[int, int] | None:
    left = _LEFT.search(text[max(0, word.start() - 40) : word.start()])
    name = (left[0] if left else "") + text[word.start() : rest.end("k")]
    group = next(g for g in ("eq", "dq", "sq", "bq", "v") if rest[g] is not None)
    value = rest[group]
    if keys.hint(name) != SECRET:
        generic = name.lower().endswith(("key", "signature", "session")) and len(value) >= _GENERIC_LEAST
        if not generic or not looks_random(value) or value.count("/") > 3 or _is_id(value):  # noqa: PLR2004 - a size that the line itself explains
            return None
    quoted = group != "v"
    if rest["s"].isspace() and not (quoted or name.startswith("--")):
        return None
    if quoted:
        good = keys.accepts_in_text(name, value, quoted=True)
    else:
        good = not rest["after"] and _bare(text, name, value, rest)
    if not good:
        return None
    end = rest.end(group)
    return rest.start(group), end if quoted else _VALUE_END.match(text, end).end()  # type: ignore[union-attr]


def _bare(text: str, name: str, value: str, rest: re.Match[str]) -> bool:
    if is_stop_value(value) or value.lower() == name.lower():
        return False
    start, end = rest.span("v")
    line_end = end >= len(text) or text[end] in "\n\r\x1f"
    before = text[max(0, start - 70) : start]
    configured = bool(_ENV.search(before)) or (line_end and bool(_YAML.search(before)))
    word_like = value.replace("_", "a").replace(".", "a").isalpha()
    if keys.is_password(name):
        if word_like:
            return configured and "." not in value
        return any(c.isdigit() for c in value) or configured or not value[0].isalpha()
    return not word_like and keys.accepts_in_text(name, value, quoted=False)


_ID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]{22}|[a-z]+(?:[\-_./][a-z]+)*\d{0,3}")


def _is_id(value: str) -> bool:
    return _ID.fullmatch(value) is not None
