"""The last catalogue of each server, kept between runs for the first contact (decisions.md D27).

Descriptions and instructions come from the server unmasked and may hold secrets, so the file is sealed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from mcp_guard.downstream.definition import Definition, Listing
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.downstream.steps import json_in_steps
from mcp_guard.errors import GuardError
from mcp_guard.keystore import KeyStore
from mcp_guard.system import make_private_dir, replace_private

_KEY: Final = "catalogue"


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")

    identity: str
    tools: list[dict[str, JsonValue]]
    resources: list[dict[str, JsonValue]]
    templates: list[dict[str, JsonValue]]
    prompts: list[dict[str, JsonValue]]
    instructions: str
    capabilities: list[str]
    protocol: str
    server_info: str = ""


class Remembered:
    """Files `<folder>/<server>.sealed`. Losing one costs a longer first `tools/list`, nothing else."""

    def __init__(self, folder: Path, keys: KeyStore) -> None:
        self._folder = folder
        self._keys = keys

    def load(self, server: ResolvedServer) -> Listing | None:
        """What this server offered last time; None when nothing usable of the same identity is there."""
        try:
            sealed = self._path(server).read_bytes()
            stored = _Stored.model_validate_json(self._keys.open(_KEY, sealed, bound_to=server.name))
        except (OSError, GuardError, ValidationError):
            return None
        if stored.identity != server.identity:
            return None
        return Listing(
            tools=tuple(map(Definition, stored.tools)),
            resources=tuple(map(Definition, stored.resources)),
            templates=tuple(map(Definition, stored.templates)),
            prompts=tuple(map(Definition, stored.prompts)),
            instructions=stored.instructions,
            capabilities=tuple(stored.capabilities),
            protocol=stored.protocol,
            server_info=stored.server_info,
        )

    def save(self, server: ResolvedServer, listing: Listing) -> bool:
        """Replace the file at once; False when it cannot be written."""
        stored: dict[str, object] = {
            "identity": server.identity,
            "tools": listing.tools,
            "resources": listing.resources,
            "templates": listing.templates,
            "prompts": listing.prompts,
            "instructions": listing.instructions,
            "capabilities": listing.capabilities,
            "protocol": listing.protocol,
            "server_info": listing.server_info,
        }
        try:
            make_private_dir(self._folder)
            sealed = self._keys.seal(_KEY, json_in_steps(stored, 2), bound_to=server.name)
            replace_private(self._path(server), sealed)
        except (OSError, GuardError, ValueError):
            return False
        return True

    def _path(self, server: ResolvedServer) -> Path:
        return self._folder / f"{server.name}.sealed"
