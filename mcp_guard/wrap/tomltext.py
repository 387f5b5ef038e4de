"""Change tables of TOML by tomlkit, which keeps comments, order and spelling. Imported for Codex' file only."""

from __future__ import annotations

import copy
import re
from typing import Any

import tomlkit
from tomlkit.items import Comment, InlineTable, Null, Table, Whitespace

from mcp_guard.wrap.jsonc import Place

Edit = tuple[Place, dict[str, Any], frozenset[str], Place | None]
"""Place of the table, new values, keys to take out, place of the values in the source."""


def edit_toml(text: str, edits: list[Edit], source: str | None) -> str:
    """The text with the edits made.

    Raises:
        KeyError: a place is not there.
        tomlkit.exceptions.TOMLKitError: tomlkit cannot read or write it.
    """
    document = tomlkit.parse(text)
    spelled = tomlkit.parse(source) if source is not None else None
    for place, values, removed, origin in edits:
        table = _at(document, place)
        # The space and comments before the next table stay there: new keys come above them.
        end = _set_aside(table)
        for key, value in values.items():
            new = copy.deepcopy(_at(spelled, (*origin, key))) if origin is not None else value
            _put(table, key, new)
        for key in removed - set(values):
            if key in table:
                end = [*_set_aside(table[key]), *end]
                table.remove(key)
        _put_back(table, end)
    edited = tomlkit.dumps(document)
    only_crlf = "\r\n" in text and not re.search(r"(?<!\r)\n", text)
    return re.sub(r"(?<!\r)\n", "\r\n", edited) if only_crlf else edited


def _set_aside(table: Any) -> list[Any]:
    """Take the space and comments at the end of a table out of it; tomlkit counts those of the next one to it."""
    body = table.value.body if isinstance(table, Table) else []
    end: list[Any] = []
    while body and isinstance(body[-1][1], (Whitespace, Comment)):
        end.insert(0, body.pop())
    return end


def _put_back(table: Any, end: list[Any]) -> None:
    body = table.value.body if end else []
    before = [item for _, item in body if not isinstance(item, Null)]
    if before and isinstance(before[-1], Whitespace) and isinstance(end[0][1], Whitespace):
        end = end[1:]
    body += end


def _at(table: Any, place: Place) -> Any:
    for step in place:
        table = table[step]
    return table


def _put(table: Any, key: str, value: Any) -> None:
    present = table.get(key)
    if isinstance(present, Table) and isinstance(value, dict) and not isinstance(value, InlineTable):
        for name in [name for name in present if name not in value]:
            present.remove(name)
        for name, inner in value.items():
            present[name] = inner
        return
    if isinstance(value, dict) and not isinstance(value, (Table, InlineTable)):
        inline = tomlkit.inline_table()
        inline.update(value)
        value = inline if all(not isinstance(inner, dict) for inner in value.values()) else _table(value)
    if isinstance(present, Table) and not isinstance(value, Table):
        table.remove(key)
    table[key] = value


def _table(value: dict[str, Any]) -> Table:
    made = tomlkit.table()
    for key, inner in value.items():
        _put(made, key, inner)
    return made
