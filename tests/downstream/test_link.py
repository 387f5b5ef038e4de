"""One link to one real server, in good order and in every kind of trouble."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import mcp_types as types
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mcp_guard.downstream import link as link_module
from mcp_guard.downstream.link import Link, LinkOptions, open_link
from mcp_guard.downstream.listing import fetch_listing
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import DownstreamUnavailableError, OutcomeUnknownError
from mcp_guard.model import JsonDict, RawResult

Make = Callable[..., ResolvedServer]
Options = Callable[..., LinkOptions]


async def call(link: Link, name: str = "echo", timeout_s: float = 5.0, **more: Any) -> RawResult:
    params = types.CallToolRequestParams(name=name, arguments=more.pop("arguments", {}))
    return await link.request(types.CallToolRequest(params=params), timeout_s=timeout_s, **more)


def text_of(answer: RawResult) -> str:
    assert answer.result is not None
    content: Any = answer.result["content"]
    return str(content[0]["text"])


async def test_arguments_arrive_exactly_as_they_were_judged(raw: Make, options: Options) -> None:
    """security.md S6: nulls, big integers, floats, and the order of keys."""
    arguments: JsonDict = {"z": None, "a": [None, {"n": None}], "i": 2**70, "f": 1e16, "s": "é\u2028\x00"}
    async with open_link(raw(), options()) as link:
        answer = await call(link, arguments=arguments)
    assert answer.result is not None
    got: Any = answer.result["structuredContent"]
    assert repr(got["got"]["arguments"]) == repr(arguments)


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
async def test_both_eras_are_spoken_and_all_pages_are_read(
    sdk: Make,
    options: Options,
    version: str,
) -> None:
    """MCP 2025-11-25, "Pagination": nextCursor is followed."""
    async with open_link(sdk(), options(legacy=version < "2026")) as link:
        listing = await fetch_listing(link)
        answer = await call(link, "first", arguments={"n": 1})
    assert listing.protocol == version
    assert [tool["name"] for tool in listing.tools] == ["first", "second"]
    assert json.loads(text_of(answer))["arguments"] == {"n": 1}
    assert "io.modelcontextprotocol/serverInfo" not in json.dumps(answer.result)


async def test_progress_is_handed_on(sdk: Make, options: Options) -> None:
    """Issue item 3: progress passes."""
    seen: list[tuple[float, float | None, str | None]] = []

    async def sink(done: float, total: float | None, message: str | None) -> None:
        seen.append((done, total, message))

    async with open_link(sdk(), options()) as link:
        await call(link, "progress", progress=sink)
    assert seen == [(1.0, 2.0, "half")]


async def test_roots_are_answered_for_local_servers(sdk: Make, options: Options) -> None:
    """decisions.md D29."""

    async def roots() -> list[JsonDict]:
        return [{"uri": "file:///project"}]

    async with open_link(sdk(), options(legacy=True, roots=roots)) as link:
        assert text_of(await call(link, "roots")) == '["file:///project"]'
    async with open_link(sdk(), options(legacy=True)) as link:
        assert (await call(link, "roots")).error is not None


async def test_a_question_of_a_server_becomes_a_clear_tool_error(sdk: Make, options: Options) -> None:
    """MRTR of 2026-07-28: input_required is not relayed yet and must not look like a result."""
    async with open_link(sdk(), options()) as link:
        answer = await call(link, "ask")
    assert answer.result is not None
    assert answer.result["isError"] is True
    assert "asked for input" in text_of(answer)


async def test_an_error_of_the_server_is_passed_on_as_an_error(raw: Make, options: Options) -> None:
    """Also -32000, which the SDK uses for a closed connection."""
    async with open_link(raw("error"), options()) as link:
        assert (await call(link)).error == {"code": -32000, "message": "no", "data": {"a": 1}}


async def test_a_result_outside_the_protocol_becomes_an_error_without_its_content(raw: Make, options: Options) -> None:
    """security.md S35: the text of the SDK's validation error holds the value."""
    async with open_link(raw("invalid_result"), options()) as link:
        answer = await call(link)
    assert answer.result is None
    assert answer.error is not None
    assert "hunter2" not in json.dumps(answer.error)


