"""What `mcp-guard trust` shows and writes: the tools of a server, and a proposal where nobody reviewed one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

from mcp_guard.errors import GuardError, UsageError
from mcp_guard.manifest.find import Manifests
from mcp_guard.manifest.hidden import hides
from mcp_guard.manifest.model import FLOOR
from mcp_guard.manifest.propose import propose
from mcp_guard.manifest.user import Reviewed, UserManifest, UserToolEntry
from mcp_guard.manifest.words import Looks
from mcp_guard.model import JsonDict, Risk

_MAX_NAME: Final = 128
_RESERVED: Final = "guard_"
_UNSHOWN: Final = "Its name is not one that a screen can show."
_MAX_TEXT: Final = 4000
"""Characters of a title and description."""


class Standing(StrEnum):
    """Who said what is known of a tool."""

    NEW = "new"
    CHANGED = "changed"
    """Reviewed under another definition."""
    YOURS = "yours"
    """In the user manifest, with this definition."""
    SHIPPED = "shipped"
    """In a manifest that comes with the guard or that the configuration names."""
    HELD = "held"
    """Quarantined: reviewed only once its definition is accepted."""
    ODD = "odd"
    """Its name or definition cannot stand in a manifest; it asks each time, or is not offered at all."""


@dataclass(frozen=True, slots=True)
class Row:
    """One tool."""

    tool: str
    standing: Standing
    risk: Risk
    why: str
    looks: Looks | None = None
    """Only for what is proposed."""
    entry: UserToolEntry | None = None
    """What would be written."""
    hidden: bool = False
    text: str = ""
    """Title and description, masked, where the definition hides something: for showing it."""

    @property
    def proposed(self) -> bool:
        """Whether somebody has to decide about it."""
        return self.entry is not None


@dataclass(frozen=True, slots=True)
class Review:
    """What a look at the tools of one server needs."""

    server: str
    """Its name in guard.yaml."""
    manifests: Manifests
    """What is known already."""
    definition_of: Callable[[JsonDict], str]
    """`downstream.catalog.definition_digest`."""
    exposed: Callable[[str], str]
    """`downstream.names.exposed_name` of this server."""
    mask: Callable[[str], str]
    """Masks text irreversibly: what a server lists may hold secrets, and this goes to a terminal and a file."""


def plan(review: Review, tools: Iterable[JsonDict]) -> list[Row]:
    """One row for each tool that a server lists: what is proposed first, the harmless before the rest.

    Args:
        review: The server, and what is known of it.
        tools: Raw definitions, as listed.
    """
    rows: dict[str, Row] = {}
    for tool in tools:
        name = tool.get("name")
        if isinstance(name, str) and name not in rows:  # as the catalogue does: the first of a name is the one
            rows[name] = _row(review, name, tool)
    order = [*Standing]
    return sorted(rows.values(), key=lambda row: (not row.proposed, row.looks or Looks.READ, order.index(row.standing)))


def _row(review: Review, name: str, tool: JsonDict) -> Row:
    shown = review.mask(name)
    try:
        definition = review.definition_of(tool)
    except GuardError:
        return Row(shown, Standing.ODD, Risk.HIGH, "Its definition is not usable, so it is not offered.")
    if shown != name:
        return Row(shown, Standing.ODD, Risk.HIGH, "Its name holds a secret or personal data.")
    hidden = hides(name) or not name.isprintable() or not 0 < len(name) <= _MAX_NAME
    if hidden or review.exposed(name).startswith(_RESERVED):
        why = _UNSHOWN if hidden else "It has a name of the guard's own, so it is never offered."
        return Row(name, Standing.ODD, Risk.HIGH, why, hidden=hidden, text=_text(review, tool) if hidden else "")
    annotations = tool.get("annotations")
    facts = review.manifests.facts_for(
        review.server, name, annotations if isinstance(annotations, dict) else {}, definition
    )
    users = review.manifests.users
    yours = users[review.server].tools.get(name) if review.server in users else None
    if yours is not None and yours.definition == definition:
        return Row(name, Standing.YOURS, facts.risk, facts.why)
    if facts.listed:
        return Row(name, Standing.SHIPPED, facts.risk, facts.why)
    return _proposal(review, name, tool, definition, Standing.NEW if yours is None else Standing.CHANGED)


def _proposal(review: Review, name: str, tool: JsonDict, definition: str, standing: Standing) -> Row:
    found = propose(tool)
    facts = found.entry.model_dump()
    facts["arguments"] = {key: value for key, value in facts["arguments"].items() if review.mask(key) == key}
    facts["resource"] = facts["resource"] if facts["resource"] in facts["arguments"] else None
    entry = UserToolEntry(**facts, definition=definition)
    text = _text(review, tool) if found.hidden else ""
    return Row(name, standing, Risk(entry.risk), entry.why, found.looks, entry, found.hidden, text)


def _text(review: Review, tool: JsonDict) -> str:
    parts = [part for part in (tool.get("title"), tool.get("description")) if isinstance(part, str)]
    return review.mask(" ".join(parts)[:_MAX_TEXT])


def decide(rows: Sequence[Row], effect: Literal["allow", "ask"], numbers: Iterable[int]) -> list[Row]:
    """The rows with a person's word about some of them.

    Args:
        rows: From `plan`.
        effect: What should happen to a call.
        numbers: Of rows that are proposed, from 1.

    Raises:
        UsageError: there is no such row, or a manifest cannot say so of this tool.
    """
    wanted = set(numbers)
    proposed = sum(row.proposed for row in rows)
    if not wanted or not all(1 <= number <= proposed for number in wanted):
        raise UsageError("there is no such number in the table", hint=f"numbers go from 1 to {proposed}")
    return [_decided(row, effect) if number in wanted else row for number, row in enumerate(rows, 1)]


def _decided(row: Row, effect: Literal["allow", "ask"]) -> Row:
    if row.entry is None:
        return row
    if effect == "allow" and any(FLOOR[name].rank > Risk.MEDIUM.rank for name in row.entry.effects):
        raise UsageError(
            "a tool that runs code, moves money or changes rights is not allowed for every call",
            hint="let it ask, and write a rule with a condition and a reason into guard.yaml for what may run",
        )
    risk = Risk.HIGH if effect == "ask" else min(Risk.MEDIUM, row.risk, key=lambda risk: risk.rank)
    why = f"You decided that it {'asks' if effect == 'ask' else 'runs without asking'}. {row.entry.why}"
    entry = row.entry.model_copy(update={"risk": risk.value, "why": why})
    return replace(row, risk=risk, why=why, entry=entry)


def merged(server: str, old: UserManifest | None, rows: Iterable[Row], reviewed: Reviewed) -> UserManifest:
    """The user manifest with what was proposed. Entries that nothing was proposed for stay as they are."""
    new = {row.tool: row.entry for row in rows if row.entry is not None}
    if old is None:
        return UserManifest(manifest=1, server=server, reviewed=reviewed, tools=new)
    return old.model_copy(update={"reviewed": reviewed, "tools": {**old.tools, **new}})
