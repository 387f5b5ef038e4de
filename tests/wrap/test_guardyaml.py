"""Servers are added to a guard.yaml as text."""

from __future__ import annotations

import pytest

from mcp_guard.config.document import parse_document
from mcp_guard.errors import ConfigError
from mcp_guard.wrap.guardyaml import add_servers

HEAD = "version: 1\nid: a\n"
NEW = {"new": {"command": "npx", "args": ["-y", "x: y"], "env": {"K": "${file:secrets/n.K}", "M": "a\nb"}}}
SHAPES = {
    "no block": HEAD,
    "empty": HEAD + "servers: {}\nrules: []\n",
    "empty with a comment": HEAD + "servers:   {}  # none yet\n",
    "nothing": HEAD + "servers:\nrules: []\n",
    "comments": HEAD + "servers:\n  a:\n    command: x   # why\n    # its end\n\n# Rules\nrules: []\n",
    "inline servers": HEAD + "servers:\n  a: {command: x}\n  b: {command: y, args: ['1']}\n",
    "inline block": HEAD + "servers: {a: {command: x}}\n",
    "inline block of lines": HEAD + "servers: {\n  a: {command: x},\n}\n",
    "literal text": HEAD
    + "servers:\n  a:\n    command: x\n    args:\n    - |\n      lit\n      more\n\n# c\nrules: []\n",
    "wide, no last line break": HEAD + "servers:\n    a:\n        command: x",
    "alias": HEAD + "servers:\n  a: &A\n    command: x\n  b: *A\nrules: []\n",
    "pasted": HEAD + "mcpServers:\n  a:\n    command: x\n",
    "json": '{"version": 1, "id": "a", "servers": {"a": {"command": "x"}}}\n',
    "empty json": '{"version": 1, "id": "a",\n  "servers": {}\n}\n',
    "windows": (HEAD + "servers:\n  a:\n    command: x\nrules: []\n").replace("\n", "\r\n"),
    "empty value": HEAD + "servers:\n  a:\n    command: x\n    cwd:\nrules: []\n",
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES.keys())
def test_servers_are_added_and_every_line_that_was_there_stays(text: str) -> None:
    """docs/hosts.md: comments and order stay."""
    before, added = parse_document(text, "guard.yaml").data, add_servers(text, NEW, "guard.yaml")
    after = parse_document(added, "guard.yaml").data
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    block = "mcpServers" if "mcpServers" in before else "servers"
    assert after == {**before, block: {**(before.get(block) or {}), **NEW}}  # type: ignore[dict-item]
    for comment in ("# why", "# its end", "# Rules", "# none yet"):
        assert text.count(comment) == added.count(comment)
    if "{" not in text:
        assert set(text.splitlines()) <= set(added.splitlines())
    assert ("\r\n" in text) == ("\r\n" in added)


def test_a_server_that_is_not_valid_is_not_added() -> None:
    """security.md S38."""
    with pytest.raises(ConfigError, match="no server can be added"):
        add_servers(HEAD, {"new": {"nonsense": 1}}, "guard.yaml")


def test_nothing_to_add_changes_nothing() -> None:
    """docs/hosts.md."""
    assert add_servers("# as it is", {}, "guard.yaml") == "# as it is"
