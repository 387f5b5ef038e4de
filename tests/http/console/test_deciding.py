"""What a person decides on the page (decisions.md D17, D25; docs/approvals.md)."""

from __future__ import annotations

import json
import re

import anyio
import pytest

from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.model import Assurance, Risk
from tests.e2e.harness import until
from tests.http.console.bench import OFFER, Page, hidden_fields, plain

RITA = Reviewer("rita", Assurance.A2, "console")
RITA_AS_A1 = Reviewer("rita", Assurance.A1, "console")


async def test_a_request_is_approved_with_one_press_and_signed_with_the_sessions_name(page: Page) -> None:
    """decisions.md D25: A1 on the page, stamped as no separation."""
    waiting = await page.ask()
    async with page.signed_in() as visitor:
        answer = await visitor.form(f"requests/{waiting}/approve", {"reason": "fine by me"})
        shown = await visitor.get(f"requests/{waiting}")

    assert (answer.status_code, answer.headers["location"]) == (303, f"{page.root}requests/{waiting}")
    assert await page.state(waiting) == "approved"
    (signed,) = await page.parts.store.decisions(waiting)
    said = json.loads(signed.statement)
    assert {name: said[name] for name in ("decision", "reviewer", "channel", "assurance", "separation")} == {
        "decision": "approve", "reviewer": "alice", "channel": "console", "assurance": "A1", "separation": "none",
    }  # fmt: skip
    assert "Approved by alice" in plain(shown.text)
    assert "fine by me" in shown.text


async def test_a_request_is_denied_with_a_reason(page: Page) -> None:
    """T5; the reason reaches the agent."""
    waiting = await page.ask(risk=Risk.CRITICAL)
    async with page.signed_in() as visitor:
        answer = await visitor.form(f"requests/{waiting}/deny", {"reason": "not on a Friday"})

    request = await page.parts.store.get(waiting)
    assert request is not None
    assert answer.status_code == 303
    assert (request.row.state.value, request.row.decided_by, request.row.reason) == (
        "denied",
        "alice",
        "not on a Friday",
    )


async def test_high_risk_takes_a_second_look_that_cannot_be_skipped(page: Page) -> None:
    """docs/approvals.md: two clicks, also without scripts; how it was decided is signed."""
    waiting = await page.ask({"query": "DROP\u200b TABLE"}, risk=Risk.HIGH)
    async with page.signed_in() as visitor:
        path = f"{page.root}requests/{waiting}/approve"
        looked = await visitor.look(waiting)
        forged = await visitor.http.post(path, data={**looked, "confirm": "0" * 32})
        later = await visitor.http.post(path, data={**looked, "at": str(int(looked["at"]) - 1)})
        again = await visitor.http.get(forged.headers["location"])
        assert await page.state(waiting) == "pending"
        second = await visitor.http.post(path, data={**looked, "reason": "looked"})

    assert (forged.status_code, later.status_code, again.status_code, second.status_code) == (303, 303, 200, 303)
    assert "Approve now" in again.text
    assert "TABLE" in again.text
    assert "1 hidden character" in plain(again.text)
    assert await page.state(waiting) == "approved"
    (signed,) = await page.parts.store.decisions(waiting)
    assert json.loads(signed.statement)["how"] == "second_look"


async def test_a_double_click_is_no_second_look(page: Page) -> None:
    """What comes too soon after the second page was made is answered with that page, and decides nothing."""
    waiting = await page.ask(risk=Risk.CRITICAL)
    async with page.signed_in() as visitor:
        soon = await visitor.look(waiting, ago_s=0)
        path = f"{page.root}requests/{waiting}/approve"
        pressed = await visitor.http.post(path, data=soon)
        shown = await visitor.http.get(pressed.headers["location"])

    assert pressed.status_code == 303
    assert "too quick" in shown.text
    assert await page.state(waiting) == "pending"


async def test_the_second_look_is_for_what_was_looked_at(page: Page) -> None:
    """A confirmation of one request, or without a grant, is none for another."""
    one, other = await page.ask(risk=Risk.HIGH, grants=(OFFER,)), await page.ask(risk=Risk.HIGH)
    async with page.signed_in() as visitor, page.signed_in(RITA_AS_A1) as somebody:
        looked = await visitor.look(one)
        await visitor.http.post(f"{page.root}requests/{one}/approve", data={**looked, "grant": "0"})
        theirs = await visitor.look(other)
        mixed = {**theirs, "confirm": looked["confirm"], "at": looked["at"]}
        await visitor.http.post(f"{page.root}requests/{other}/approve", data=mixed)
        form = (await somebody.look(one))["form"]
        await somebody.http.post(f"{page.root}requests/{one}/approve", data={**looked, "form": form})

    assert [await page.state(one), await page.state(other)] == ["pending", "pending"]


