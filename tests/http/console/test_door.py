"""Who does not find the page: a port that another program has, and an address without the path (docs/console.md)."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
import structlog

from mcp_guard.http.console import serving
from mcp_guard.http.console.serving import keep_serving
from tests.e2e.harness import until
from tests.http.console.bench import Page, free_port, page_at, plain


def lines(logs: list[structlog.typing.EventDict]) -> list[str]:
    return [str(entry["text"]) for entry in logs if entry["event"] == "console_port_taken"]


async def test_a_port_that_another_program_has_is_told_once_with_the_way_out(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/console.md: else a person waits for a page that never comes."""
    monkeypatch.setattr(serving, "_TAKE_OVER_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as foreign, structlog.testing.capture_logs() as logs:
        port = foreign.getsockname()[1]

        async def hang_up() -> None:
            foreign.setblocking(False)
            while True:
                try:
                    foreign.accept()[0].close()
                except BlockingIOError:
                    await anyio.sleep(0.005)

        async with anyio.create_task_group() as group:
            group.start_soon(hang_up)
            group.start_soon(keep_serving, replace(page.parts, port=port))
            await until(lambda: lines(logs), 5)
            await anyio.sleep(0.2)
            assert len(lines(logs)) == 1
            assert f"port {port}" in lines(logs)[0]
            assert "console.port" in lines(logs)[0]
            assert "mcp-guard approvals ls" in lines(logs)[0]
            group.cancel_scope.cancel()


async def test_after_ten_minutes_it_is_told_again(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/console.md."""
    monkeypatch.setattr(serving, "_TAKE_OVER_S", 0.01)
    monkeypatch.setattr(serving, "_AGAIN_S", 0.05)
    port = free_port()
    with socket.socket() as foreign, structlog.testing.capture_logs() as logs:
        foreign.bind(("127.0.0.1", port))  # it does not even listen
        async with anyio.create_task_group() as group:
            group.start_soon(keep_serving, replace(page.parts, port=port))
            await until(lambda: len(lines(logs)) >= 2, 5)
            group.cancel_scope.cancel()


async def test_another_guard_of_the_same_folder_on_the_port_is_no_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/console.md: of several guards one serves, day by day."""
    monkeypatch.setattr(serving, "_TAKE_OVER_S", 0.01)
    monkeypatch.setattr(serving, "_LOOK_S", 0.0)
    with structlog.testing.capture_logs() as logs:
        async with page_at(tmp_path) as first, anyio.create_task_group() as group:
            group.start_soon(keep_serving, first.parts)
            await anyio.sleep(0.3)
            group.cancel_scope.cancel()
    assert lines(logs) == []


async def test_the_address_without_its_path_says_how_to_get_in_and_nothing_of_the_folder(page: Page) -> None:
    """docs/console.md, "What protects it": the path is different for each data folder, and stays unsaid."""
    async with page.client() as http:
        door = await http.get("/")
        style = await http.get("/static/style.css")
        odd = await http.get("/static/x")
        posted = await http.post("/", data={})
    assert door.status_code == 200
    assert "Run mcp-guard console in a terminal" in plain(door.text)
    assert page.root.strip("/") not in door.text + odd.text + posted.text
    assert str(page.parts.store.folder) not in door.text
    assert style.headers["content-type"].startswith("text/css")
    assert (odd.status_code, posted.status_code) == (404, 405)
    assert "default-src 'none'" in door.headers["content-security-policy"]
