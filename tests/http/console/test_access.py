"""Who may speak to the page, and how (decisions.md D17, D25; security.md S18, S19)."""

from __future__ import annotations

from dataclasses import replace

import anyio
import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.http.console.access import COOKIE, Gate
from mcp_guard.model import Assurance
from tests.e2e.harness import until
from tests.http.console.bench import LOCAL_ALICE, Page

RITA = Reviewer("rita", Assurance.A2, "console")
GETS = ("", "requests/apr_x", "requests/apr_x/all", "grants", "history", "audit", "audit/apr_x", "events")


@pytest.mark.parametrize("host", ["evil.example:{port}", "127.0.0.1", "localhost", "127.0.0.1:1", "[::1]:{port}", ""])
async def test_another_host_is_refused_before_anything_else(page: Page, host: str) -> None:
    """security.md S18: DNS rebinding."""
    async with page.client() as http:
        answer = await http.get(page.root, headers={"host": host.format(port=page.parts.port)})

    assert answer.status_code in {400, 421}
    assert "<html" not in answer.text


async def test_localhost_and_127_0_0_1_are_both_this_page(page: Page) -> None:
    """docs/console.md."""
    async with page.client() as http:
        answer = await http.get(page.root, headers={"host": f"localhost:{page.parts.port}"})

    assert answer.status_code == 401


@pytest.mark.parametrize("path", GETS)
async def test_without_a_session_every_page_only_asks_who_it_is(page: Page, path: str) -> None:
    """security.md S19: a link carries no authority."""
    waiting = await page.ask({"table": f"nobody-sees-this-{page.asked}"})
    async with page.client() as http:
        answer = await http.get(page.root + path.replace("apr_x", waiting))

    assert answer.status_code == 401
    assert "Sign in" in answer.text
    assert "nobody-sees-this" not in answer.text


@pytest.mark.parametrize("path", ["", "login", "static/style.css", "nowhere", "requests/apr_x", "login/abc"])
async def test_every_answer_carries_the_strict_headers(page: Page, path: str) -> None:
    """security.md S18."""
    async with page.client() as http:
        headers = (await http.get(page.root + path)).headers

    assert headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"


async def test_the_session_cookie_is_for_this_page_alone(page: Page) -> None:
    """Cookies do not know ports, so the path tells the pages of one machine apart."""
    async with page.client() as http:
        code = await page.parts.signin.link(LOCAL_ALICE)
        answer = await http.post(f"{page.root}login/{code}")
        cookie = answer.headers["set-cookie"]

    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", f"Path={page.root}", "SameSite=strict", "Max-Age=43200"} <= set(cookie.split("; "))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
    ],
    ids=str,
)
async def test_a_form_of_another_page_decides_nothing(page: Page, headers: dict[str, str]) -> None:
    """security.md S18: CSRF, also from another port of this machine."""
    waiting = await page.ask()
    async with page.signed_in() as visitor:
        form = page.parts.signin.stamp((await page.session_in(visitor)), "form")
        url = f"{page.root}requests/{waiting}/deny"
        answer = await visitor.http.post(url, data={"form": form}, headers=headers)

    assert answer.status_code == 403
    assert await page.state(waiting) == "pending"


async def test_a_form_without_an_origin_decides_nothing(page: Page) -> None:
    """Fail closed: every browser sends it."""
    waiting = await page.ask()
    async with page.signed_in() as visitor:
        del visitor.http.headers["origin"]
        answer = await visitor.http.post(f"{page.root}requests/{waiting}/deny", data={"form": "x"})

    assert answer.status_code == 403
    assert await page.state(waiting) == "pending"


@pytest.mark.parametrize("verb", ["approve", "deny"])
@pytest.mark.parametrize("token", ["", "0" * 32, "é"])
async def test_a_form_without_the_token_of_this_session_decides_nothing(page: Page, verb: str, token: str) -> None:
    """security.md S18: one token for each session."""
    waiting = await page.ask()
    async with page.signed_in() as visitor:
        answer = await visitor.http.post(f"{page.root}requests/{waiting}/{verb}", data={"form": token})

    assert answer.status_code == 403
    assert await page.state(waiting) == "pending"


