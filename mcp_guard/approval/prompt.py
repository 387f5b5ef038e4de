"""What a person is shown: built from the stored, masked view of the action and from nothing else (S17)."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable

from pydantic import JsonValue

from mcp_guard.approval.offers import offer_views, why_asked
from mcp_guard.approval.rows import Request
from mcp_guard.approval.statement import Stored
from mcp_guard.canon import fingerprint
from mcp_guard.clock import iso
from mcp_guard.model import ArgumentFact, ClientInfo, JsonDict, MaskedText, Prompt, Risk

VIEW = 2
"""Version of what `build_view` makes. A request of another version is void: what it showed cannot be built again."""

MAX_CHARACTERS = 600
"""A prompt that needs scrolling hides something."""

_ARGUMENTS = "Arguments:"
_ARGUMENT = 120
"""Characters of one argument."""
_CLIENT = 200
"""Characters of a client's name and version."""
_INVISIBLE_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Combining grapheme joiner, Hangul and Khmer fillers: letters or marks by category, and nothing on a screen."""
_GRANT = 240
"""Characters of one grant on a form."""
_MARKS = 2
"""Combining marks that one letter may carry."""
_PATH = re.compile(r"\S*[/\\]\S*")
_LEAST_PATH = 40
"""Characters below which there is no room for both ends of a path."""
_ROLES = ("recipient", "query", "content", "identifier", "secret")
"""Roles of arguments, those that do most harm first."""


def visible(text: str) -> str:
    r"""Show every character that a screen would hide, move or reorder as `\u{…}` (security.md S15)."""
    return "".join(
        f"\\u{{{ord(character):x}}}" if _hidden(character, text[max(0, index - 2) : index]) else character
        for index, character in enumerate(text)
    )


def pieces(text: str) -> list[tuple[str, bool]]:
    r"""Split text into runs of plain characters (False) and single hidden ones as `\u{…}` (True), in order.

    For channels that can mark what was hidden; joined together it is `visible(text)`.
    """
    found: list[tuple[str, bool]] = []
    for index, character in enumerate(text):
        if _hidden(character, text[max(0, index - 2) : index]):
            found.append((f"\\u{{{ord(character):x}}}", True))
        elif found and not found[-1][1]:
            found[-1] = (found[-1][0] + character, False)
        else:
            found.append((character, False))
    return found


def _hidden(character: str, before: str) -> bool:
    category = unicodedata.category(character)
    if category[0] == "C" or category in {"Zl", "Zp"} or (category == "Zs" and character != " "):
        return True
    if character in _INVISIBLE_LETTERS or "\ufe00" <= character <= "\ufe0f" or character >= "\U000e0000":
        return True
    # Two marks on a letter are language; a third is a stack that paints over its neighbours.
    return category[0] == "M" and len(before) == _MARKS and all(unicodedata.category(c)[0] == "M" for c in before)


def clip(text: str, limit: int) -> str:
    """Visible text of at most `limit` characters and a note of how many more there are."""
    shown = visible(text)
    if len(shown) <= limit:
        return shown
    return f"{shown[:limit]} +{len(shown) - limit} more characters"


def clip_middle(text: str, limit: int) -> str:
    """Like `clip`, cut in the middle: of a path the end says most."""
    shown = visible(text)
    if len(shown) <= limit:
        return shown
    tail = limit * 2 // 3
    return f"{shown[: limit - tail]} (+{len(shown) - limit} more characters) {shown[-tail:]}"


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


def build_prompt(request: Request, *, others: int = 0) -> Prompt:
    """The question for the person at the client. `others`: how many more calls of this tool wait.

    Where something had to be cut, or the risk is high, the person must type the fingerprint: one click is not enough
    for what one has not seen whole (security.md S15).
    """
    mark = fingerprint(request.row.action_digest)
    head = _head(request.view)
    tail = [f"Expires: {iso(request.row.expires_ns)}", f"Fingerprint: {mark}"]
    room = MAX_CHARACTERS - sum(len(line) + 1 for line in head + tail)
    lines, cut = _argument_lines(request.view, room)
    notes = [*waiting_notes(request.calls, others), *(visible(sentence) for sentence in texts_of(request.view, "why"))]
    for note in [] if cut else notes:
        if sum(len(line) + 1 for line in [*head, note, *lines, *tail]) <= MAX_CHARACTERS:
            head.append(note)
    message = "\n".join([*head, *lines, *tail])
    return Prompt(
        approval_id=request.row.id,
        message=MaskedText(message),
        fingerprint=mark,
        type_fingerprint=cut or request.risk.rank >= Risk.HIGH.rank,
        grants=_grant_lines(request.view),
    )


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


def _head(view: JsonDict) -> list[str]:
    requester = view["requester"]
    who = " / ".join(str(part) for part in requester.values() if part) if isinstance(requester, dict) else ""
    reasons = view["reasons"]
    why = "; ".join(str(reason) for reason in reasons) if isinstance(reasons, list) else ""
    lines = [
        "mcp-guard: approve this call?",
        f"Requester: {clip(who, 40)}{'' if view['verified'] else ' (unverified)'}",
        f"Tool: {clip(str(view['server']), 40)}.{clip(str(view['tool']), 40)}",
        f"Environment: {clip(str(view['environment']), 24)}",
        f"Risk: {view['risk']} ({clip(why, 60)})",
    ]
    if view["resource"] is not None:
        lines.append(f"Resource: {clip_middle(str(view['resource']), 60)}")
    return lines


def argument_line(key: str, value: JsonValue, limit: int | None = None) -> str:
    """One argument of the agent: indented and quoted, so that it never looks like a line of the guard (S17).

    `limit` bounds the characters of the value.
    """
    name, text = (json.dumps(part, ensure_ascii=False) for part in (key, value))
    return f"  {visible(name)} = {visible(text) if limit is None else clip(text, limit)}"


def _argument_lines(view: JsonDict, room: int) -> tuple[list[str], bool]:
    """As many arguments as fit in `room` characters, riskiest first; whether anything was cut."""
    arguments, order = view["arguments"], view["order"]
    if not isinstance(arguments, dict) or not isinstance(order, list):
        return [], False
    if not order:
        return [], False
    lines = [_ARGUMENTS]
    left = room - len(_ARGUMENTS) - 1 - len("+0000000 more characters") - 1
    cut = 0
    for key in order:
        value = arguments[str(key)]
        shown, missing = _shortened(argument_line(str(key), value), value, max(0, min(_ARGUMENT, left - 1)))
        cut += missing
        if shown:
            lines.append(shown)
            left -= len(shown) + 1
    if cut:
        lines.append(f"+{cut} more characters")
    return lines, cut > 0


def _shortened(line: str, value: JsonValue, room: int) -> tuple[str, int]:
    """The line in at most `room` characters, and how many are missing. A path loses its middle, never its name."""
    if len(line) <= room:
        return line, 0
    path = isinstance(value, str) and _PATH.fullmatch(value) is not None
    if not path or room < _LEAST_PATH:
        return line[:room], len(line) - room
    tail = room * 2 // 3
    return f"{line[: room - tail - 1]}…{line[-tail:]}", len(line) - room + 1
