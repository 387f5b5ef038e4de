"""The page in a real Chromium (decisions.md D17; security.md S15, S16)."""

from __future__ import annotations

import time

import pytest
from playwright.async_api import Browser, expect

from mcp_guard.model import Assurance, GrantOffer, Risk
from tests.e2e.harness import until
from tests.http.console.bench import OFFER, Page
from tests.http.console.windows import watched


async def test_a_new_request_appears_by_itself_is_opened_and_approved(browser: Browser, page: Page) -> None:
    """The straight way, with the count in the title."""
    async with watched(browser, page) as window:
        tab = window.tab
        begun = time.perf_counter()
        waiting = await page.ask({"table": "live"}, tool="truncate_table")
        await expect(tab.get_by_text("truncate_table")).to_be_visible()
        taken = time.perf_counter() - begun
        assert (await tab.title()).startswith("(")
        await tab.get_by_text("truncate_table").click()
        await tab.get_by_label("Note for the record").fill("seen")
        await tab.get_by_role("button", name="Approve").click()
        await expect(tab.locator(".state.closed")).to_contain_text("Approved by alice")

    assert await page.state(waiting) == "approved"
    assert taken < 5
    assert (window.dialogs, window.errors, window.violations, window.outside) == ([], [], [], [])


async def test_a_high_risk_request_is_approved_with_a_grant_after_a_second_look(browser: Browser, page: Page) -> None:
    """Two steps and a choice."""
    waiting = await page.ask(risk=Risk.HIGH, grants=(OFFER, GrantOffer(3600.0, 1)))
    async with watched(browser, page) as window:
        tab = window.tab
        await tab.goto(f"{page.url}requests/{waiting}")
        await tab.get_by_label("up to 5 more times").check()
        await tab.get_by_role("button", name="Approve …").click()
        await expect(tab.get_by_text("without asking again exactly this call, up to 5")).to_be_visible()
        await expect(tab.get_by_text("every argument stays the same")).to_be_visible()
        assert await page.state(waiting) == "pending"
        await tab.get_by_role("button", name="Approve now").click()
        await expect(tab.locator(".state.closed")).to_be_visible()
        await tab.go_back()
        await expect(tab.locator(".state.closed")).to_be_visible()
        await tab.get_by_role("link", name="Grants").click()
        await tab.get_by_role("button", name="Revoke").click()
        await expect(tab.get_by_text("No grant is active.")).to_be_visible()

    assert await page.state(waiting) == "approved"
    assert (window.errors, window.violations, window.outside) == ([], [], [])


async def test_everything_works_without_scripts(browser: Browser, page: Page) -> None:
    """decisions.md D17: JavaScript is optional."""
    one, other = await page.ask(risk=Risk.HIGH), await page.ask(tool="drop_index")
    async with watched(browser, page, java_script_enabled=False) as window:
        tab = window.tab
        await tab.goto(f"{page.url}requests/{one}")
        await tab.get_by_role("button", name="Approve …").click()
        await tab.get_by_role("button", name="Approve now").click()
        await expect(tab.locator(".state.closed")).to_contain_text("Approved by alice")
        await tab.goto(f"{page.url}requests/{other}")
        await tab.get_by_label("Reason, shown to the agent").fill("no")
        await tab.get_by_role("button", name="Deny").click()
        await expect(tab.locator(".state.closed")).to_contain_text("Denied by alice")
        await tab.get_by_role("button", name="Sign out").click()
        await expect(tab.get_by_role("button", name="Sign in")).to_be_visible()

    assert [await page.state(one), await page.state(other)] == ["approved", "denied"]


