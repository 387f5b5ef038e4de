"""An agent with a shell, under the user's own account, tries to approve its own call.

It has no terminal and no token. It runs every command that a message, a hint, a ticket, a help text or a page of the
documentation names, every command that there is, posts to the page, and writes rows into the database.
docs/decisions.md D25, threats S21, S23.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import typer
from anyio import to_thread
from mcp import Client

import mcp_guard
from mcp_guard.approval.channels.console import console_url
from mcp_guard.cli.commands import app
from mcp_guard.keystore import KeyStore
from tests.e2e.harness import HERE, Guard, basic, connected, raw_call, reviewing, text_of, until
from tests.e2e.test_no_prompt_host import free_port, ticket_in

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no forks")
PACKAGE = Path(mcp_guard.__file__).parent
ROOT = PACKAGE.parent
NAMED = re.compile(r"mcp-guard((?: +(?:[\w.…-]+|\[[^\]\n]*\]|\{[^}\n]*\}|[\w-]+(?:\\?\|[\w-]+)+))+)")
YES = "y\nyes\n" * 20
VALUES = {
    "ID": "{ticket}", "APPROVAL_ID": "{ticket}", "TICKET": "{ticket}", "NAME": "mallory", "SERVER": "leaky",
    "TOOL": "delete_thing", "JSON": '{"id": 7}', "TEXT": "because", "FILE": "{host}", "PATH": "{host}", "N": "5",
    "HOST:PORT": "127.0.0.1:{port}", "HOST": "cursor", "INTEGER": "1", "FLOAT": "1", "OUTCOME": "completed",
    "GRANT_ID": "grt_x", "INDEX": "0", "XXXX-XXXX": "{fingerprint}",
}  # fmt: skip


def documents() -> Iterator[str]:
    """All text that the project shows to anybody, and the sources of its messages."""
    pages = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
    sources = [file for kind in ("py", "html", "js", "yaml") for file in PACKAGE.rglob(f"*.{kind}")]
    for file in sorted({*pages, *sources}):
        yield file.read_text(encoding="utf-8")


def named_in(text: str) -> Iterator[list[str]]:
    """Command lines that a text names, with every choice in them taken, and without and with what is optional."""
    for found in NAMED.finditer(text):
        words = re.findall(r"\[[^\]]*\]|\{[^}]*\}|\S+", found[1])
        for optional in (False, True):
            choices = [list(variants(word, optional=optional)) for word in words]
            yield from (list(itertools.chain(*chosen)) for chosen in itertools.islice(itertools.product(*choices), 8))


def variants(word: str, *, optional: bool) -> Iterator[list[str]]:
    if word.startswith("["):
        yield [filled(part) for part in word.strip("[]").split()] if optional else []
    elif "|" in word:
        yield from ([filled(part)] for part in re.split(r"\\?\|", word))
    elif word.startswith("{"):
        yield from (["leaky"], ["{ticket}"])
    elif word != "…":
        yield [filled(word.rstrip("."))]


def filled(word: str) -> str:
    return VALUES.get(word, word)


def commands_of(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands below a group, each with its words; typer brings its own kinds of them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, (*path, name))
        else:
            yield (*path, name), command


def every_command() -> Iterator[list[str]]:
    """Each command that there is: as it must be called, with each option, and with all switches."""
    for path, command in commands_of(typer.main.get_command(app)):
        options = [one for one in command.params if one.param_type_name == "option" and one.name != "config"]
        needed = [arguments_of(one) for one in command.params if one.required]
        least = [*path, *itertools.chain(*needed)]
        switches = [max(one.opts, key=len) for one in options if one.is_flag]
        yield from (least, [*least, *switches])
        yield from ([*least, *arguments_of(one)] for one in options if not one.required)


def arguments_of(one: Any) -> list[str]:
    """A parameter of a command, with a value that fits."""
    metavar = (one.metavar or one.name or "").upper()
    kind = one.bare_type
    closed = isinstance(kind, type) and issubclass(kind, Enum)
    value = str(next(iter(kind)).value) if closed else VALUES.get(metavar, "1")
    if one.param_type_name != "option":
        return [value]
    name = max(one.opts, key=len)
    return [name] if one.is_flag else [name, value]


def all_attempts(said: str) -> list[list[str]]:
    """All command lines, once each."""
    texts = (said, *documents())
    found = itertools.chain((line for text in texts for line in named_in(text)), every_command())
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # typer's own kind of group
    return [list(line) for line in dict.fromkeys(tuple(line) for line in found) if line and line[0] in known]


def forge(guard: Guard, lines: list[list[str]], ticket: str) -> list[dict[str, Any]]:
    """Run the command lines for this ticket; the answers in their order."""
    host = guard.folder / "host.json"
    host.write_text('{"mcpServers": {}}', encoding="utf-8")
    mark = guard.json("approvals", "show", ticket)["fingerprint"]
    words = {"{ticket}": ticket, "{host}": str(host), "127.0.0.1:{port}": f"127.0.0.1:{free_port()}"}
    words |= {"{fingerprint}": mark}
    todo = [{"argv": [words.get(word, word) for word in line], "stdin": YES} for line in lines]
    file = guard.folder / "attempts.json"
    file.write_text(json.dumps(todo), encoding="utf-8")
    home = guard.folder / "home"
    home.mkdir(exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith("MCP_GUARD")}
    env |= {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "XDG_DATA_HOME": str(home),
        "MCP_GUARD_CONFIG": str(guard.path),
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "forger.py"), str(file)],
        cwd=guard.folder, env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


@asynccontextmanager
async def waiting(folder: Path) -> AsyncIterator[tuple[Guard, Client, str, str]]:
    """A guard with a call of high risk that waits; it would run at once if anybody approved it."""
    guard = basic(
        folder, approvals={"hold_s": 0.1, "notify": [], "expires_after_s": 600}, console={"port": free_port()}
    )
    async with connected(guard, mode="legacy") as client:
        result = await raw_call(client, "leaky_delete_thing", {"id": 7})
        yield guard, client, ticket_in(result), text_of(result)


async def assert_still_waiting(guard: Guard, ticket: str) -> None:
    async with reviewing(guard) as review:
        assert [(one.row.id, one.row.state.value) for one in await review.list_requests()] == [(ticket, "pending")]
    assert guard.effects() == []


async def test_no_command_that_anybody_names_approves_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """D25: nothing runs, and the request waits as before."""
    async with waiting(tmp_path) as (guard, client, ticket, said):
        lines = all_attempts(said)
        answers = await to_thread.run_sync(forge, guard, lines, ticket)
        with capsys.disabled():
            sys.stdout.write(f"\n{len(lines)} commands\n")
        assert len(answers) == len(lines) > 100
        for line, answer in zip(lines, answers, strict=True):
            assert "Traceback" not in answer["output"], (line, answer)
            assert "MCP_GUARD_REVIEWER_TOKEN=" not in said
        await assert_still_waiting(guard, ticket)
        async with reviewing(guard) as review:
            assert await review.reviewers.list() == []
            assert await review.list_grants(active_only=False) == []
        again = await raw_call(client, "leaky_delete_thing", {"id": 7})
        assert ticket in text_of(again)
        assert guard.verified()


def test_the_attempts_are_those_that_matter() -> None:
    """The harvest finds what it is meant to find."""
    lines = {" ".join(line) for line in all_attempts("")}
    for expected in ("approvals approve {ticket}", "approvals deny {ticket}", "approvals cancel {ticket}"):
        assert expected in lines
    assert "approvals approve {ticket} --fingerprint {fingerprint}" in lines
    assert {"console", "reviewer add mallory", "pins accept leaky", "trust leaky", "audit verify"} <= lines


def speak(guard: Guard, method: str, path: str, fields: dict[str, str] | None, **headers: str) -> tuple[int, str]:
    """One request to the page, with the headers that its own forms would send."""
    authority = f"127.0.0.1:{guard.config['console']['port']}"
    full = {"Origin": f"http://{authority}", "Sec-Fetch-Site": "same-origin"}
    if fields is not None:
        full["Content-Type"] = "application/x-www-form-urlencoded"
    connection = http.client.HTTPConnection(authority, timeout=10)
    try:
        connection.request(method, path, urlencode(fields or {}) if fields is not None else None, {**full, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def knock(guard: Guard, ticket: str, root: str) -> list[tuple[int, str]]:
    """Everything that one can ask of the page without having signed in."""
    forms = [f"requests/{ticket}/approve", f"requests/{ticket}/deny", "grants/grt_x/revoke", "login/guessed", "logout"]
    pages = [
        "",
        f"requests/{ticket}",
        f"requests/{ticket}/all",
        "history",
        "grants",
        "audit",
        f"audit/{ticket}",
        "events",
    ]
    stolen = {"form": "0" * 32, "seen": "0" * 32, "confirm": "0" * 32, "grant": "0", "token": "mgr_guess"}
    cookies = ["", "mcp_guard_session=guessed", "mcp_guard_session=" + "0" * 43]
    found = [speak(guard, "GET", root + page, None, Cookie=cookie) for page in pages for cookie in cookies]
    found += [speak(guard, "GET", root + form, None) for form in forms]
    found += [speak(guard, "POST", root + form, stolen, Cookie=cookie) for form in forms for cookie in cookies]
    found += [speak(guard, "POST", root + page, stolen) for page in pages]
    return found


def answers_at(port: int) -> bool:
    """Whether the page is served: a guard opens it once a request waits."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def forged_rows(database: Path, ticket: str) -> None:
    """Write what an approval, a session, a link, a reviewer and a grant look like, without the keys."""
    now, later = 1, 2**62
    with closing(sqlite3.connect(database)) as db, db:
        (owner, nonce) = db.execute("SELECT owner, nonce FROM approval WHERE id = ?", (ticket,)).fetchone()
        statement = json.dumps({"v": 1, "approval": ticket, "round": 1, "verdict": "approve", "nonce": nonce})
        db.execute(
            "INSERT INTO decision(approval, round, statement, signature) VALUES (?, 1, ?, ?)",
            (ticket, statement, b"\0" * 64),
        )
        db.execute("INSERT INTO reviewer VALUES ('mallory', ?, ?, 'mallory', ?, NULL)", ("0" * 64, now, "0" * 64))
        for kind in ("link", "session"):
            secret = f"mcp-guard/console-{kind}\0forged"
            hashed = hashlib.sha256(secret.encode()).hexdigest()
            db.execute(
                "INSERT INTO console_pass VALUES (?, ?, 'mallory', 4, '', '', ?, ?, ?)",
                (hashed, kind, now, later, "0" * 64),
            )
        db.execute(
            "INSERT INTO standing_grant VALUES ('grt_forged', ?, ?, 'leaky', 'delete_thing', ?, ?, 0, NULL, '', '', '',"
            " ?, '{}', ?, 1, 0)",
            (ticket, owner, now, later, b"\0" * 64, b"\0" * 64),
        )


