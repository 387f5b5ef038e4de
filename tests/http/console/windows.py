"""Browser windows in which everything is watched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, Dialog, expect
from playwright.async_api import Page as Tab
from playwright.async_api import Request as Fetched

from mcp_guard.approval.eligibility import Reviewer
from tests.http.console.bench import LOCAL_ALICE, Page


@dataclass
class Watched:
    """A browser window, and all that happened in it."""

    tab: Tab
    dialogs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


@asynccontextmanager
async def watched(
    browser: Browser, page: Page, reviewer: Reviewer | None = LOCAL_ALICE, **context: Any
) -> AsyncIterator[Watched]:
    """A window in which this person signed in by a link, as people do."""
    inside = await browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **context})
    inside.set_default_timeout(10_000)
    found = Watched(await inside.new_page())
    origin = page.origin

    async def dismissed(dialog: Dialog) -> None:
        found.dialogs.append(dialog.message)
        await dialog.dismiss()

    def said(text: str) -> None:
        (found.violations if "Content Security Policy" in text else found.errors).append(text)

    def fetched(request: Fetched) -> None:
        if not request.url.startswith(origin + "/"):
            found.outside.append(request.url)

    found.tab.on("dialog", dismissed)
    found.tab.on("console", lambda message: said(message.text))
    found.tab.on("pageerror", lambda error: found.errors.append(error.message))
    inside.on("request", fetched)
    if reviewer is not None:
        code = await page.parts.signin.link(reviewer)
        await found.tab.goto(f"{page.url}login/{code}")
        await found.tab.get_by_role("button", name="Sign in").click()
        await expect(found.tab.get_by_role("heading", name="Waiting for a decision")).to_be_visible()
    yield found
    await inside.close()
