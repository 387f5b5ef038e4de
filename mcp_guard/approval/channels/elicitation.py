"""The form at the requester's own client, as plain JSON. The server edge moves it over the wire.

It is a confirmation by the requester's side (A1), never separation of duties: clients may answer by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

from mcp_guard.canon import same_fingerprint
from mcp_guard.model import JsonDict
from mcp_guard.question import Prompt, PromptAnswer

APPROVE = "approve_once"
DENY = "deny"
GRANT = "approve_and_grant_"
"""With a number from 1 on: which of the grants."""
_MAX_REASON = 500


def form_schema(prompt: Prompt, *, titled: bool = False) -> JsonDict:
    """The requested schema: flat primitives, deny first and by default.

    A grant needs its bounds as the title. `titled`: as revisions from 2025-11-25 on have it; else `enumNames`.
    """
    choices = [(DENY, "Deny"), (APPROVE, "Approve this call once")]
    choices += [(f"{GRANT}{index + 1}", f"Approve, and grant: {label}") for index, label in prompt.grants]
    decision: JsonDict = {"type": "string", "title": "Decision", "default": DENY}
    if titled and prompt.grants:
        decision["oneOf"] = [{"const": choice, "title": title} for choice, title in choices]
    else:
        decision["enum"] = [choice for choice, _ in choices]
        if prompt.grants:
            decision["enumNames"] = [title for _, title in choices]
    properties: JsonDict = {
        "decision": decision,
        "reason": {"type": "string", "title": "Reason (optional)", "maxLength": _MAX_REASON},
    }
    if prompt.type_fingerprint:
        properties["fingerprint"] = {
            "type": "string",
            "title": "To approve, type the fingerprint shown above",
            "maxLength": 16,
        }
    # The fingerprint is not among them: a client that checks forms would ask for it of who denies.
    return {"type": "object", "properties": properties, "required": ["decision"]}


def _granted(decision: object) -> int | None:
    """Index of the grant that this decision names."""
    if not isinstance(decision, str) or not decision.startswith(GRANT):
        return None
    number = decision.removeprefix(GRANT)
    return int(number) - 1 if number in {str(n) for n in range(1, 9)} else None


def read_answer(action: str, content: Mapping[str, object]) -> PromptAnswer:
    """What the client says its user answered. Anything that is not exactly an approval is none."""
    reason = _text(content, "reason", _MAX_REASON)
    if action == "decline" or (action == "accept" and content.get("decision") == DENY):
        return PromptAnswer("deny", reason)
    if action == "accept" and content.get("decision") == APPROVE:
        return PromptAnswer("approve", reason, _text(content, "fingerprint", 16))
    grant = _granted(content.get("decision"))
    if action == "accept" and grant is not None:
        return PromptAnswer("approve", reason, _text(content, "fingerprint", 16), grant)
    return PromptAnswer("dismissed")


def fingerprint_typed(prompt: Prompt, answer: PromptAnswer) -> bool:
    """Whether the person typed the fingerprint, where the prompt demands it. Case, spaces and dashes do not count."""
    return not prompt.type_fingerprint or same_fingerprint(answer.fingerprint, prompt.fingerprint)


def mistyped(prompt: Prompt, answer: PromptAnswer) -> bool:
    """Whether a person meant to approve, and what was typed is not the fingerprint."""
    return not prompt.url and answer.verdict == "approve" and not fingerprint_typed(prompt, answer)


def _text(content: Mapping[str, object], key: str, limit: int) -> str:
    value = content.get(key)
    return value[:limit] if isinstance(value, str) else ""
