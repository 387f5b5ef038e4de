"""What of the arguments may name a place that is changed."""

from __future__ import annotations

from mcp_guard.model import (
    UNREVIEWED,
    ArgumentFact,
    Call,
    CallContext,
    CallKind,
    JsonDict,
    MaskedJson,
    Principal,
    RawArguments,
    Risk,
    Target,
    ToolFacts,
    Views,
)
from mcp_guard.policy.places import changed_places

ROLES = {
    "/path": ArgumentFact("identifier"), "/to": ArgumentFact("recipient"), "/q": ArgumentFact("query"),
    "/text": ArgumentFact("content"), "/key": ArgumentFact("secret"), "/plain": ArgumentFact(),
    "/edits": ArgumentFact("content"), "/edits/file": ArgumentFact("identifier"),
}  # fmt: skip


def places(arguments: JsonDict, facts: ToolFacts, kind: CallKind = CallKind.TOOL) -> object:
    target = Target(kind, "fs", "do", "fs_do", local=True, facts=facts)
    call = Call("c", target, RawArguments(arguments), Principal("os", "me"), CallContext("stdio", "2025-11-25", "s"))
    return changed_places(call, Views(RawArguments(arguments), MaskedJson(None), MaskedJson(None)))


def listed(*effects: str, resource: str | None = None) -> ToolFacts:
    return ToolFacts(listed=True, effects=effects, risk=Risk.MEDIUM, resource=resource, arguments=ROLES)


ARGUMENTS: JsonDict = {
    "path": "a", "to": "b", "q": "c", "text": "d", "key": "e", "plain": "f", "other": ["g", "h\ni", 1],
    "edits": {"j": "k", "file": ["l"]},
}  # fmt: skip


def test_places_are_what_the_manifest_does_not_call_content_query_recipient_or_secret() -> None:
    """docs/limits.md, "Git's own files": content never triggers the rule."""
    assert places(ARGUMENTS, listed("read", "write")) == {
        "path": "a", "plain": "f", "other": ["g", None, None], "edits": {"file": ["l"]},
        "to": None, "q": None, "text": None, "key": None,
    }  # fmt: skip


def test_the_argument_that_names_what_is_affected_is_a_place_unless_it_is_content() -> None:
    """docs/limits.md, "Git's own files"."""
    assert places({"where": "a\nb"}, listed("write", resource="/where")) == {"where": "a\nb"}
    assert places({"text": "a"}, listed("write", resource="/text")) == {"text": None}


def test_a_tool_that_only_reads_changes_no_place() -> None:
    """docs/limits.md, "Git's own files": reading makes git run nothing."""
    assert places(ARGUMENTS, listed("read")) is None
    assert places(ARGUMENTS, UNREVIEWED, CallKind.PROMPT) is None
    assert places({"path": "a"}, listed("read", "execute")) == {"path": "a"}


def test_of_a_tool_that_nobody_reviewed_short_texts_may_be_places() -> None:
    """A rule that allows it says nothing of what its arguments are."""
    long = "x" * 5000
    assert places({"any": ["a", long, "b\nc"], "n": 1}, UNREVIEWED) == {"any": ["a", None, None], "n": None}
