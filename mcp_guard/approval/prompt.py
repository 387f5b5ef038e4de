"""What a person is shown: built from the stored, masked view of the action and from nothing else (S17)."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable

from pydantic import JsonValue

from mcp_guard.approval.offers import offer_views, why_asked
from mcp_guard.approval.recipients import beside, recipient_views
from mcp_guard.approval.rows import Request
from mcp_guard.approval.statement import Stored
from mcp_guard.canon import fingerprint
from mcp_guard.clock import iso
from mcp_guard.model import (
    ArgumentFact,
    ClientInfo,
    JsonDict,
    MaskedText,
    Risk,
)
from mcp_guard.question import Prompt

VIEW = 3
"""Version of what `build_view` makes. A request of another version is void: what it showed cannot be built again."""

MAX_CHARACTERS = 600
"""A prompt that needs scrolling hides something."""

_FIRST = "mcp-guard: approve this call?"
_AGAIN = "mcp-guard: that is not the fingerprint, so nothing was decided. Approve this call?"
_ARGUMENTS = "Arguments:"
_ARGUMENT = 120
"""Characters of one argument."""
_DRAWN = 4_000
"""Characters of each end of an argument that are looked at for a form."""
_REASON = 120
"""Characters of a sentence about why one is asked, where the arguments need the room."""
_LEAST_REASON = 40
_LEAST_ARGUMENTS = 100
_PLACE = 60
"""Characters of the domains of one recipient."""
_NOTE = len(" +0000000 more characters")
_CLIENT = 200
"""Characters of a client's name and version."""
_INVISIBLE_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Combining grapheme joiner, Hangul and Khmer fillers: letters or marks by category, and nothing on a screen."""
_GRANT = 240
"""Characters of one grant on a form."""
_MAX_KINDS = 20_000
"""Characters whose kind is remembered."""
_ODD_ESCAPE = re.compile(r"\\[bfru]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|(.))")
_SPACE = re.compile(r"\s")
_LEAST_PATH = 40
"""Characters below which there is no room for both ends of a path."""
_ROLES = ("recipient", "query", "content", "identifier", "secret")
"""Roles of arguments, those that do most harm first."""


def visible(text: str) -> str:
    r"""Show every character that a screen would hide, move or reorder as `\u{…}` (security.md S15)."""
    if text.isascii() and text.isprintable():
        return text
    if _STACK.search(text.translate(_KINDS)):
        return "".join(run for run, _ in pieces(text))
    return text.translate(_SPELLINGS)  # as `pieces` has it, in one pass


def pieces(text: str) -> list[tuple[str, bool]]:
    r"""Split text into runs of plain characters (False) and single hidden ones as `\u{…}` (True), in order.

    For channels that can mark what was hidden; joined together it is `visible(text)`. Linear in the text: what a
    server or an agent wrote at length may not stop whoever shows it.
    """
    if text.isascii() and text.isprintable():
        return [(text, False)] if text else []
    found: list[tuple[str, bool]] = []
    done = 0
    for match in _HIDDEN.finditer(text.translate(_KINDS)):
        at = match.start()
        if done < at:
            found.append((text[done:at], False))
        found.append((f"\\u{{{ord(text[at]):x}}}", True))
        done = at + 1
    if done < len(text):
        found.append((text[done:], False))
    return found


class _Kinds(dict[int, str]):
    """By code point: `x` hidden, `y` a hidden combining mark, `m` another mark, `.` anything else. Looked up once."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        hidden = category[0] == "C" or category in {"Zl", "Zp"} or (category == "Zs" and character != " ")
        hidden |= character in _INVISIBLE_LETTERS or "\ufe00" <= character <= "\ufe0f" or character >= "\U000e0000"
        mark = category[0] == "M"
        kind = ("y" if mark else "x") if hidden else "m" if mark else "."
        if len(self) < _MAX_KINDS:
            self[code] = kind
        return kind


