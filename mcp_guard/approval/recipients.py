"""Whom a masked address belongs to: its domain beside the placeholder, and nothing else of it (security.md S15).

A reviewer who sees `[EMAIL_…]` alone approves mail to anybody. Only arguments that the manifest calls a recipient, and
only where the reviewer sees something else than the real value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from pydantic import JsonValue

from mcp_guard.approval.bounds import at
from mcp_guard.approval.lookalikes import doubts_in
from mcp_guard.approval.statement import Stored
from mcp_guard.model import JsonDict, MaskedText

_BETWEEN = re.compile(r"[\s,;<>\"'()\[\]{}]+")
_AFTER = re.compile(r"[/\\?#:]")
"""What ends a host."""
_MAX_DOMAIN = 253
_MAX_DOMAINS = 5
_MAX_TEXTS = 100
_MAX_TEXT = 10_000
"""Characters of one value that are looked at."""
_WITHHELD = frozenset({"hidden", "digest"})


def recipient_views(stored: Stored, mask: Callable[[str], MaskedText]) -> list[JsonValue]:
    """For `view["recipients"]`: {argument, at, more, doubts} of each recipient that is masked."""
    real, shown = stored.views.for_downstream.value, stored.views.for_reviewer.value
    found: list[JsonValue] = []
    for pointer, fact in stored.call.target.facts.arguments.items():
        value = at(real, pointer)
        if fact.role != "recipient" or fact.show in _WITHHELD or value == at(shown, pointer):
            continue
        view = _view(_name(pointer), list(_texts(value)), mask)
        if view is not None:
            found.append(view)
    return found


def beside(view: JsonDict, argument: str) -> str:
    """What stands beside this argument: `at example.com, example.org`; empty where nothing does."""
    domains: list[str] = []
    more = 0
    for item in _items(view):
        if item.get("argument") == argument:
            listed, left = item.get("at"), item.get("more")
            domains += [str(domain) for domain in listed] if isinstance(listed, list) else []
            more += left if isinstance(left, int) else 0
    return f"at {', '.join(domains)}{f' and {more} more' if more else ''}" if domains else ""


def _items(view: JsonDict) -> list[JsonDict]:
    items = view.get("recipients")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _view(argument: str, texts: list[str], mask: Callable[[str], MaskedText]) -> JsonDict | None:
    domains = list(dict.fromkeys(domain for text in texts for domain in _domains(text)))
    doubts = list(dict.fromkeys(line for text in texts for line in doubts_in(argument, text)))
    if not domains and not doubts:
        return None
    return {
        "argument": mask(argument),
        "at": [mask(domain) for domain in domains[:_MAX_DOMAINS]],
        "more": max(0, len(domains) - _MAX_DOMAINS),
        "doubts": list[JsonValue](doubts[:_MAX_DOMAINS]),
    }


def _name(pointer: str) -> str:
    """Name of the argument that holds this place."""
    return pointer.split("/")[1].replace("~1", "/").replace("~0", "~") if "/" in pointer else ""


def _texts(value: object) -> Iterator[str]:
    """The texts of an address, a list of addresses, or an object with some."""
    left, heap = _MAX_TEXTS, [value]
    while heap and left > 0:
        item = heap.pop(0)
        left -= 1
        if isinstance(item, str):
            yield item[:_MAX_TEXT]
        elif isinstance(item, list):
            heap += item[:_MAX_TEXTS]
        elif isinstance(item, dict):
            heap += list(item.values())[:_MAX_TEXTS]


def _domains(text: str) -> Iterator[str]:
    if "://" in text:
        try:
            found = [urlsplit(text.strip()).hostname or ""]
        except ValueError:
            found = []
    else:
        # Behind the last `@` of each word: before it may stand anything, also a password with one.
        words = [word.rpartition("@")[2] for word in _BETWEEN.split(text) if "@" in word]
        found = [_AFTER.split(word, maxsplit=1)[0] for word in words]
    for domain in found:
        name = domain.strip(".").lower()
        if "." in name and len(name) <= _MAX_DOMAIN:
            yield name