@pytest.mark.parametrize("width", [1100, 375])
async def test_a_double_click_approves_no_high_risk(browser: Browser, page: Page, width: int) -> None:
    """The button of the second look is elsewhere, and comes only after a moment."""
    waiting = await page.ask(risk=Risk.HIGH)
    async with watched(browser, page, viewport={"width": width, "height": 740}) as window:
        tab = window.tab
        await tab.goto(f"{page.url}requests/{waiting}")
        button = tab.get_by_role("button", name="Approve …")
        await button.scroll_into_view_if_needed()
        before = await button.bounding_box()
        assert before is not None
        x, y = before["x"] + before["width"] / 2, before["y"] + before["height"] / 2
        await tab.mouse.dblclick(x, y)
        await expect(tab.get_by_role("heading", name="Approve this")).to_be_visible()
        await tab.mouse.dblclick(x, y)
        await expect(tab.get_by_role("button", name="Deny")).to_be_visible()
        now = tab.get_by_role("button", name="Approve now")
        drawn = await now.evaluate("e => [getComputedStyle(e).animationName, getComputedStyle(e).animationDuration]")
        assert drawn == ["late", "1s"]
        await now.scroll_into_view_if_needed()
        after = await now.bounding_box()
        assert await page.state(waiting) == "pending"

    assert after is not None
    assert width < 1000 or after["x"] + after["width"] < before["x"]


@pytest.mark.parametrize("scripts", [True, False])
async def test_enter_in_a_note_approves_nothing(browser: Browser, page: Page, *, scripts: bool) -> None:
    """A line that is finished is no decision."""
    plain, high = await page.ask({"query": "x" * 9_000, "n": page.asked}), await page.ask(risk=Risk.HIGH)
    async with watched(browser, page, java_script_enabled=scripts) as window:
        tab = window.tab
        await tab.goto(f"{page.url}requests/{plain}")
        await tab.get_by_label("Note for the record").press("Enter")
        await tab.get_by_label("Fingerprint").fill(await tab.locator(".mark").inner_text())
        await tab.get_by_label("Fingerprint").press("Enter")
        await tab.get_by_label("Note for the record").press("Enter")
        await expect(tab.get_by_role("button", name="Approve")).to_be_visible()
        await tab.goto(f"{page.url}requests/{high}")
        await tab.get_by_role("button", name="Approve …").click()
        await expect(tab.get_by_role("button", name="Approve now")).to_be_visible()
        await tab.get_by_label("Note for the record").press("Enter")
        await expect(tab.get_by_role("heading", name="Approve this")).to_be_visible()

    assert [await page.state(plain), await page.state(high)] == ["pending", "pending"]


async def test_eight_tabs_stay_alive_and_one_listens_for_all(browser: Browser, page: Page) -> None:
    """A browser opens six connections to one place; a seventh tab that hangs is one where nobody approves."""
    async with watched(browser, page) as window:
        tabs = [window.tab]
        for _ in range(7):
            tabs.append(await window.tab.context.new_page())
            await tabs[-1].goto(page.url, timeout=5_000)
        waiting = await page.ask(tool="seen_by_all")
        for tab in tabs:
            await expect(tab.get_by_text("seen_by_all")).to_be_visible(timeout=3_000)
        await tabs[0].close()
        await page.ask(tool="seen_by_the_rest")
        for tab in tabs[1:]:
            await expect(tab.get_by_text("seen_by_the_rest")).to_be_visible(timeout=3_000)
        await tabs[7].get_by_text("seen_by_all").click()
        await tabs[7].get_by_role("button", name="Approve").click()
        await expect(tabs[7].locator(".state.closed")).to_contain_text("Approved by alice")

    assert await page.state(waiting) == "approved"
    assert (window.errors, window.violations) == ([], [])


async def test_what_waits_beside_a_request_is_told_live_and_typed_text_stays(browser: Browser, page: Page) -> None:
    """A flood is seen while one looks at one of it."""
    waiting = await page.ask(tool="flooding")
    async with watched(browser, page) as window:
        tab = window.tab
        await tab.goto(f"{page.url}requests/{waiting}")
        await tab.get_by_label("Reason, shown to the agent").fill("half a")
        await page.ask(tool="flooding")
        await expect(tab.get_by_role("link", name="1 more call of this tool waits")).to_be_visible()
        assert await tab.get_by_label("Reason, shown to the agent").input_value() == "half a"
        await tab.get_by_role("link", name="Deny all 2 …").click()
        await tab.get_by_role("button", name="Deny all 2").click()
        await expect(tab.get_by_role("heading", name="Waiting for a decision")).to_be_visible()

    assert await page.state(waiting) == "denied"