class _Spellings(dict[int, str]):
    """By code point: how a character is shown that does not stand in a stack of marks."""

    def __missing__(self, code: int) -> str:
        shown = f"\\u{{{code:x}}}" if _KINDS[code] in "xy" else chr(code)
        if len(self) < _MAX_KINDS:
            self[code] = shown
        return shown


_KINDS = _Kinds()
_SPELLINGS = _Spellings()
_STACK = re.compile(r"(?<=[my][my])m")
"""Two marks on a letter are language; a third is a stack that paints over its neighbours."""
_HIDDEN = re.compile(rf"[xy]|{_STACK.pattern}")


def clip(text: str, limit: int) -> str:
    """Visible text, cut at `limit` characters with a note of how many more there are, where that is shorter."""
    shown, more = _looked_at(text, limit)
    note = f" +{len(shown) + more - limit} more characters"
    return shown if len(shown) <= limit + len(note) else f"{shown[:limit]}{note}"


def clip_middle(text: str, limit: int) -> str:
    """Like `clip`, cut in the middle: of a path the end says most."""
    shown, more = _looked_at(text, limit)
    note = f" (+{len(shown) + more - limit} more characters) "
    if len(shown) <= limit + len(note):
        return shown
    tail = limit * 2 // 3
    return f"{shown[: limit - tail]}{note}{shown[-tail:]}"


def _looked_at(text: str, limit: int) -> tuple[str, int]:
    """Visible text of which only both ends can be shown, and how many characters between them were not looked at."""
    end = limit + _DRAWN
    more = max(0, len(text) - 2 * end)
    return visible(text[:end] + text[-end:] if more else text), more


def build_view(stored: Stored, mask: Callable[[str], MaskedText]) -> JsonDict:
    """The masked view of a stored action: what reviewers, channels and records see."""
    call, target = stored.call, stored.call.target
    resource = target.facts.resource
    arguments = stored.views.for_reviewer.value
    return {
        "requester": {"subject": call.principal.subject, "label": call.principal.label},
        "verified": call.principal.verified,
        "client": _client(call.principal.client, mask),
        "server": target.server,
        "tool": mask(target.name),
        "kind": target.kind.value,
        "environment": stored.environment,
        "resource": _resource(arguments, resource),
        "risk": stored.decision.risk.value,
        "reasons": list(stored.decision.reasons),
        "rule": stored.decision.rule,
        "arguments": arguments,
        "recipients": recipient_views(stored, mask),
        "order": [*_riskiest_first(arguments, resource, dict(target.facts.arguments))],
        "why": why_asked(stored),
        "grants": offer_views(stored, mask),
        "justification": mask(call.context.justification),
    }


def _client(client: ClientInfo | None, mask: Callable[[str], MaskedText]) -> str | None:
    """What the client says of itself. Shown, never compared (decisions.md D36)."""
    return mask(f"{client.name} {client.version}"[:_CLIENT]) if client else None


def _riskiest_first(arguments: JsonValue, resource: str | None, facts: dict[str, ArgumentFact]) -> list[str]:
    def rank(key: str) -> tuple[int, int]:
        pointer = "/" + key.replace("~", "~0").replace("/", "~1")
        first = resource is not None and (resource == pointer or resource.startswith(pointer + "/"))
        fact = facts.get(pointer)
        role = _ROLES.index(fact.role) if fact and fact.role else len(_ROLES)
        return (0 if first else 1, role)

    return sorted(arguments, key=rank) if isinstance(arguments, dict) else []


