"""What a person sees on the page (decisions.md D17, D25; docs/approvals.md)."""

from __future__ import annotations

import time

import anyio
import anyio.lowlevel
import pytest

from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.audit.log import AuditLog
from mcp_guard.clock import RandomIds, SystemClock
from mcp_guard.model import Assurance, MaskedJson, Record, Risk
from tests.e2e.harness import until
from tests.http.console.bench import ALICE, Page, page_at, plain

RITA = Reviewer("rita", Assurance.A2, "console")
RITA_AS_A1 = Reviewer("rita", Assurance.A1, "console")


async def test_the_card_says_who_what_why_and_marks_what_is_not_verified(page: Page) -> None:
    """decisions.md D36: on stdio the requester is unverified."""
    waiting = await page.ask({"table": "users", "query": "a\u202eb"})
    async with page.signed_in() as visitor:
        shown = plain((await visitor.get(f"requests/{waiting}")).text)

    for part in ("alice unverified", "client desk-host 1.2", "server db", "tool drop_table", "environment prod",
                 "resource users",
                 "Rule prod-destructive asks.", "1 hidden character", "a \\u{202e} b", "asked by alice"):  # fmt: skip
        assert part in shown, part
    assert shown.index("users") < shown.index("query")


async def test_what_the_agent_says_stands_in_a_box_of_its_own(page: Page) -> None:
    """docs/approvals.md: "security already approved" is never a title or a summary."""
    waiting = await page.ask()
    await page.sql(
        "UPDATE approval SET view = json_set(view, '$.justification', 'security approved') WHERE id = ?", waiting
    )
    async with page.signed_in() as visitor:
        html = (await visitor.get(f"requests/{waiting}")).text

    box = html[html.index('class="card foreign unverified"') :]
    assert "unverified, written by the agent" in box
    assert html.count("security approved") == box[: box.index("</section>")].count("security approved") == 1


@pytest.mark.parametrize(
    "path", ["requests/apr_none", "grants/x/revoke", "static/nope.js", "static/..%2fapp.py", "nowhere"]
)
async def test_what_is_not_there_is_a_page_of_our_own_words(page: Page, path: str) -> None:
    """No foreign text in an error."""
    async with page.signed_in() as visitor:
        answer = await visitor.get(path)

    assert answer.status_code in {404, 405}
    assert path.rsplit("/", 1)[-1] not in plain(answer.text)


async def test_an_error_inside_shows_neither_its_text_nor_a_trace(page: Page) -> None:
    """decisions.md D4."""
    async with page.signed_in() as visitor:
        await page.sql("ALTER TABLE approval RENAME TO approval_away")
        try:
            answers = [await visitor.get(path) for path in ("", "history", "requests/apr_x")]
        finally:
            await page.sql("ALTER TABLE approval_away RENAME TO approval")

    for answer in answers:
        assert answer.status_code in {500, 503}
        assert "no such table" not in answer.text
        assert "Traceback" not in answer.text


async def test_the_story_of_a_call_is_read_from_the_log(page: Page) -> None:
    """docs/audit.md: read only."""
    audit = await AuditLog.open(page.parts.audit, page.parts.keys, SystemClock(), RandomIds(), append_timeout_s=5)
    async with anyio.create_task_group() as group:
        await group.start(audit.run)
        for kind, outcome in (("call.intent", "require_approval"), ("call.result", "ok")):
            record = Record(type=kind, call_id="call_1", actor=ALICE.key, tool="db/<b>drop</b>", outcome=outcome)
            await audit.append(record.with_payload("args", MaskedJson({"table": "<i>users</i>"})))
        await audit.close()
        group.cancel_scope.cancel()

    async with page.signed_in() as visitor:
        listed = await visitor.get("audit")
        found = await visitor.get("audit?id=call_1")
        same = await visitor.get("audit/call_1")
        nobody = await visitor.get("audit?id=call_2")
        odd = await visitor.get("audit?id=<script>")

    assert "db/&lt;b&gt;drop&lt;/b&gt;" in listed.text
    assert listed.text.index("call.result") < listed.text.index("call.intent")
    assert found.text == same.text
    assert "&lt;i&gt;users&lt;/i&gt;" in found.text
    assert "No record mentions this id" in nobody.text
    assert odd.status_code == 404


