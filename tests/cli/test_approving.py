"""`mcp-guard approvals approve` shows the call and asks first (docs/cli.md; approvals.md 5.7; security.md S15)."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Guard, basic, connected, raw_call

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="terminals as POSIX has them")
LONG = "A" * 5_000


def guard_of(folder: Path, risk: str) -> Guard:
    """A guard whose deletes ask, with what a manifest says of their risk."""
    guard = basic(folder)
    tool = {"effects": ["write"], "risk": risk, "why": "A test."}
    manifest = {"manifest": 1, "server": "leaky", "package": "pkg:pypi/leaky", "reviewed_version": "1"}
    file = folder / "leaky.manifest.json"
    file.write_text(json.dumps({**manifest, "tools": {"delete_thing": tool}}), encoding="utf-8")
    guard.config["servers"]["leaky"]["manifest"] = str(file)
    guard.write()
    return guard


async def suspend(guard: Guard, **more: Any) -> tuple[str, str]:
    """A call that waits; its id and its fingerprint."""
    async with connected(guard) as client:
        result = await raw_call(client, "leaky_delete_thing", {"id": 7, **more})
    waiting = result["_meta"]["io.mcp-guard/approval"]
    return str(waiting["ticket"]), str(waiting["fingerprint"])


def state(guard: Guard, ticket: str) -> str:
    return str(guard.json("approvals", "show", ticket)["state"])


@POSIX
async def test_at_a_terminal_a_call_of_high_risk_is_shown_and_approved_by_its_fingerprint_alone(tmp_path: Path) -> None:
    """approvals.md 5.7: `approve` on high asks to type it. A wrong one, a yes or nothing at all decides nothing."""
    guard = basic(tmp_path)
    ticket, mark = await suspend(guard, note="hello")

    for typed in ("AAAA-AAAA\n", "y\n", "\n", "\x04"):
        code, said = guard.terminal("approvals", "approve", ticket, typed=typed)
        assert code == 1, said
        assert "[not_confirmed] " in said
        assert "\nhint: " in said.replace("\r", "")
        assert state(guard, ticket) == "pending"
    code, said = guard.terminal("approvals", "approve", ticket, typed=mark.lower().replace("-", " ") + "\n")

    assert code == 0, said
    shown, asked, done = said.partition("To approve a call of high risk, type the fingerprint: ")
    assert asked
    for part in ("requester", "client", "leaky/delete_thing", "why am I asked", '"note" = "hello"', mark):
        assert part in shown
    assert f"{ticket} approved by " in done
    assert guard.json("approvals", "ls", "--all")[0]["decided_how"] == "at the command line (A1)"


@POSIX
async def test_at_a_terminal_a_lesser_call_is_shown_and_approved_by_a_yes(tmp_path: Path) -> None:
    """docs/cli.md: y/N, and no is what an empty answer says."""
    guard = guard_of(tmp_path, "medium")
    ticket, _ = await suspend(guard)

    no, refused = guard.terminal("approvals", "approve", ticket, typed="\n")
    waiting = state(guard, ticket)
    yes, said = guard.terminal("approvals", "approve", ticket, typed="y\n")

    assert (no, waiting) == (1, "pending")
    assert "[not_confirmed] it was not approved; nothing was decided" in refused
    assert yes == 0, said
    assert '"id" = 7' in said.partition("Approve this call? [y/N] ")[0]


@POSIX
@pytest.mark.parametrize(
    ("more", "why"),
    [({"note": LONG}, "a call that is not shown whole"), ({"note": "a\u200bb"}, "a call with hidden characters")],
    ids=["long", "hidden"],
)
async def test_what_was_cut_or_hides_characters_takes_the_fingerprint_whatever_its_risk(
    tmp_path: Path, more: dict[str, str], why: str
) -> None:
    """security.md S15: one press is not enough for what one has not seen whole."""
    guard = guard_of(tmp_path, "medium")
    ticket, mark = await suspend(guard, **more)
    token = guard.reviewer()

    yes, said = guard.terminal("approvals", "approve", ticket, typed="y\n")
    blind = guard.cli("approvals", "approve", ticket, token=token)
    waiting = guard.json("approvals", "show", ticket)
    code, done = guard.terminal("approvals", "approve", ticket, typed=f"{mark}\n")

    assert yes == 1
    assert f"To approve {why}, type the fingerprint: " in said
    assert blind.stderr.startswith(f"[not_confirmed] {why} is approved by its fingerprint")
    assert (waiting["state"], waiting["needs_fingerprint"]) == ("pending", True)
    assert code == 0, done


@POSIX
async def test_who_opened_all_of_a_long_call_approves_it_with_a_yes(tmp_path: Path) -> None:
    """docs/console.md: the page takes it so as well. What is said of the rest names the option that shows it."""
    guard = guard_of(tmp_path, "medium")
    ticket, _ = await suspend(guard, note=LONG)

    shown, whole = guard.cli("approvals", "show", ticket), guard.cli("approvals", "show", ticket, "--full")
    code, said = guard.terminal("approvals", "approve", ticket, "--full", typed="y\n")

    assert re.search(r"A… 4,0\d\d more characters, --full shows all\n", shown.stdout)
    assert LONG not in shown.stdout
    assert LONG in whole.stdout
    assert "--full" not in whole.stdout
    assert code == 0, said
    assert said.count("A") > len(LONG)


async def test_without_a_terminal_a_token_alone_approves_nothing_of_high_risk(tmp_path: Path) -> None:
    """docs/errors.md, not_confirmed: a script gives the fingerprint of what it means."""
    guard = basic(tmp_path)
    token = guard.reviewer()
    ticket, mark = await suspend(guard)
    other = "AAAA-AAAA" if mark != "AAAA-AAAA" else "BBBB-BBBB"

    blind = guard.cli("approvals", "approve", ticket, token=token)
    wrong = guard.cli("approvals", "approve", ticket, "--fingerprint", other, "--json", token=token)
    nobody = guard.cli("approvals", "approve", ticket, "--fingerprint", mark)
    waiting = state(guard, ticket)
    right = guard.cli("approvals", "approve", ticket, "--fingerprint", mark, "--json", token=token)

    assert (blind.returncode, wrong.returncode, nobody.returncode) == (1, 1, 1)
    assert blind.stderr.startswith(
        "[not_confirmed] a call of high risk is approved by its fingerprint, with --fingerprint"
    )
    assert wrong.stderr.startswith("[not_confirmed] this is not the fingerprint of the request; nothing was decided")
    assert nobody.stderr.startswith("[not_eligible] ")
    assert (blind.stdout, wrong.stdout, waiting) == ("", "", "pending")
    assert json.loads(right.stdout)["state"] == "approved"


async def test_without_a_terminal_a_token_approves_a_lesser_call_as_before(tmp_path: Path) -> None:
    """docs/cli.md: a script is asked nothing; a fingerprint that it gives has to be the right one."""
    guard = guard_of(tmp_path, "medium")
    token = guard.reviewer()
    ticket, _ = await suspend(guard)

    wrong = guard.cli("approvals", "approve", ticket, "--fingerprint", "nonsense", token=token)
    done = guard.cli("approvals", "approve", ticket, token=token)

    assert wrong.stderr.startswith("[not_confirmed] this is not the fingerprint")
    assert (done.returncode, done.stdout) == (0, f"{ticket} approved by rita\n")


async def test_a_call_of_critical_risk_without_a_reviewer_says_what_the_user_does(tmp_path: Path) -> None:
    """docs/errors.md, no_eligible_reviewer: the user adds a reviewer once; then the same call waits."""
    guard = guard_of(tmp_path, "critical")
    del guard.config["rules"][1]
    guard.config["rules"][0]["match"]["tool"] = "get_*"
    guard.write()
    async with connected(guard) as client:
        refused = await raw_call(client, "leaky_delete_thing", {"id": 7})
        token = guard.reviewer()
        again = await raw_call(client, "leaky_delete_thing", {"id": 7})
        ticket = again["_meta"]["io.mcp-guard/approval"]["ticket"]
        done = guard.approve(ticket, token=token)

    said = refused["content"][0]["text"]
    assert said.startswith("[no_eligible_reviewer] a call of critical risk needs a reviewer with a token")
    assert "the user runs `mcp-guard reviewer add NAME` once" in said
    assert "assurance" not in said
    assert done.returncode == 0, done.stderr


@POSIX
async def test_a_request_that_was_altered_is_not_even_asked_about(tmp_path: Path) -> None:
    """security.md S13: what is shown of it may be anything, also when the row is put back before the answer."""
    guard = basic(tmp_path)
    ticket, mark = await suspend(guard)
    with closing(sqlite3.connect(guard.data / "approvals.db")) as db, db:
        db.execute("UPDATE approval SET view = replace(view, '7', '8')")

    code, said = guard.terminal("approvals", "approve", ticket, typed=f"{mark}\n")

    assert code == 1
    assert f"[conflict] the request {ticket} is void: " in said
    assert "why am I asked" not in said
    assert "type the fingerprint" not in said
