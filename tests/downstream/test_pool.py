"""The pool with real servers: nobody waits for the broken one, and permits are used up."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mcp_guard.downstream.accepted import Anything
from mcp_guard.downstream.definition import Listing
from mcp_guard.downstream.pool import MAX_PRINCIPALS, Pool
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import (
    DownstreamUnavailableError,
    InternalError,
    OutcomeUnknownError,
    OverloadedError,
    QuarantinedError,
)
from mcp_guard.model import (
    Call,
    CallContext,
    CallKind,
    JsonDict,
    Principal,
    RawArguments,
    RawResult,
    Target,
)
from mcp_guard.permit import issue_permit

Make = Callable[..., ResolvedServer]
ME = Principal("os", "me")


def make_call(server: str, name: str = "first", kind: CallKind = CallKind.TOOL, **meta: Any) -> Call:
    return Call(
        call_id="c1",
        target=Target(kind, server, name, name, local=True),
        arguments=RawArguments({}),
        principal=ME,
        context=CallContext("stdio", "2025-11-25", "s"),
        meta=meta,
    )


class Bench:
    """A pool and what it reported."""

    def __init__(self, *servers: ResolvedServer, **settings: Any) -> None:
        self.log: list[str] = []
        self.listings: dict[str, Listing] = {}
        self.pool = Pool(
            {server.name: server for server in servers},
            mask_text=str,
            log=self.log.append,
            on_listing=self.took,
            first_delay_s=0.01,
            **settings,
        )
        self.listed = anyio.Event()

    def took(self, server: str, listing: Listing) -> None:
        self.listings[server] = listing
        self.listed.set()

    async def send(self, call: Call, arguments: JsonDict | None = None) -> RawResult:
        permit = issue_permit(call.call_id, "rule")
        raw_arguments = RawArguments(arguments or {})
        return await self.pool.forward(call, permit, raw_arguments, execution_id="x_1", progress=None)


def text_of(answer: RawResult) -> Any:
    assert answer.result is not None
    content: Any = answer.result["content"]
    return json.loads(content[0]["text"])


async def test_servers_start_side_by_side_and_a_broken_one_delays_nobody(sdk: Make, raw: Make) -> None:
    """security.md F1, F2; decisions.md D15."""
    bench = Bench(raw("slow_start", name="slow"), ResolvedServer("gone", "id", command=("no-such-program",)), sdk())
    async with bench.pool.running():
        bench.pool.start(ME.key)
        assert bench.pool.state("sdk").status == "starting"
        with anyio.fail_after(8):
            await bench.pool.settled(8)
        assert bench.pool.state("sdk").tools == 2
        assert bench.pool.state("slow").protocol == "2025-11-25"
        with pytest.raises(DownstreamUnavailableError, match="gone is not available: gone cannot be started: its comm"):
            await bench.send(make_call("gone"))
    assert set(bench.listings) == {"slow", "sdk"}


async def test_a_call_to_a_starting_server_waits_for_it(raw: Make) -> None:
    """decisions.md D27."""
    bench = Bench(raw("slow_start"))
    async with bench.pool.running():
        assert (await bench.send(make_call("raw", "echo"))).result is not None


async def test_all_kinds_of_calls_reach_the_server_under_its_own_names(sdk: Make) -> None:
    """decisions.md D37: progress token and protocol keys of the front are not forwarded."""
    bench = Bench(sdk())
    meta: dict[str, Any] = {"progressToken": 5, "io.modelcontextprotocol/clientInfo": {"name": "c"}, "vendor/x": 1}
    async with bench.pool.running():
        tool = text_of(await bench.send(make_call("sdk", **meta), {"n": 1}))
        resource = await bench.send(make_call("sdk", "file:///a", CallKind.RESOURCE), {"uri": "file:///a"})
        prompt = await bench.send(make_call("sdk", "p", CallKind.PROMPT), {"x": "1"})
    assert tool["arguments"] == {"n": 1}
    assert {"vendor/x", "io.mcp-guard/execution-id"} <= set(tool["meta"])
    assert "progressToken" not in tool["meta"]
    assert resource.result is not None
    assert "content" in json.dumps(resource.result["contents"])
    assert prompt.result is not None
    assert "messages" in prompt.result


async def test_links_that_nobody_uses_are_closed_and_come_back(sdk: Make) -> None:
    """docs/limits.md: each person of a shared guard has a child of each server. Those of the owner stay."""
    bench = Bench(sdk(), idle_s=0.1)
    guest = replace(make_call("sdk"), principal=Principal("os", "guest"))
    async with bench.pool.running():
        bench.pool.start(ME.key)
        for _ in range(2):
            assert text_of(await bench.send(guest, {"n": 1}))["arguments"] == {"n": 1}
            with anyio.fail_after(5):
                while any(key == guest.principal.key for _, key in bench.pool._entries):  # noqa: ASYNC110 - no event
                    await anyio.sleep(0.02)
        assert bench.pool.state("sdk").status == "ready"


async def test_a_permit_lets_one_call_through_once(sdk: Make) -> None:
    """ARCHITECTURE.md, "One call", step 5."""
    bench = Bench(sdk())
    call, permit = make_call("sdk"), issue_permit("c1", "rule")
    other = issue_permit("c2", "rule")
    async with bench.pool.running():
        await bench.pool.forward(call, permit, RawArguments({}), execution_id="x", progress=None)
        for bad in (permit, other):
            with pytest.raises(InternalError, match="single use"):
                await bench.pool.forward(call, bad, RawArguments({}), execution_id="x", progress=None)


async def test_a_server_that_crashed_in_a_call_is_started_again_and_the_call_is_not_repeated(raw: Make) -> None:
    """security.md F1: no automatic retry of the call, restart with back-off."""
    bench = Bench(raw("crash"))
    async with bench.pool.running():
        with pytest.raises(OutcomeUnknownError):
            await bench.send(make_call("raw", "echo"))
        bench.listed = anyio.Event()
        with anyio.fail_after(5):
            await bench.listed.wait()
        assert bench.pool.state("raw").status == "ready"


@pytest.mark.parametrize("protocol", ["2025-11-25", "2026-07-28"])
async def test_changed_lists_are_read_again_in_both_eras(sdk: Make, protocol: str) -> None:
    """MCP 2025-11-25 and 2026-07-28: list_changed by notification, and by subscriptions/listen."""
    bench = Bench(sdk(), protocols={"sdk": protocol})
    async with bench.pool.running():
        await bench.send(make_call("sdk", "grow"))
        with anyio.fail_after(5):
            while len(bench.listings["sdk"].tools) < 3:
                bench.listed = anyio.Event()
                await bench.listed.wait()
    assert bench.listings["sdk"].tools[-1]["name"] == "grown"


async def test_principals_do_not_share_a_link(raw: Make) -> None:
    """decisions.md D15; security.md S27."""
    bench = Bench(raw())
    async with bench.pool.running():
        bench.pool.start("alice")
        bench.pool.start("bob")
        await bench.pool.settled(5)
        links = {id(entry.link) for entry in bench.pool._entries.values()}
        assert len(links) == 2
        for number in range(MAX_PRINCIPALS - 2):
            bench.pool._entries["raw", f"p{number}"] = bench.pool._entries["raw", "bob"]
        with pytest.raises(OverloadedError, match="too many principals"):
            bench.pool.start("one more")


async def test_unknown_servers_and_a_closed_pool_forward_nothing(raw: Make) -> None:
    """Fail closed."""
    bench = Bench(raw())
    with pytest.raises(DownstreamUnavailableError, match="shutting down"):
        await bench.send(make_call("raw"))
    async with bench.pool.running():
        with pytest.raises(DownstreamUnavailableError, match="no server named other"):
            await bench.send(make_call("other"))


async def test_a_server_that_keeps_failing_is_tried_ever_less_often(raw: Make) -> None:
    """security.md F1: back-off 0.5 to 30 s with jitter, breaker after 5 failures in 60 s."""
    pool = Bench(raw()).pool
    entry: Any = SimpleNamespace(failures=deque(maxlen=5))
    delays = [pool._delay(entry, attempt) for attempt in range(6)]
    assert delays[0] <= 0.0125
    assert delays[3] > delays[0]
    assert 22.5 <= delays[5] <= 37.5


async def test_a_remote_server_that_forgot_the_session_gets_a_new_one(serve: Any) -> None:
    """Streamable HTTP: 404 on a session means start anew. The server did not run the call, so nothing was sent."""
    sessions: list[str] = []

    async def endpoint(request: Request) -> Response:
        message = json.loads(await request.body()) if request.method == "POST" else {}
        if message.get("method") == "initialize":
            sessions.append("s")
            result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "h", "version": "1"}}
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            return JSONResponse(answer, headers={"Mcp-Session-Id": f"s{len(sessions)}"})
        if message.get("method") == "tools/call" and request.headers["mcp-session-id"] == "s1":
            return Response(status_code=404)
        if message.get("method") == "tools/call":
            return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}})
        return Response(status_code=202 if request.method == "POST" else 405)

    app = Starlette(routes=[Route("/mcp", endpoint, methods=["GET", "POST", "DELETE"])])
    async with serve(app) as base:
        bench = Bench(ResolvedServer("far", "id", url=f"{base}/mcp"), protocols={"far": "2025-11-25"})
        async with bench.pool.running():
            with pytest.raises(DownstreamUnavailableError, match="nothing was sent"):
                await bench.send(make_call("far"))
            bench.listed = anyio.Event()
            with anyio.fail_after(5):
                await bench.listed.wait()
            assert (await bench.send(make_call("far"))).result == {"content": []}
    assert len(sessions) == 2


async def test_a_remote_server_is_retried_until_it_is_there_and_takes_no_call_when_it_went_away(
    serve: Any, sdk_app: ASGIApp
) -> None:
    """security.md F1, F2 over HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/mcp"
    bench = Bench(ResolvedServer("far", "id", url=url), protocols={"far": "2025-11-25"})
    async with bench.pool.running():
        bench.pool.start(ME.key)
        await bench.pool.settled(5)
        assert bench.pool.state("far").reason == "far cannot be reached: no connection to its url"
        async with serve(sdk_app, port):
            with anyio.fail_after(5):
                await bench.listed.wait()
            assert text_of(await bench.send(make_call("far")))["name"] == "first"
        with pytest.raises(DownstreamUnavailableError):
            await bench.send(make_call("far"))


