"""What a newer client may bring back: an answer to what it was asked, and to nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mcp_types as types
import pytest
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mcp_guard.model import MaskedText
from mcp_guard.question import Prompt, PromptAnswer
from mcp_guard.server.front import brought, open_state, question

FORM = Prompt("apr_1", MaskedText("?"), "K7QF-93WM", type_fingerprint=False, grants=((0, MaskedText("one")),))
PAGE = Prompt("apr_1", MaskedText("?"), "K7QF-93WM", type_fingerprint=False, url="http://127.0.0.1:1/x")
YES = types.ElicitResult(action="accept", content={"decision": "approve_once"})
OPENED = types.ElicitResult(action="accept")


def coming_back(prompt: Prompt, responses: dict[str, Any] | None) -> object:
    ctx: Any = SimpleNamespace(protocol_version=next(iter(MODERN_PROTOCOL_VERSIONS)))
    return brought(ctx, SimpleNamespace(request_state=question(prompt).request_state, input_responses=responses))


def test_an_answer_counts_under_the_key_that_was_asked_and_as_what_was_asked() -> None:
    """docs/security.md S11: who was shown an address has answered no form, and the other way round."""
    assert coming_back(FORM, {"approval": YES}) == ("apr_1", PromptAnswer("approve"))
    assert coming_back(PAGE, {"page": OPENED}) == ("apr_1", PromptAnswer("dismissed"))
    assert coming_back(PAGE, {"approval": YES}) == ("apr_1", None)
    assert coming_back(PAGE, {"approval": YES, "page": YES}) == ("apr_1", PromptAnswer("dismissed"))
    assert coming_back(FORM, {"page": YES}) == ("apr_1", None)
    assert coming_back(FORM, {"approval": types.ListRootsResult(roots=[])}) == ("apr_1", PromptAnswer("dismissed"))
    assert coming_back(FORM, None) == ("apr_1", None)


@pytest.mark.parametrize("state", [None, "", "x", "[]", "7", '{"a": "apr_1"}', '{"q": "approval"}'])
def test_a_state_that_says_not_what_was_asked_is_none(state: str | None) -> None:
    """docs/security.md S11."""
    assert open_state(state) is None


def test_a_newer_client_gets_the_bounds_of_a_grant_as_a_title() -> None:
    """docs/grants.md: revisions from 2025-11-25 on have `oneOf` with titles."""
    asked = question(FORM).model_dump(by_alias=True)["inputRequests"]["approval"]["params"]["requestedSchema"]
    assert asked["properties"]["decision"]["oneOf"][2] == {
        "const": "approve_and_grant_1",
        "title": "Approve, and grant: one",
    }
