"""What the client reads: answers, tickets and refusals as MCP results, with the guard's own `_meta`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NoReturn

from mcp.shared.exceptions import MCPError
from pydantic import JsonValue

from mcp_guard.approval.prompt import visible
from mcp_guard.clock import iso
from mcp_guard.config.load import config_words
from mcp_guard.errors import GuardError, UnknownTargetError
from mcp_guard.manifest.propose import CLASSES, propose
from mcp_guard.model import GUARD_META, Answer, JsonDict, MaskNote, Suspended, Target

WAIT_TOOL = "guard_approval_wait"
RETRY_AFTER_S = 5

_SERIOUS = frozenset({"high", "critical"})
"""No rule to paste is printed for what looks like more than reading: an agent may be the one who pastes it."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LISTS: JsonDict = {"ttlMs": 0, "cacheScope": "private"}


def answer_result(answer: Answer, *, call_id: str, notice: str, modern: bool, tool: bool) -> JsonDict:
    """The masked result with what was done to it, said in text (tools only) and in `_meta`.

    Raises:
        MCPError: the downstream answered with a JSON-RPC error; it is passed on, masked.
    """
    if answer.error is not None:
        _raise_downstream_error(answer, call_id)
    value = answer.result.value if answer.result else {}
    result: JsonDict = dict(value) if isinstance(value, dict) else {}
    if tool and "content" not in result:
        # A resource or prompt that was approved, picked up by its ticket: the wait tool answers as a tool.
        result = {"content": [{"type": "text", "text": json.dumps(result, ensure_ascii=False)}]}
    if tool and notice:
        content = result.get("content")
        result["content"] = [*(content if isinstance(content, list) else []), {"type": "text", "text": notice}]
    if tool and not modern and "structuredContent" in result and not isinstance(result["structuredContent"], dict):
        # Older revisions know objects only; the value stays readable as text.
        del result["structuredContent"]
    result["_meta"] = {**_meta_of(result), **answer_meta(answer, call_id)}
    if modern:
        result.setdefault("resultType", "complete")
        if not tool and "contents" in result:
            # Demanded of a resource too, and older servers do not say it. It holds one user's placeholders.
            result = {**_LISTS, **result, "cacheScope": "private"}
    return result


def answer_meta(answer: Answer, call_id: str) -> JsonDict:
    """The guard's `_meta` keys of an answer."""
    meta: JsonDict = {GUARD_META + "call": {"id": call_id, "approval": answer.approval_id}}
    if answer.notes:
        meta[GUARD_META + "masked"] = [_note(note) for note in answer.notes]
    if answer.receipt is not None:
        receipt = answer.receipt
        meta[GUARD_META + "receipt"] = {
            "origin": receipt.origin,
            "index": receipt.index,
            "size": receipt.size,
            "root": receipt.root,
        }
    return meta


def how_to_decide(path: Path | None, *, team: bool) -> str:
    """How people get to a call that waits: commands only, and no link, token or other authority.

    Args:
        path: The guard.yaml; None for clients on the network, who learn no path.
        team: Whether the requester may not decide.
    """
    # The user's terminal does not have the variables of the host.
    config = "" if path is None else visible(config_words(path, {}))
    page, listing = f"`mcp-guard console{config}`", f"`mcp-guard approvals ls{config}`"
    if team:
        return f"Tell your user now that this call waits for a reviewer, who decides it with {page} or {listing}."
    return (
        "Tell your user now that this call waits, and how to decide it: the user runs "
        f"{page} (the guard's page) or {listing}, in a terminal."
    )