async def test_after_a_decision_the_next_request_is_one_press_away_and_lists_say_for_whom(page: Page) -> None:
    """docs/console.md: rows name the requester and the client, and how many calls hang on one answer."""
    first, following = await page.ask(), await page.ask({"table": "next_in_line"}, tool="drop_next")
    await page.sql("UPDATE approval SET calls = 3 WHERE id = ?", following)
    async with page.signed_in() as visitor:
        listed = plain((await visitor.get()).text)
        await visitor.form(f"requests/{first}/deny")
        shown = await visitor.get(f"requests/{first}")
        closed = plain((await visitor.get("history")).text)

    assert "for alice in desk-host 1.2 · 3 identical calls" in listed
    assert f'href="{page.root}requests/{following}">Next waiting: drop_next' in shown.text
    assert f"users_{page.asked - 1}" in closed


async def test_names_and_resources_of_any_length_are_short_on_every_page(page: Page) -> None:
    """Bound everything that a server, a client or an agent names."""
    waiting = await page.ask({"table": "r" * 50_000}, tool="t" * 50_000, server="s" * 50_000)
    async with page.signed_in() as visitor:
        pages = {path: (await visitor.get(path)).text for path in ("", f"requests/{waiting}", f"?like={waiting}")}
        await visitor.form(f"requests/{waiting}/deny")
        pages["history"] = (await visitor.get("history")).text

    for path, html in pages.items():
        assert "t" * 200 in html, path
        assert "t" * 201 not in html, path
        assert "s" * 201 not in html, path
        assert "r" * 701 not in html, path
        assert "+49800 more" in html, path


async def test_look_alikes_and_text_that_a_screen_reorders_are_named(page: Page) -> None:
    """S15: letters of two scripts in an address, and right-to-left letters."""
    waiting = await page.ask({"to": ["ceo@p\u0430ypal.example"], "file": "\u05d0\u05d1 12.pdf"}, risk=Risk.HIGH)
    async with page.signed_in() as visitor:
        digest = (await visitor.look(waiting))["digest"]
        for path in (f"requests/{waiting}", f"requests/{waiting}/confirm?digest={digest}"):
            shown = plain((await visitor.get(path)).text)
            assert "This may not be what it looks like: to: mixes Latin and Cyrillic letters" in shown


async def test_a_session_that_ended_leads_back_and_says_that_the_note_is_lost(page: Page) -> None:
    """Nobody believes to have decided what was not."""
    waiting = await page.ask()
    async with page.client() as http:
        answers = [
            await http.post(f"{page.root}requests/{waiting}/{verb}", data={"reason": "long"})
            for verb in ("approve", "deny", "alike")
        ]

    for answer in answers:
        assert answer.status_code == 401
        assert "nothing was done. What you wrote is lost" in answer.text
        assert f'name="next" value="requests/{waiting}"' in answer.text