class Shut(Anything):
    """A gate that lets nothing through: no start, or no call."""

    def __init__(self, *, starts: bool) -> None:
        self.starts = starts

    async def before_start(self, server: ResolvedServer) -> None:
        if not self.starts:
            raise QuarantinedError(f"{server.name} is another program now")

    def admit(self, target: Target) -> None:
        raise QuarantinedError(f"{target.name} changed")


async def test_a_call_that_was_resolved_before_its_tool_was_quarantined_is_not_sent(sdk: Make) -> None:
    """security.md S22: the server may have come up changed while the call waited for it. The permit is not used."""
    bench = Bench(sdk(), gate=Shut(starts=True))
    permit = issue_permit("c1", "rule")
    async with bench.pool.running():
        with pytest.raises(QuarantinedError, match="first changed"):
            await bench.pool.forward(make_call("sdk"), permit, RawArguments({}), execution_id="x_1", progress=None)
    assert not permit.used


async def test_a_program_that_is_quarantined_is_not_started_until_it_may_be(sdk: Make) -> None:
    """docs/pins.md: no back-off runs meanwhile, and accepting starts it at once."""
    gate = Shut(starts=False)
    bench = Bench(sdk(), gate=gate)
    async with bench.pool.running():
        with pytest.raises(QuarantinedError, match="another program"):
            await bench.send(make_call("sdk"))
        assert bench.listings == {}
        gate.starts = True
        bench.pool.start_again()
        with anyio.fail_after(10):
            await bench.pool.settled(10)
        assert bench.pool.state("sdk").status == "ready"


async def test_lists_that_cannot_be_read_again_are_a_fault_before_anything_is_sent(sdk: Make) -> None:
    """CONTRIBUTING.md, habit 3: a risky call that cannot be confirmed is refused."""
    bench = Bench(sdk())
    async with bench.pool.running():
        assert (await bench.send(make_call("sdk"))).result is not None
        entry = bench.pool._entries["sdk", ME.key]
        await bench.pool.refresh("sdk", ME.key, older_than_s=0.0)
        assert entry.link is not None
        entry.link.ended.set()
        entry.link._tasks.cancel_scope.cancel()
        with pytest.raises(DownstreamUnavailableError):
            await bench.pool.refresh("sdk", ME.key, older_than_s=0.0)
        await bench.pool.refresh_all(ME.key, older_than_s=0.0, timeout_s=5)
