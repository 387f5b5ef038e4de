"""Hosts and the guard (security.md S40)."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcp_guard.doctor import hosts
from tests.doctor.conftest import Place, codes

GITHUB = {"command": "npx", "args": ["server-github"]}


def guard(place: Place, server: str = "", command: str = sys.executable, config: Path | None = None) -> dict[str, Any]:
    words = ["-P", "-m", "mcp_guard.cli.main", "serve", "--config", str(config or place.path)]
    return {"command": command, "args": [*words, *(["--server", server] if server else [])]}


def cursor(place: Place, **entries: dict[str, Any]) -> Path:
    return _write(place.home / ".cursor" / "mcp.json", entries)


def desktop(place: Place, **entries: dict[str, Any]) -> Path:
    return _write(place.home / ".config" / "Claude" / "claude_desktop_config.json", entries)


def _write(path: Path, entries: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"mcpServers": entries}))
    return path


@pytest.fixture(autouse=True)
def no_other_folder(place: Place) -> None:
    place.env.pop("XDG_CONFIG_HOME", None)


def test_a_server_beside_the_guard_is_a_problem(place: Place) -> None:
    """docs/doctor.md, host-bypass."""
    cursor(place, github=GITHUB, guard=guard(place))

    findings = hosts.look(place.setup())

    assert [f.text for f in findings] == [
        "Cursor starts github beside the guard (~/.cursor/mcp.json): those calls are not guarded."
    ]
    assert codes(findings) == ["host-bypass"]
    assert findings[0].mend == "mcp-guard wrap cursor, then restart Cursor"


def test_what_wrap_leaves_alone_unless_it_is_told_is_in_the_command(place: Place) -> None:
    """docs/doctor.md, host-bypass: the command that is told mends it."""
    cursor(place, far={"url": "https://example.test/mcp"})
    _write(place.folder / ".mcp.json", {"github": GITHUB})

    assert sorted(finding.mend for finding in hosts.look(place.setup())) == [
        "mcp-guard wrap claude-code --project, then restart Claude Code",
        "mcp-guard wrap cursor --remote, then restart Cursor",
    ]


def test_servers_instead_of_the_guard_are_a_problem_and_hidden_characters_in_their_names_are_shown(
    place: Place,
) -> None:
    """docs/doctor.md, host-bypass; security.md S15."""
    others = {f"s{number}": {"url": "https://example.test/mcp"} for number in range(7)}
    _write(place.home / ".config" / "Claude" / "claude_desktop_config.json", {"a\x1b[2J": GITHUB, **others})

    text = hosts.look(place.setup())[0].text

    assert text.startswith("Claude Desktop starts a\\u{1b}[2J, s0, s1, s2, s3, s4 and 2 more without the guard (")


def test_a_disabled_server_goes_around_nothing(place: Place) -> None:
    cursor(place, github={**GITHUB, "disabled": True}, guard=guard(place))

    assert [f.text for f in hosts.look(place.setup())] == ["Cursor: every server behind the guard"]


def test_a_guard_that_is_gone_is_a_problem(place: Place) -> None:
    """docs/doctor.md, host-stale."""
    path = cursor(
        place,
        moved=guard(place, "a", command="/nowhere/bin/python3"),
        lost=guard(place, config=place.folder / "gone.yaml"),
        none=guard(place, "no-such-server"),
    )

    findings = hosts.look(place.setup(a={"command": "x"}))

    assert [f.text for f in findings] == ["Cursor: 3 entries cannot start the guard."]
    assert findings[0].detail == (
        "the entry moved starts an mcp-guard that is not there",
        "the entry lost names a guard.yaml that is not there",
        "the entry none names the server no-such-server, which guard.yaml does not run",
    )
    assert set(codes(findings)) == {"host-stale"}
    told = f"correct it in {path}, or run mcp-guard unwrap cursor and mcp-guard wrap cursor; then restart Cursor"
    assert findings[0].mend == told


def test_an_entry_that_only_looks_like_the_guard_is_a_problem(place: Place) -> None:
    """docs/doctor.md, host-suspect."""
    cursor(place, x={"command": "/opt/evil", "args": ["mcp-guard", "serve"]})

    findings = hosts.look(place.setup())

    assert codes(findings) == ["host-suspect"]
    assert findings[0].text == (
        "Cursor has an entry x (~/.cursor/mcp.json): it looks like mcp-guard, but may start other code: "
        "look at it by hand."
    )


def test_the_same_tools_twice_are_a_warning(place: Place) -> None:
    """docs/doctor.md, host-twice."""
    path = cursor(place, all=guard(place), a=guard(place, "a"))

    findings = hosts.look(place.setup(a={"command": "x"}))

    assert codes(findings) == ["host-twice"]
    assert findings[0].mend == f"remove one of the two entries from {path}, then restart Cursor"


def test_one_entry_for_each_server_is_fine(place: Place) -> None:
    cursor(place, a=guard(place, "a"), b=guard(place, "b"))

    assert codes(hosts.look(place.setup(a={"command": "x"}, b={"command": "y"}))) == []


def test_plain_secrets_of_a_host_are_counted_and_never_shown(place: Place) -> None:
    """docs/doctor.md, host-secret."""
    cursor(place, github={**GITHUB, "env": {"TOKEN": "plain-0123456789"}})

    findings = hosts.look(place.setup())

    assert codes(findings) == ["host-bypass", "host-secret"]
    assert "plain-0123456789" not in str(findings)
    assert findings[1].mend == "mcp-guard wrap cursor (moves it into a private file)"


def test_what_wrap_always_leaves_is_told_with_what_helps(place: Place) -> None:
    """docs/doctor.md, host-left and host-secret: a mend that is told mends it."""
    old = {"type": "sse", "url": "https://x.example/sse", "headers": {"Authorization": "Bearer plain-0123456789"}}
    login = {"url": "https://y.example/mcp", "oauth": {"clientId": "c"}}
    path = cursor(place, old=old, login=login, guard=guard(place))

    findings = hosts.look(place.setup())

    assert codes(findings) == ["host-left", "host-left", "host-secret"]
    where = "without the guard (~/.cursor/mcp.json), and wrap leaves it so"
    assert findings[0].text == f"Cursor reaches old {where}: it uses the old SSE transport."
    address = "write the server's streamable HTTP address there, if its maker has one"
    assert findings[0].mend == f"in {path}, {address}, then mcp-guard wrap cursor; or remove it there"
    token = "give it a token of its own in `headers`, if its maker has such"
    assert findings[1].mend == f"in {path}, {token}, then mcp-guard wrap cursor --remote; or remove it there"
    assert findings[2].mend == f"take it out of {path} by hand: wrap leaves that entry alone"


def test_a_file_that_cannot_be_read_is_a_note(place: Place) -> None:
    """docs/doctor.md, host-unreadable."""
    cursor(place).write_text('{"mcpServers": {"secret-token')

    findings = hosts.look(place.setup())

    assert codes(findings) == ["host-unreadable", "host-none"]
    assert findings[0].text == "Cursor: ~/.cursor/mcp.json cannot be read."


def test_a_machine_without_hosts_is_told_what_to_do(place: Place) -> None:
    """docs/doctor.md, host-none."""
    findings = hosts.look(place.setup())

    assert [(f.code, f.mend) for f in findings] == [("host-none", "mcp-guard wrap")]


def test_a_host_that_shows_no_questions_is_a_note(place: Place) -> None:
    """docs/doctor.md, host-silent."""
    desktop(place, all=guard(place))

    findings = hosts.look(place.setup())

    assert codes(findings) == ["host-silent"]
    assert findings[0].text == "Claude Desktop shows no questions: calls that need you wait elsewhere."
    assert findings[1].text == "Claude Desktop: every server behind the guard"


def test_a_client_at_which_nobody_ever_answered_is_a_note(place: Place) -> None:
    """docs/doctor.md, host-silent; decisions.md D6."""
    scripts = Path(hosts.__file__).parents[1] / "approval" / "migrations" / "sqlite"
    with closing(sqlite3.connect(place.data / "approvals.db")) as db:
        db.executescript((scripts / "0004_hosts.sql").read_text())
        rows = [("quiet\x1b", 3, None), ("loud", 3, 5), ("new", 1, None)]
        db.executemany("INSERT INTO asked_client VALUES (?, '1', 'form', ?, 0, 0, ?)", rows)
        db.commit()

    findings = hosts.forgotten(place.setup())

    assert [f.text for f in findings] == ["Nobody ever answered a question at quiet\\u{1b}: it may not show any."]
