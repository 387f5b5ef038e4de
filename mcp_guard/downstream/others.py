"""What a server offers besides tools: prompts, resources and templates, as pins know them (security.md S21, S22). Pure.

A resource that was not there when its server was accepted is nothing unusual: servers list files. So it is not held
back, but offered by its address and name alone; texts about it were never accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal, TypeAlias

from mcp_guard.downstream.definition import Definition, Listing, worked_out
from mcp_guard.model import CallKind, JsonDict, MaskedText

Kind: TypeAlias = Literal["prompt", "resource", "template"]

MAX_RESOURCES: Final = 2000
"""Resources of one server that are pinned; more are offered as new ones are."""
MAX_KEY: Final = 2048
"""Characters of a name or an address."""

_NAMED_BY: Final[dict[Kind, str]] = {"prompt": "name", "resource": "uri", "template": "uriTemplate"}
_KINDS: Final[dict[CallKind, tuple[Kind, ...]]] = {
    CallKind.PROMPT: ("prompt",),
    CallKind.RESOURCE: ("resource",),
    CallKind.COMPLETION: ("prompt", "template"),
}


def item_key(kind: Kind, name: str) -> str:
    """How the lock names it: `prompt greet`, `resource file:///a`, `template file:///{path}`."""
    return f"{kind} {name}"


def keys_of(kind: CallKind, name: str) -> tuple[str, ...]:
    """The keys that a call of something else than a tool may concern."""
    return tuple(item_key(one, name) for one in _KINDS.get(kind, ()))


def is_resource(key: str) -> bool:
    """Whether a key names a resource, of which new ones are usual."""
    return key.startswith("resource ")


def others_of(listing: Listing, mask: Callable[[str], MaskedText]) -> dict[str, JsonDict]:
    """By key, what can be pinned, resources as `stable` has them.

    Left out is what has no usable name, or one that would be masked.
    """
    found: dict[str, JsonDict] = {}
    for key, definition in _items(listing, mask):
        found.setdefault(key, definition)
    return found


def _items(listing: Listing, mask: Callable[[str], MaskedText]) -> Iterator[tuple[str, JsonDict]]:
    lists: tuple[tuple[Kind, tuple[JsonDict, ...]], ...] = (
        ("prompt", listing.prompts),
        ("template", listing.templates),
        ("resource", listing.resources[:MAX_RESOURCES]),
    )
    for kind, definitions in lists:
        for definition in definitions:
            name = definition.get(_NAMED_BY[kind])
            if isinstance(name, str) and 0 < len(name) <= MAX_KEY and mask(name) == name:
                yield item_key(kind, name), stable(definition) if kind == "resource" else definition


def stable(resource: JsonDict) -> JsonDict:
    """A resource without what changes with its content: its size, and when it was changed."""
    return worked_out(_stable, resource)


def _stable(resource: JsonDict) -> JsonDict:
    rest = {key: value for key, value in resource.items() if key != "size"}
    annotations = rest.get("annotations")
    if isinstance(annotations, dict) and "lastModified" in annotations:
        rest["annotations"] = {key: value for key, value in annotations.items() if key != "lastModified"}
    return Definition({key: value for key, value in rest.items() if key != "annotations" or value})


def bare(resource: JsonDict) -> JsonDict:
    """A resource by its address and name alone."""
    return {key: resource[key] for key in ("uri", "name") if key in resource}
