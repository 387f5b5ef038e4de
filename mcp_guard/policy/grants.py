"""Which grants a reviewer is offered with an approval: those of the rules that ask, else built-in ones. Pure.

Built-in offers follow from the facts of the manifest alone, and bind every argument but those of role `content`: what
no fact speaks of stays as it was approved.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import JsonValue

from mcp_guard.config.schema import ApprovalOptions, GrantOption
from mcp_guard.model import Call, CallKind, GrantOffer, Risk, Views

Bound = Literal["same", "folder", "domain"]

_FOR_S = 900.0
_USES = 20
_SENDS = 5
"""Uses where each call reaches somebody: it cannot be taken back."""
_NEVER = frozenset({"spend", "grant"})
"""Effects of which each one is looked at: money, and who may do what."""
_PATH = re.compile(r"/|[A-Za-z]:[\\/]")


def offered(call: Call, views: Views, asking: Sequence[ApprovalOptions], risk: Risk) -> tuple[GrantOffer, ...]:
    """The offers that all rules agree on, each at its narrowest. `asking`: options of the rules that ask."""
    if call.target.kind is not CallKind.TOOL:
        return ()
    usual = _built_in(call, views) if risk is Risk.HIGH else ()
    lists = [usual if options.grants is None else tuple(map(_offer, options.grants)) for options in asking] or [usual]
    common = lists[0]
    for other in lists[1:]:
        common = tuple(narrow for offer in common if (narrow := _agreed(offer, other)) is not None)
    return tuple(offer for index, offer in enumerate(common) if offer not in common[:index])


def _offer(option: GrantOption) -> GrantOffer:
    return GrantOffer(option.for_s, option.max_uses, None if option.keep == "arguments" else dict(option.keep))


def _agreed(offer: GrantOffer, others: Sequence[GrantOffer]) -> GrantOffer | None:
    """The offer, as narrow as the other rule offers the same bounds; None where it does not."""
    same = [other for other in others if other.keep == offer.keep]
    if not same:
        return None
    widest = max(same, key=lambda other: (other.for_s, other.max_uses))
    return GrantOffer(min(offer.for_s, widest.for_s), min(offer.max_uses, widest.max_uses), offer.keep)


def _built_in(call: Call, views: Views) -> tuple[GrantOffer, ...]:
    facts = call.target.facts
    if _NEVER & set(facts.effects):
        return ()
    uses = _SENDS if "send" in facts.effects else _USES
    same = GrantOffer(_FOR_S, uses)
    keep = None if "execute" in facts.effects or facts.category == "code_execution" else _bounds(call, views)
    return (same,) if keep is None else (same, GrantOffer(_FOR_S, uses, keep))


def _bounds(call: Call, views: Views) -> dict[str, Bound] | None:
    """Every known argument but content with its bound; None where that is no more than the same call again."""
    schema = call.target.input_schema
    properties = schema.get("properties") if schema else None
    if not isinstance(properties, dict):
        return None
    keep: dict[str, Bound] = {}
    free = False
    for name in properties:
        pointer = "/" + name.replace("~", "~0").replace("/", "~1")
        fact = call.target.facts.arguments.get(pointer)
        role = fact.role if fact else None
        if role == "content":
            free = True
            continue
        resource = pointer == call.target.facts.resource or role == "identifier"
        is_path = resource and _is_path(views.for_downstream.value.get(name))
        keep[pointer] = "folder" if is_path else "domain" if role == "recipient" else "same"
    wider = free or any(bound != "same" for bound in keep.values())
    return keep if keep and wider and any(_names(call, pointer) for pointer in keep) else None


def _names(call: Call, pointer: str) -> bool:
    """Whether a fact says that this argument names what is affected: without one, nothing would be bound."""
    fact = call.target.facts.arguments.get(pointer)
    return pointer == call.target.facts.resource or (fact is not None and fact.role in {"identifier", "recipient"})


def _is_path(value: JsonValue | None) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(isinstance(item, str) and _PATH.match(item) for item in values)
