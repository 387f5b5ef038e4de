"""Quarantine reaches a person: on the first view of the page, and once as a notice (docs/pins.md)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_guard.approval.channels.notify import HELD_BACK
from mcp_guard.approval.notices import HeldBack as Telling
from mcp_guard.config.load import load_config
from mcp_guard.downstream.lockfile import Lock, Quarantine, ServerPin
from mcp_guard.http.console.held import Held, HeldBack
from mcp_guard.model import MaskedText, Record
from tests.e2e.harness import until
from tests.http.console.bench import Page, plain


def lock_in(folder: Path, **held: Quarantine) -> Path:
    """A lock in which these servers are held to something."""
    pins = {
        name: ServerPin(command="x", command_digest="d", quarantine=quarantine) for name, quarantine in held.items()
    }
    path = folder / "guard.lock"
    path.write_text(Lock(servers=pins).model_dump_json(), encoding="utf-8")
    path.chmod(0o600)
    return path


def held_in(folder: Path, mask: object = MaskedText) -> HeldBack:
    servers = {name: {"command": "x"} for name in ("mail", "files", "quiet")}
    servers["off"] = {"command": "x", "pins": "off"}
    path = folder / "guard.yaml"
    path.write_text(json.dumps({"version": 1, "id": "p", "data_dir": "./data", "servers": servers}), encoding="utf-8")
    path.chmod(0o600)
    return HeldBack(load_config(path, env={}), mask)  # type: ignore[arg-type]  # a function from text to text


TOOLS = Quarantine(tools={f"send_{number}": ["description"] for number in range(7)}, instructions=True)


def test_every_server_with_something_in_quarantine_is_named_with_a_few_tools(tmp_path: Path) -> None:
    """docs/pins.md: names alone, masked; what is not held to anything is left out."""
    held = held_in(tmp_path, lambda text: MaskedText(text.replace("send_0", "[SECRET]")))
    assert held.now() == ()
    lock_in(tmp_path, mail=TOOLS, files=Quarantine(server=["program"]), quiet=Quarantine(), off=TOOLS, gone=TOOLS)
    names = ("[SECRET]", "send_1", "send_2", "send_3", "send_4")
    assert held.now() == (
        Held("mail", "7 tools and the instructions", names, 2),
        Held("files", "The whole server", (), 0),
    )


def test_a_lock_that_changed_is_read_again_and_a_broken_one_names_nothing(tmp_path: Path) -> None:
    """docs/pins.md: what was accepted is off the page with the next look."""
    held = held_in(tmp_path)
    lock_in(tmp_path, mail=TOOLS)
    assert len(held.now()) == 1
    lock_in(tmp_path, mail=Quarantine())
    assert held.now() == ()
    lock_in(tmp_path, mail=TOOLS).write_text("{", encoding="utf-8")
    assert held.now() == ()


async def test_the_first_view_of_the_page_says_what_is_held_back_and_what_shows_it(page: Page, tmp_path: Path) -> None:
    """docs/console.md, "What it shows": else only the agent hears of it."""
    held = held_in(tmp_path)
    lock_in(tmp_path, mail=Quarantine(tools={"send": ["new"], "<b>\u202e": ["new"]}))
    original = page.parts.held
    object.__setattr__(page.parts, "held", held)
    try:
        async with page.signed_in() as visitor:
            shown = (await visitor.get()).text
    finally:
        object.__setattr__(page.parts, "held", original)
    assert "2 tools of mail are held back because of a change" in plain(shown)
    assert "mcp-guard pins diff mail" in shown
    assert "&lt;b&gt;<mark>\\u{202e}</mark>" in shown
    async with page.signed_in() as visitor:
        assert "held back" not in (await visitor.get()).text


HELD = Record("server.quarantined", outcome="quarantined")


@pytest.mark.parametrize("broken", [False, True])
async def test_a_change_is_told_once_however_many_tools_it_holds_back(broken: bool) -> None:  # noqa: FBT001 - a parameter
    """docs/console.md: a server that changes all day is no news; a notice that fails stops nothing."""
    told: list[str] = []
    written: list[Record] = []

    async def tell() -> None:
        told.append(HELD_BACK)
        if broken:
            raise OSError

    async def append(record: Record) -> None:
        written.append(record)

    telling = Telling(tell, quiet_s=60)
    note = telling.noticing(append)
    async with anyio.create_task_group() as group:
        group.start_soon(telling.run)
        for record in (Record("server.accepted"), replace(HELD, outcome="ok"), HELD, HELD):
            await note(record)
        await until(lambda: told)
        await note(HELD)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert told == [HELD_BACK]
    assert len(written) == 5
