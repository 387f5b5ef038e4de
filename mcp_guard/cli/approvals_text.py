"""How requests look at a terminal: what agents and servers wrote is bounded, and its hidden characters are visible."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import JsonValue
from rich.cells import cell_len, chop_cells, set_cell_size

from mcp_guard.approval.lookalikes import doubts
from mcp_guard.approval.machine import State
from mcp_guard.approval.prompt import pieces, quoted, requester_of, texts_of, visible, waiting_notes
from mcp_guard.approval.recipients import beside
from mcp_guard.approval.review import Shown
from mcp_guard.approval.rows import Request, StoredEvent
from mcp_guard.approval.statement import Statement
from mcp_guard.canon import fingerprint
from mcp_guard.model import JsonDict, Risk

_NS = 1_000_000_000
_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400
_NAMES = 13
"""Column in which the values of a card begin."""
_INDENT = 10
"""Column in which the texts of a list begin: the risk stands before it."""
_LEAST = 20
"""Columns that a text gets in any case."""
_LISTED = 3
"""Arguments of a request in a list."""
_LONG = 300
"""Characters of each of them that are looked at."""
_ORDINARY = frozenset({"\\u{a}", "\\u{9}"})
"""Line feeds and tabs: visible here, and ordinary in files."""
_WAYS = {"cli": "at the command line", "console": "on the page", "elicitation": "in the client"}


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Characters of one value, characters of all arguments, and arguments; None: no bound."""

    value: int | None
    total: int | None
    count: int | None


_BRIEF = _Bounds(1_000, 6_000, 60)
_WHOLE = _Bounds(None, None, None)


@dataclass(slots=True)
class Card:
    """One request as text; each line with the column in which it goes on when it is too long."""

    full: bool = False
    cut: bool = False
    """Something was left out."""
    hidden: bool = False
    """It holds characters that a screen would hide, move or reorder."""
    lines: list[tuple[str, int]] = field(default_factory=list)

    def say(self, text: str, indent: int = 2) -> None:
        """Add a line whose foreign parts are visible already."""
        self.lines.append((text, indent))

    def fact(self, name: str, value: object) -> None:
        """Add a named value, if there is one."""
        if value:
            self.say(f"{name:{_NAMES - 1}} {self.foreign(value)}", _NAMES)

    def foreign(self, value: object, limit: int | None = _BRIEF.value) -> str:
        """Foreign text, visible and bounded."""
        text = str(value)
        self._look(text)
        return self.bounded(visible(text), limit)

    def json(self, value: JsonValue, limit: int | None = _BRIEF.value) -> str:
        """A foreign value as JSON, visible and bounded: it never looks like a line of the guard."""
        for text in _strings(value):
            self._look(text)
        return self.bounded(quoted(value), limit)

    def bounded(self, shown: str, limit: int | None) -> str:
        """So many characters of it, and how many more there are."""
        if self.full or limit is None or len(shown) <= limit:
            return shown
        self.cut = True
        return f"{shown[:limit]}… {len(shown) - limit:,} more characters, --full shows all"

    def text(self, width: int | None) -> str:
        """All lines; where `width` is given, a long one goes on below its own beginning."""
        if width is None:
            return "\n".join(line for line, _ in self.lines)
        return "\n".join(part for line, indent in self.lines for part in _wrapped(line, indent, width))

    def _look(self, text: str) -> None:
        found = pieces(text.replace("\r\n", "\n"))
        self.hidden = self.hidden or any(hidden and run not in _ORDINARY for run, hidden in found)


def needs_fingerprint(request: Request, card: Card) -> str:
    """Why a yes is not enough to approve it; empty where it is (security.md S15)."""
    if request.risk.rank >= Risk.HIGH.rank:
        return f"a call of {request.risk.value} risk"
    if card.cut:
        return "a call that is not shown whole"
    return "a call with hidden characters" if card.hidden else ""


