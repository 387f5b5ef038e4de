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
from typing import Any, Literal

from pydantic import JsonValue

from mcp_guard.masking import keys

_MAX_DEPTH = 3
"""JSON in a string in JSON in a string: deeper is scanned as text."""
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*+"|-?\d[\d.eE+\-]*+', re.DOTALL)
_JSON_ENDS = frozenset({"{}", "[]", '""'})
_VALUE_KEYS = frozenset({"value", "text", "raw", "number"})
_COLUMN_KEYS = ("columns", "fields", "header", "headers")
_ROW_KEYS = frozenset({"rows", "data", "values"})
_RAW_PARTS = frozenset({"structuredContent", "_meta"})
_MEDIA = {"image": ("image/",), "audio": ("audio/",)}
_TEXTUAL = ("+xml", "+json", "/xml", "/json", "/javascript", "/yaml", "/x-yaml", "/svg")
"""Ends of media types that are text, whatever stands before."""
_BINARY = ("image/", "audio/", "video/")


class Leaf:
    """One scalar or key of a document. Plain attributes with defaults on the class: a document has thousands."""

    role: Literal["value", "key", "uri"] = "value"
    number: int | float | None = None
    """The original where the leaf is a number."""
    inner: list[Leaf] | None = None
    """Leaves of the text, where it is JSON."""
    blob = False
    """Whether `text` was decoded from base64."""
    kept: tuple[tuple[int, int], ...] = ()
    """Spans that were restored and must not be masked again."""
    new: JsonValue = None
    changed = False

    def __init__(self, text: str, hint: str | None = None, name: str = "", pointer: str = "") -> None:
        self.text = text
        self.hint = hint
        """Type that the name of the field says."""
        self.name = name
        self.pointer = pointer
        """JSON Pointer of the outermost value that holds the leaf."""

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
    walk = _Walk(depth=0)
    walk.value(value, None, "", "", mcp=mcp)
    return walk.found


def flat(found: list[Leaf]) -> list[Leaf]:
    """The leaves that hold text of their own: those of embedded JSON instead of the text around them."""
    own: list[Leaf] = []
    for leaf in found:
        if leaf.inner is None:
            own.append(leaf)
        else:
            own += flat(leaf.inner)
    return own


class _Walk:
    """One pass over one document; `fixed` is the pointer of all leaves of embedded JSON."""

    def __init__(self, depth: int, fixed: str | None = None) -> None:
        self.found: list[Leaf] = []
        self._depth, self._fixed = depth, fixed

    def value(self, value: object, hint: str | None, name: str, pointer: str, *, mcp: bool) -> None:
        """Add the leaves of `value`, which stands in a field `name` that says `hint`."""
        if isinstance(value, str):
            self.found.append(self._text(value, hint, name, pointer))
        elif isinstance(value, _Pairs):
            self._object(value, hint, name, pointer, mcp=mcp)
        elif isinstance(value, dict):
            self._object(list(value.items()), hint, name, pointer, mcp=mcp)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.value(item, hint, name, self._below(pointer, str(index)), mcp=mcp)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            leaf = Leaf(str(value), hint, name, pointer)
            leaf.number = value
            self.found.append(leaf)

    def _below(self, pointer: str, key: str) -> str:
        if self._fixed is not None:
            return self._fixed
        if "~" in key or "/" in key:
            key = key.replace("~", "~0").replace("/", "~1")
        return f"{pointer}/{key}"

    def _object(self, pairs: list[tuple[str, Any]], hint: str | None, name: str, pointer: str, *, mcp: bool) -> None:
        hints = [keys.hint(key) for key, _ in pairs]
        personal = not keys.PERSONAL.isdisjoint(hints)
        columns = _columns(pairs)
        for (key, item), own in zip(pairs, hints, strict=True):
            at = self._below(pointer, key)
            leaf = Leaf(key, pointer=at)
            leaf.role = "key"
            self.found.append(leaf)
            kind, called = own, key
            if own is None and key in _VALUE_KEYS:
                named = _called(pairs)
                kind, called = (keys.hint(named), named) if named else (hint, name)
            elif own is None and key == "name" and personal:
                kind = "PERSON"
            if mcp and isinstance(item, str) and key in ("data", "blob", "uri", "uriTemplate"):
                self.found.append(self._special(key, item, pairs, at))
            elif columns and key in _ROW_KEYS:
                self._rows(item, columns, called, at)
            else:
                self.value(item, kind, called, at, mcp=mcp and key not in _RAW_PARTS)

    def _rows(self, rows: object, columns: list[str], name: str, pointer: str) -> None:
        if not isinstance(rows, list) or not all(isinstance(r, list) and not isinstance(r, _Pairs) for r in rows):
            self.value(rows, None, name, pointer, mcp=False)
            return
        hints = [keys.hint(column) for column in columns]
        for number, row in enumerate(rows):
            for index, item in enumerate(row):
                known = index < len(columns)
                hint, column = (hints[index], columns[index]) if known else (None, "")
                self.value(item, hint, column, self._below(pointer, f"{number}/{index}"), mcp=False)

    def _text(self, text: str, hint: str | None, name: str, pointer: str) -> Leaf:
        leaf = Leaf(text, hint, name, pointer)
        if hint is None and self._depth < _MAX_DEPTH:
            document = _parse(text)
            if document is not None:
                inner = _Walk(self._depth + 1, pointer)
                inner.value(document, None, "", pointer, mcp=False)
                leaf.inner = inner.found
        return leaf

    def _special(self, key: str, item: str, pairs: list[tuple[str, Any]], pointer: str) -> Leaf:
        if key in ("uri", "uriTemplate"):
            leaf = Leaf(item, pointer=pointer)
            leaf.role = "uri"
            return leaf
        block = dict(pairs)
        if passes_unread(key, item, block):
            return Leaf("", pointer=pointer)
        encoded = key == "blob" or (block.get("type") in _MEDIA and _kind(block).endswith(_TEXTUAL))
        plain = _decoded(item) if encoded else None
        leaf = self._text(item if plain is None else plain, None, key, pointer)
        leaf.blob = plain is not None
        return leaf