async def test_only_the_first_of_two_answers_counts(raw: Make, options: Options) -> None:
    """security.md S31."""
    async with open_link(raw("twice"), options()) as link:
        assert text_of(await call(link)) == "first"
        assert text_of(await call(link)) == "first"


@pytest.mark.parametrize("mode", ["crash", "garbage", "endless"])
async def test_a_server_that_breaks_in_a_call_leaves_its_outcome_unknown(
    raw: Make, options: Options, log: list[str], mode: str
) -> None:
    """security.md F1, F4: bytes were written, so nobody may say that nothing happened; the link ends."""
    async with open_link(raw(mode), options()) as link:
        with pytest.raises(OutcomeUnknownError, match="its session ended"):
            await call(link)
        await link.ended.wait()
        with pytest.raises(DownstreamUnavailableError, match="nothing was sent"):
            await call(link)
    assert all(len(line) < 200 for line in log)


async def test_a_link_that_was_left_sends_nothing(raw: Make, options: Options) -> None:
    """A call may hold a link that its supervisor has just closed."""
    async with open_link(raw(), options()) as link:
        pass
    with pytest.raises(DownstreamUnavailableError, match="nothing was sent"):
        await call(link)


async def test_unreadable_lines_are_counted_by_length_and_hash_only(
    raw: Make, options: Options, log: list[str]
) -> None:
    """security.md F4: duplicate keys, invalid UTF-8 and batches from downstream servers."""
    async with open_link(raw("few_garbage"), options()) as link:
        assert text_of(await call(link)) == "after garbage"
    assert len([line for line in log if "sha256" in line]) == 3


async def test_a_banner_on_stdout_is_survived(raw: Make, options: Options) -> None:
    """security.md F4."""
    async with open_link(raw("banner"), options()) as link:
        assert (await call(link)).result is not None