async def test_of_two_tabs_the_second_sees_that_it_was_decided(browser: Browser, page: Page) -> None:
    """The open tab changes by itself; without scripts the press is answered with who was first."""
    waiting = await page.ask()
    async with (
        watched(browser, page) as live,
        watched(browser, page, java_script_enabled=False) as still,
        watched(browser, page) as first,
    ):
        for window in (live, still, first):
            await window.tab.goto(f"{page.url}requests/{waiting}")
        await first.tab.get_by_role("button", name="Deny").click()
        await expect(live.tab.locator(".state.closed")).to_contain_text("Denied by alice")
        await expect(live.tab.get_by_role("button", name="Approve")).to_have_count(0)
        await still.tab.get_by_role("button", name="Approve").click()
        await expect(still.tab.get_by_role("heading", name="Already decided by alice")).to_be_visible()

    assert await page.state(waiting) == "denied"


async def test_what_a_person_types_survives_other_requests(browser: Browser, page: Page) -> None:
    """Live pages must not take a half-written reason away."""
    waiting = await page.ask()
    async with watched(browser, page) as window:
        await window.tab.goto(f"{page.url}requests/{waiting}")
        await window.tab.get_by_label("Reason, shown to the agent").fill("because")
        before = await window.tab.title()
        await page.ask()

        async def counted() -> bool:
            return await window.tab.title() != before

        await until(counted, 5)
        assert await window.tab.get_by_label("Reason, shown to the agent").input_value() == "because"


@pytest.mark.parametrize("width", [1100, 375])
@pytest.mark.parametrize("risk", [Risk.MEDIUM, Risk.HIGH])
async def test_deny_is_never_smaller_than_approve_and_nothing_is_wider_than_the_screen(
    browser: Browser, page: Page, width: int, risk: Risk
) -> None:
    """docs/approvals.md, and 375 pixels of a phone."""
    waiting = await page.ask(
        {"a" * 200: "b" * 500, "deep": {"x": {"y": {"z": "c" * 300}}}, "n": page.asked}, risk=risk, grants=(OFFER,)
    )
    async with watched(browser, page, viewport={"width": width, "height": 740}) as window:
        for path in ("", f"requests/{waiting}", "history", "grants", "audit"):
            await window.tab.goto(page.url + path)
            assert await window.tab.evaluate("document.documentElement.scrollWidth") <= width, path
        await window.tab.goto(f"{page.url}requests/{waiting}")
        deny = await window.tab.get_by_role("button", name="Deny").bounding_box()
        approve = await window.tab.get_by_role("button", name="Approve").bounding_box()

    assert deny is not None
    assert approve is not None
    assert deny["width"] >= approve["width"]
    assert deny["height"] >= approve["height"]
    assert deny["y"] <= approve["y"]


async def test_a_reviewers_token_signs_in_and_leads_back_to_the_request(browser: Browser, page: Page) -> None:
    """decisions.md D25."""
    token = await page.parts.review.reviewers.add("rita", by="a test")
    waiting = await page.ask(mode="team")
    async with watched(browser, page, None) as window:
        await window.tab.goto(f"{page.url}requests/{waiting}")
        await window.tab.get_by_label("Token").fill(token)
        await window.tab.get_by_role("button", name="Sign in").click()
        await window.tab.get_by_role("button", name="Approve").click()
        await expect(window.tab.locator(".state.closed")).to_contain_text("Approved by rita")
        assert token not in window.tab.url

    (signed,) = await page.parts.store.decisions(waiting)
    assert f'"assurance":"{Assurance.A2.name}"' in signed.statement.replace(" ", "")