async def test_the_second_look_shows_every_bound_of_the_grant_and_all_that_would_run(page: Page) -> None:
    """S13, S15: what a person allows stands above the button, also what the first page cut."""
    waiting = await page.ask({"query": "q" * 9_000 + "; DROP"}, risk=Risk.HIGH, grants=(OFFER,))
    async with page.signed_in() as visitor:
        first = await visitor.get(f"requests/{waiting}")
        looked = await visitor.look(waiting, "0")
        digest = looked["digest"]
        shown = await visitor.get(f"requests/{waiting}/confirm?digest={digest}&grant=0")
        strange = await visitor.get(f"requests/{waiting}/confirm?digest={digest}&grant=7")
        old = await visitor.get(f"requests/{waiting}/confirm?digest=other&grant=0")
        answer = await visitor.http.post(f"{page.root}requests/{waiting}/approve", data=looked)
        back = await visitor.get(f"requests/{waiting}/confirm?digest={digest}&grant=0")

    assert "q" * 9_000 not in first.text
    assert "q" * 9_000 + "; DROP" in shown.text
    assert shown.text.index("every argument stays the same") < shown.text.index("Approve now")
    assert "up to 5 more times within 15 minutes" in shown.text
    assert (strange.status_code, old.status_code, answer.status_code, back.status_code) == (422, 303, 303, 303)
    (given,) = await page.parts.review.list_grants()
    await page.parts.review.revoke_grant(given.id, RITA)


async def test_what_even_the_second_look_cannot_show_takes_the_fingerprint(page: Page) -> None:
    """Bound everything; a wrong fingerprint keeps the note and the way on."""
    waiting = await page.ask({"query": "w" * 300_000}, risk=Risk.HIGH)
    async with page.signed_in() as visitor:
        looked = await visitor.look(waiting)
        path = f"{page.root}requests/{waiting}/approve"
        wrong = await visitor.http.post(path, data={**looked, "fingerprint": "AAAA-AAAA", "reason": "my note"})
        assert await page.state(waiting) == "pending"
        mark = re.search(r'class="mark">([A-Z0-9-]{9})<', wrong.text)
        assert mark is not None
        right = await visitor.http.post(path, data={**looked, "fingerprint": mark[1]})

    assert wrong.status_code == 422
    assert 'value="my note"' in wrong.text
    assert right.status_code == 303
    (signed,) = await page.parts.store.decisions(waiting)
    assert json.loads(signed.statement)["how"] == "second_look+fingerprint"


@pytest.mark.parametrize("digest", ["", "0" * 64])
async def test_without_the_digest_of_what_was_shown_nothing_is_approved(page: Page, digest: str) -> None:
    """S17: a form that does not say what was shown approves nothing."""
    waiting = await page.ask()
    async with page.signed_in() as visitor:
        answer = await visitor.form(f"requests/{waiting}/approve", {"digest": digest})

    assert answer.status_code == 409
    assert "Back to the request" in answer.text
    assert await page.state(waiting) == "pending"


async def test_what_was_cut_is_not_approved_by_one_press(page: Page) -> None:
    """docs/approvals.md: padding that hides the danger takes the one click away."""
    waiting = await page.ask({"query": "SELECT 1" + " " * 9_000 + "; DROP TABLE users"})
    async with page.signed_in() as visitor:
        shown = await visitor.get(f"requests/{waiting}")
        pressed = await visitor.form(f"requests/{waiting}/approve")
        wrong = {"seen": "0" * 32, "fingerprint": "AAAA-AAAA", "reason": "a long note"}
        forged = await visitor.form(f"requests/{waiting}/approve", wrong)

    assert "more characters" in shown.text
    assert "DROP TABLE users" in shown.text
    assert 'name="fingerprint"' in shown.text
    assert (pressed.status_code, forged.status_code) == (422, 422)
    assert "This is not the fingerprint of this request." in forged.text
    assert 'value="a long note"' in forged.text
    assert await page.state(waiting) == "pending"


