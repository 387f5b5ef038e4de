"""Takes a JSON value apart into leaves in document order, and puts it together again. Pure.

A leaf is a string, a key or a number. Text that is JSON itself (the usual content of MCP text blocks) and the blob of
a text resource are taken apart too; they are put together by replacing exactly the literals that changed, so that the
text stays valid JSON and keeps its layout.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import JsonValue

from mcp_guard.masking import keys

_MAX_DEPTH = 3
"""JSON in a string in JSON in a string: deeper is scanned as text."""
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*+"|-?\d[\d.eE+\-]*+', re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/\-_\s]*={0,2}\s*")
_VALUE_KEYS = frozenset({"value", "text", "raw", "number"})
_RAW_PARTS = frozenset({"structuredContent", "_meta"})
_MEDIA = frozenset({"image", "audio"})


@dataclass(slots=True)
class Leaf:
    """One scalar or key of a document."""

    text: str
    hint: str | None = None
    """Type that the name of the field says."""
    name: str = ""
    role: Literal["value", "key", "uri"] = "value"
    number: int | float | None = None
    """The original where the leaf is a number."""
    pointer: str = ""
    """JSON Pointer of the outermost value that holds the leaf."""
    inner: list[Leaf] | None = None
    """Leaves of the text, where it is JSON."""
    blob: bool = False
    """Whether `text` was decoded from base64."""
    kept: list[tuple[int, int]] = field(default_factory=list)
    """Spans that were restored and must not be masked again."""
    new: JsonValue = None
    changed: bool = False

    def put(self, value: JsonValue) -> None:
        """Replace the leaf."""
        self.new = value
        self.changed = True


class _Pairs(list[tuple[str, Any]]):
    """An object with its keys as they stand, duplicates included."""


def _refuse(_name: str) -> float:
    raise ValueError


def leaves(value: JsonValue, *, mcp: bool = True) -> list[Leaf]:
    """All leaves of a value in document order. `mcp`: media blocks and blobs of MCP are recognised."""
    return list(_walk(value, _Place(mcp=mcp)))


def flat(found: list[Leaf]) -> Iterator[Leaf]:
    """The leaves that hold text of their own: those of embedded JSON instead of the text around them."""
    for leaf in found:
        if leaf.inner is None:
            yield leaf
        else:
            yield from flat(leaf.inner)


@dataclass(frozen=True, slots=True)
class _Place:
    mcp: bool = False
    hint: str | None = None
    name: str = ""
    pointer: str = ""
    depth: int = 0


def _walk(value: object, at: _Place) -> Iterator[Leaf]:
    if isinstance(value, str):
        yield _text_leaf(value, at)
    elif isinstance(value, _Pairs):
        yield from _walk_object(value, at)
    elif isinstance(value, dict):
        yield from _walk_object(list(value.items()), at)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, _Place(at.mcp, at.hint, at.name, f"{at.pointer}/{index}", at.depth))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield Leaf(str(value), hint=at.hint, name=at.name, number=value, pointer=at.pointer)


def _walk_object(pairs: list[tuple[str, Any]], at: _Place) -> Iterator[Leaf]:
    names = {key: item for key, item in pairs if isinstance(item, str)}
    personal = any(keys.hint(key) in keys.PERSONAL for key, _ in pairs)
    named = names.get("name") or names.get("key") or names.get("field")
    columns = _columns(pairs)
    for key, item in pairs:
        pointer = f"{at.pointer}/{key.replace('~', '~0').replace('/', '~1')}"
        yield Leaf(key, role="key", pointer=pointer)
        mcp = at.mcp and key not in _RAW_PARTS
        hint, name = keys.hint(key), key
        if hint is None and key in _VALUE_KEYS:
            hint, name = (keys.hint(named), named) if named else (at.hint, at.name)
        elif hint is None and key == "name" and personal:
            hint = "PERSON"
        place = _Place(mcp, hint, name, pointer, at.depth)
        if mcp and key in ("data", "blob") and isinstance(item, str):
            yield _binary_leaf(key, item, names, place)
        elif mcp and key in ("uri", "uriTemplate") and isinstance(item, str):
            yield Leaf(item, role="uri", pointer=pointer)
        elif columns and key in ("rows", "data", "values"):
            yield from _walk_rows(item, columns, place)
        else:
            yield from _walk(item, place)


def _columns(pairs: list[tuple[str, Any]]) -> list[str]:
    for key, item in pairs:
        if key in ("columns", "fields", "header", "headers") and isinstance(item, list):
            return [name if isinstance(name, str) else "" for name in item]
    return []


def _walk_rows(rows: object, columns: list[str], at: _Place) -> Iterator[Leaf]:
    if not isinstance(rows, list) or not all(isinstance(r, list) and not isinstance(r, _Pairs) for r in rows):
        yield from _walk(rows, at)
        return
    hints = [keys.hint(name) for name in columns]
    for number, row in enumerate(rows):
        for index, item in enumerate(row):
            known = index < len(columns)
            hint, name = (hints[index], columns[index]) if known else (None, "")
            yield from _walk(item, _Place(at.mcp, hint, name, f"{at.pointer}/{number}/{index}", at.depth))


def _text_leaf(text: str, at: _Place) -> Leaf:
    leaf = Leaf(text, hint=at.hint, name=at.name, pointer=at.pointer)
    if at.depth < _MAX_DEPTH and at.hint is None:
        document = _parse(text)
        if document is not None:
            place = _Place(depth=at.depth + 1, pointer=at.pointer)
            leaf.inner = [_same_pointer(inner, at.pointer) for inner in _walk(document, place)]
    return leaf


def _same_pointer(leaf: Leaf, pointer: str) -> Leaf:
    leaf.pointer = pointer
    return leaf


def _parse(text: str) -> object:
    bare = text.strip()
    if len(bare) < 2 or bare[0] + bare[-1] not in ("{}", "[]", '""'):  # noqa: PLR2004 - a size that the line itself explains
        return None
    try:
        return json.loads(bare, object_pairs_hook=_Pairs, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None  # not JSON: scanned as text


def _binary_leaf(key: str, data: str, siblings: dict[str, str], at: _Place) -> Leaf:
    mime = siblings.get("mimeType", "")
    media = key == "data" and siblings.get("type") in _MEDIA
    if not _BASE64.fullmatch(data) or not (media or key == "blob"):
        return _text_leaf(data, at)
    if key == "blob" and (not mime or mime.startswith("text/") or mime.endswith(("json", "xml", "yaml"))):
        try:
            leaf = _text_leaf(base64.b64decode(data, validate=True).decode(), at)
        except (binascii.Error, UnicodeDecodeError):
            return _text_leaf(data, at) if mime else Leaf("", pointer=at.pointer)
        leaf.blob = True
        return leaf
    return Leaf("", pointer=at.pointer)  # the base64 of other media is neither scanned nor counted (decisions.md D3)


def rebuild(value: JsonValue, found: list[Leaf]) -> JsonValue:
    """The value with the changed leaves replaced. Walks exactly as `leaves` did."""
    return _rebuild(value, iter(found))


def _rebuild(value: JsonValue, found: Iterator[Leaf]) -> JsonValue:
    if isinstance(value, dict):
        made: dict[str, JsonValue] = {}
        for key, item in value.items():
            new_key = _key(settle(next(found), key), made)
            made[new_key] = _rebuild(item, found)
        return made
    if isinstance(value, list):
        return [_rebuild(item, found) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return settle(next(found), value)


def _key(new: JsonValue, taken: dict[str, JsonValue]) -> str:
    """Irreversible placeholders may meet in one object; no member may be lost."""
    name, number = str(new), 2
    while name in taken:
        name, number = f"{new}#{number}", number + 1
    return name


def settle(leaf: Leaf, original: JsonValue) -> JsonValue:
    """What stands in the document for this leaf now."""
    text: JsonValue = original
    if leaf.inner is not None:
        if not any(inner.changed for inner in flat(leaf.inner)):
            return original
        text = _splice(leaf.text, leaf.inner)
    elif leaf.changed:
        text = leaf.new
    else:
        return original
    return base64.b64encode(str(text).encode()).decode() if leaf.blob else text


def _splice(text: str, inner: list[Leaf]) -> str:
    source = iter(inner)
    ascii_only = text.isascii()

    def replace(match: re.Match[str]) -> str:
        leaf = next(source)
        new = settle(leaf, leaf.text)
        same = new == leaf.text and not leaf.changed
        return match[0] if same else json.dumps(new, ensure_ascii=ascii_only)

    return _LITERAL.sub(replace, text)


def text_size(value: JsonValue, *, limit: int) -> int:
    """Characters of text in a value, media not counted; stops counting above `limit`."""
    total = 0
    stack: list[tuple[JsonValue, bool]] = [(value, True)]
    while stack and total <= limit:
        item, mcp = stack.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, dict):
            media = mcp and (item.get("type") in _MEDIA or "blob" in item)
            for key, part in item.items():
                total += len(key)
                if not (media and key in ("data", "blob")):
                    stack.append((part, mcp and key not in _RAW_PARTS))
        elif isinstance(item, list):
            stack.extend((part, mcp) for part in item)
    return total