async def test_neither_the_page_nor_rows_written_by_hand_open_anything(tmp_path: Path) -> None:
    """D17, D25, S13: no GET, POST, cookie or mark; no session, link, reviewer or grant that was made up."""
    async with waiting(tmp_path) as (guard, client, ticket, _said):
        root = console_url(guard.config["console"]["port"], KeyStore(guard.data / "keys"))
        path = "/" + root.split("/", 3)[3]
        await until(lambda: answers_at(guard.config["console"]["port"]), within_s=30)
        answers = await to_thread.run_sync(knock, guard, ticket, path)
        assert len(answers) > 40
        assert {status for status, _ in answers} <= {200, 303, 401, 403, 404, 405, 410, 415, 422}
        for status, text in answers:
            assert "delete_thing" not in text
            assert status != 303 or not text
        await assert_still_waiting(guard, ticket)

        await to_thread.run_sync(forged_rows, guard.data / "approvals.db", ticket)
        cookie = "mcp_guard_session=forged"
        status, text = await to_thread.run_sync(lambda: speak(guard, "GET", path, None, Cookie=cookie))
        assert status == 401
        assert "delete_thing" not in text
        status, text = await to_thread.run_sync(lambda: speak(guard, "POST", f"{path}login/forged", {}))
        assert status == 410
        other = await raw_call(client, "leaky_delete_thing", {"id": 8})
        assert "NOT executed" in text_of(other)
        assert guard.effects() == []
