"""What changed at a quarantined server, and how a person's word releases it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import JsonValue

from mcp_guard.downstream.copies import Copies
from mcp_guard.downstream.definition import Program
from mcp_guard.downstream.lockfile import Quarantine, ServerPin
from mcp_guard.downstream.snapshot import (
    FIELDS,
    Snapshot,
    command_digest,
    part,
    pin_of,
    pins_of,
    program_deviations,
    tool_pin,
)
from mcp_guard.errors import ConflictError
from mcp_guard.model import JsonDict, MaskedText


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. Unmasked: it goes through the masker before anybody sees it."""

    tool: str | None
    """Own name of a tool, or the key of something else (`others.item_key`); None for the server itself."""
    field: str
    old: JsonValue
    """None where there was none, or nothing is kept of it."""
    new: JsonValue
    other: bool = False
    """Whether `tool` is the key of something else than a tool."""


def changes(pin: ServerPin, copies: Copies) -> list[Change]:
    """Everything that is held back, field by field; empty lists of fields where the texts are no longer kept."""
    old, new = copies.accepted or Snapshot(written=[]), copies.offered or copies.latest or Snapshot(written=[])
    found = [change for key in pin.quarantine.server for change in _server_change(key, pin, old, new)]
    if pin.quarantine.instructions:
        found.append(Change(None, "instructions", old.instructions, new.instructions))
    for name, why in pin.quarantine.tools.items():
        found += _item_changes(name, why, old.tools.get(name) if name in pin.tools else None, new.tools.get(name))
    for key, why in pin.quarantine.others.items():
        before = old.others.get(key) if key in pin.others else None
        found += [replace(one, other=True) for one in _item_changes(key, why, before, new.others.get(key))]
    return found


def _item_changes(name: str, why: list[str], before: JsonDict | None, now: JsonDict | None) -> list[Change]:
    if before is None:
        return [Change(name, field, None, part(now or {}, field)) for field in _present(now)]
    fields = why if set(why) <= set(FIELDS) else _present({**before, **(now or {})})
    both = [(field, part(before, field), part(now or {}, field)) for field in fields]
    return [Change(name, field, old, new) for field, old, new in both if old != new]


def reverted(pin: ServerPin, copies: Copies, name: str, *, other: bool = False) -> bool:
    """Whether the server offers the accepted definition again, so that accepting changes nothing but the quarantine.

    Args:
        pin: Of the server.
        copies: Of the server.
        name: Own name of a tool, or the key of something else.
        other: Whether it is something else.
    """
    latest = copies.latest or Snapshot(written=[])
    item = (latest.others if other else latest.tools).get(name)
    now, known = tool_pin(item) if item is not None else None, (pin.others if other else pin.tools).get(name)
    return now is not None and known is not None and now.digest == known.digest


_LOOK_AGAIN = "start a session through the guard, so that it looks at the server again; then accept"


def release(
    pin: ServerPin,
    copies: Copies,
    tools: Collection[str],
    *,
    names: Literal["plain", "prefixed"],
    by: str,
    mask: Callable[[str], MaskedText],
) -> tuple[ServerPin, Copies]:
    """Accept what is held back; returns the new pin and copies.

    Args:
        pin: As it is in the lock.
        copies: What was offered.
        tools: These alone, by own name or key; empty for the whole server.
        names: As guard.yaml has it; goes with the whole server.
        by: Who accepts.
        mask: For what the lock says in words.

    Raises:
        ConflictError: nothing is kept of what the server is now.
    """
    held = pin.quarantine
    offered, old = copies.offered or copies.latest, copies.accepted or Snapshot(written=[])
    chosen, also = ([name for name in kind if not tools or name in tools] for kind in (held.tools, held.others))
    if offered is None or (not tools and held.server and not offered.written):
        raise ConflictError("nothing is kept of what the server is now", hint=_LOOK_AGAIN)
    new_tools, new_others = _taken(pin, copies, offered, chosen, also)
    left = _left(held, chosen, also, whole=not tools)
    merged = {
        "tools": dict(sorted({**pin.tools, **pins_of(new_tools)}.items())),
        "others": dict(sorted({**pin.others, **pins_of(new_others)}.items())),
    }
    now = pin.model_copy(update={**merged, "quarantine": left, "accepted_by": by})
    accepted = old.model_copy(update={"tools": {**old.tools, **new_tools}, "others": {**old.others, **new_others}})
    if not tools:
        now, accepted = _whole(now, held, offered, accepted, mask)
        now = now.model_copy(update={"names": names if now.names is not None else None})
    return now, Copies(accepted=accepted, offered=None if left.empty else offered, latest=copies.latest)


