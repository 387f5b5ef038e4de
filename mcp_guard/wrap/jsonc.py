"""Change members of objects in JSON with comments, and leave every other character of the text as it is.

The text is known to be JSON with comments and trailing commas: `hostfile.parse_host_file` read it before.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from mcp_guard.config.hostfile import COMMENT, STRING

_TOKEN = re.compile(rf"{STRING}|{COMMENT}|[{{}}\[\],:]|[^\s{{}}\[\],:\"/]++|\s++|.", re.DOTALL)
_REST_OF_LINE = re.compile(r"[ \t]*,?[ \t]*(?://[^\n]*?|/\*[^\n]*?\*/[ \t]*)?(?=\r?\n|\Z)")
_INDENT = re.compile(r"[ \t]*")
_LINE_END = re.compile(r"[ \t]*\r?\n")
_OPENING, _CLOSING = frozenset("{["), frozenset("}]")

Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Raw:
    """A value as it is spelled in some text, to be put in as it is."""

    text: str


@dataclass(slots=True)
class _Member:
    key: str
    start: int
    value: int
    end: int
    comma: int | None = None
    """Where the comma after it is."""


@dataclass(slots=True)
class _Object:
    start: int
    members: list[_Member]
    end: int
    by_key: dict[str, _Member] = field(default_factory=dict)
    """The last one of each key."""


@dataclass(slots=True)
class JsonText:
    """A text and the changes that are to be made to it."""

    text: str
    _objects: dict[Place, _Object] = field(default_factory=dict)
    _splices: list[tuple[int, int, str]] = field(default_factory=list)
    _breaks: list[int] = field(default_factory=list)
    """Where lines end, looked up once: a file may hold thousands of servers in one line."""
    _newline: str = "\n"
    _unit: str = "  "

    def __post_init__(self) -> None:
        self._breaks = [match.start() for match in re.finditer("\n", self.text)]
        self._newline = "\r\n" if "\r\n" in self.text else "\n"
        match = re.search(r"^([ \t]+)\S", self.text, re.MULTILINE)
        self._unit = match[1] if match else self._unit

    def value_at(self, place: Place) -> str:
        """The text of a value.

        Raises:
            KeyError: it is not there.
        """
        member = self._member(place)
        return self.text[member.value : member.end]

    def update(self, place: Place, values: Mapping[str, JsonValue | Raw], removed: frozenset[str]) -> None:
        """Give members of the object at `place` other values, add those it lacks, take out those in `removed`.

        At most once for each object, and never for an object and one inside a value that is changed.

        Raises:
            KeyError: there is no such object.
        """
        found = self._object(place)
        last = found.by_key
        touched = [m for m in found.members if m.key in removed or (m.key in values and last[m.key] is not m)]
        for key, member in last.items():
            if key in values and key not in removed:
                old = self.text[member.value : member.end]
                flat = "\n" not in old and old[:1] in _OPENING
                text = self._dump(values[key], self._indent(member.start), flat=flat)
                self._splices.append((member.value, member.end, text))
        new = {key: value for key, value in values.items() if key not in last}
        self._restructure(found, touched, new)

    def result(self) -> str:
        """The text with all changes."""
        parts, position = [], 0
        for start, end, text in sorted(self._splices, key=lambda splice: splice[:2]):
            parts += [self.text[position:start], text]
            position = end
        return "".join([*parts, self.text[position:]])

    def _restructure(self, found: _Object, gone: list[_Member], new: Mapping[str, JsonValue | Raw]) -> None:
        if not found.members:
            self._fill(found, new)
            return
        first = found.members[0]
        flat = "\n" not in self.text[found.start : first.start]
        indent = self._indent(first.start)
        members = [f"{json.dumps(k, ensure_ascii=False)}: {self._dump(v, indent, flat=flat)}" for k, v in new.items()]
        text = ("," + (" " if flat else self._newline + indent)).join(members)
        if new and gone:
            # In the place of the first that goes: its comma, and the comments around it, stay.
            replaced = gone.pop(0)
            self._splices.append((replaced.start, replaced.end, text))
        elif new:
            self._append(found.members[-1], text, indent, flat=flat)
        self._take_out(found, gone)

    def _append(self, last: _Member, text: str, indent: str, *, flat: bool) -> None:
        if flat:
            self._splices.append((last.end, last.end, ", " + text))
            return
        line = _REST_OF_LINE.match(self.text, last.end)
        where = line.end() if line else last.end
        if last.comma is None:
            self._splices.append((last.end, last.end, ","))
        elif last.comma >= where:
            where = last.comma + 1
        self._splices.append((where, where, self._newline + indent + text + ("," if last.comma is not None else "")))

    def _take_out(self, found: _Object, gone: list[_Member]) -> None:
        for member in gone:
            self._splices.append((self._line_start(member), member.end, ""))
            if member.comma is not None:
                self._splices.append((member.comma, member.comma + 1, ""))
        starts = {member.start for member in gone}
        left = [member for member in found.members if member.start not in starts]
        if gone and gone[-1] is found.members[-1] and gone[-1].comma is None and left:
            comma = left[-1].comma
            if comma is not None:
                self._splices.append((comma, comma + 1, ""))

    def _fill(self, found: _Object, new: Mapping[str, JsonValue | Raw]) -> None:
        if new:
            around = self._indent(found.start)
            inside = around + self._unit
            lines = [f"{json.dumps(k, ensure_ascii=False)}: {self._dump(v, inside)}" for k, v in new.items()]
            text = self._newline + inside + ("," + self._newline + inside).join(lines)
            between = self.text[found.start + 1 : found.end - 1].rstrip()
            start = found.start + 1 + len(between)
            self._splices.append((start, found.end - 1, text + self._newline + around))

    def _dump(self, value: JsonValue | Raw, indent: str, *, flat: bool = False) -> str:
        if isinstance(value, Raw):
            return value.text
        if flat or not isinstance(value, (dict, list)) or not value:
            return json.dumps(value, ensure_ascii=False)
        text = json.dumps(value, ensure_ascii=False, indent=self._unit)
        return text.replace("\n", self._newline + indent)

    def _indent(self, position: int) -> str:
        number = bisect_left(self._breaks, position)
        match = _INDENT.match(self.text, self._breaks[number - 1] + 1 if number else 0, position)
        return match[0] if match else ""

    def _line_start(self, member: _Member) -> int:
        """Where a member begins; with the line break before it, when its lines hold nothing else."""
        start = member.start
        while self.text[start - 1 : start] in {" ", "\t"}:
            start -= 1
        after = member.end if member.comma is None else member.comma + 1
        alone = self.text[start - 1 : start] == "\n" and _LINE_END.match(self.text, after)
        if not alone:
            return member.start
        return start - (2 if self.text[start - 2 : start] == "\r\n" else 1)

    def _member(self, place: Place) -> _Member:
        return self._object(place[:-1]).by_key[place[-1]]

    def _object(self, place: Place) -> _Object:
        if place not in self._objects:
            start = self._member(place).value if place else _first(self.text)
            if self.text[start : start + 1] != "{":
                raise KeyError(place)
            self._objects[place] = _scan(self.text, start)
        return self._objects[place]


def _first(text: str) -> int:
    for match in _TOKEN.finditer(text):
        if not _is_space(match[0]):
            return match.start()
    return len(text)


def _is_space(lexeme: str) -> bool:
    return lexeme.isspace() or lexeme.startswith(("//", "/*"))


def _scan(text: str, start: int) -> _Object:
    """The members of the object that begins at `start`, without going into them."""
    found = _Object(start, [], len(text))
    depth, key, key_start, value = 1, "", -1, -1
    for match in _TOKEN.finditer(text, start + 1):
        lexeme = match[0]
        if _is_space(lexeme) or (lexeme == ":" and depth == 1):
            continue
        if depth == 1 and key_start < 0:
            if lexeme == "}":
                found.end = match.end()
                break
            if lexeme == ",":
                found.members[-1].comma = match.start()
            else:
                key, key_start, value = json.loads(lexeme), match.start(), -1
            continue
        value = match.start() if value < 0 else value
        depth += (lexeme in _OPENING) - (lexeme in _CLOSING)
        if depth == 1:
            found.members.append(_Member(key, key_start, value, match.end()))
            key_start = -1
    found.by_key = {member.key: member for member in found.members}
    return found
