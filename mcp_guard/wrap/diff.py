"""Show what changes in a file, without a secret: the lines pass through masking, also those that only stand near."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mcp_guard.approval.prompt import visible
from mcp_guard.config.hostfile import at, is_blank, parse_host_file
from mcp_guard.config.schema import MaskingConfig
from mcp_guard.config.secretfiles import SecretFiles
from mcp_guard.config.secretshapes import is_harmless, names_a_secret
from mcp_guard.masking.masker import Masker
from mcp_guard.wrap.command import is_guard
from mcp_guard.wrap.locate import HostFile

SHOWN = "•••"
_CONTEXT = 2
_LONG_LINE = 2000
"""Characters; a file with such a line was not written for people, and is shown in a form that is."""
_MIN = 4
"""Characters; shorter values are not replaced by their text, it would hide half the file."""
_ODD_SPELLING = re.compile(r"\\(?:/|u00[2-7]|U0|x|e|[ \t]*\r?\n)")
"""A plain character written in a way in which it is not found."""
_SEARCH_PATH = re.compile(r'("?PATH"?\s*[:=]\s*")([^"]{40,})"')
_AS_ABOVE = "… as above"


def diff_lines(
    file: HostFile, before: bytes, after: bytes, width: int = 120, seen: set[str] | None = None
) -> Iterator[str]:
    """The lines of a unified diff, each with its mark `+`, `-`, `@` or a space. No secret is in them.

    Nothing is cut: a line that is wider goes on in the next one, with the same mark.

    Args:
        file: Which file.
        before: Its content.
        after: What it will be.
        width: Columns.
        seen: Search paths that were shown before, and need not be shown again; is added to.
    """
    data = [_parsed(file, raw) for raw in (before, after)]
    secrets = [*dict.fromkeys(value for parsed in data for value in _secrets(file, parsed) if len(value) >= _MIN)]
    hidden = sorted({piece for value in secrets for piece in _spellings(value)}, key=len, reverse=True)
    texts = [_text(raw) for raw in (before, after)]
    old, new = ([_lines(text), _lines(_without(text, hidden))] for text in texts)
    if any(_for_nobody(text, width) for text in texts) or not _all_found(file, data, texts):
        texts = [_readable(file, parsed) for parsed in data]
        old, new = ([_lines(text), _lines(_without(text, hidden))] for text in texts)
    masker = Masker(MaskingConfig(), os.urandom(32))
    known = set() if seen is None else seen
    for mark, line in _changes(old, new):
        yield from _folded(mark, line if mark == "@" else _safe(line, masker, known), width)


def _changes(old: list[list[str]], new: list[list[str]]) -> Iterator[tuple[str, str]]:
    """Marks and lines; each side is given as it is, to be compared, and as it is shown."""
    matcher = difflib.SequenceMatcher(None, old[0], new[0])
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        (_, i1, _, j1, _), (_, _, i2, _, j2) = group[0], group[-1]
        yield "@", f"@ -{i1 + 1},{i2 - i1} +{j1 + 1},{j2 - j1} @@"
        for tag, first, last, start, end in group:
            if tag == "equal":
                yield from ((" ", line) for line in old[1][first:last])
            else:
                yield from (("-", line) for line in old[1][first:last])
                yield from (("+", line) for line in new[1][start:end])


def _safe(line: str, masker: Masker, seen: set[str]) -> str:
    def once(match: re.Match[str]) -> str:
        if match[2] in seen:
            return f'{match[1]}{_AS_ABOVE}"'
        seen.add(match[2])
        return match[0]

    return _SEARCH_PATH.sub(once, visible(masker.text(line).replace("\t", "    ")))


def _folded(mark: str, line: str, width: int) -> Iterator[str]:
    yield mark + line[: width - 1]
    rest = line[width - 1 :]
    indent = " " * (len(line) - len(line.lstrip()) + 4) if len(line) - len(line.lstrip()) < width // 2 else " "
    step = width - 1 - len(indent)
    for start in range(0, len(rest), step):
        yield mark + indent + rest[start : start + step]


def _for_nobody(text: str, width: int) -> bool:
    """Whether the text was not written to be read: whole entries in lines that are wider than the screen."""
    wide = [line for line in _lines(text) if len(line) > width]
    return any(len(line) > _LONG_LINE or line.count("{") > line.lstrip().startswith("{") for line in wide)


def _all_found(file: HostFile, data: Sequence[dict[str, Any]], texts: Sequence[str]) -> bool:
    """Whether each secret stands in its text in a spelling that is known, and so can be hidden."""
    for parsed, text in zip(data, texts, strict=True):
        if _ODD_SPELLING.search(text):
            return False
        for value in _secrets(file, parsed):
            pieces = [piece for piece in _pieces(value) if len(piece) >= _MIN]
            if not all(any(spelled in text for spelled in _spelled(piece)) for piece in pieces):
                return False
    return True


def _spellings(value: str) -> Iterator[str]:
    """How a secret may stand in a line: whole with escapes, and line by line."""
    if is_harmless(value) and "\n" not in value:
        # A name or a number, which may stand anywhere: hidden as a value alone.
        yield from (f"{quote}{value}{quote}" for quote in "\"'")
        return
    for piece in (value, *_pieces(value)):
        if len(piece) >= _MIN:
            yield from (spelled for spelled in _spelled(piece) if "\n" not in spelled)


def _pieces(value: str) -> list[str]:
    return [piece.strip() for piece in value.split("\n")]


def _spelled(value: str) -> tuple[str, str, str]:
    return value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]


def _without(text: str, hidden: Sequence[str]) -> str:
    for secret in hidden:
        quote = secret[0] if secret[0] in "\"'" and secret[-1] == secret[0] else ""
        text = text.replace(secret, f"{quote}{SHOWN}{quote}")
    return text


def _lines(text: str) -> list[str]:
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def _parsed(file: HostFile, raw: bytes) -> dict[str, Any]:
    return {} if is_blank(raw, file.path) else parse_host_file(raw, file.path)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8-sig")


def _readable(file: HostFile, data: dict[str, Any]) -> str:
    blocks = {".".join(place): at(data, place) for place in file.blocks(data)}
    return json.dumps(blocks, indent=2, ensure_ascii=False, default=str)


def _secrets(file: HostFile, data: dict[str, Any]) -> Iterator[str]:
    """Values that are not shown."""
    found = SecretFiles(careful=True)
    given: list[str] = []
    for place in file.blocks(data):
        for entry in at(data, place).values():
            if isinstance(entry, dict):
                found.move_from("x", {**entry, "url": entry.get("url", entry.get("serverUrl"))})
                given += [] if is_guard(entry) else _environment(entry)
    yield from (*found.files.values(), *given, *_named_secrets(data))


def _environment(entry: dict[str, Any]) -> list[str]:
    """What a server gets by its environment and headers: whatever it is called, it may be a secret."""
    blocks = [entry.get(name) for name in ("env", "headers", "http_headers")]
    values = [value for block in blocks if isinstance(block, dict) for value in block.values()]
    return [value for value in values if isinstance(value, str) and "${" not in value]


def _named_secrets(value: Any, key: str = "") -> Iterator[str]:
    pending = [(key, value)]
    while pending:
        name, item = pending.pop()
        if isinstance(item, dict):
            pending += [(str(inner), sub) for inner, sub in item.items()]
        elif isinstance(item, list):
            pending += [(name, sub) for sub in item]
        elif isinstance(item, str) and names_a_secret(name) and "${" not in item:
            yield item