def _taken(
    pin: ServerPin, copies: Copies, offered: Snapshot, tools: Collection[str], others: Collection[str]
) -> tuple[dict[str, JsonDict], dict[str, JsonDict]]:
    """Definitions of these that are new to the lock; one that is as it was needs nothing but its release."""
    found = {name: offered.tools[name] for name in tools if name in offered.tools}
    rest = {key: offered.others[key] for key in others if key in offered.others}
    return (
        {name: definition for name, definition in found.items() if not reverted(pin, copies, name)},
        {key: definition for key, definition in rest.items() if not reverted(pin, copies, key, other=True)},
    )


def _left(held: Quarantine, tools: Collection[str], others: Collection[str], *, whole: bool) -> Quarantine:
    """What stays held back once these were accepted."""
    return Quarantine(
        server=[] if whole else held.server,
        instructions=held.instructions and not whole,
        tools={name: why for name, why in held.tools.items() if name not in tools},
        others={key: why for key, why in held.others.items() if key not in others},
    )


def _whole(
    pin: ServerPin, held: Quarantine, offered: Snapshot, accepted: Snapshot, mask: Callable[[str], MaskedText]
) -> tuple[ServerPin, Snapshot]:
    """Take over what is not a tool."""
    made = pin_of(offered, mask, accepted_by=pin.accepted_by)
    if held.server:
        same = made.command_digest == pin.command_digest
        new = {
            "command": made.command,
            "command_digest": made.command_digest,
            # Hosts with different PATHs find different programs; each that was accepted stays so.
            "programs": sorted({*made.programs, *(pin.programs if same else ())}),
            "files": {**(pin.files if same else {}), **made.files},
            "server_info": made.server_info,
        }
        pin = pin.model_copy(update=new)
        accepted = accepted.model_copy(
            update={key: getattr(offered, key) for key in ("written", "program", "files", "server_info")}
        )
    if held.instructions:
        pin = pin.model_copy(update={"instructions": made.instructions})
        accepted = accepted.model_copy(update={"instructions": offered.instructions})
    return pin, accepted


def _server_change(key: str, pin: ServerPin, old: Snapshot, new: Snapshot) -> list[Change]:
    if key == "command":
        same = command_digest(old.written) == pin.command_digest
        return [Change(None, "command", " ".join(old.written) if same else pin.command, " ".join(new.written))]
    if key == "program":
        return [Change(None, "program", "\n".join(pin.programs), new.program)]
    if key == "server_info":
        return [Change(None, "name and version", pin.server_info, new.server_info)]
    changed = {path: sha for path, sha in new.files.items() if pin.files.get(path) != sha}
    found = [
        Change(None, f"file {path}", f"sha256 {pin.files[path]}" if path in pin.files else None, f"sha256 {sha}")
        for path, sha in changed.items()
    ]
    return found or [Change(None, "files", None, "the accepted ones again")]


def back(pin: ServerPin, copies: Copies) -> bool:
    """Whether the program behind a quarantined server is the accepted one again."""
    latest = copies.latest
    return latest is not None and not program_deviations(pin, latest.written, Program(latest.program, latest.files))


def _present(tool: JsonDict | None) -> list[str]:
    return [field for field in FIELDS if tool is not None and part(tool, field) is not None]
