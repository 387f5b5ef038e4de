"""What a server is at one moment, as a pin, and how two of them differ. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue

from mcp_guard.canon import digest
from mcp_guard.downstream.definition import MAX_NAME, Listing, Program, definition_digest, worked_out
from mcp_guard.downstream.lockfile import Lock, Quarantine, ServerPin, ToolPin
from mcp_guard.downstream.others import is_resource, others_of
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import GuardError
from mcp_guard.model import JsonDict, MaskedText

_SPOKEN: Final = (
    *("title", "description", "inputSchema", "outputSchema", "annotations"),
    *("arguments", "mimeType", "icons", "execution", "_meta"),
)
REST: Final = "other members"
FIELDS: Final = (*_SPOKEN, REST)
"""What a change of a definition is told by; the digest is over all of it."""
STARTS: Final = frozenset({"command", "program", "files"})
"""Deviations that are known before the server is started; it is not started then."""

NEW: Final = "new"
"""Why something is held back that was not there before."""

_SHORT: Final = 12


class Snapshot(BaseModel):
    """Everything a pin is made of, with its texts. Unmasked: kept sealed only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    written: list[str]
    """Command line or URL as guard.yaml has it."""
    program: str = ""
    files: dict[str, str] = {}
    server_info: str = ""
    instructions: str = ""
    tools: dict[str, dict[str, JsonValue]] = {}
    others: dict[str, dict[str, JsonValue]] = {}
    """Prompts, resources and templates, by `others.item_key`."""

    def with_program(self, server: ResolvedServer, program: Program) -> Snapshot:
        """The same server behind another program."""
        new = {"written": list(server.written), "program": program.path, "files": program.files}
        return self.model_copy(update=new)


def snapshot_of(
    server: ResolvedServer, listing: Listing, program: Program, mask: Callable[[str], MaskedText]
) -> Snapshot:
    """What a server is now.

    A tool whose name would be masked, or is not usable, is left out: it is never offered.
    """
    tools: dict[str, JsonDict] = {}
    for tool in listing.tools:
        name = tool.get("name")
        if isinstance(name, str) and 0 < len(name) <= MAX_NAME and mask(name) == name and tool_pin(tool) is not None:
            tools.setdefault(name, tool)
    # Not validated, which would copy it all: the parts have their types, and definitions stay the very same.
    return Snapshot.model_construct(
        written=list(server.written),
        program=program.path,
        files=program.files,
        server_info=mask(listing.server_info),
        instructions=listing.instructions,
        tools=tools,
        others={key: item for key, item in others_of(listing, mask).items() if tool_pin(item) is not None},
    )


def tool_pin(tool: JsonDict) -> ToolPin | None:
    """Digests of a definition; None where it has no canonical form, so that it is never offered."""
    return worked_out(_tool_pin, tool)


def _tool_pin(tool: JsonDict) -> ToolPin | None:
    try:
        told = {key: text for key in FIELDS if (value := part(tool, key)) is not None if (text := short_digest(value))}
        return ToolPin(digest=definition_digest(tool), fields=told)
    except GuardError:
        return None


def part(definition: JsonDict, field: str) -> JsonValue:
    """One of `FIELDS` of a definition; None where there is none."""
    if field != REST:
        return definition.get(field)
    # The name of a tool or prompt is its key already; that of a resource is text.
    key = {"uri", "uriTemplate"} if definition.keys() & {"uri", "uriTemplate"} else {"name"}
    return {name: value for name, value in definition.items() if name not in {*_SPOKEN, *key}} or None


def short_digest(value: JsonValue) -> str:
    """Enough to tell two texts apart; not a boundary by itself. Empty for an empty text."""
    return digest("pin-field", value)[:_SHORT] if value not in ("", None) else ""


def command_digest(written: list[str]) -> str:
    """Digest over a command line or URL as written."""
    return digest("pin-command", list[JsonValue](written))


