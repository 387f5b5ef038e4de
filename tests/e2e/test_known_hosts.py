"""Real clients that show the page, show nothing, or only say that they show something."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest

from mcp_guard.approval.clients import Clients
from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.approval.store import DOMAIN
from mcp_guard.clock import SystemClock
from mcp_guard.model import Assurance, ClientInfo
from mcp_guard.storage.sqlite import Database
from tests.e2e.harness import Guard, basic, connected, raw_call, reviewing, text_of, until
from tests.fakes import FakeClock

ERAS = ("legacy", "auto")
RITA = Reviewer("rita", Assurance.A2, "console")
NS = 1_000_000_000
QUIET: dict[str, Any] = {"hold_s": 0.3, "notify": []}


class Person:
    """Takes every question as told: `accept`, `decline`, `cancel`, or never answers (None)."""

    def __init__(self, action: Any) -> None:
        self._action = action
        self.asked: list[types.ElicitRequestParams] = []

    async def __call__(self, _context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append(params)
        if self._action is None:
            await anyio.sleep_forever()
        return types.ElicitResult(action=self._action)


def strict(folder: Path, hold_s: float) -> Guard:
    """Deletes need a reviewer with a credential, so a form at the requester's client would not count."""
    guard = basic(folder, approvals={**QUIET, "hold_s": hold_s}, console={"port": 1, "serve": True})
    guard.config["rules"][1]["approval"] = {"min_assurance": "A2"}
    guard.write()
    return guard


async def decide(guard: Guard, person: Person, verdict: Any) -> str:
    """A reviewer decides in another process, once the client has been asked; returns the address that it was given."""
    params = await until(lambda: person.asked and person.asked[0])
    assert isinstance(params, types.ElicitRequestURLParams)
    async with reviewing(guard) as review:
        (request,) = await review.list_requests()
        await review.decide(request.row.id, verdict, RITA)
        assert params.url.endswith(f"/requests/{request.row.id}")
    return params.url


@pytest.mark.skipif(sys.platform == "win32", reason="a reviewer is added in a terminal")
@pytest.mark.parametrize("mode", ERAS)
async def test_a_client_that_opens_addresses_is_sent_to_the_page_where_the_decision_is_made(
    mode: str, tmp_path: Path
) -> None:
    """docs/security.md S19: consent to open is no approval, and the address carries no authority."""
    guard, person, over = strict(tmp_path, 20), Person("accept"), []

    async def listen(message: Any) -> None:
        if isinstance(message, types.ElicitCompleteNotification):
            over.append(message.params.elicitation_id)

    token, got = guard.reviewer(), []
    async with (
        connected(guard, mode=mode, elicitation_callback=person, message_handler=listen) as client,
        anyio.create_task_group() as group,
    ):

        async def call() -> None:
            got.append(await client.call_tool("leaky_delete_thing", {"id": 7}))

        group.start_soon(call)
        url = await decide(guard, person, "approve")
        await until(lambda: got)
        assert await until(lambda: mode != "legacy" or over) is not None

    assert guard.count("delete_thing") == 1
    assert got[0].is_error is False
    assert token not in url
    (params,) = person.asked
    assert "approves nothing" in params.message


@pytest.mark.skipif(sys.platform == "win32", reason="a reviewer is added in a terminal")
@pytest.mark.parametrize(("mode", "action"), [("legacy", "decline"), ("auto", "accept")])
async def test_what_the_client_answers_about_the_page_decides_nothing(mode: str, action: str, tmp_path: Path) -> None:
    """docs/security.md S19; not wanting to open the page is not a denial either."""
    guard, person = strict(tmp_path, 0.3), Person(action)
    guard.reviewer()
    async with connected(guard, mode=mode, elicitation_callback=person) as client:
        result = await client.call_tool("leaky_delete_thing", {"id": 7})

        assert result.is_error
        assert len(person.asked) == 1
        async with reviewing(guard) as review:
            assert len(await review.list_requests()) == 1
    assert guard.count("delete_thing") == 0


async def test_a_host_that_declares_forms_and_is_known_to_draw_none_is_not_asked(tmp_path: Path) -> None:
    """docs/known-hosts.md: Claude Desktop; the agent is told to tell its user."""
    guard, person = basic(tmp_path, approvals=QUIET), Person(None)
    info = types.Implementation(name="claude-ai", version="0.1.0")
    async with connected(guard, mode="legacy", elicitation_callback=person, client_info=info) as client:
        result = await raw_call(client, "leaky_delete_thing", {"id": 7})

    assert person.asked == []
    assert "Tell your user now that this call waits, and how to decide it: the user runs" in text_of(result)
    for command in ("console", "approvals ls"):
        assert f"`mcp-guard {command} --config {guard.path}`" in text_of(result)
    assert "approvals approve" not in text_of(result)
    assert guard.count("delete_thing") == 0


async def left_alone(guard: Guard, client: ClientInfo, times: int) -> None:
    """Another guard of this data folder asked this client, and each time nobody answered for 45 s."""
    database = await Database.open(guard.data / "approvals.db", DOMAIN)
    clock = FakeClock(SystemClock().now_ns() - 100 * NS)
    try:
        for _ in range(times):
            opened_ns = clock.now_ns()
            clock.advance(45)
            await Clients(database, clock).unanswered(client, "form", opened_ns)
    finally:
        await database.close()


async def test_a_client_that_draws_nothing_is_found_out_and_the_next_guard_knows(tmp_path: Path) -> None:
    """docs/known-hosts.md, memory: it outlives the process; a form that was open for a moment says nothing."""
    guard, person = basic(tmp_path, approvals=QUIET), Person(None)
    info = types.Implementation(name="quiet-host", version="7")

    async def call(*numbers: int) -> None:
        async with connected(guard, mode="legacy", elicitation_callback=person, client_info=info) as client:
            for number in numbers:
                result = await raw_call(client, "leaky_delete_thing", {"id": number})
                assert "Tell your user now" in text_of(result)

    await call(1, 2, 3)
    assert len(person.asked) == 3
    await left_alone(guard, ClientInfo("quiet-host", "7"), 2)
    await call(4)
    assert len(person.asked) == 3
    with closing(sqlite3.connect(guard.data / "approvals.db")) as db:
        assert db.execute("SELECT channel, unanswered FROM asked_client").fetchall() == [("form", 2)]
    assert guard.count("delete_thing") == 0


async def test_a_form_that_was_closed_is_not_shown_again_by_the_next_guard(tmp_path: Path) -> None:
    """docs/approvals.md S16: one request is asked about once, whichever process takes the equal call."""
    guard, person = basic(tmp_path, approvals=QUIET), Person("cancel")
    for _ in range(2):
        async with connected(guard, mode="legacy", elicitation_callback=person) as client:
            for _ in range(2):
                result = await raw_call(client, "leaky_delete_thing", {"id": 7})
                assert "NOT executed" in text_of(result)
    assert len(person.asked) == 1
    assert guard.count("delete_thing") == 0
