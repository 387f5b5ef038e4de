"""What a grant lets through: how a further call must resemble the approved one (docs/grants.md).

Judged on exactly what would run. Whatever is not understood does not fit: then a person is asked, as always. Pure; the
only look at the file system is `Real`, which the caller gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import JsonValue

from mcp_guard.approval.places import Place, folder_of, inside, place_of, same_place
from mcp_guard.approval.statement import Stored
from mcp_guard.canon import canonical
from mcp_guard.errors import InvalidArgumentsError
from mcp_guard.model import GrantOffer, JsonDict

Real = Callable[[str], str | None]
"""A path as the system would open it, links followed; None where that cannot be told."""

Roots = Mapping[str, tuple[str, ...]]
"""By pointer: the granted folders with links followed, as they were when the grant was given. None leads elsewhere."""

_MISSING: Final = object()


def offers_of(stored: Stored) -> tuple[GrantOffer, ...]:
    """What the policy offers for this call, less what cannot be bound to it or what the reviewer would not see."""
    return tuple(offer for offer in stored.decision.terms.grants if _bindable(stored, offer))


def fits(given: Stored, offer: GrantOffer, roots: Roots, asked: Stored, real: Real) -> bool:
    """Whether a grant that was given with one call covers another one.

    Args:
        given: The approved call.
        offer: The bounds that the reviewer chose.
        roots: Folders of the approved call, resolved.
        asked: The call that wants to run.
        real: Resolves a path now.
    """
    if _setting(given) != _setting(asked) or not _still_offered(offer, asked):
        return False
    then, now = given.views.for_downstream.value, asked.views.for_downstream.value
    if offer.keep is None:
        return _same(then, now)
    if given.views.secrets or asked.views.secrets or not _known(asked):
        return False
    for pointer, bound in offer.keep.items():
        before, after = at(then, pointer), at(now, pointer)
        if bound == "same":
            kept = _same(before, after)
        elif bound == "domain":
            kept = bool(_places(after)) and set(_places(after)) <= set(_places(before))
        else:
            kept = _in_folders(before, after, roots.get(pointer, ()), real)
        if not kept:
            return False
    return _same_types(then, now)


def roots_of(stored: Stored, offer: GrantOffer, real: Real) -> dict[str, tuple[str, ...]] | None:
    """The folders of an offer with links followed, to be kept with the grant.

    None where one leads somewhere else than it says: what the reviewer sees is what is granted.
    """
    found: dict[str, tuple[str, ...]] = {}
    for pointer, bound in (offer.keep or {}).items():
        if bound == "folder":
            roots = _plain(folders_at(stored.views.for_downstream.value, pointer), real)
            if not roots:
                return None
            found[pointer] = roots
    return found


def linked(stored: Stored, real: Real) -> tuple[str, ...]:
    """Pointers of offered folders that are reached through links now: no grant binds to these."""
    arguments = stored.views.for_downstream.value
    bounds = [bound for offer in stored.decision.terms.grants for bound in (offer.keep or {}).items()]
    pointers = {pointer for pointer, bound in bounds if bound == "folder"}
    return tuple(sorted(p for p in pointers if (found := folders_at(arguments, p)) and not _plain(found, real)))


def _plain(folders: tuple[str, ...], real: Real) -> tuple[str, ...]:
    """The folders as the system resolves them; empty where one of them is another folder then."""
    roots = tuple(root for folder in folders if (root := real(folder)) is not None and same_place(folder, root))
    return roots if len(roots) == len(folders) else ()


def folders_at(arguments: JsonDict, pointer: str) -> tuple[str, ...]:
    """The folders of the path, or list of paths, at a place; empty where one of them is no plain absolute path."""
    return _folders(at(arguments, pointer))


def places_at(arguments: JsonDict, pointer: str) -> tuple[Place, ...]:
    """The hosts at a place; empty where something there is none."""
    return _places(at(arguments, pointer))


def at(arguments: JsonValue, pointer: str) -> object:
    """The value at a JSON Pointer, through objects alone: positions in lists bind nothing."""
    value: object = arguments
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(value, dict) or name not in value:
            return _MISSING
        value = value[name]
    return value


def present(arguments: JsonValue, pointer: str) -> bool:
    """Whether there is a value at this place."""
    return at(arguments, pointer) is not _MISSING


def free_arguments(stored: Stored, offer: GrantOffer) -> list[str]:
    """Names of arguments that the tool knows and the offer leaves free."""
    bound = {pointer.split("/")[1].replace("~1", "/").replace("~0", "~") for pointer in offer.keep or {}}
    return [name for name in _properties(stored) or {} if name not in bound]


def _bindable(stored: Stored, offer: GrantOffer) -> bool:
    if offer.keep is None:
        return True
    # A secret was looked at once; what differs next time was not.
    if stored.views.secrets or not _known(stored):
        return False
    arguments, shown = stored.views.for_downstream.value, stored.views.for_reviewer.value
    for pointer, bound in offer.keep.items():
        plain = bool(folders_at(arguments, pointer)) and pointer not in stored.linked
        if bound == "folder" and not (plain and _same(at(arguments, pointer), at(shown, pointer))):
            return False
        if bound == "domain" and (not places_at(arguments, pointer) or _withheld(stored, pointer)):
            return False
    return True


def _withheld(stored: Stored, pointer: str) -> bool:
    facts = stored.call.target.facts.arguments
    while pointer:
        if pointer in facts:
            return facts[pointer].show in {"hidden", "digest"}
        pointer = pointer.rpartition("/")[0]
    return False


def _setting(stored: Stored) -> tuple[object, ...]:
    """Everything but the arguments that a grant is bound to."""
    call, decision = stored.call, stored.decision
    target = call.target
    return (
        call.principal.key,
        (target.kind, target.server, target.server_identity, target.name, target.definition_digest),
        (stored.environment, stored.mode),
        (decision.rule, decision.risk, decision.policy_digest),
    )


def _still_offered(offer: GrantOffer, asked: Stored) -> bool:
    """Whether the policy would offer the reviewer as much for this call too: another rule may match it."""
    return any(
        other.keep == offer.keep and other.for_s >= offer.for_s and other.max_uses >= offer.max_uses
        for other in asked.decision.terms.grants
    )


def _properties(stored: Stored) -> JsonDict | None:
    schema = stored.call.target.input_schema
    properties = schema.get("properties") if schema else None
    return properties if isinstance(properties, dict) else None


def _known(stored: Stored) -> bool:
    """Whether the tool declares every argument of the call."""
    properties = _properties(stored)
    return properties is not None and stored.views.for_downstream.value.keys() <= properties.keys()


def _same(one: object, other: object) -> bool:
    if one is _MISSING or other is _MISSING:
        return one is other
    try:
        return canonical(one) == canonical(other)  # type: ignore[arg-type]  # both come out of JSON
    except InvalidArgumentsError:
        return False


def _same_types(then: JsonDict, now: JsonDict) -> bool:
    """Arguments that may differ differ in value alone: `"yes"` instead of `true` may mean something else."""
    return all(_type(then[name]) == _type(value) for name, value in now.items() if name in then)


def _type(value: JsonValue) -> str:
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def _in_folders(before: object, after: object, roots: tuple[str, ...], real: Real) -> bool:
    folders, paths = _folders(before), _texts(after)
    # A folder that is a link by now leads elsewhere, and so does one that was a link when the grant was given.
    if not folders or not paths or roots != _plain(folders, real):
        return False
    return all(_in_one(folders, path, real) for path in paths)


def _in_one(folders: tuple[str, ...], path: str, real: Real) -> bool:
    resolved = real(path)
    return resolved is not None and any(inside(folder, path) and inside(folder, resolved) for folder in folders)


def _texts(value: object) -> list[str]:
    """A text, or a list of nothing but texts, as a list; empty for anything else."""
    values = value if isinstance(value, list) else [value]
    texts = [text for text in values if isinstance(text, str)]
    return texts if len(texts) == len(values) else []


def _folders(value: object) -> tuple[str, ...]:
    texts = _texts(value)
    found = [folder for text in texts if (folder := folder_of(text)) is not None]
    return tuple(dict.fromkeys(found)) if len(found) == len(texts) else ()


def _places(value: object) -> tuple[Place, ...]:
    texts = _texts(value)
    found = [place for text in texts if (place := place_of(text)) is not None]
    return tuple(dict.fromkeys(found)) if len(found) == len(texts) else ()