def _called(pairs: list[tuple[str, Any]]) -> str:
    named = {key: item for key, item in pairs if key in ("name", "key", "field") and isinstance(item, str)}
    return named.get("name") or named.get("key") or named.get("field") or ""


def _columns(pairs: list[tuple[str, Any]]) -> list[str]:
    for key, item in pairs:
        if key in _COLUMN_KEYS and isinstance(item, list):
            return [name if isinstance(name, str) else "" for name in item]
    return []


def _parse(text: str) -> object:
    bare = text.strip()
    if bare[:1] + bare[-1:] not in _JSON_ENDS:
        return None
    try:
        return json.loads(bare, object_pairs_hook=_Pairs, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None  # not JSON: scanned as text


def passes_unread(key: str, data: object, block: dict[str, Any]) -> bool:
    """Whether this is base64 of an image, of sound or of other binary data (decisions.md D3).

    Text that only claims to be so is read like any text, and so is a blob that decodes to text.
    """
    kind = _kind(block)
    if not isinstance(data, str) or kind.endswith(_TEXTUAL) or not _is_base64(data):
        return False
    if key == "data":
        return bool(kind) and kind.startswith(_MEDIA.get(str(block.get("type")), ()))
    return key == "blob" and (kind.startswith(_BINARY) or _decoded(data) is None)


def _kind(block: dict[str, Any]) -> str:
    """Media type without parameters, empty where there is none. A type that is no string is read as text."""
    mime = block.get("mimeType")
    return "text/xml" if not isinstance(mime, str | None) else (mime or "").partition(";")[0].strip().lower()


def _is_base64(data: str) -> bool:
    try:
        binascii.a2b_base64(data.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        return False
    return True


def _decoded(data: str) -> str | None:
    try:
        return binascii.a2b_base64(data.encode("ascii"), strict_mode=True).decode()
    except (binascii.Error, UnicodeError):
        return None


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


def text_size(value: JsonValue, *, limit: int, mcp: bool = True) -> int:
    """Characters of text in a value, less what passes unread; stops counting above `limit`."""
    total = 0
    stack: list[tuple[JsonValue, bool]] = [(value, mcp)]
    while stack and total <= limit:
        item, mcp = stack.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, dict):
            for key, part in item.items():
                total += len(key)
                if not (mcp and key in ("data", "blob") and passes_unread(key, part, item)):
                    stack.append((part, mcp and key not in _RAW_PARTS))
        elif isinstance(item, list):
            stack.extend((part, mcp) for part in item)
    return total