async def test_who_opened_all_of_it_approves_there(page: Page) -> None:
    """All of it stands above the button."""
    waiting = await page.ask({"query": "x" * 9_000})
    async with page.signed_in() as visitor:
        whole = await visitor.get(f"requests/{waiting}/all")
        answer = await visitor.form(f"requests/{waiting}/approve", of=f"requests/{waiting}/all")

    assert "x" * 9_000 in whole.text
    assert 'name="fingerprint"' not in whole.text
    assert answer.status_code == 303
    assert await page.state(waiting) == "approved"


async def test_the_fingerprint_approves_what_was_cut(page: Page) -> None:
    """As in the form of the client (docs/approvals.md)."""
    waiting = await page.ask({"query": "y" * 9_000})
    async with page.signed_in() as visitor:
        shown = await visitor.get(f"requests/{waiting}")
        mark = re.search(r'class="mark">([A-Z0-9-]{9})<', shown.text)
        assert mark is not None
        answer = await visitor.form(f"requests/{waiting}/approve", {"fingerprint": mark[1].lower().replace("-", " ")})

    assert answer.status_code == 303
    assert await page.state(waiting) == "approved"


async def test_beyond_what_a_browser_shows_only_the_fingerprint_approves(page: Page) -> None:
    """Bound everything: not even the long page shows 300,000 characters."""
    waiting = await page.ask({"query": "z" * 300_000})
    async with page.signed_in() as visitor:
        whole = await visitor.get(f"requests/{waiting}/all")
        answer = await visitor.form(f"requests/{waiting}/approve", of=f"requests/{waiting}/all")

    assert 'name="fingerprint"' in whole.text
    assert answer.status_code == 422
    assert await page.state(waiting) == "pending"


async def test_two_tabs_race_and_the_second_is_told_who_was_first(page: Page) -> None:
    """T4 and T5 by compare-and-set: the first commit wins."""
    waiting = await page.ask()
    await page.parts.review.reviewers.add("rita", by="a test")
    async with page.signed_in() as mine, page.signed_in(RITA) as other:
        old = hidden_fields((await mine.get(f"requests/{waiting}")).text, f"{page.root}requests/{waiting}/approve")
        assert (await other.form(f"requests/{waiting}/deny")).status_code == 303
        late = await mine.http.post(f"{page.root}requests/{waiting}/approve", data=old)

    assert late.status_code == 409
    assert "Already decided by rita" in late.text
    assert await page.state(waiting) == "denied"


async def test_of_many_at_the_same_instant_exactly_one_decides(page: Page) -> None:
    """docs/approvals.md: deny and approve at the same instant."""
    waiting = await page.ask()
    statuses: list[int] = []
    async with page.signed_in() as visitor:
        html = (await visitor.get(f"requests/{waiting}")).text

        async def press(verb: str) -> None:
            path = f"{page.root}requests/{waiting}/{verb}"
            statuses.append((await visitor.http.post(path, data=hidden_fields(html, path))).status_code)

        async with anyio.create_task_group() as group:
            for verb in ("approve", "deny") * 3:
                group.start_soon(press, verb)

    assert sorted(statuses) == [303, 409, 409, 409, 409, 409]
    assert len(await page.parts.store.decisions(waiting)) == 1


async def test_who_may_not_approve_is_told_what_it_needs_and_may_still_deny(page: Page) -> None:
    """decisions.md D25: in team mode a requester never approves the own call."""
    waiting = await page.ask(mode="team")
    async with page.signed_in() as visitor:
        shown = await visitor.get(f"requests/{waiting}")
        fields = {"form": page.parts.signin.stamp(await page.session_in(visitor), "form")}
        forced = await visitor.http.post(f"{page.root}requests/{waiting}/approve", data=fields)
        assert await page.state(waiting) == "pending"
        denied = await visitor.form(f"requests/{waiting}/deny")

    assert "a requester never approves an own call" in shown.text
    assert "mcp-guard reviewer add NAME" in shown.text
    assert f'action="{page.root}requests/{waiting}/approve"' not in shown.text
    assert (forced.status_code, denied.status_code) == (403, 303)


