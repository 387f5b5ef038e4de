"""Read YAML and JSON files that people wrote: bounded, without tags, duplicate keys or surprises, with line numbers.

Threat S38 of the design: alias bombs, deep nesting, `!!python` tags, files that anybody may replace. Text of the
file never gets into a message, since the file may hold secrets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import JsonValue

from mcp_guard.config.problems import Place, Problem, line_of, spell
from mcp_guard.system import is_regular_file, writers_of

MAX_BYTES = 1024 * 1024
"""Size of one file; a large guard.yaml has some 50 KB."""
MAX_ALIASES = 100
MAX_DEPTH = 40
MAX_NODES = 100_000
"""Nodes after aliases are followed; what an alias bomb would blow up."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PAIR = re.compile(r"\\\\|\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = (_TAG + "str", _TAG + "timestamp")


@dataclass(frozen=True, slots=True, repr=False)
class Document:
    """A parsed file. `data` is None when the file could not be parsed at all."""

    file: str
    data: JsonValue
    lines: dict[Place, int]
    problems: tuple[Problem, ...]
    writers: str = "owner"
    """Who may write to the file: owner, group, anyone."""

    def problem(self, place: Place, what: str, hint: str = "") -> Problem:
        """A problem at a place of this file."""
        return Problem(self.file, line_of(self.lines, place), spell(place), what, hint)


class _Refusal(Exception):  # noqa: N818 - private, turned into a Problem at once
    def __init__(self, line: int, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.line, self.what, self.hint = line, what, hint


def read_document(path: Path) -> Document:
    """Read a YAML or JSON file (by suffix `.json`).

    Returns:
        A document; unreadable, oversized or malformed files have `data=None` and at least one problem.
    """
    try:
        raw, writers = _read(path)
        return parse_document(_decode(raw, is_json=path.suffix == ".json"), path.name, writers=writers)
    except _Refusal as refusal:
        return _refused(path.name, refusal)


def parse_document(text: str, file: str, *, writers: str = "owner") -> Document:
    """Parse YAML text; see `read_document`."""
    try:
        _check_events(text)
        node = yaml.compose(text, Loader=_LOADER)
        builder = _Builder(file)
        data = None if node is None else builder.build(node, (), 0)
    except _Refusal as refusal:
        return _refused(file, refusal)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return _refused(
            file, _Refusal(mark.line + 1 if mark else 1, "not valid YAML", "indent with spaces; quote text")
        )
    return Document(file, data, builder.lines, tuple(builder.problems), writers)


def _refused(file: str, refusal: _Refusal) -> Document:
    return Document(file, None, {}, (Problem(file, refusal.line, "", refusal.what, refusal.hint),))


def _read(path: Path) -> tuple[bytes, str]:
    try:
        # Not blocking: a FIFO in place of the file must not hang the start.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise _Refusal(1, f"the file cannot be read: {error.strerror}") from error
    try:
        if not is_regular_file(fd):
            raise _Refusal(1, "not a regular file")
        with os.fdopen(fd, "rb", closefd=False) as file:
            raw = file.read(MAX_BYTES + 1)
        writers = writers_of(fd)
    finally:
        os.close(fd)
    if len(raw) > MAX_BYTES:
        raise _Refusal(1, "the file is larger than 1 MiB")
    return raw, writers


def _decode(raw: bytes, *, is_json: bool) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Refusal(raw.count(b"\n", 0, error.start) + 1, "not UTF-8 text") from error
    # JSON is YAML but for tabs, which cannot stand in its strings, and for characters escaped as two surrogates.
    return _PAIR.sub(_join_pair, text.replace("\t", " ")) if is_json else text


def _join_pair(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[0]  # an escaped backslash
    return chr(0x10000 + ((int(match[1], 16) - 0xD800) << 10) + int(match[2], 16) - 0xDC00)


def _check_events(text: str) -> None:
    """Walk the event stream, which is lazy, so that no bomb is ever built."""
    depth = aliases = documents = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        if depth > MAX_DEPTH:
            raise _Refusal(line, f"nested deeper than {MAX_DEPTH} levels")
        if aliases > MAX_ALIASES:
            raise _Refusal(line, f"more than {MAX_ALIASES} aliases")
        if documents > 1:
            raise _Refusal(line, "more than one document in the file")
        if getattr(event, "tag", None) not in (None, "!"):
            raise _Refusal(line, "YAML tags are not accepted")


@dataclass(slots=True)
class _Builder:
    """Turns YAML nodes into JSON values and notes the line of each place."""

    file: str
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0

    def build(self, node: Any, place: Place, depth: int) -> JsonValue:
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise _Refusal(line, "aliases blow the file up")
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*place, i), depth + 1) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return dict(self._entries(node, place, depth))
        return self._scalar(node, place)

    def _entries(self, node: Any, place: Place, depth: int) -> Iterator[tuple[str, JsonValue]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _TEXT_TAGS:
                self._add(line, place, "a key is not text", "quote it")
                continue
            key = key_node.value
            if key in seen:
                self._add(line, (*place, key), "the key stands twice")
                continue
            seen.add(key)
            self.lines[(*place, key)] = line
            yield key, self.build(value_node, (*place, key), depth + 1)

    def _scalar(self, node: Any, place: Place) -> JsonValue:
        text: str = node.value
        if node.tag in _TEXT_TAGS:
            return self._text(text, node, place)
        try:
            # PyYAML's own reading of 1_000, 0x1F, yes, ~ …; untyped in its stubs.
            value: JsonValue = _SCALARS[node.tag](node)
        except (KeyError, ValueError, OverflowError, IndexError):
            self._add(node.start_mark.line + 1, place, "not a value that is understood here", "quote text")
            return None
        return value

    def _text(self, text: str, node: Any, place: Place) -> JsonValue:
        if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
            self._add(node.start_mark.line + 1, place, "text with a NUL character or half a character")
            return None
        return text

    def _add(self, line: int, place: Place, what: str, hint: str = "") -> None:
        self.problems.append(Problem(self.file, line, spell(place), what, hint))


_CONSTRUCTOR: Any = yaml.constructor.SafeConstructor()
_SCALARS: dict[str, Any] = {
    _TAG + "null": lambda _node: None,
    _TAG + "bool": _CONSTRUCTOR.construct_yaml_bool,
    _TAG + "int": _CONSTRUCTOR.construct_yaml_int,
    _TAG + "float": _CONSTRUCTOR.construct_yaml_float,
}
