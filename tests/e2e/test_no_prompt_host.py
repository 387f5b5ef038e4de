"""A host that shows nothing: request, notice, sign-in at the page, approval, the call runs, the outcome is picked up.

docs/decisions.md D6, D35. The client declares no capability at all, as Claude Desktop does.
"""

from __future__ import annotations

import functools
import http.server
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from mcp import Client

from mcp_guard.config.load import load_config
from mcp_guard.http.console.parts import open_parts
from tests.e2e.browser import Browser, Page
from tests.e2e.harness import Guard, basic, connected, raw_call, text_of, until
from tests.e2e.test_rug_pull import POISONED, Shifty

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a person needs a terminal to sign in")
LINK = re.compile(r"http://127\.0\.0\.1:\d+/\S+/login/\S+")


@contextmanager
def notices() -> Iterator[tuple[str, list[bytes]]]:
    """An address that takes notices as JSON, and what it was sent."""
    sent: list[bytes] = []

    class Sink(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"json://127.0.0.1:{server.server_address[1]}/", sent
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quiet_host(folder: Path, *addresses: str) -> Guard:
    return basic(folder, approvals={"hold_s": 0.2, "notify": [*addresses]}, console={"port": free_port()})


def ticket_in(result: dict[str, Any]) -> str:
    assert result["isError"], result
    assert "NOT executed" in text_of(result)
    found = re.search(r"apr_[a-z0-9]+", text_of(result))
    assert found
    return found[0]


def signed_in(guard: Guard) -> tuple[Browser, Page]:
    """A person asks for a link in a terminal, opens it, and presses the button."""
    code, output = guard.terminal("console")
    assert code == 0, output
    found = LINK.search(output)
    assert found, output
    browser = Browser()
    opened = browser.get(found[0])
    assert browser.cookies == {}, "opening a link signs nobody in"
    (button,) = opened.forms()
    return browser, browser.send(opened, button)


def approve(browser: Browser, inbox: Page, ticket: str) -> None:
    """A person decides at the page, in as many steps as it asks for."""
    assert inbox.status == 200
    card = browser.get(f"{inbox.address}requests/{ticket}")
    assert "delete_thing" in card.text
    look = page = browser.send(card, card.form("/confirm"))
    deadline = time.monotonic() + 10
    while [form for form in page.forms() if form.action.endswith("/approve")]:
        # The second look takes no answer in its first moments: nobody has looked by then.
        assert time.monotonic() < deadline
        page = browser.send(look, look.form("/approve"))
    assert page.status == 200, page.text


def has_run(guard: Guard, times: int) -> bool:
    return guard.count("delete_thing") == times


async def identical_call(client: Client, _ticket: str) -> dict[str, Any]:
    return await raw_call(client, "leaky_delete_thing", {"id": 7})


async def wait_tool(client: Client, ticket: str) -> dict[str, Any]:
    return await raw_call(client, "guard_approval_wait", {"ticket": ticket, "timeout_s": 5})


async def test_the_call_runs_at_once_and_its_outcome_is_picked_up(tmp_path: Path) -> None:
    """D35, D17, S23: by the next identical call, and by `guard_approval_wait`; each call has run once."""
    with notices() as (address, sent):
        guard = quiet_host(tmp_path, address)
        page: tuple[Browser, Page] | None = None
        async with connected(guard, mode="legacy") as client:
            for number, pick_up in enumerate((identical_call, wait_tool), 1):
                ticket = ticket_in(await identical_call(client, ""))
                if page is None:
                    await until(lambda: sent)  # later ones are held back for a while, so as not to be a nuisance
                    page = await to_thread.run_sync(signed_in, guard)
                assert guard.count("delete_thing") == number - 1
                await to_thread.run_sync(approve, *page, ticket)
                await until(functools.partial(has_run, guard, number))
                outcome = await pick_up(client, ticket)
                assert text_of(outcome) == "delete_thing 7 done"
                assert not outcome.get("isError")
        assert guard.count("delete_thing") == 2
        assert guard.verified()
        said = json.loads(sent[0])
        assert said["message"] == "mcp-guard: a call waits"
        assert not [word for word in ("apr_", "delete", "leaky", "http://") if word.encode() in b"".join(sent)]


async def test_a_denial_at_the_page_reaches_the_agent(tmp_path: Path) -> None:
    """T5: with the reason that the person gave; nothing runs."""
    guard = quiet_host(tmp_path)
    async with connected(guard, mode="auto") as client:
        ticket = ticket_in(await identical_call(client, ""))

        def deny() -> None:
            browser, inbox = signed_in(guard)
            card = browser.get(f"{inbox.address}requests/{ticket}")
            assert browser.send(card, card.form("/deny"), reason="not on a Friday").status == 200

        await to_thread.run_sync(deny)
        outcome = await wait_tool(client, ticket)
        assert outcome["isError"]
        assert "not on a Friday" in text_of(outcome)
    assert guard.effects() == []


async def test_that_a_tool_is_held_back_is_told_by_a_notice_and_on_the_page(tmp_path: Path) -> None:
    """docs/pins.md: the agent is refused, and its user hears why."""
    with notices() as (address, sent):
        shifty = Shifty(tmp_path)
        guard = shifty.guard
        guard.config |= {"approvals": {"notify": [address]}, "console": {"port": free_port()}}
        guard.write()
        async with connected(guard, mode="legacy") as client:
            await raw_call(client, "mail_send", {})
            shifty.offer(tools=POISONED)
            await raw_call(client, "mail_nudge", {})
            await raw_call(client, "mail_send", {})
            await until(lambda: sent)
        assert [json.loads(body)["message"] for body in sent] == ["mcp-guard: a tool changed and is held back"]
        loaded = load_config(guard.path, env={})
        async with open_parts(loaded) as parts:
            assert [(held.server, held.names) for held in parts.held.now()] == [("mail", ("send",))]
