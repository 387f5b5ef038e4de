"""What of the arguments may name a place that is changed."""

from __future__ import annotations

import pytest

from mcp_guard.manifest.spelling import Query, Vague
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
from mcp_guard.policy.places import changed_places, read_places

ROLES = {
    "/path": ArgumentFact("identifier"), "/to": ArgumentFact("recipient"), "/q": ArgumentFact("query"),
    "/text": ArgumentFact("content"), "/key": ArgumentFact("secret"), "/plain": ArgumentFact(),
    "/edits": ArgumentFact("content"), "/edits/file": ArgumentFact("identifier"),
}  # fmt: skip


def places(arguments: JsonDict, facts: ToolFacts, kind: CallKind = CallKind.TOOL) -> object:
    return changed_places(*asked(arguments, facts, kind))


def asked(arguments: JsonDict, facts: ToolFacts, kind: CallKind = CallKind.TOOL) -> tuple[Call, Views]:
    target = Target(kind, "fs", "do", "fs_do", local=True, facts=facts)
    call = Call("c", target, RawArguments(arguments), Principal("os", "me"), CallContext("stdio", "2025-11-25", "s"))
    return call, Views(RawArguments(arguments), MaskedJson(None), MaskedJson(None))


def listed(*effects: str, resource: str | None = None) -> ToolFacts:
    return ToolFacts(listed=True, effects=effects, risk=Risk.MEDIUM, resource=resource, arguments=ROLES)


ARGUMENTS: JsonDict = {
    "path": "a", "to": "b", "q": "c", "text": "d", "key": "e", "plain": "f", "other": ["g", "h\ni", 1],
    "edits": {"j": "k", "file": ["l"]},
}  # fmt: skip


def test_places_are_what_the_manifest_does_not_call_content_query_recipient_or_secret() -> None:
    """docs/limits.md, "Git's own files": content never triggers the rule."""
    assert places(ARGUMENTS, listed("read", "write")) == {
        "path": "./a", "plain": "f", "other": ["g", None, None], "edits": {"file": ["./l"]},
        "to": None, "q": None, "text": None, "key": None,
    }  # fmt: skip


def test_the_argument_that_names_what_is_affected_is_a_place_unless_it_is_content() -> None:
    """docs/limits.md, "Git's own files"."""
    assert places({"where": "a/b\nc"}, listed("write", resource="/where")) == {"where": "a/b\nc"}
    assert places({"text": "a"}, listed("write", resource="/text")) == {"text": None}


def test_the_argument_that_names_what_is_affected_is_a_place_whatever_else_it_is_called() -> None:
    """docs/limits.md, "Git's own files": a `uri` looks like a query by its name."""
    assert places({"q": "a/b"}, listed("write", resource="/q")) == {"q": "a/b"}


@pytest.mark.parametrize("path", ["/a", "~/a", "file:///a", "FILE:/a", " '/a' ", "C:\\a", "\\\\host\\a"])
def test_an_absolute_path_is_a_place_in_any_role_but_content(path: str) -> None:
    """docs/limits.md, "Git's own files": the role of an argument follows from its name alone."""
    given: JsonDict = {"q": path, "to": path, "key": path, "text": path}
    assert places(given, listed("write")) == {"q": path, "to": path, "key": path, "text": None}


def test_a_text_in_blanks_or_lines_or_empty_parts_may_be_a_place() -> None:
    """docs/limits.md, "The guard's own files": many servers cut off blanks, and all drop empty parts of a path."""
    for path in ("a\n", "\n\ta ", "'a'", "./" * 3000 + "a", " " * 5000 + "a", "b/../" * 2000 + "a"):
        found = places({"any": path}, UNREVIEWED)
        assert found in ({"any": path}, {"any": "a"}, {"any": "./a"})


def test_a_tool_that_only_reads_changes_no_place() -> None:
    """docs/limits.md, "Git's own files": reading makes git run nothing."""
    assert places(ARGUMENTS, listed("read")) is None
    assert places(ARGUMENTS, UNREVIEWED, CallKind.PROMPT) is None
    assert places({"path": "a"}, listed("read", "execute")) == {"path": "./a"}


def test_of_a_tool_that_nobody_reviewed_short_texts_may_be_places() -> None:
    """A rule that allows it says nothing of what its arguments are."""
    long = "x" * 5000
    assert places({"any": ["a", long, "b\nc"], "n": 1}, UNREVIEWED) == {"any": ["a", None, None], "n": None}


def test_a_text_is_vague_where_nobody_says_that_it_names_something() -> None:
    """docs/limits.md, "The guard's own files": a separator is no folder."""
    found = places({"path": "/", "other": "/"}, listed("write"))
    assert isinstance(found, dict)
    assert [isinstance(found[name], Vague) for name in ("path", "other")] == [False, True]


@pytest.mark.parametrize("text", ["%25" * 21_000, "/" + "%2525252525252541" * 15_000], ids=["rounds", "long"])
def test_a_long_text_that_is_encoded_many_times_is_no_place(text: str) -> None:
    """CONTRIBUTING.md, habit 9: bounded; no system opens such a path."""
    assert places({"other": text}, listed("write")) == {"other": None}


def test_what_the_manifest_calls_a_query_is_known_as_one() -> None:
    """docs/limits.md, "The guard's own files": what is looked for is no name in home."""
    arguments: JsonDict = {"path": "a", "q": ["c", 1], "other": "c"}
    found = read_places(*asked(arguments, listed("read")))
    assert found == arguments
    assert isinstance(found, dict)
    assert isinstance(found["q"], list)
    assert [isinstance(text, Query) for text in (found["path"], found["q"][0], found["other"])] == [False, True, False]
    assert read_places(*asked(arguments, UNREVIEWED)) is arguments