async def test_who_signed_in_was_refused_and_signed_out_is_kept_for_the_record(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """decisions.md D26: the process of the page never opens the log."""
    async with page_at(tmp_path_factory.mktemp("record")) as other:
        token = await other.parts.review.reviewers.add("rita", by="a test")
        async with other.client() as http:
            await http.post(f"{other.root}login", data={"token": "mgr_wrong-secret"})
            await http.post(f"{other.root}login/nobodys-code", data={})
            await http.post(f"{other.root}login", data={"token": token})
        async with other.signed_in() as visitor:
            await visitor.form("logout", of="")
        rows = await other.parts.store.console_events()

    assert [(row["what"], row["how"], row["name"], row["assurance"]) for row in rows] == [
        ("refused", "token", "", ""),
        ("refused", "link", "", ""),
        ("signed_in", "token", "rita", "A2"),
        ("signed_in", "link", "alice", "A1"),
        ("signed_out", "session", "alice", "A1"),
    ]
    assert rows[3]["session"] == rows[4]["session"]
    assert "wrong-secret" not in str(rows)
    assert token not in str(rows)


async def test_empty_lists_say_what_to_do_next(tmp_path_factory: pytest.TempPathFactory) -> None:
    """docs/console.md."""
    async with page_at(tmp_path_factory.mktemp("empty")) as empty, empty.signed_in() as visitor:
        words = {path: plain((await visitor.get(path)).text) for path in ("", "grants", "history", "audit")}

    assert "No request waits. When an agent makes a call that needs a decision, it appears here" in words[""]
    assert "No grant is active. Where a rule offers one" in words["grants"]
    assert "Nothing was decided yet. Requests come here" in words["history"]
    assert "Nothing is recorded yet. Every call through the guard is." in words["audit"]


async def test_a_thousand_waiting_are_fifty_a_page_and_quick(tmp_path_factory: pytest.TempPathFactory) -> None:
    """docs/console.md: the first view takes at most 300 ms."""
    async with page_at(tmp_path_factory.mktemp("many")) as many, many.signed_in() as visitor:
        await many.ask_many(1_000)
        taken = [(await visitor.get()).elapsed.total_seconds() for _ in range(3)]
        first = await visitor.get()
        last = await visitor.get("?page=20")
        beyond = await visitor.get("?page=21")
        strange = await visitor.get("?page=-1")

    assert "<title>(1000) Waiting" in first.text
    assert '<noscript><meta http-equiv="refresh" content="10"></noscript>' in first.text
    assert first.text.count('class="row"') == last.text.count('class="row"') == strange.text.count('class="row"') == 50
    assert "1–50 of 1000" in first.text
    assert "951–1000 of 1000" in last.text
    assert "Nothing on this page" in beyond.text
    assert min(taken) < 3


async def test_a_new_request_is_told_by_itself_and_the_stream_ends_with_the_session(page: Page) -> None:
    """docs/console.md: live, without a secret in the stream."""
    events: list[str] = []

    async def follow() -> None:
        async with visitor.http.stream("GET", f"{page.root}events", timeout=10) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            async for line in stream.aiter_lines():
                events.append(line)  # noqa: PERF401 - each line counts from the moment it comes

    async def told(line: str, since: int) -> float:
        begun = time.perf_counter()
        await until(lambda: line in events[since:], 5)
        return time.perf_counter() - begun

    async with page.signed_in() as visitor, anyio.create_task_group() as group:
        group.start_soon(follow)
        await told("event: change", 0)
        seen = len(events)
        await page.ask({"table": "live-secret"})
        taken = await told("event: change", seen)
        await page.parts.signin.close(await page.session_in(visitor))
        await told("event: end", seen)

    assert taken < 5
    assert "live-secret" not in "".join(events)


@pytest.mark.parametrize("page_of", ["/all", "/confirm?grant=once&digest="])
async def test_calls_go_on_while_a_page_of_big_arguments_is_drawn(page: Page, page_of: str) -> None:
    """docs/console.md: the guard that serves the page serves calls as well; one such page stopped it for 12 s."""
    waiting = await page.ask({"note": "\U0001f600" * 255_000, "hidden": f"\u200b{page_of}"}, risk=Risk.HIGH)
    request = await page.parts.store.get(waiting)
    assert request is not None
    gaps = [0.0]

    async def tick() -> None:
        last = time.thread_time()  # of the loop alone: how busy the machine is does not matter
        while True:
            await anyio.lowlevel.checkpoint()
            gaps.append((now := time.thread_time()) - last)
            last = now

    async with page.signed_in() as visitor, anyio.create_task_group() as group:
        group.start_soon(tick)
        path = page_of + request.row.action_digest if page_of.endswith("=") else page_of
        shown = await visitor.get(f"requests/{waiting}{path}")
        group.cancel_scope.cancel()

    assert shown.text.count("\U0001f600") == 255_000
    assert max(gaps) < 0.3


async def test_a_request_whose_details_were_deleted_says_where_they_are(page: Page) -> None:
    """docs/limits.md: a closed request keeps its details for 30 days; the record has them after that."""
    closed = await page.ask({"table": "users", "note": "long gone"}, tool="drop_table")
    async with page.signed_in() as visitor:
        await visitor.form(f"requests/{closed}/deny", {"reason": "no"})
        async with page.parts.store.write() as transaction:
            await transaction.mark_sent(event.seq for event in await page.parts.store.events(closed))
        async with page.parts.store.write() as transaction:
            assert await transaction.forget(old_ns=transaction.now_ns, settled_ns=0, most=0, some=50) == 1
        shown = await visitor.get(f"requests/{closed}")
        whole = await visitor.get(f"requests/{closed}/all")
        listed = await visitor.get("history")

    for one in (shown, whole):
        assert one.status_code == 200
        assert "is kept for 30 days after it is over" in plain(one.text)
        assert "long gone" not in one.text
        assert "Denied by alice" in plain(one.text)
    assert "drop_table" in listed.text
