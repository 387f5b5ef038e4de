"""How big a schema may be. Apart from `schemas`, so that listing tools does not load jsonschema."""

from __future__ import annotations

from typing import Final

from pydantic import JsonValue

MAX_SCHEMA_NODES: Final = 5_000
"""JSON values in one schema."""


def schema_fits(schema: JsonValue) -> bool:
    """Whether a schema is an object within `MAX_SCHEMA_NODES`."""
    if not isinstance(schema, dict):
        return False
    level: list[JsonValue] = [schema]
    nodes = 0
    while level:
        nodes += len(level)
        if nodes > MAX_SCHEMA_NODES:
            return False
        level = [child for item in level for child in children(item)]
    return True


def children(item: JsonValue) -> list[JsonValue]:
    """Values directly inside an object or array; none in anything else."""
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else []
