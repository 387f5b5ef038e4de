"""What a card says of grants, and why a person is asked. Built from the stored action alone (S17)."""

from __future__ import annotations

import json
from collections.abc import Callable

from pydantic import JsonValue

from mcp_guard.approval.bounds import at, folders_at, free_arguments, offers_of, places_at, present
from mcp_guard.approval.statement import Stored
from mcp_guard.model import GrantOffer, JsonDict, MaskedText

_SECRETS = "builtin:secrets-in-arguments"
_VALUE = 80
"""Characters of a value in one line."""

_Mask = Callable[[str], MaskedText]


def offer_views(stored: Stored, mask: _Mask) -> list[JsonValue]:
    """The grants that may be given with this approval, as `view["grants"]`."""
    return [offer_view(stored, offer, mask) for offer in offers_of(stored)]


def offer_view(stored: Stored, offer: GrantOffer, mask: _Mask) -> JsonDict:
    """One grant in words: {label, for_s, max_uses, keep}, all of it masked."""
    what = "exactly this call" if offer.keep is None else f"{mask(stored.call.target.name)} within these bounds"
    times = "once more" if offer.max_uses == 1 else f"up to {offer.max_uses} more times"
    return {
        "label": f"{what}, {times} within {duration(offer.for_s)}",
        "for_s": int(offer.for_s),
        "max_uses": offer.max_uses,
        "keep": list(_kept(stored, offer, mask)),
    }


def duration(seconds: float) -> str:
    """`15 minutes`, `1 hour`, `90 seconds`."""
    for unit, size in (("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            number = int(seconds // size)
            return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
    return f"{seconds:g} seconds"


def why_asked(stored: Stored) -> list[JsonValue]:
    """Plain sentences: what asks, which fact it rests on, and what would stop the asking."""
    decision, target = stored.decision, stored.call.target
    why = []
    if decision.rule.startswith("default:"):
        why.append(f"No rule covers this call, and calls of {decision.risk.value} risk ask by default.")
    elif decision.rule == _SECRETS:
        why.append("A secret stands in the arguments, and masking.arguments.secrets is ask.")
    elif _is_about_places(decision.rule):
        why.append(_sentence(decision.reasons[0]))
    else:
        asks = [reason for reason in decision.reasons if reason.startswith("rule ")]
        why.append(f"{_sentence('; '.join(asks) or f'rule {decision.rule} asks')}")
    if not target.facts.listed:
        why.append("Nobody has reviewed this tool yet: no manifest lists it.")
    elif target.facts.why:
        why.append(_sentence(f"The manifest says: {target.facts.why}"))
    if stored.views.secrets:
        why.append(f"Secrets in the arguments: {', '.join(stored.views.secrets)}.")
    return [*why, *_why_no_folder(stored), _what_stops(stored)]


def _why_no_folder(stored: Stored) -> list[str]:
    """Why the grant of a folder that the policy has in mind is not offered for this call."""
    offered = offers_of(stored)
    arguments, shown = stored.views.for_downstream.value, stored.views.for_reviewer.value
    for offer in stored.decision.terms.grants:
        for pointer in [] if offer in offered else _folders_of(offer):
            if stored.views.secrets:
                return ["No grant of a folder: secrets stand in the arguments."]
            if pointer in stored.linked:
                return ["No grant of this folder: it is reached through a link."]
            if not folders_at(arguments, pointer):
                return ["No grant of this folder: the path is not absolute, or the folder is too wide or hidden."]
            if at(arguments, pointer) != at(shown, pointer):
                return ["No grant of this folder: a part of its path is masked."]
    return []


def _folders_of(offer: GrantOffer) -> list[str]:
    return [pointer for pointer, bound in (offer.keep or {}).items() if bound == "folder"]


def _is_about_places(rule: str) -> bool:
    """Whether a built-in rule asks because of the places that the call would change, whatever the rules say."""
    return rule.startswith("builtin:") and rule != _SECRETS


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _what_stops(stored: Stored) -> str:
    ways = []
    if offers_of(stored):
        ways.append("a grant with this approval")
    if not stored.call.target.facts.listed:
        ways.append(f"a review of the whole server (mcp-guard trust {stored.call.target.server})")
    if _is_about_places(stored.decision.rule):
        ways = ways[:1] if offers_of(stored) else []
    elif stored.decision.rule.startswith(("default:", "builtin:")):
        ways.append("a rule by the owner of guard.yaml")
    else:
        ways.append(f"a change to rule {stored.decision.rule} by the owner of guard.yaml")
    return f"To be asked less: {', or '.join(ways)}." if ways else "This is asked whatever the rules say."


def _kept(stored: Stored, offer: GrantOffer, mask: _Mask) -> list[str]:
    """What must stay as it is, line by line, and what may differ."""
    if offer.keep is None:
        return ["every argument stays the same", _whom(stored, mask)]
    lines = [
        _line(stored, pointer, bound, mask)
        for pointer, bound in offer.keep.items()
        if bound != "same" or present(stored.views.for_downstream.value, pointer)
    ]
    free = free_arguments(stored, offer)
    rest = f"may differ: {mask(', '.join(free))}" if free else "nothing else may differ"
    return [*lines, rest, _whom(stored, mask)]


def _whom(stored: Stored, mask: _Mask) -> str:
    """Whom a grant serves: what a program says of itself is never compared (decisions.md D36)."""
    who = stored.call.principal
    name = mask("/".join(part for part in (who.subject, who.label) if part))
    return f"for every program that {'runs as' if who.issuer == 'os' else 'holds the token of'} {name}"


def _line(stored: Stored, pointer: str, bound: str, mask: _Mask) -> str:
    name, arguments = mask(pointer[1:]), stored.views.for_downstream.value
    if bound == "folder":
        return f"{name}: inside {' or '.join(mask(folder + '/') for folder in folders_at(arguments, pointer))}"
    if bound == "domain":
        return f"{name}: only {' or '.join(mask(str(place)) for place in places_at(arguments, pointer))}"
    shown = at(stored.views.for_reviewer.value, pointer)
    text = json.dumps(shown, ensure_ascii=False) if isinstance(shown, (str, int, float, bool, list, dict)) else "null"
    return f"{name}: stays {text if len(text) <= _VALUE else text[:_VALUE] + '…'}"