def _at(value: JsonValue, pointer: str) -> JsonValue:
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def _resource(arguments: JsonValue, pointer: str | None) -> str | None:
    value = _at(arguments, pointer) if pointer else None
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def build_prompt(request: Request, *, others: int = 0, again: int = 0) -> Prompt:
    """The question for the person at the client. `others`: how many more calls of this tool wait.

    Where something had to be cut, or the risk is high, the person must type the fingerprint: one click is not enough
    for what one has not seen whole (security.md S15). `again`: how often a wrong one was typed before.
    """
    mark = fingerprint(request.row.action_digest)
    first = _AGAIN if again else _FIRST
    tail = [f"Expires: {iso(request.row.expires_ns)}", f"Fingerprint: {mark}"]
    why = [visible(sentence) for sentence in texts_of(request.view, "why")]
    head, notes, lines, cut = _fitted(request.view, first, why, MAX_CHARACTERS - _length(tail), brief=False)
    if cut:
        head, notes, lines, cut = _fitted(request.view, first, why, MAX_CHARACTERS - _length(tail), brief=True)
    for note in waiting_notes(request.calls, others):
        if _length([*head, note, *notes, *lines, *tail]) <= MAX_CHARACTERS:
            head.append(note)
    return Prompt(
        approval_id=request.row.id,
        message=MaskedText("\n".join([*head, *notes, *lines, *tail])),
        fingerprint=mark,
        type_fingerprint=cut or request.risk.rank >= Risk.HIGH.rank,
        grants=_grant_lines(request.view),
        again=again,
    )


def _fitted(
    view: JsonDict, first: str, why: list[str], room: int, *, brief: bool
) -> tuple[list[str], list[str], list[str], bool]:
    """Head, reasons and arguments within `room` characters, and whether arguments were cut."""
    head = [first, *_head(view, brief=brief)]
    # Why, and what would stop the asking, stand on every form, however long the arguments are.
    ends = [*why[:1], *why[1:][-1:]]
    spare = (room - _length(head) - _LEAST_ARGUMENTS) // max(1, len(ends)) - _NOTE
    least = [clip(sentence, min(_REASON, max(_LEAST_REASON, spare))) for sentence in ends]
    lines, cut = _argument_lines(view, room - _length([*head, *least]))
    notes = next((some for some in (why, ends) if _length([*head, *some, *lines]) <= room), least)
    return head, notes, lines, cut


def _length(lines: Iterable[str]) -> int:
    """Characters of these lines with their ends."""
    return sum(len(line) + 1 for line in lines)


def waiting_notes(calls: int, others: int) -> list[str]:
    """How many calls hang on this answer, where it is more than one."""
    notes = [f"{calls} identical calls asked for this; one answer serves them all."] if calls > 1 else []
    if others:
        notes.append(
            f"{others} more {'call' if others == 1 else 'calls'} of this tool {'waits' if others == 1 else 'wait'}."
        )
    return notes


def texts_of(view: JsonDict, key: str) -> list[str]:
    """The texts of a list in a view."""
    found = view.get(key)
    return [str(item) for item in found] if isinstance(found, list) else []


def requester_of(view: JsonDict) -> str:
    """Who asks, with the configured label. Not made visible yet."""
    requester = view.get("requester")
    return " / ".join(str(part) for part in requester.values() if part) if isinstance(requester, dict) else ""


def grant_line(offer: JsonDict) -> str:
    """One offered grant with all of its bounds, visible."""
    return visible(f"{offer.get('label')} ({'; '.join(texts_of(offer, 'keep'))})")


def _grant_lines(view: JsonDict) -> tuple[tuple[int, MaskedText], ...]:
    """The offers that a form can show whole: what would have to be cut is not offered there."""
    offers = view.get("grants")
    found = [
        grant_line(offer) if isinstance(offer, dict) else "" for offer in (offers if isinstance(offers, list) else [])
    ]
    return tuple((index, MaskedText(line)) for index, line in enumerate(found) if 0 < len(line) <= _GRANT)


