"""Foreign text and foreign pages against the page in a real Chromium (security.md S15, S18)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, expect
from playwright.async_api import Page as Tab

from mcp_guard.model import JsonDict
from tests.http.console.bench import OFFER, Page
from tests.http.console.windows import watched

EVE = "\"'><img src=x onerror=alert(1)>"
HOSTILE = (
    "<script>alert(1)</script>",
    EVE,
    "<svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7*7 }}{% raw %}<b>",
    "</title><script src=//evil.example/x.js></script>",
    "<style>@import '//evil.example/x.css'</style>",
    "<form action=//evil.example><button>Approve</button></form>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example/>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "--><!--<img src=//evil.example/x>",
    "\u202e</dd></dl><button formaction=//evil.example>x",
    "</textarea><details open ontoggle=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
)
"""Shapes of attacks, one of each kind. Longer lists are read from files that MCP_GUARD_XSS_LISTS names."""

LISTS = "MCP_GUARD_XSS_LISTS"


async def test_letters_from_right_to_left_stand_in_the_order_in_which_a_program_reads_them(
    browser: Browser, page: Page
) -> None:
    """S15: no control character is needed to reorder a line."""
    waiting = await page.ask({"path": "\u05d0/12/\u05d1", "n": page.asked})
    async with watched(browser, page) as window:
        await window.tab.goto(f"{page.url}requests/{waiting}")
        places = await window.tab.evaluate("""() => {
            const text = document.querySelector(".value.text").firstChild, range = document.createRange();
            return [...text.data].map((_, at) => {
                range.setStart(text, at); range.setEnd(text, at + 1);
                return range.getBoundingClientRect().left;
            });
        }""")

    assert len(places) == 6
    assert places == sorted(places)


async def test_hidden_text_is_seen_on_the_screen(browser: Browser, page: Page) -> None:
    """security.md S15: what the eye reads is what would run."""
    waiting = await page.ask({"path": "/srv/report\u202etxt.exe\u200b", "content": "a\rb\x1b[2K"})
    async with watched(browser, page) as window:
        await window.tab.goto(f"{page.url}requests/{waiting}")
        seen = await window.tab.locator(".foreign").first.inner_text()

    for mark in ("\\u{202e}", "\\u{200b}", "\\u{d}", "\\u{1b}"):
        assert mark in seen
    assert "4 hidden characters" in seen
    assert not set(seen) & set("\u202e\u200b\r\x1b")


async def test_another_page_can_neither_frame_nor_post_nor_read_it(browser: Browser, page: Page) -> None:
    """security.md S18: click-jacking and CSRF from another port of this machine."""
    waiting = await page.ask()
    async with watched(browser, page) as window:
        other = await window.tab.context.new_page()
        refused: list[int] = []
        other.on("response", lambda answer: refused.append(answer.status) if answer.url.startswith(page.url) else None)
        target = f"{page.url}requests/{waiting}/deny"
        html = f"<iframe src='{page.url}'></iframe><form id=f method=post action='{target}'></form>"
        await other.route("http://localhost:1/", lambda route: route.fulfill(body=html, content_type="text/html"))
        await other.goto("http://localhost:1/")
        reading = "url => fetch(url, {credentials: 'include'}).then(() => 'read', () => 'blocked')"
        assert await other.evaluate(reading, page.url) == "blocked"
        frame = other.frames[1]
        assert "Waiting for a decision" not in await frame.content()
        async with other.expect_navigation():
            await other.evaluate("document.getElementById('f').submit()")
        assert "Only the page itself may do this" in await other.content()

    assert await page.state(waiting) == "pending"
    assert 403 in refused


def payloads() -> Iterator[str]:
    """Our own shapes, and where MCP_GUARD_XSS_LISTS names files, their lines."""
    yield from HOSTILE
    for name in filter(None, os.environ.get(LISTS, "").split(os.pathsep)):
        yield from filter(None, Path(name).read_text(encoding="utf-8", errors="replace").splitlines())


async def test_no_foreign_text_runs_loads_or_leads_anywhere(browser: Browser, page: Page) -> None:
    """security.md S18: as argument, name, reason, grant, comment; in lists, cards, history and the audit log."""
    texts = list(payloads())
    async with watched(browser, page) as window:
        tab = window.tab
        for start in range(0, len(texts), 40):
            await attack(page, tab, texts[start : start + 40])
        shown = await tab.evaluate("[...document.scripts].map(s => new URL(s.src).pathname)")

    assert window.dialogs == []
    assert window.outside == []
    assert window.violations == []
    assert window.errors == []
    assert shown == [f"{page.root}static/page.js"]


async def attack(page: Page, tab: Tab, texts: list[str]) -> None:
    """Put every text in every place that others write, and look at every page."""
    first = texts[0]
    arguments: JsonDict = {"table": first, "list": list(texts), **{f"{text}": text for text in texts}}
    kind: dict[str, Any] = {"server": texts[-1][:60], "why": first, "reasons": tuple(texts[:8]), "grants": (OFFER,)}
    waiting = await page.ask(arguments, tool=first, **kind)
    for text in texts:
        await page.ask({"table": text, "padding": page.asked}, tool=text, **{**kind, "why": text})
    await page.sql(
        "UPDATE approval SET view = json_set(view, '$.justification', ?, '$.grants[0].label', ?) WHERE id = ?",
        " ".join(texts), " ".join(texts), waiting,
    )  # fmt: skip
    for path in ("", f"requests/{waiting}", f"requests/{waiting}/all"):
        await tab.goto(page.url + path)
    assert first in await tab.locator("h1").inner_text()
    denied = await page.ask({"table": "x", "padding": page.asked}, tool=texts[-1])
    await tab.goto(f"{page.url}requests/{denied}")
    await tab.get_by_label("Reason, shown to the agent").fill(" ".join(texts)[:500])
    await tab.get_by_role("button", name="Deny").click()
    await expect(tab.locator(".state.closed")).to_be_visible()
    await tab.get_by_role("link", name="The story").click()
    await tab.goto(f"{page.url}history")
    await page.sql("UPDATE approval SET state = 'expired' WHERE state = 'pending'")