async def test_the_token_of_another_session_is_worth_nothing(page: Page) -> None:
    """security.md S18."""
    waiting = await page.ask()
    async with page.signed_in() as mine, page.signed_in() as other:
        token = page.parts.signin.stamp(await page.session_in(other), "form")
        answer = await mine.http.post(f"{page.root}requests/{waiting}/deny", data={"form": token})

    assert answer.status_code == 403
    assert await page.state(waiting) == "pending"


@pytest.mark.parametrize("path", ["approve", "deny", "approve?confirm=1", ""])
async def test_no_get_and_no_head_changes_anything(page: Page, path: str) -> None:
    """security.md S18: previews and scanners open links."""
    waiting = await page.ask()
    async with page.signed_in() as visitor:
        await visitor.get(f"requests/{waiting}/{path}".rstrip("/"))
        await visitor.http.head(f"{page.root}requests/{waiting}/{path}".rstrip("/"))

    assert await page.state(waiting) == "pending"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_other_methods_are_refused(page: Page, method: str) -> None:
    """Nothing here needs them."""
    async with page.client() as http:
        assert (await http.request(method, page.root)).status_code == 405


async def test_opening_a_login_link_uses_nothing_up_and_its_button_does_once(page: Page) -> None:
    """security.md S18: link unfurl must never sign in."""
    code = await page.parts.signin.link(LOCAL_ALICE)
    async with page.client() as scanner, page.client() as person, page.client() as late:
        seen = await scanner.get(f"{page.root}login/{code}")
        used = await person.post(f"{page.root}login/{code}")
        again = await late.post(f"{page.root}login/{code}")

    assert (seen.status_code, "set-cookie" in seen.headers) == (200, False)
    assert (used.status_code, again.status_code) == (303, 410)
    assert "set-cookie" not in again.headers


async def test_two_who_press_the_button_of_one_link_at_once_are_not_both_signed_in(page: Page) -> None:
    """Single use, also in a race."""
    code = await page.parts.signin.link(LOCAL_ALICE)
    statuses: list[int] = []

    async def press() -> None:
        async with page.client() as http:
            statuses.append((await http.post(f"{page.root}login/{code}")).status_code)

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(press)

    assert sorted(statuses) == [303, 410, 410, 410, 410, 410]


async def test_a_reviewers_token_signs_in_as_that_reviewer(page: Page) -> None:
    """decisions.md D25: A2."""
    token = await page.parts.review.reviewers.add("rita", by="a test")
    async with page.client() as http:
        answer = await http.post(f"{page.root}login", data={"token": f" {token} ", "next": "history"})
        shown = await http.get(page.root)

    assert (answer.status_code, answer.headers["location"]) == (303, f"{page.root}history")
    assert "rita <small>a reviewer with a token</small>" in shown.text


@pytest.mark.parametrize("there", ["//evil.example", "https://evil.example", "\\evil", "requests/../../x", "login/x"])
async def test_signing_in_leads_nowhere_else(page: Page, there: str) -> None:
    """No open redirect."""
    token = await page.parts.review.reviewers.add(f"r{abs(hash(there)) % 10**8}", by="a test")
    async with page.client() as http:
        answer = await http.post(f"{page.root}login", data={"token": token, "next": there})

    assert answer.headers["location"] == page.root


async def test_a_session_ends_with_the_reviewers_registration(page: Page) -> None:
    """decisions.md D25: whoever is no reviewer any more decides nothing."""
    await page.parts.review.reviewers.add("gone", by="a test")
    waiting = await page.ask()
    async with page.signed_in(replace(RITA, name="gone")) as visitor:
        before = await visitor.get()
        await page.sql("DELETE FROM reviewer WHERE name = 'gone'")
        after = await visitor.get()
        await page.parts.review.reviewers.add("gone", by="a test")
        namesake = await visitor.get()

    assert (before.status_code, after.status_code, namesake.status_code) == (200, 401, 401)
    assert await page.state(waiting) == "pending"


