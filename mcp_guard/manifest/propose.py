"""Propose facts about a tool that nobody reviewed, from its own definition (decisions.md D30, D31; security.md S21).

Pure. The reading is cautious: a server may lie, so whatever speaks of change counts, what speaks of reading counts only
where nothing speaks of change, and what cannot be told asks. A hint of the server alone never outweighs a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pydantic import JsonValue

from mcp_guard.manifest.hidden import hides
from mcp_guard.manifest.model import ArgumentEntry, Category, EffectName, Pointer, RiskName, ToolEntry
from mcp_guard.manifest.prose import MAX_PROSE, of_prose, unreadable
from mcp_guard.manifest.shape import Argument, Sign, arguments, signs
from mcp_guard.manifest.words import Looks, of_name, reads_only, spelt_with_digits, tokens, word_set
from mcp_guard.model import JsonDict

_MAX_ARGUMENTS: Final = 60
_MAX_POINTER: Final = 200

Role: TypeAlias = Literal["recipient", "identifier", "content", "query", "secret"]


@dataclass(frozen=True, slots=True)
class Class:
    """What a tool that looks like this is proposed as."""

    effects: tuple[EffectName, ...]
    risk: RiskName
    category: Category | None
    one: str
    """For a table: `reads only`."""
    many: str
    """For a summary: `14 look read-only`."""


CLASSES: Final[dict[Looks, Class]] = {
    Looks.READ: Class(("read",), "low", None, "reads only", "look read-only"),
    Looks.WEB: Class(("read", "send"), "medium", "network", "reads the web", "read the web"),
    Looks.UNCLEAR: Class(("read", "write"), "high", None, "unclear", "are unclear"),
    Looks.SECRETS: Class(("read",), "high", "data_export", "shows secrets", "may show secrets"),
    Looks.CHANGE: Class(("write",), "high", "data_change", "changes things", "change things"),
    Looks.SEND: Class(("send",), "high", "message", "sends", "send something"),
    Looks.STATEMENT: Class(("read", "write", "delete"), "high", "data_change", "runs SQL", "run statements"),
    Looks.DELETE: Class(("delete",), "high", "deletion", "may destroy", "may destroy something"),
    Looks.GRANT: Class(("grant",), "high", "privilege_change", "changes rights", "change rights"),
    Looks.SPEND: Class(("spend",), "critical", "payment", "moves money", "move money"),
    Looks.EXECUTE: Class(("execute",), "critical", "code_execution", "runs code", "run code"),
}
"""The house view: reading and fetching goes on, all that changes asks, code and money need a reviewer."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What to think of one tool."""

    looks: Looks
    entry: ToolEntry
    hidden: bool
    """Whether the definition holds characters that a screen hides or moves."""


def propose(tool: JsonDict) -> Proposal:
    """Read a raw definition as a server listed it.

    Args:
        tool: As in `Listing.tools`; any JSON. No text of it gets into `entry.why`.
    """
    hidden = _hides(tool)
    looks, why = _looks(tool, hidden=hidden)
    kind = CLASSES[looks]
    roles = dict(_roles(tool, looks))
    entry = ToolEntry(
        effects=[*kind.effects],
        risk=kind.risk,
        category=kind.category,
        resource=_resource(roles),
        arguments={pointer: ArgumentEntry(role=role, show=_show(role)) for pointer, role in roles.items()},
        why=why,
    )
    return Proposal(looks, entry, hidden)


def summary(looks: Iterable[Looks]) -> list[tuple[Looks, int]]:
    """How many tools look like what, those that may be used freely first."""
    found = list(looks)
    return [(kind, found.count(kind)) for kind in Looks if kind in found]


def _looks(tool: JsonDict, *, hidden: bool) -> Sign:
    name, title, annotations = _text(tool.get("name")), _text(tool.get("title")), _annotations(tool)
    read_only = annotations.get("readOnlyHint") is True
    found = [*_said_by_names(name, title or _text(annotations.get("title")))]
    words = tokens(name)
    converts, looks_for = not _CONVERTS.isdisjoint(words), not _SEARCHES.isdisjoint(words)
    found += signs(tool.get("inputSchema"), converts=converts, looks_for=looks_for)
    found += _said_by_annotations(annotations)
    found += _said_by_prose(tool)
    if hidden:
        found.append((Looks.UNCLEAR, "Its definition holds characters that a screen does not show."))
    speaks_of_reading = reads_only(words)
    worst = max(found, key=lambda sign: sign[0], default=None)
    if worst is not None and worst[0] >= Looks.UNCLEAR:
        return worst[0], worst[1] + (" The server itself calls it read-only." if read_only else "")
    if not read_only and not speaks_of_reading:
        return Looks.UNCLEAR, "Nothing in its definition says clearly that it only reads."
    if worst is not None:
        return worst
    if speaks_of_reading:
        return Looks.READ, "Its name speaks of reading only."
    return Looks.READ, "The server calls it read-only, and nothing speaks against it."


