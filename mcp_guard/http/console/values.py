"""How foreign text and values look on the page: bounded, every hidden character visible and counted (S15, S17)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from markupsafe import Markup, escape
from pydantic import JsonValue

from mcp_guard.approval.prompt import pieces

_PLACEHOLDER = re.compile(r"\[[A-Z][A-Z_]*(?:_[a-z0-9]{10})?\]")
_COMMAND = re.compile(r"`([^`]{1,100})`")
_BREAK = {"\\u{a}": '<span class="eol">↵</span>\n', "\\u{9}": '<span class="eol">⇥</span>\t'}
"""Line feeds and tabs are ordinary in files, so they are drawn, and not counted as hidden."""
_NAME = 200
"""Characters of a name, a resource or a client."""
_SHORT = 100
"""Characters, with marks, of a value that stands in a row with others."""
_TAIL_LINES = 4
"""Lines of the end of a cut value."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of one value, and of all of them, is shown. Characters, lines, values, levels."""

    head: int
    tail: int
    lines: int
    total: int
    values: int
    depth: int


BRIEF = Bounds(head=600, tail=100, lines=14, total=6_000, values=60, depth=6)
"""Fits on few screens; what needs more is opened."""
WHOLE = Bounds(head=256_000, tail=100, lines=8_000, total=256_000, values=4_000, depth=64)
"""What a browser shows without trouble. Beyond it, only the fingerprint approves."""


@dataclass(slots=True)
class Node:
    """One argument, or a part of one. `text` is safe HTML."""

    name: Markup | None
    kind: str
    """text, number, boolean, null, list, object."""
    text: Markup | None = None
    more: int = 0
    """Characters that are not shown between `text` and `tail`; of a list or object: values."""
    tail: Markup | None = None
    children: list[Node] = field(default_factory=list)
    beside: Markup | None = None
    """What the guard says of the value."""

    @property
    def short(self) -> bool:
        """Whether it is a list of short plain values, which stand beside each other."""
        return self.kind == "list" and bool(self.children) and all(map(_is_short, self.children))


def _is_short(node: Node) -> bool:
    return node.text is not None and not node.more and len(node.text) <= _SHORT and "\n" not in node.text


@dataclass(slots=True)
class Tree:
    """All arguments, riskiest first."""

    nodes: list[Node] = field(default_factory=list)
    cut: bool = False
    hidden: int = 0
    """Characters that a screen would not have shown."""


def shown(text: object) -> Markup:
    """Foreign text as HTML in which every hidden character is a mark."""
    return _drawn(str(text))[0]


def brief(text: object, limit: int = _NAME) -> Markup:
    """As `shown`, of at most so many characters and a note of how many more there are."""
    whole = str(text)
    if len(whole) <= limit:
        return shown(whole)
    return shown(whole[:limit]) + Markup(' <span class="more">+{} more characters</span>').format(len(whole) - limit)


def said(text: str) -> Markup:
    """Our own sentences, in which `…` is a command to type."""
    return Markup(_COMMAND.sub(r"<code>\1</code>", str(shown(text))))  # noqa: S704 - escaped by `shown`


def _drawn(text: str) -> tuple[Markup, int]:
    parts: list[str] = []
    hidden = 0
    for run, is_hidden in pieces(text):
        if not is_hidden:
            parts.append(_PLACEHOLDER.sub(r'<span class="masked">\g<0></span>', str(escape(run))))
        elif run in _BREAK:
            parts.append(_BREAK[run])
        else:
            hidden += 1
            parts.append(f"<mark>{run}</mark>")  # our own spelling: letters, digits and braces
    return Markup("".join(parts)), hidden  # noqa: S704 - every part is escaped or constant


def tree(
    arguments: JsonValue,
    order: Iterable[JsonValue],
    bounds: Bounds,
    beside: Callable[[str], str] = lambda _name: "",
) -> Tree:
    """The arguments as nodes, in this order, within these bounds. `beside`: what the guard says of one, by its name."""
    return _Builder(bounds, beside).build(arguments, [str(name) for name in order])


class _Builder:
    def __init__(self, bounds: Bounds, beside: Callable[[str], str]) -> None:
        self._bounds = bounds
        self._beside = beside
        self._tree = Tree()
        self._left = bounds.total
        self._values = bounds.values

    def build(self, arguments: JsonValue, order: list[str]) -> Tree:
        if not isinstance(arguments, dict):
            self._tree.nodes = [] if arguments is None else [self._node(None, arguments, 0)]
            return self._tree
        names = [name for name in order if name in arguments]
        named = {*names}
        names += [name for name in arguments if name not in named]
        root = Node(None, "object")
        self._fill(root, ((name, arguments[name]) for name in names), len(names), 0)
        self._tree.nodes = root.children
        if root.more:
            self._tree.nodes.append(Node(None, "object", more=root.more))
        return self._tree

    def _node(self, name: str | None, value: JsonValue, depth: int) -> Node:
        self._values -= 1
        node = Node(None if name is None else self._name(name), _kind(value))
        if isinstance(value, dict) and value:
            self._fill(node, value.items(), len(value), depth + 1)
        elif isinstance(value, list) and value:
            self._fill(node, ((str(index), item) for index, item in enumerate(value)), len(value), depth + 1)
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            node.text, node.more, node.tail = self._text(text)
        return node

    def _fill(self, node: Node, items: Iterable[tuple[str, JsonValue]], count: int, depth: int) -> None:
        for done, (name, value) in enumerate(items):
            if self._values <= 0 or self._left <= 0 or depth > self._bounds.depth:
                node.more = count - done
                self._tree.cut = True
                return
            child = self._node(name, value, depth)
            if depth == 0 and (said := self._beside(name)):
                child.beside = shown(said)
            node.children.append(child)

    def _name(self, name: str) -> Markup:
        head, more, tail = self._text(name)
        gap = Markup(" … {} more characters … ").format(more) if more else Markup()
        return head + gap + (tail or Markup())

    def _text(self, text: str) -> tuple[Markup, int, Markup | None]:
        """Head, number of characters left out, tail."""
        bounds = self._bounds
        room = max(0, min(bounds.head, self._left, _length_of_lines(text, bounds.lines)))
        if len(text) <= room:
            head, more, tail = text, 0, ""
        else:
            tail = "\n".join(text[-min(bounds.tail, len(text) - room) :].split("\n")[-_TAIL_LINES:])
            head, more = text[:room], len(text) - room - len(tail)
            self._tree.cut = self._tree.cut or more > 0
        self._left -= len(head) + len(tail)
        drawn, hidden = _drawn(head)
        end, more_hidden = _drawn(tail)
        self._tree.hidden += hidden + more_hidden
        return drawn, more, end if tail else None


def _length_of_lines(text: str, lines: int) -> int:
    """Characters of the first so many lines."""
    at = -1
    for _ in range(lines):
        at = text.find("\n", at + 1)
        if at < 0:
            return len(text)
    return at


def _kind(value: JsonValue) -> str:
    if value is None:
        return "null"
    kinds: dict[type, str] = {bool: "boolean", int: "number", float: "number", str: "text", list: "list"}
    return kinds.get(type(value), "object")


def flat(values: dict[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and text of what a record holds, one level deep."""
    for name, item in values.items():
        if isinstance(item, dict) and item and not prefix:
            yield from flat(item, f"{name}.")
        elif item not in (None, [], {}, ""):
            yield prefix + name, item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