async def test_signing_out_ends_the_session_itself(page: Page) -> None:
    """Not only the cookie."""
    async with page.signed_in() as visitor:
        cookie = visitor.http.cookies[COOKIE]
        answer = await visitor.form("logout", of="")
        async with page.client(cookies={COOKIE: cookie}) as thief:
            after = await thief.get(page.root)

    assert answer.status_code == 303
    assert after.status_code == 401


async def test_a_form_that_is_none_or_too_long_is_refused(page: Page) -> None:
    """Bound everything."""
    async with page.client() as http:
        json = await http.post(f"{page.root}login", json={"token": "x"})
        long = await http.post(f"{page.root}login", data={"token": "x" * 70_000})
        many = await http.post(f"{page.root}login", data={f"f{n}": "x" for n in range(40)})

    assert (json.status_code, long.status_code, many.status_code) == (415, 413, 400)


async def test_nothing_outside_of_the_prefix_is_served(page: Page) -> None:
    """Every path but the door and its looks is below the prefix; another prefix leads nowhere."""
    async with page.signed_in() as visitor:
        for path in ("/requests/x", "/static/x", "/static/", f"/{'0' * 16}/", page.root.rstrip("/"), "/mcp"):
            assert (await visitor.http.get(path)).status_code == 404


async def test_a_page_of_another_origin_gets_no_stream(page: Page) -> None:
    """docs/approvals.md: cross-origin server-sent events are blocked; another port is the same site."""
    async with page.signed_in() as visitor:
        headers = {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}
        answer = await visitor.http.get(f"{page.root}events", headers=headers)

    assert answer.status_code == 403


async def test_no_more_streams_than_the_bound_are_open_also_in_a_burst(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bound everything: a place is taken before the answer begins, and given back when it ends."""
    monkeypatch.setattr("mcp_guard.http.console.app.MAX_STREAMS", 3)
    statuses: list[int] = []

    async def follow() -> None:
        async with visitor.http.stream("GET", f"{page.root}events", timeout=10) as stream:
            statuses.append(stream.status_code)
            if stream.status_code == 503:
                assert "Close other tabs" in (await stream.aread()).decode()
            else:
                await anyio.sleep_forever()

    async with page.signed_in() as visitor:
        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(follow)
            await until(lambda: len(statuses) == 12, 10)
            group.cancel_scope.cancel()

        async def free() -> bool:
            async with visitor.http.stream("GET", f"{page.root}events") as stream:
                return stream.status_code == 200

        await until(free, 5)

    assert sorted(statuses) == [200] * 3 + [503] * 9


async def test_what_breaks_inside_shows_no_text_of_the_error() -> None:
    """decisions.md D4; the strict headers are there too."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("secret")

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(Gate(broken, 81))) as http:
        answer = await http.get("http://127.0.0.1:81/")

    assert answer.status_code == 500
    assert answer.text == "Something broke here. Nothing was decided by this request.\n"
    assert answer.headers["cache-control"] == "no-store"


async def test_after_five_wrong_tokens_only_wrong_ones_are_refused_and_the_record_does_not_grow(page: Page) -> None:
    """Nobody locks a reviewer out by guessing. Last in this file: it closes the form of this page to wrong tokens."""
    token = await page.parts.review.reviewers.add("late", by="a test")
    async with page.client() as http:
        wrong = [(await http.post(f"{page.root}login", data={"token": "mgr_x"})).status_code for _ in range(20)]
        right = await http.post(f"{page.root}login", data={"token": token})

    rows = [row["what"] for row in await page.parts.store.console_events()]
    assert wrong[-15:] == [429] * 15
    assert right.status_code == 303
    assert rows.count("refused") == 5