def _said_by_names(name: str, title: str) -> Iterator[Sign]:
    if not name.isascii():
        yield Looks.UNCLEAR, "Its name has letters that look like others."
    if spelt_with_digits(name):
        yield Looks.UNCLEAR, "Its name has digits that look like letters."
    for what, text in (("name", name), ("title", title)):
        found = of_name(tokens(text))
        if found is not None:
            yield found[0], f'Its {what} says "{found[1]}".'


def _said_by_prose(tool: JsonDict) -> Iterator[Sign]:
    """What the descriptions of the tool and of its arguments say."""
    own = _text(tool.get("description"))
    found, _ = arguments(tool.get("inputSchema"))
    others = [_text(argument.schema.get(key)) for argument in found for key in ("title", "description")]
    others = [text for text in others if text]
    if sum(map(len, (own, *others))) > MAX_PROSE:
        yield Looks.UNCLEAR, "Its descriptions are too long to be read whole."
    for what, texts in (("Its description", [own]), ("The description of an argument", others)):
        for text in texts:
            if why := unreadable(text):
                yield Looks.UNCLEAR, f"{what} {why}."
            if (said := of_prose(text, argument=text is not own)) is not None:
                yield said[0], f'{what} says "{said[1]}".' if said[1] else f"{what} speaks of change."


def _said_by_annotations(annotations: JsonDict) -> Iterator[Sign]:
    read_only, destructive = annotations.get("readOnlyHint"), annotations.get("destructiveHint")
    if read_only is False:
        yield Looks.CHANGE, "The server itself says that it changes things."
    if destructive is True:
        what = "it destroys things." if read_only is not True else "it only reads, and that it destroys things."
        yield Looks.DELETE, f"The server itself says that {what}"
    if annotations.get("openWorldHint") is True:
        yield Looks.WEB, "The server itself says that it reaches beyond this machine."


def _annotations(tool: JsonDict) -> JsonDict:
    found = tool.get("annotations")
    return found if isinstance(found, dict) else {}


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _hides(tool: JsonDict) -> bool:
    found, _ = arguments(tool.get("inputSchema"))
    texts = [_text(tool.get("name")), _text(tool.get("title")), _text(tool.get("description"))]
    texts += [argument.name for argument in found]
    texts += [_text(argument.schema.get("description")) for argument in found]
    return any(hides(text) for text in texts)


_CONVERTS = word_set("convert conversion exchange rate calculate compute tax format")
_SEARCHES = word_set("search find grep count match lookup")
_SECRET = word_set("password passwd secret token credential credentials apikey pin otp")
_PAGES = word_set("page next continuation sync cursor")
"""A `page_token` is no secret."""
_RECIPIENT = word_set("to cc bcc recipient recipients email emails phone channel attendees assignee user")
_CONTENT = word_set(
    "content contents body text message description comment note notes html markdown edits data value values "
    "observations entities relations title subject summary patch"
)
_QUERY = word_set("query q search keyword keywords term terms question prompt")
_THINGS: Final = (
    *("path", "paths", "file", "filepath", "filename", "source", "url", "uri", "repo"),
    *("id", "ids", "name", "names", "key", "table", "branch"),
)
"""Last words of arguments that name what is affected; of several the first here is the resource."""


def _roles(tool: JsonDict, looks: Looks) -> Iterator[tuple[Pointer, Role]]:
    """The role of each argument whose name tells it (decisions.md D33: the role decides what is sent unmasked)."""
    # What is looked for goes out as it is only where the server says that nothing leaves its own world.
    closed = _annotations(tool).get("openWorldHint") is False and looks is not Looks.WEB
    found, _ = arguments(tool.get("inputSchema"))
    for argument in [a for a in found if a.top][:_MAX_ARGUMENTS]:
        pointer = "/" + argument.name.replace("~", "~0").replace("/", "~1")
        role = _role(argument, sends=looks is Looks.SEND, closed=closed)
        if role is not None and len(pointer) <= _MAX_POINTER and argument.name and not hides(argument.name):
            yield pointer, role


def _role(argument: Argument, *, sends: bool, closed: bool) -> Role | None:
    words = tokens(argument.name)
    last = words[-1] if words else ""
    if last in _SECRET or words[-2:] == ["api", "key"]:
        return "secret" if _PAGES.isdisjoint(words) else "identifier"
    if argument.is_address:
        return "query"
    if last in _QUERY:
        return "identifier" if closed else "query"
    if last in _RECIPIENT:
        return "recipient" if sends else "identifier"
    if last in _CONTENT:
        return "content"
    return "identifier" if last in _THINGS else None


def _show(role: Role) -> Literal["full", "masked"]:
    return "full" if role in ("identifier", "recipient") else "masked"


def _resource(roles: dict[Pointer, Role]) -> Pointer | None:
    named = {pointer: _THINGS.index(last) for pointer in roles if (last := (tokens(pointer) or [""])[-1]) in _THINGS}
    return min(named, key=named.__getitem__, default=None)