def ticket(suspended: Suspended, *, call_id: str, target: Target | None, deciding: str) -> JsonDict:
    """The result of a call that waits for people (decisions.md D6): an error, so that no schema check fails.

    `deciding` is what `how_to_decide` says of this guard.
    """
    running = suspended.state == "executing"
    head = "RUNNING after approval." if running else "NOT executed."
    text = (
        f"{head} Approval request {suspended.approval_id} ({suspended.needs}; "
        f"expires {iso(suspended.expires_ns)}; fingerprint {suspended.fingerprint}).\n"
        f'Call {WAIT_TOOL} with {{"ticket": "{suspended.approval_id}"}}, or repeat this exact call; '
        "changed arguments start a new request. Do not try another route."
    )
    if suspended.state == "pending":
        # Nothing is shown at the client any more, so its user hears of it from the agent.
        text += f"\n{deciding} You cannot approve it."
    if suspended.note:
        text += "\n" + suspended.note
    if target is not None and not target.facts.listed and suspended.rule.startswith("default:") and _plain(target):
        text += "\n" + _settling_rule(target)
    return {
        "content": [{"type": "text", "text": text}],
        "isError": True,
        "resultType": "complete",  # demanded since 2026-07-28; older revisions drop it
        "_meta": {
            GUARD_META + "call": {"id": call_id, "approval": suspended.approval_id},
            GUARD_META + "approval": {
                "ticket": suspended.approval_id,
                "state": suspended.state,
                "needs": suspended.needs,
                "fingerprint": suspended.fingerprint,
                "expires_at": iso(suspended.expires_ns),
                "retry_after_s": RETRY_AFTER_S,
            },
        },
    }


def refusal(error: GuardError, *, call_id: str) -> JsonDict:
    """A refused or failed tool call as a result that the model can read (decisions.md D4).

    Raises:
        MCPError: an unknown tool is a protocol error, not a result.
    """
    if isinstance(error, UnknownTargetError):
        raise_rpc(error, call_id=call_id)
    return {
        "content": [{"type": "text", "text": str(error)}],
        "isError": True,
        "resultType": "complete",  # demanded since 2026-07-28; older revisions drop it
        "_meta": {GUARD_META + "call": {"id": call_id}, GUARD_META + "error": _error_data(error, call_id)},
    }


def raise_rpc(error: GuardError, *, call_id: str) -> NoReturn:
    """The same for methods whose result has no `isError`."""
    raise MCPError(error.rpc_code, f"[{error.code}] {error.message}", _error_data(error, call_id)) from None


def listing(key: str, items: list[JsonDict], *, modern: bool) -> JsonDict:
    """A list result with everything on one page, never cached by others."""
    page: JsonDict = {key: list[JsonValue](items)}
    return {**page, **_LISTS, "resultType": "complete"} if modern else page


def _raise_downstream_error(answer: Answer, call_id: str) -> NoReturn:
    error = answer.error.value if answer.error else None
    if not isinstance(error, dict):
        error = {}
    code, message, data = error.get("code"), error.get("message"), error.get("data")
    raise MCPError(
        code if isinstance(code, int) else -32603,
        message if isinstance(message, str) else "the downstream server answered with an error",
        {**_without_ours(data), GUARD_META + "call": {"id": call_id}} if isinstance(data, dict) else data,
    )


def _error_data(error: GuardError, call_id: str) -> JsonDict:
    return {"code": error.code, "call_id": call_id, "retryable": error.retryable, "hint": error.hint}


def _meta_of(result: JsonDict) -> JsonDict:
    meta = result.get("_meta")
    if not isinstance(meta, dict):
        return {}
    return _without_ours(meta)


def _without_ours(meta: JsonDict) -> JsonDict:
    """Keys of the guard's own prefix are never taken from a downstream."""
    return {key: value for key, value in meta.items() if not key.startswith(GUARD_META)}


def _note(note: MaskNote) -> JsonDict:
    return {"type": note.type, "count": note.count, "rule": note.rule}


def _plain(target: Target) -> bool:
    """Whether the names can stand in YAML that somebody will paste: a tool names itself."""
    return bool(_PLAIN_NAME.fullmatch(target.name) and _PLAIN_NAME.fullmatch(target.server))


def _settling_rule(target: Target) -> str:
    review = (
        "Nobody has reviewed this tool, so it asks each time. The user can review all tools of the server at once, "
        f"in a terminal: `mcp-guard trust {target.server}`"
    )
    if CLASSES[propose({"name": target.name, "inputSchema": target.input_schema}).looks].risk in _SERIOUS:
        return f"{review}."
    return (
        f"{review}. Or the user settles this one in guard.yaml:\n"
        "rules:\n"
        f"  - id: {target.server}-{target.name}\n"
        f"    match: {{server: {target.server}, tool: {target.name}}}\n"
        "    effect: allow\n"
        '    reason: "say why this is safe"'
    )