async def test_a_list_without_measure_is_cut(raw: Make, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTRIBUTING.md, habit 9: bounded in items, and in characters over all pages."""
    monkeypatch.setattr("mcp_guard.downstream.session.MAX_ITEMS", 3)
    async with open_link(raw("many_tools"), options()) as link:
        listing = await fetch_listing(link)
        assert [len(listing.tools), link.dispatcher.dropped] == [3, 298]
    monkeypatch.undo()
    monkeypatch.setattr("mcp_guard.downstream.listing.MAX_LIST_BYTES", 500)
    async with open_link(raw("many_tools"), options()) as link:
        assert 0 < len((await fetch_listing(link)).tools) < 20


async def test_other_work_goes_on_while_a_long_list_is_judged(raw: Make, options: Options) -> None:
    """security.md S30: one invalid item among many; the valid ones are judged in groups, with pauses between."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with open_link(raw("many_tools"), options()) as link:
        items = [{"name": f"t{n}", "inputSchema": {"type": "object"}} for n in range(1000)]
        async with anyio.create_task_group() as group:
            group.start_soon(count)
            found = await link.dispatcher._sift("tools/list", "tools", {"tools": [*items, {"name": 5}]})
            group.cancel_scope.cancel()
    assert len(found["tools"]) == 1000
    assert turns > 10


async def test_one_invalid_tool_drops_one_tool(raw: Make, options: Options) -> None:
    """security.md S30: the SDK alone fails the whole list."""
    async with open_link(raw("bad_tool"), options()) as link:
        listing = await fetch_listing(link)
        assert link.dispatcher.dropped == 1
    assert [tool["name"] for tool in listing.tools] == ["echo"]
    assert listing.instructions == "be careful"


async def test_a_server_that_never_answers_is_cancelled_after_the_deadline(
    raw: Make, options: Options, log: list[str]
) -> None:
    """security.md F3."""
    async with open_link(raw("silent"), options()) as link:
        with pytest.raises(OutcomeUnknownError, match="no answer within"):
            await call(link, timeout_s=0.1)
    assert "raw: stderr: cancelled was seen" in log


async def test_a_cancelled_call_takes_an_answer_that_is_on_its_way(raw: Make, options: Options) -> None:
    """ARCHITECTURE.md, "One call", step 5: after the first byte a call is not abandoned."""
    async with open_link(raw("late"), options()) as link:
        with anyio.CancelScope() as scope:
            scope.deadline = anyio.current_time() + 0.2
            answer = await call(link)
        assert text_of(answer) == "late"


async def test_a_cancelled_call_without_an_answer_has_an_unknown_outcome(
    raw: Make, options: Options, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ARCHITECTURE.md, "One call", step 5."""
    monkeypatch.setattr(link_module, "CANCEL_GRACE_S", 0.2)
    async with open_link(raw("silent"), options()) as link:
        with anyio.move_on_after(0.2), pytest.raises(OutcomeUnknownError, match="cancelled by the client"):
            await call(link)
    assert "raw: stderr: cancelled was seen" in log


@pytest.mark.parametrize(
    ("mode", "timeout_s", "reason"),
    [("exit", 5.0, "exited with code 3 before it was ready"), ("slow_start", 0.1, "did not start within 0.1 s")],
)
async def test_a_server_that_does_not_start_says_why(
    raw: Make, options: Options, mode: str, timeout_s: float, reason: str
) -> None:
    """security.md F2."""
    with pytest.raises(DownstreamUnavailableError, match=reason):
        async with open_link(raw(mode, start_timeout_s=timeout_s), options()):
            pytest.fail("must not open")


async def test_a_server_over_http_works_in_both_eras(sdk_app: ASGIApp, serve: Any, options: Options) -> None:
    """decisions.md D20: both transports."""
    seen: list[list[tuple[bytes, bytes]]] = []

    async def spy(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append(scope["headers"])
        await sdk_app(scope, receive, send)

    async with serve(spy) as base:
        remote = ResolvedServer("far", "id", url=f"{base}/mcp", headers={"X-Key": "k"})
        for legacy in (True, False):
            async with open_link(remote, options(legacy=legacy)) as link:
                assert link.modern is not legacy
                listing = await fetch_listing(link)
                assert len(listing.tools) == 2
                assert json.loads(text_of(await call(link, "first")))["name"] == "first"
    assert all((b"x-key", b"k") in headers and (b"accept-encoding", b"identity") in headers for headers in seen)


async def test_a_refused_connection_says_that_nothing_was_sent(options: Options) -> None:
    """security.md F2."""
    remote = ResolvedServer("far", "id", url="http://127.0.0.1:9/mcp", start_timeout_s=5)
    with pytest.raises(DownstreamUnavailableError, match="far cannot be reached: no connection to its url"):
        async with open_link(remote, options()):
            pytest.fail("must not open")


def hostile(body: bytes, kind: str, **headers: str) -> Starlette:
    """Answers initialize properly, and a call with `body`."""

    async def endpoint(request: Request) -> Response:
        message = json.loads(await request.body()) if request.method == "POST" else {}
        if message.get("method") == "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "h", "version": "1"}}
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            return Response(json.dumps(answer), media_type="application/json")
        if message.get("method") == "tools/call":
            sent = body.replace(b"ID", str(message["id"]).encode())
            return Response(sent, media_type=kind, headers=headers)
        return Response(status_code=202 if request.method == "POST" else 405)

    return Starlette(routes=[Route("/mcp", endpoint, methods=["GET", "POST", "DELETE"])])


RESULT = b'{"jsonrpc":"2.0","id":ID,"result":{"content":[],"structuredContent":{"a":1,"a":2}}}'


@pytest.mark.parametrize(
    ("body", "kind", "headers"),
    [
        (RESULT, "application/json", {}),
        (b"data: " + RESULT + b"\n\n", "text/event-stream", {}),
        (b'{"jsonrpc":"2.0","id":ID,"result":{"x":"' + b"x" * (33 << 20) + b'"}}', "application/json", {}),
        (b"not compressed at all", "application/json", {"Content-Encoding": "gzip"}),
    ],
)
async def test_a_remote_answer_that_is_not_strict_never_becomes_a_result(
    serve: Any, options: Options, body: bytes, kind: str, headers: dict[str, str]
) -> None:
    """decisions.md D3; security.md S1, S32: duplicate keys, too large, compressed."""
    async with serve(hostile(body, kind, **headers)) as base:
        remote = ResolvedServer("far", "id", url=f"{base}/mcp")
        outcome: object = None
        try:
            async with open_link(remote, options(legacy=True)) as link:
                outcome = (await call(link)).error
        except (OutcomeUnknownError, DownstreamUnavailableError) as error:
            outcome = error
    assert outcome is not None
