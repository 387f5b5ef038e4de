"""Change entries in a host's file, byte for byte the same elsewhere; what cannot be proven right is not done."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from mcp_guard.config.hostfile import at, parse_host_file
from mcp_guard.errors import ConfigError
from mcp_guard.wrap.jsonc import JsonText, Place, Raw
from mcp_guard.wrap.locate import HostFile

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, repr=False)
class Change:
    """New members of one object of a file. May hold secrets: shows nothing."""

    place: Place
    values: Mapping[str, JsonValue]
    removed: frozenset[str] = frozenset()
    source: Place | None = None
    """Where the values stand in the text that is given as `original`, to be spelled as there."""

    def __repr__(self) -> str:
        return "Change(…)"


def apply_changes(file: HostFile, raw: bytes, changes: list[Change], original: bytes | None = None) -> bytes:
    """The content of a file with changes made.

    Args:
        file: Which file; says what kind it is.
        raw: Its content.
        changes: At most one for each object.
        original: Content of the same kind, from which `Change.source` takes the spelling.

    Raises:
        ConfigError: the outcome would not read back as meant. Nothing was written.
    """
    wanted = copy.deepcopy(parse_host_file(raw, file.path))
    for change in changes:
        target = at(wanted, change.place) if change.place else wanted
        for key in change.removed:
            target.pop(key, None)
        target.update(copy.deepcopy(dict(change.values)))
    mark = _BOM if raw.startswith(_BOM) else b""
    text = raw[len(mark) :].decode("utf-8")
    source = None if original is None else original.removeprefix(_BOM).decode("utf-8")
    try:
        edited = mark + (_toml(text, changes, source) if file.toml else _json(text, changes, source)).encode()
        same = parse_host_file(edited, file.path) == wanted
    except (KeyError, ConfigError):
        same, edited = False, b""
    if not same:
        raise ConfigError(
            f"{file.path.name} is written in a way that cannot be changed without touching the rest",
            hint="it was left as it is; change the entries by hand, `mcp-guard init` prints them",
        )
    return edited


def _json(text: str, changes: list[Change], source: str | None) -> str:
    edited = JsonText(text)
    spelled = JsonText(source or "")
    for change in changes:
        values: dict[str, JsonValue | Raw] = dict(change.values)
        if change.source is not None:
            values = {key: Raw(spelled.value_at((*change.source, key))) for key in values}
        edited.update(change.place, values, change.removed - set(values))
    return edited.result()


def _toml(text: str, changes: list[Change], source: str | None) -> str:
    from tomlkit.exceptions import TOMLKitError

    from mcp_guard.wrap.tomltext import edit_toml

    try:
        edits = [(c.place, dict(c.values), c.removed, c.source) for c in changes]
        return edit_toml(text, edits, source)
    except (TOMLKitError, ValueError, AttributeError, TypeError, IndexError) as error:
        # tomlkit stumbles over some rare, valid spellings in its own ways; the caller then leaves the file alone.
        raise KeyError("toml") from error