def card_of(found: Shown, now_ns: int, *, full: bool = False) -> Card:
    """Who, what, on which resource, why a person is asked, with which arguments; the fingerprint comes last.

    Args:
        found: The request.
        now_ns: Wall nanoseconds.
        full: Leave nothing out.
    """
    card, view, row = Card(full), found.request.view, found.request.row
    card.fact("request", f"{row.id}  {row.state.value}")
    card.fact("requester", requester_of(view) + ("" if view.get("verified") else " (unverified)"))
    card.fact("client", view.get("client"))
    card.fact(str(view.get("kind") or "tool"), f"{found.request.server}/{found.request.tool}")
    card.fact("environment", view.get("environment"))
    card.fact("resource", view.get("resource"))
    card.fact("risk", f"{found.request.risk.value}: {'; '.join(texts_of(view, 'reasons'))}")
    card.fact("rule", found.request.rule)
    card.fact("needs", found.request.min_assurance.name)
    card.fact("asked", f"{ago(found.request.created_ns, now_ns)} ({_clock(found.request.created_ns, now_ns)})")
    if row.state is State.PENDING:
        card.fact("expires", f"in {_span(row.expires_ns - now_ns)} ({_clock(row.expires_ns, now_ns)})")
    _why(card, found)
    if found.request.forgotten:
        card.say(f"what it was about is not kept any more; the record has it: mcp-guard audit show {row.id}")
    _arguments(card, view)
    for line in doubts(view):
        card.fact("look twice", line)
    if view.get("justification"):
        card.say("the agent says, unverified")
        card.say(f"  {card.json(view['justification'])}", 4)
    _history(card, found, now_ns)
    card.fact("fingerprint", found.fingerprint)
    return card


def _why(card: Card, found: Shown) -> None:
    """Why a person is asked, how many calls hang on the answer, and which grants may be given with it."""
    view = found.request.view
    card.say("why am I asked")
    for sentence in texts_of(view, "why"):
        card.say(f"  {card.foreign(sentence)}", 4)
    for note in waiting_notes(found.request.calls, found.others):
        card.say(f"  {note}", 4)
    offers = view.get("grants")
    if isinstance(offers, list) and offers:
        card.say("grants that you may give with it: --grant N")
        for number, offer in enumerate(offers, 1):
            if isinstance(offer, dict):
                card.say(f"  {number}. {card.foreign(offer.get('label'))}", 5)
                for line in texts_of(offer, "keep"):
                    card.say(f"     {card.foreign(line)}", 7)


def _arguments(card: Card, view: JsonDict) -> None:
    """The masked arguments, those that may do most harm first."""
    arguments = view.get("arguments")
    if not isinstance(arguments, dict) or not arguments:
        return
    bounds = _WHOLE if card.full else _BRIEF
    names = _in_order(arguments, view)
    card.say("arguments")
    left = bounds.total
    for name in names[: bounds.count]:
        limit = bounds.value if left is None or bounds.value is None else min(bounds.value, left)
        line = f"  {card.json(name, 200)} = {card.json(arguments[name], limit)} {card.foreign(beside(view, name))}"
        card.say(line.rstrip(), 4)
        left = None if left is None else max(0, left - len(line))
    more = len(names) - len(names[: bounds.count])
    if more:
        card.cut = True
        card.say(f"  … {more} more arguments, --full shows all", 4)


def _in_order(arguments: JsonDict, view: JsonDict) -> list[str]:
    first = [name for name in texts_of(view, "order") if name in arguments]
    return list(dict.fromkeys([*first, *arguments]))


def _history(card: Card, found: Shown, now_ns: int) -> None:
    card.say("history")
    for event in found.events:
        by = card.foreign(_by(event), 200)
        card.say(f"  {_clock(event.at_ns, now_ns)}  {event.old or 'new'} -> {event.new}  by {by}", 4)
        comment = (event.detail or {}).get("comment")
        if comment:
            card.say(f"    {card.json(comment)}", 6)


def _by(event: StoredEvent) -> str:
    """Who caused an event; a grant where it let the call through."""
    if event.transition == "T2":
        return f"grant {(event.detail or {}).get('grant')}"
    return actor(event.actor)


def actor(key_or_name: str) -> str:
    """A reviewer's name, or the subject and label of a requester's key."""
    try:
        key = json.loads(key_or_name)
    except (ValueError, RecursionError):
        return key_or_name
    return "/".join(str(part) for part in key[1:] if part) if isinstance(key, list) else key_or_name


