"""The page while what it reads is broken: nothing is decided, nothing inside is shown, and the guard goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from structlog.testing import capture_logs

from mcp_guard.http.console import serving
from mcp_guard.http.console.serving import bind, keep_serving
from mcp_guard.keystore import KeyStore
from tests.http.console.bench import Page, page_at

SECRET = "hunter2-canary"


@pytest.fixture
async def broken(tmp_path: Path) -> AsyncIterator[Page]:
    """A page of its own, to break things in."""
    async with page_at(tmp_path) as found:
        yield found


async def test_a_log_that_cannot_be_read_is_said_to_be_so_and_no_more(broken: Page) -> None:
    """security.md F12; decisions.md D4: an empty list would say that nothing happened."""
    slot = broken.parts.audit / "00"
    slot.mkdir(parents=True)
    (slot / "2026-08.db").write_bytes(f"no database, {SECRET}".encode() * 60)
    async with broken.signed_in() as visitor:
        answers = [await visitor.get(path) for path in ("audit", "audit?id=call_1", "audit/call_1")]
    for answer in answers:
        assert (answer.status_code, "The log cannot be read" in answer.text) == (503, True)
        assert SECRET not in answer.text
        assert "sqlite" not in answer.text.lower()


async def test_denying_all_alike_denies_the_others_where_one_is_void(broken: Page) -> None:
    """security.md S16; docs/approvals.md, "Damage": the one that was altered runs nothing either."""
    first, altered, last = [await broken.ask() for _ in range(3)]
    await broken.sql("UPDATE approval SET view = json_set(view, '$.tool', 'other') WHERE id = ?", altered)
    async with broken.signed_in() as visitor:
        answer = await visitor.form(f"requests/{first}/alike", of=f"requests/{first}/alike")
    assert answer.status_code == 303
    assert [await broken.state(one) for one in (first, altered, last)] == ["denied", "invalidated", "denied"]


async def test_a_stream_ends_when_the_store_cannot_be_read(broken: Page) -> None:
    """docs/console.md: the browser comes back by itself; nothing of the error is in the stream."""
    seen: list[str] = []
    async with (
        broken.signed_in() as visitor,
        visitor.http.stream("GET", f"{broken.root}events") as stream,
    ):
        with anyio.fail_after(10):
            async for line in stream.aiter_lines():
                seen.append(line)
                if line.startswith("data:") and len(seen) < 4:
                    await broken.sql("ALTER TABLE approval RENAME TO aside")
    await broken.sql("ALTER TABLE aside RENAME TO approval")
    assert [line for line in seen if line.startswith("event:")] == ["event: change", "event: end"]
    assert "no such table" not in "".join(seen)


async def told(logged: Sequence[Mapping[str, Any]], event: str) -> None:
    with anyio.fail_after(20):
        while not any(entry["event"] == event for entry in logged):  # noqa: ASYNC110 - a line of the log
            await anyio.sleep(0.005)


async def served(port: int) -> None:
    async with httpx2.AsyncClient() as client:
        with anyio.fail_after(20):
            while True:
                try:
                    await client.get(f"http://127.0.0.1:{port}/")
                except httpx2.TransportError:
                    await anyio.sleep(0.02)
                else:
                    return


async def test_a_page_that_cannot_be_served_ends_no_guard_and_is_served_once_it_can(
    broken: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/console.md: the page is a convenience, the guard is not; security.md F19: a key that is damaged."""
    monkeypatch.setattr(serving, "_TAKE_OVER_S", 0.01)
    probe = bind(0)
    assert probe is not None
    port = probe.getsockname()[1]
    probe.close()
    key = tmp_path / "other" / "lookup.1.key"
    key.parent.mkdir()
    key.write_bytes(b"cut")
    parts = replace(broken.parts, keys=KeyStore(key.parent), port=port)

    closed = bind(0)
    assert closed is not None
    closed.close()
    tries = iter([closed])
    monkeypatch.setattr(serving, "bind", lambda port: next(tries, None) or bind(port))

    with capture_logs() as logged:
        async with anyio.create_task_group() as group:
            group.start_soon(keep_serving, parts)
            await told(logged, "console_ended")
            key.write_bytes(b"k" * 32)
            await served(port)
            group.cancel_scope.cancel()
        tries = iter([closed])
        async with anyio.create_task_group() as group:
            group.start_soon(keep_serving, parts)
            await told(logged, "console_broke")
            await served(port)
            group.cancel_scope.cancel()