def pin_of(snapshot: Snapshot, mask: Callable[[str], MaskedText], *, accepted_by: str) -> ServerPin:
    """The pin that accepts exactly this."""
    return ServerPin(
        command=mask(" ".join(snapshot.written)),
        command_digest=command_digest(snapshot.written),
        programs=[snapshot.program] if snapshot.program else [],
        files=snapshot.files,
        server_info=snapshot.server_info,
        instructions=_instructions(snapshot.instructions),
        tools=pins_of(snapshot.tools),
        others=pins_of(snapshot.others),
        accepted_by=accepted_by,
    )


def pins_of(definitions: Mapping[str, JsonDict]) -> dict[str, ToolPin]:
    """The pins of all that have a canonical form."""
    return {name: pin for name, item in sorted(definitions.items()) if (pin := tool_pin(item)) is not None}


def program_deviations(pin: ServerPin, written: list[str], program: Program) -> list[str]:
    """Which of `STARTS` differ from what was accepted."""
    found = []
    if command_digest(written) != pin.command_digest:
        found.append("command")
    if program.path and program.path not in pin.programs:
        found.append("program")
    if any(pin.files.get(path) != sha256 for path, sha256 in program.files.items()):
        found.append("files")
    return found


def deviations(pin: ServerPin, snapshot: Snapshot) -> Quarantine:
    """All that differs from what was accepted. A tool that is gone, or instructions that are, harm nobody."""
    server = program_deviations(pin, snapshot.written, Program(snapshot.program, snapshot.files))
    if snapshot.server_info and pin.server_info and snapshot.server_info != pin.server_info:
        server.append("server_info")
    told = _instructions(snapshot.instructions)
    return Quarantine(
        server=sorted(server),
        instructions=bool(told) and told != pin.instructions,
        tools=_changes(pin.tools, snapshot.tools),
        others={
            key: why
            for key, why in _changes(pin.others, snapshot.others).items()
            if why != [NEW] or not is_resource(key)
        },
    )


def instructions_accepted(pin: ServerPin, text: str) -> bool:
    """Whether these are the instructions that were accepted."""
    return _instructions(text) == pin.instructions


def _instructions(text: str) -> str:
    try:
        return digest("pin-instructions", text) if text else ""
    except GuardError:
        return "unusable"


def _changes(pins: Mapping[str, ToolPin], now: Mapping[str, JsonDict]) -> dict[str, list[str]]:
    found = {name: _changed(pins.get(name), tool_pin(item)) for name, item in now.items()}
    return {name: why for name, why in found.items() if why}


def _changed(known: ToolPin | None, now: ToolPin | None) -> list[str]:
    if known is None or now is None:
        return [NEW]
    if known.digest == now.digest:
        return []
    fields = [key for key in FIELDS if known.fields.get(key) != now.fields.get(key)]
    return fields or ["definition"]


def covers(held: Quarantine, found: Quarantine) -> bool:
    """Whether all of this is held back already."""
    return held.joined(found) == held.joined(held)


def held_back(lock: Lock, name: str, snapshot: Snapshot) -> Lock:
    """The lock with everything held back that differs from its pin."""
    pin = lock.servers[name]
    held = pin.quarantine.joined(deviations(pin, snapshot))
    return lock.with_server(name, pin.model_copy(update={"quarantine": held}))


def with_names(lock: Lock, server: ResolvedServer) -> Lock:
    """The lock with the way of naming frozen, where it was not yet."""
    pin = lock.servers.get(server.name)
    if pin is None or pin.names is not None:
        return lock
    return lock.with_server(server.name, pin.model_copy(update={"names": server.names}))


def with_old_programs(made: ServerPin, old: ServerPin) -> ServerPin:
    """Hosts with different PATHs find different programs; each that was accepted stays so."""
    if made.command_digest != old.command_digest:
        return made
    programs = sorted({*made.programs, *old.programs})
    return made.model_copy(update={"programs": programs, "files": {**old.files, **made.files}})


def with_seen_resources(made: ServerPin, old: ServerPin) -> ServerPin:
    """Resources that came since nobody was shown; they stay new."""
    seen = {key: pin for key, pin in made.others.items() if key in old.others or not is_resource(key)}
    return made.model_copy(update={"others": seen})
