"""How a request reads: near arguments, plain words, what was decided when (docs/console.md, "What it shows")."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from playwright.async_api import Browser
from pydantic import JsonValue

from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.http.console.values import BRIEF, WHOLE, tree
from mcp_guard.http.console.views import became
from mcp_guard.model import ArgumentFact, Assurance, JsonDict, MaskedJson, Risk, Views
from tests.http.console.bench import LOCAL_ALICE, Page, plain
from tests.http.console.windows import watched

DEEP: JsonDict = {"value": "a value that is long enough to wrap on a small screen"}
for level in range(12):
    DEEP = {f"level_{level}": DEEP}
NESTED: JsonDict = {"table": "t", "filter": DEEP, "ids": list(range(40)), "words": ["a, b", "c", None, True, 1.5]}


@pytest.mark.parametrize(
    ("value", "short"),
    [
        ([1, 2, 3], True),
        (["a", None, True, 1.5], True),
        ([[1]], False),
        ([{"a": 1}], False),
        (["x" * 200], False),
        (["a\nb"], False),
        ([], False),
        ("text", False),
    ],
)  # fmt: skip
def test_a_list_of_short_plain_values_stands_in_a_row(value: JsonValue, short: bool) -> None:  # noqa: FBT001 - a parameter
    """docs/console.md: whatever could pretend to be more than one value has lines of its own."""
    assert tree({"a": value}, ["a"], BRIEF).nodes[0].short is short


def test_every_value_of_a_long_list_is_shown_in_the_view_of_all() -> None:
    """security.md S15: nothing that counts as seen is folded away."""
    built = tree({"ids": list(range(3_000))}, ["ids"], WHOLE)
    assert len(built.nodes[0].children) == 3_000
    assert not built.cut


@pytest.mark.parametrize("width", [375, 1100])
@pytest.mark.parametrize("scripts", [True, False])
async def test_nested_values_are_at_least_twelve_characters_wide_on_any_screen(
    browser: Browser, page: Page, width: int, scripts: bool  # noqa: FBT001 - a parameter
) -> None:  # fmt: skip
    """docs/console.md: one letter a line is unreadable, and what is unreadable is approved unread."""
    waiting = await page.ask({**NESTED, "n": f"{width}{scripts}"}, tool="search")
    async with watched(browser, page, java_script_enabled=scripts) as window:
        tab = window.tab
        await tab.set_viewport_size({"width": width, "height": 740})
        await tab.goto(f"{page.url}requests/{waiting}/all")
        letters = tab.locator(".tree dd:not(:has(dl)) > .value.text")
        boxes = [await letters.nth(n).bounding_box() for n in range(await letters.count())]
        widest = await tab.evaluate("document.documentElement.scrollWidth")
        arguments = await tab.get_by_role("heading", name="Arguments").bounding_box()
        down = await tab.get_by_role("link", name="Down to Deny and Approve").bounding_box()
    assert boxes
    assert min(box["width"] for box in boxes if box) >= 100
    assert widest <= width
    assert arguments
    assert arguments["y"] < 740 / 2
    assert down
    assert down["y"] < 740
    assert (window.errors, window.violations) == ([], [])


async def test_history_says_who_decided_when_and_what_became_of_it_the_latest_decision_first(page: Page) -> None:
    """docs/console.md: the time of a decision is not the time of the question."""
    first, second = await page.ask(tool="asked_first"), await page.ask(tool="asked_second")
    hour = 3_600_000_000_000
    await page.sql("UPDATE approval SET created_ns = created_ns - ? WHERE id = ?", hour, first)
    await page.parts.review.decide(second, "deny", LOCAL_ALICE)
    await page.sql("UPDATE event SET at_ns = at_ns - ? WHERE approval = ?", hour // 2, second)
    await page.sql("UPDATE approval SET created_ns = created_ns + ? WHERE id = ?", hour, first)
    await page.parts.review.decide(first, "approve", Reviewer("rita", Assurance.A2, "console"))
    async with page.signed_in() as visitor:
        shown = (await visitor.get("history")).text
    rows = [plain(row) for row in re.findall(r"<li>.*?</li>", shown, re.DOTALL)]
    places = [next(n for n, row in enumerate(rows) if tool in row) for tool in ("asked_first", "asked_second")]
    assert places == sorted(places)
    assert "approved by rita" in rows[places[0]]
    assert "denied by alice" in rows[places[1]]
    assert "asked for alice in desk-host 1.2" in rows[places[1]]


@pytest.mark.parametrize(
    ("state", "by", "said"),
    [
        ("approved", "rita", "approved by rita"),
        ("executing", "rita", "approved by rita, running"),
        ("completed", "rita", "approved by rita, completed"),
        ("completed", "grant grt_1", "approved by grant grt_1, completed"),
        ("failed", "rita", "approved by rita, failed before it ran"),
        ("unknown", "rita", "approved by rita, outcome unknown"),
        ("expired", "rita", "approved by rita, not carried out in time"),
        ("expired", "", "expired, nobody decided"),
        ("invalidated", "rita", "approved by rita, then void"),
        ("invalidated", "", "invalidated"),
        ("denied", "rita", "denied by rita"),
        ("cancelled", '["os", "alice", "desk"]', "withdrawn by alice / desk"),
        ("nonsense", "", "nonsense"),
    ],
)  # fmt: skip
def test_a_closed_request_says_what_was_decided_and_what_became_of_it(state: str, by: str, said: str) -> None:
    """docs/approvals.md: completed is not what a person decided."""
    assert became(state, by) == said


async def test_no_page_of_a_request_speaks_in_codes(page: Page) -> None:
    """docs/console.md: A2 and default:critical are words of the log."""
    stored = page.stored({"table": "codes"}, risk=Risk.CRITICAL)
    stored = replace(stored, decision=replace(stored.decision, rule="default:critical"))
    request = page.sealed(stored)
    async with page.parts.store.write() as transaction:
        await transaction.insert(request, {})
    async with page.signed_in() as visitor:
        shown = plain((await visitor.get(f"requests/{request.row.id}")).text)
    assert "none; calls of critical risk ask by default" in shown
    assert "You cannot approve this as the user of this machine. It needs a reviewer with a token" in shown
    for code in ("A1", "A2", "default:"):
        assert code not in shown


async def test_the_domain_of_a_masked_recipient_stands_at_its_argument_on_both_looks(page: Page) -> None:
    """docs/console.md: who approves mail sees where it goes, and what the agent says of it."""
    stored = page.stored({"to": "ann.secret@example.com"}, tool="send_mail", risk=Risk.HIGH)
    facts = replace(stored.call.target.facts, resource=None, arguments={"/to": ArgumentFact(role="recipient")})
    context = replace(stored.call.context, justification="the user wants it")
    call = replace(stored.call, target=replace(stored.call.target, facts=facts), context=context)
    masked = MaskedJson({"to": "[EMAIL_533whfmbxx]"})
    request = page.sealed(replace(stored, call=call, views=Views(stored.views.for_downstream, masked, masked)))
    async with page.parts.store.write() as transaction:
        await transaction.insert(request, {})
    path = f"requests/{request.row.id}"
    async with page.signed_in() as visitor:
        pages = [await visitor.get(path), await visitor.get(f"{path}/confirm?digest={request.row.action_digest}")]
    for shown in pages:
        assert "[EMAIL_533whfmbxx] at example.com" in plain(shown.text)
        assert "the user wants it" in shown.text
        assert "ann.secret" not in shown.text