def listed(request: Request, decision: Statement | None, now_ns: int, width: int) -> list[str]:
    """Three lines of one request in a list, each of at most `width` columns.

    Args:
        request: The request.
        decision: What a person said of it, where somebody did and that is to be told.
        now_ns: Wall nanoseconds.
        width: Columns.
    """
    room = max(_LEAST, width - _INDENT)
    tool = fitted(visible(f"{request.server}/{request.tool}"), room * 3 // 5)
    what = fitted(_what(request.view), max(_LEAST // 2, room - cell_len(tool) - 2))
    who = visible(requester_of(request.view)) + ("" if request.view.get("verified") else " (unverified)")
    client = visible(str(request.view.get("client") or ""))
    marks = [request.row.id, fingerprint(request.row.action_digest)]
    state = _state(request, decision, now_ns)
    lines = [
        f"{request.risk.value:{_INDENT}}{tool}  {what}".rstrip(),
        " " * _INDENT + fitted(", ".join(part for part in (who, client) if part), room),
        *(" " * _INDENT + part for part in _parts(state, room, room)),
    ]
    joined = "  ".join(marks)
    return [*lines, *(" " * _INDENT + part for part in ([joined] if len(joined) <= room else marks))]


def _what(view: JsonDict) -> str:
    """What tells it from others of the same tool: the resource, else its first arguments."""
    if view.get("resource"):
        return visible(str(view["resource"]))
    arguments = view.get("arguments")
    if not isinstance(arguments, dict):
        return ""
    shown = []
    for name in _in_order(arguments, view)[:_LISTED]:
        value = arguments[name]
        text = quoted(value[:_LONG] if isinstance(value, str) else value)
        shown.append(f"{visible(name[:_LONG])}={text[:_LONG]}")
    return "  ".join(shown)


def _state(request: Request, decision: Statement | None, now_ns: int) -> str:
    """`asked 3 min ago, 12 min left`, or what became of it, by whom and how."""
    row = request.row
    times = f", {request.calls} times" if request.calls > 1 else ""
    asked = f"asked {ago(request.created_ns, now_ns)}{times}"
    if row.state is State.PENDING:
        return f"{asked}, {_span(row.expires_ns - now_ns)} left"
    ended = f" {ago(row.ended_ns, now_ns)}" if row.ended_ns else ""
    by = f", decided by {visible(actor(row.decided_by))}" if row.decided_by else ""
    how = f" {way(decision)}" if by and decision is not None else ""
    why = f": {quoted(row.reason[:80])}" if row.reason else ""
    return f"{row.state.value}{ended}{by}{how}{why}; {asked}"


def way(decision: Statement) -> str:
    """How a person decided: `on the page`, `at the command line (A2)`."""
    return f"{_WAYS.get(decision.channel, decision.channel)} ({decision.assurance.name})"


def fitted(text: str, cells: int) -> str:
    """At most so many columns; cut in the middle, since of a path the end says most."""
    if cell_len(text) <= cells:
        return text
    tail = (cells - 1) * 2 // 3
    return f"{set_cell_size(text, cells - 1 - tail)}…{set_cell_size(text[::-1], tail)[::-1]}"


def ago(ns: int, now_ns: int) -> str:
    """`3 min ago`, in a few words."""
    seconds = (now_ns - ns) // _NS
    return "just now" if seconds < 1 else f"{_span(now_ns - ns)} ago"


def _span(ns: int) -> str:
    seconds = max(0, ns // _NS)
    for unit, name in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def _clock(ns: int, now_ns: int) -> str:
    """Local time of day, with the date where it is not today's."""
    moment, today = (datetime.fromtimestamp(at / _NS, UTC).astimezone() for at in (ns, now_ns))
    return moment.strftime("%H:%M:%S" if moment.date() == today.date() else "%d %b %Y %H:%M")


def _strings(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _wrapped(line: str, indent: int, width: int) -> Iterator[str]:
    """The line in parts of at most `width` columns: what an agent wrote never begins in the first one."""
    first, *rest = _parts(line, max(_LEAST, width), max(_LEAST, width - indent)) or [""]
    yield first
    yield from (" " * indent + part for part in rest)


def _parts(text: str, first: int, others: int) -> list[str]:
    """The text in parts of so many columns, between words where that leaves no big hole."""
    parts: list[str] = []
    width = first
    while cell_len(text[: 2 * width]) > width:
        part = chop_cells(text[: 2 * width], width)[0]
        blank = part.rfind(" ", len(part) * 2 // 3)
        at = len(part) if blank < 0 else blank + 1
        parts.append(text[:at].rstrip(" "))
        text, width = text[at:], others
    return [*parts, text] if text else parts