async def test_what_was_altered_in_the_store_cannot_be_approved(page: Page) -> None:
    """S17: reviewers decide what would run, or nothing."""
    waiting = await page.ask()
    async with page.signed_in() as visitor:
        fields = hidden_fields(
            (await visitor.get(f"requests/{waiting}")).text, f"{page.root}requests/{waiting}/approve"
        )
        await page.sql(
            "UPDATE approval SET view = json_set(view, '$.arguments.table', 'harmless') WHERE id = ?", waiting
        )
        shown = await visitor.get(f"requests/{waiting}")
        answer = await visitor.http.post(f"{page.root}requests/{waiting}/approve", data=fields)

    assert "what reviewers were shown is not what would run" in shown.text
    assert answer.status_code == 403
    assert await page.state(waiting) == "pending"


async def test_an_expired_request_says_so_and_is_not_approved(page: Page) -> None:
    """T10: also where no guard runs any more."""
    waiting = await page.ask(expires_s=1.0)
    async with page.signed_in() as visitor:
        fields = hidden_fields(
            (await visitor.get(f"requests/{waiting}")).text, f"{page.root}requests/{waiting}/approve"
        )

        async def over() -> bool:
            return "Expired" in plain((await visitor.get(f"requests/{waiting}")).text)

        await until(over, 5)
        late = await visitor.http.post(f"{page.root}requests/{waiting}/approve", data=fields)

    assert late.status_code == 409
    assert await page.state(waiting) == "expired"


async def test_a_grant_is_given_listed_and_revoked(page: Page) -> None:
    """S13: only what the request offers, and only when it is chosen."""
    waiting = await page.ask(grants=(OFFER,))
    async with page.signed_in() as visitor:
        shown = await visitor.get(f"requests/{waiting}")
        none = await visitor.form(f"requests/{waiting}/approve", {"grant": "7"})
        assert await page.state(waiting) == "pending"
        await visitor.form(f"requests/{waiting}/approve", {"grant": "0"})
        listed = await visitor.get("grants")
        (given,) = await page.parts.review.list_grants()
        await visitor.form(f"grants/{given.id}/revoke", of="grants")
        after = await visitor.get("grants")

    assert re.search(r'value="once" checked> only this call', shown.text)
    assert none.status_code == 422
    assert "up to 5 more times" in plain(listed.text)
    assert "Revoke" in listed.text
    assert "No grant is active" in after.text
    assert await page.parts.review.list_grants() == []


async def test_without_a_choice_no_grant_is_given(page: Page) -> None:
    """The default is this call alone."""
    waiting = await page.ask(grants=(OFFER,))
    async with page.signed_in() as visitor:
        await visitor.form(f"requests/{waiting}/approve")

    assert await page.state(waiting) == "approved"
    assert await page.parts.review.list_grants() == []


async def test_all_calls_of_one_tool_are_denied_at_once_and_never_approved(page: Page) -> None:
    """security.md S16: a flood of requests is closed with one press and a page between; others stay."""
    one, two, other = await page.ask(tool="flood"), await page.ask(tool="flood"), await page.ask(tool="drop_other")
    async with page.signed_in() as visitor:
        shown = await visitor.get(f"requests/{one}")
        listed = await visitor.get(f"?like={one}")
        asked = await visitor.get(f"requests/{one}/alike")
        before = await page.state(one)
        unasked = await visitor.http.post(f"{page.root}requests/{one}/alike", data={"form": "0" * 32})
        between = await page.state(two)
        done = await visitor.form(f"requests/{one}/alike", {"reason": "a flood"}, of=f"requests/{one}/alike")
        forged = await visitor.http.post(f"{page.root}requests/{other}/approve-alike", data={})

    assert "1 more call of this tool waits" in plain(shown.text)
    assert listed.text.count('class="row"') == 2
    assert "Deny 2 waiting calls of flood on db ?" in plain(asked.text)
    assert (before, between, unasked.status_code, done.status_code) == ("pending", "pending", 403, 303)
    assert [await page.state(each) for each in (one, two, other)] == ["denied", "denied", "pending"]
    assert forged.status_code == 404


async def test_a_grant_that_cannot_be_shown_whole_is_not_offered(page: Page) -> None:
    """S13: nobody gives what he has not read."""
    waiting = await page.ask(grants=(OFFER,))
    offers = [json.dumps({"label": "long", "keep": ["k" * 9_000]}), json.dumps({"label": "many", "keep": ["k"] * 99})]
    async with page.signed_in() as visitor:
        for offer in offers:
            change = "UPDATE approval SET view = json_set(view, '$.grants[0]', json(?)) WHERE id = ?"
            await page.sql(change, offer, waiting)
            assert 'name="grant" value="0"' not in (await visitor.get(f"requests/{waiting}")).text
