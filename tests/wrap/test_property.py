"""For any host's file in JSON with comments."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_guard.config.hostfile import parse_host_file
from mcp_guard.wrap.edit import Change, apply_changes
from mcp_guard.wrap.locate import HostFile
from tests.wrap.bench import Bench

FILE = HostFile("file", Path("mcp.json"))
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
TEXT = st.text(string.ascii_letters + string.digits + ' /\\"{}[],:#*ü🎉\t', max_size=10)
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | TEXT
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=3), max_leaves=5)
ENTRIES = st.fixed_dictionaries(
    {"command": TEXT.filter(str.strip)},
    optional={
        "args": st.lists(TEXT, max_size=3),
        "env": st.dictionaries(st.text(string.ascii_uppercase, min_size=1, max_size=4), TEXT, max_size=2),
        "alwaysAllow": st.lists(TEXT, max_size=2),
        "own": VALUES,
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {"mcpServers": st.dictionaries(NAMES, ENTRIES, max_size=3)}, optional={"before": VALUES, "after": VALUES}
)
SPACE = st.sampled_from(["", " ", "\n", "\r\n", "\t", "\n    ", ' // note, "x": {\n', "/* } */", "\n\n  // a\n  "])
FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def jsonc(draw: st.DrawFn, value: Any) -> str:
    """A value, spelled in any way."""

    def items(parts: list[str], brackets: str) -> str:
        spaced = [draw(SPACE) + part + draw(SPACE) for part in parts]
        comma = draw(st.sampled_from(["", ","])) if parts else ""
        return brackets[0] + ",".join(spaced) + comma + draw(SPACE) + brackets[1]

    if isinstance(value, dict):
        members = [
            json.dumps(k, ensure_ascii=draw(st.booleans())) + draw(SPACE) + ":" + draw(SPACE) + draw(jsonc(v))
            for k, v in value.items()
        ]
        return items(members, "{}")
    if isinstance(value, list):
        return items([draw(jsonc(v)) for v in value], "[]")
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


SPELLED = DOCUMENTS.flatmap(lambda document: st.tuples(st.just(document), jsonc(document)))


@FAST
@given(SPELLED, st.data())
def test_only_the_changed_members_differ(spelled: tuple[dict[str, Any], str], data: st.DataObject) -> None:
    """docs/hosts.md: comments, order and everything else stay."""
    document, text = spelled
    raw = text.encode()
    names = list(document["mcpServers"])
    changes = [
        Change(
            ("mcpServers", name),
            data.draw(st.dictionaries(st.sampled_from(["command", "args", "env", "new", "type"]), VALUES, max_size=4)),
            frozenset(data.draw(st.sets(st.sampled_from(["command", "args", "own", "not there"]), max_size=3))),
        )
        for name in data.draw(st.lists(st.sampled_from(names), unique=True) if names else st.just([]))
    ]

    edited = apply_changes(FILE, raw, changes)

    for change in changes:
        entry = document["mcpServers"][change.place[1]]
        for key in change.removed:
            entry.pop(key, None)
        entry.update(change.values)
    assert parse_host_file(edited, FILE.path) == document
    assert edited == raw or changes


@FAST
@given(spelled=SPELLED, combined=st.booleans(), touched=st.booleans())
def test_any_file_survives_wrap_and_unwrap(
    tmp_path_factory: Any, spelled: tuple[dict[str, Any], str], *, combined: bool, touched: bool
) -> None:
    """docs/hosts.md: byte for byte; where somebody wrote something since, equal in what it says."""
    document, text = spelled
    bench = Bench(tmp_path_factory.mktemp("any"))
    path = bench.write("mcp.json", text)
    wrapped = bench.wrap(file=path, combined=combined).files
    assert bool(wrapped) == any("mcp-guard" not in json.dumps(entry) for entry in document["mcpServers"].values())
    if touched:
        path.write_bytes(path.read_bytes() + b"\n// later\n")

    bench.unwrap()

    if touched:
        assert parse_host_file(path.read_bytes(), path) == document
    else:
        assert path.read_bytes() == text.encode()