def _head(view: JsonDict, *, brief: bool) -> list[str]:
    """Who asks for what; `brief` where the arguments need the room."""
    who = requester_of(view)
    name = 24 if brief else 40
    # The reasons say again what the sentences below say.
    reasons = clip("; ".join(texts_of(view, "reasons")), 60)
    lines = [
        f"Requester: {clip(who, name)}{'' if view['verified'] else ' (unverified)'}",
        f"Tool: {clip(str(view['server']), name)}.{clip(str(view['tool']), name)}",
        f"Environment: {clip(str(view['environment']), 24)}",
        f"Risk: {view['risk']}" if brief and texts_of(view, "why") else f"Risk: {view['risk']} ({reasons})",
    ]
    if view["resource"] is not None:
        lines.append(f"Resource: {clip_middle(str(view['resource']), 60)}")
    return lines


def _argument_line(key: str, value: JsonValue) -> tuple[str, int]:
    """One argument of the agent: indented and quoted, so that it never looks like a line of the guard (S17).

    Of what no form has room for only both ends are drawn; how many characters are not is told beside it.
    """
    name, text = (json.dumps(part, ensure_ascii=False) for part in (key, value))
    more = sum(max(0, len(part) - 2 * _DRAWN) for part in (name, text))
    name, text = (part if len(part) <= 2 * _DRAWN else part[:_DRAWN] + part[-_DRAWN:] for part in (name, text))
    return f"  {_escaped(name)} = {_escaped(text)}", more


def quoted(value: JsonValue) -> str:
    r"""A value as JSON on one line, every hidden character of it as `\u{…}`. Line feeds and tabs stay `\n` and `\t`."""
    return _escaped(json.dumps(value, ensure_ascii=False))


def _escaped(written: str) -> str:
    # Most escapes are of quotes, backslashes and line feeds, which stay; a long text may hold millions of them.
    return visible(_ESCAPE.sub(_spelt, written) if _ODD_ESCAPE.search(written) else written)


def _spelt(escape: re.Match[str]) -> str:
    """JSON has spellings of its own for control characters; here each hidden one has the same everywhere."""
    if escape[1]:
        return f"\\u{{{int(escape[1], 16):x}}}"
    return {"b": "\\u{8}", "f": "\\u{c}", "r": "\\u{d}"}.get(escape[2], escape[0])


def _argument_lines(view: JsonDict, room: int) -> tuple[list[str], bool]:
    """As many arguments as fit in `room` characters, riskiest first; whether anything was cut."""
    arguments, order = view["arguments"], view["order"]
    if not isinstance(arguments, dict) or not isinstance(order, list) or not order:
        return [], False
    names = [str(key) for key in order]
    whole = [(*_argument_line(key, arguments[key]), arguments[key], _beside(view, key)) for key in names]
    lines = [_ARGUMENTS, *(line + place for line, _, _, place in whole)]
    if _length(lines) <= room:  # then none was longer than what is drawn
        return lines, False
    lines = [_ARGUMENTS]
    left = room - len(_ARGUMENTS) - 1 - _NOTE
    cut = 0
    for line, more, value, place in whole:
        # What is hardly too long is not cut: the note of it would be longer.
        most = len(line) if len(line) <= _ARGUMENT + _NOTE else _ARGUMENT
        shown, missing = _shortened(line, value, max(0, min(most, left - 1 - len(place))))
        cut += missing + more
        if shown:
            lines.append(shown + place)
            left -= len(lines[-1]) + 1
    return [*lines, f"+{cut} more characters"], True


def _beside(view: JsonDict, key: str) -> str:
    """The domains of a masked recipient, behind the quotes of its value."""
    place = beside(view, key)
    return f" {clip_middle(place, _PLACE)}" if place else ""


def _shortened(line: str, value: JsonValue, room: int) -> tuple[str, int]:
    """The line in at most `room` characters, and how many are missing. A path loses its middle, never its name."""
    if len(line) <= room:
        return line, 0
    path = isinstance(value, str) and ("/" in value or "\\" in value) and _SPACE.search(value) is None
    if not path or room < _LEAST_PATH:
        return line[:room], len(line) - room
    tail = room * 2 // 3
    return f"{line[: room - tail - 1]}…{line[-tail:]}", len(line) - room + 1
