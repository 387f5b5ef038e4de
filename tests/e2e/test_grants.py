"""Grants over real processes: one question for a folder, and every call after it through the real file server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest

from tests.e2e.harness import Guard, connected, raw_call, reviewing, text_of, until
from tests.e2e.test_elicitation import Content, Person, fingerprint_in
from tests.e2e.test_reference_servers import installed, node_server

pytestmark = pytest.mark.skipif(not installed("server-filesystem"), reason="the Node packages are not installed")


def files_guard(folder: Path) -> Guard:
    (folder / "files" / "work").mkdir(parents=True)
    config = {
        "version": 1,
        "id": "test",
        "data_dir": "./guard-data",
        "servers": {"files": node_server("server-filesystem", str(folder / "files"))},
        "approvals": {"hold_s": 10.0, "notify": []},
        "console": {"serve": False},
    }
    guard = Guard(folder, config)
    guard.write()
    return guard


def granting(message: str) -> types.ElicitResult:
    content: Content = {"decision": "approve_and_grant_2", "fingerprint": fingerprint_in(message)}
    return types.ElicitResult(action="accept", content=content)


def declining(_message: str) -> types.ElicitResult:
    return types.ElicitResult(action="decline")


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_one_answer_serves_a_whole_folder_and_nothing_else(mode: str, tmp_path: Path) -> None:
    """docs/grants.md: the form gives it; other folders, hidden files and links that lead out ask."""
    guard, person = files_guard(tmp_path), Person(granting, declining, declining, declining)
    work = tmp_path / "files" / "work"
    (tmp_path / "files" / "other").mkdir()
    (work / "out").symlink_to(tmp_path / "files" / "other")
    async with connected(guard, mode=mode, elicitation_callback=person) as client:

        async def write(path: Path) -> dict[str, Any]:
            call = await client.call_tool("files_write_file", {"path": str(path), "content": path.name})
            return {"isError": call.is_error}

        for name in ("a.txt", "b.txt", "c.txt", "d.txt"):
            assert not (await write(work / name))["isError"], name
        assert len(person.asked) == 1
        for outside in (tmp_path / "files" / "other" / "x.txt", work / ".env", work / "out" / "x.txt"):
            assert (await write(outside))["isError"]
    assert len(person.asked) == 4
    assert sorted(path.name for path in work.iterdir()) == ["a.txt", "b.txt", "c.txt", "d.txt", "out"]
    assert list((tmp_path / "files" / "other").iterdir()) == []
    kinds = [entry.type for entry in guard.records()]
    assert (kinds.count("grant.created"), kinds.count("grant.used")) == (1, 3)
    assert guard.verified()


def revocations(guard: Guard) -> list[tuple[object, ...]]:
    """How grants were revoked, as the record says it: here by a program, without a terminal and without a token."""
    found = [entry.fields for entry in guard.records() if entry.type == "grant.revoked"]
    return [tuple(fields[name] for name in ("channel", "assurance", "separation")) for fields in found]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
async def test_a_grant_is_given_listed_and_revoked_at_the_command_line(tmp_path: Path) -> None:
    """docs/cli.md: giving needs a terminal or a token; revoking needs neither."""
    guard = files_guard(tmp_path)
    guard.config["approvals"]["hold_s"] = 0.3
    guard.write()
    work = tmp_path / "files" / "work"
    async with connected(guard) as client:

        async def write(name: str) -> str:
            arguments = {"path": str(work / name), "content": name}
            return text_of(await raw_call(client, "files_write_file", arguments))

        assert "NOT executed" in await write("a.txt")
        async with reviewing(guard) as review:
            waiting = (await review.list_requests())[0].row.id
        card = guard.cli("approvals", "show", waiting).stdout
        assert "2. write_file within these bounds, up to 20 more times within 15 minutes" in card
        assert f"path: inside {work}/" in card
        assert guard.cli("approvals", "approve", waiting, "--grant", "2").returncode == 1
        mark = guard.json("approvals", "show", waiting)["fingerprint"]
        code, said = guard.terminal("approvals", "approve", waiting, "--grant", "9", typed=f"{mark}\n")
        assert code == 2
        assert "[usage] " in said
        assert "type the fingerprint" not in said
        code, said = guard.terminal("approvals", "approve", waiting, "--grant", "2", typed=f"{mark}\n")
        assert code == 0, said
        assert "and give grant 2, type the fingerprint" in said
        assert "NOT executed" not in await write("b.txt")
        listed = guard.cli("approvals", "grants").stdout
        assert "active  files/write_file  used 1 of 20" in listed
        assert f"path: inside {work}/" in listed
        assert guard.cli("approvals", "revoke", listed.split()[0]).returncode == 0
        assert "NOT executed" in await write("c.txt")
        async with reviewing(guard) as review:
            assert await review.list_grants() == []
        assert await until(lambda: revocations(guard)) == [("cli", "A0", "none")]
    assert not (work / "c.txt").exists()
