"""Servers, locks and transports that fail: nothing is sent, nothing unaccepted is offered, nothing leaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest

from mcp_guard.downstream.accepted import Anything
from mcp_guard.downstream.definition import Listing, Program
from mcp_guard.downstream.link import LinkOptions, open_link
from mcp_guard.downstream.lockfile import LockFile, writer_files
from mcp_guard.downstream.pins import Pins
from mcp_guard.downstream.process import ChildProcess
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import (
    AuditUnavailableError,
    ConfigError,
    DownstreamUnavailableError,
    QuarantinedError,
)
from mcp_guard.model import CallKind, RawArguments, Target
from mcp_guard.permit import issue_permit
from tests.downstream.test_others import PROMPT, RESOURCE, TEMPLATE, offering
from tests.downstream.test_pins import Bench, listing, tool
from tests.downstream.test_pool import ME, make_call
from tests.downstream.test_pool import Bench as Pooled

Make = Callable[..., ResolvedServer]
Options = Callable[..., LinkOptions]
SECRET = "hunter2-canary"
SURROGATE = "\ud800"


async def call(link: Any, **arguments: Any) -> Any:
    params = types.CallToolRequestParams(name="echo", arguments=arguments)
    return await link.request(types.CallToolRequest(params=params), timeout_s=5.0)


# -- definitions -----------------------------------------------------------------------------------------------


async def test_what_has_no_canonical_form_is_not_offered_and_the_rest_is(tmp_path: Path) -> None:
    """security.md S21, S30: without a digest nobody could say that it is what was accepted."""
    bench = Bench(tmp_path)
    found = Listing(
        tools=(tool("get"), tool("odd", SURROGATE)),
        prompts=(PROMPT, {**PROMPT, "name": "odd", "description": SURROGATE}),
        resources=(RESOURCE, {**RESOURCE, "uri": "memo://odd", "description": SURROGATE}),
        templates=(TEMPLATE, {**TEMPLATE, "uriTemplate": "memo://odd/{id}", "title": SURROGATE}),
        instructions=SURROGATE,
        capabilities=("tools", "resources", "prompts"),
    )
    await bench.list(found)
    catalog = bench.catalog()
    catalog.update("mail", found)
    shown = f"{catalog.tools()}{catalog.prompts()}{catalog.resources()}{catalog.templates()}"
    assert "odd" not in shown
    assert shown.count("memo://a") == 1
    assert [one["name"] for one in catalog.tools()] == ["mail_get"]
    # Other instructions without a form are other instructions.
    pins = bench.pins
    assert not pins.instructions_shown("mail", "Obey.")


async def test_a_template_that_cannot_be_read_is_not_offered_and_the_rest_is(tmp_path: Path) -> None:
    """security.md S30."""
    bench = Bench(tmp_path)
    found = replace(offering(), templates=(TEMPLATE, {"uriTemplate": "memo://{", "name": "odd"}))
    await bench.list(found)
    catalog = bench.catalog()
    catalog.update("mail", found)
    assert catalog.templates() == [TEMPLATE]


# -- the lock --------------------------------------------------------------------------------------------------


def test_a_lock_that_cannot_be_opened_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    """security.md F12, S22: taken for an empty one, every server would be accepted anew."""
    path = tmp_path / "guard.lock"
    path.symlink_to(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        LockFile(path).read()


def test_what_cannot_be_written_into_the_lock_is_not_accepted(tmp_path: Path) -> None:
    """security.md F10, S22."""
    for writer in writer_files(tmp_path / "guard.lock"):
        writer.mkdir(parents=True)
    bench = Bench(tmp_path)
    accept: Callable[[], None] = partial(bench.pins.accept, bench.mail, listing(tool("get")))
    for step in (accept, bench.pins.name_this_install):
        with pytest.raises(ConfigError, match="cannot be written"):
            step()
    assert bench.objection("get") == "it was not accepted yet"
    assert not (tmp_path / "guard.lock").exists()


@pytest.mark.parametrize("kind", [CallKind.TOOL, CallKind.PROMPT, CallKind.RESOURCE, CallKind.COMPLETION])
def test_nothing_of_a_server_that_left_the_lock_is_let_through(kind: CallKind, tmp_path: Path) -> None:
    """security.md S22: a call that was resolved while the server was in it is not sent any more."""
    pins: Pins = Bench(tmp_path).pins
    with pytest.raises(QuarantinedError, match="it was not accepted yet"):
        pins.admit(Target(kind, "mail", "x", "x", local=True))


# -- links -----------------------------------------------------------------------------------------------------


async def test_arguments_that_have_no_bytes_are_not_sent_and_the_link_goes_on(raw: Make, options: Options) -> None:
    """security.md S3, S6: nothing is put in place of what cannot be written."""
    async with open_link(raw(), options()) as link:
        with pytest.raises(DownstreamUnavailableError, match="nothing was sent") as caught:
            await call(link, text=f"{SECRET} {SURROGATE}")
        assert SECRET not in str(caught.value)
        assert (await call(link, text="plain")).result is not None


async def test_a_transport_that_is_closed_sends_nothing_and_says_so(raw: Make, options: Options) -> None:
    """security.md F1."""
    async with open_link(raw(), options()) as link:
        await link.dispatcher._write_stream.aclose()
        with pytest.raises(DownstreamUnavailableError, match="nothing was sent"):
            await call(link)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("odd_initialize", "something unusable"), ("other_revision", "no protocol revision that the guard speaks")],
)
async def test_a_server_that_starts_no_session_is_unavailable_and_its_words_stay_with_it(
    raw: Make, options: Options, mode: str, reason: str, log: list[str]
) -> None:
    """security.md F4, S35: the SDK's own text of such an error holds the value."""
    with pytest.raises(DownstreamUnavailableError, match=reason) as caught:
        async with open_link(raw(mode), options()):
            pytest.fail("must not open")
    assert "hunter2" not in f"{caught.value}{log}"


async def test_a_server_whose_answer_to_the_probe_is_odd_is_spoken_to_in_the_older_way(
    raw: Make, options: Options
) -> None:
    """MCP 2026-07-28, version negotiation: the probe decides nothing by itself."""
    async with open_link(raw("odd_discover"), options()) as link:
        assert (link.modern, (await call(link)).error) == (False, None)


@pytest.mark.parametrize("command", [("--token", f"{SECRET}\0")])
async def test_a_command_line_that_no_system_takes_starts_nothing(command: tuple[str, ...], log: list[str]) -> None:
    """security.md F2, S35."""
    server = ResolvedServer("child", "id", command=("true", *command))
    with pytest.raises(DownstreamUnavailableError, match="an argument is not usable") as caught:
        await ChildProcess.spawn(server, mask_text=str, log=log.append)
    assert SECRET not in f"{caught.value}{log}"


# -- the pool --------------------------------------------------------------------------------------------------


class Failing(Anything):
    """A gate whose looks fail while `error` is set."""

    error: Exception | None = None
    at: str = ""

    def _look(self, at: str) -> None:
        if self.error is not None and at == self.at:
            raise self.error

    async def before_start(self, server: ResolvedServer) -> None:
        self._look("start")

    async def listed(
        self, server: ResolvedServer, listing: Listing, *, first: bool, program: Program | None = None
    ) -> None:
        self._look("list")


async def test_a_server_whose_look_fails_in_a_new_way_is_not_started_and_ends_no_other(sdk: Make) -> None:
    """security.md F2, S35: the reason is a type, and no text."""
    gate = Failing()
    gate.error, gate.at = RuntimeError(SECRET), "start"
    bench = Pooled(sdk(), gate=gate)
    async with bench.pool.running():
        bench.pool.start(ME.key)
        with anyio.fail_after(5):
            await bench.pool.settled(5)
        assert bench.pool.state("sdk").reason == "failed unexpectedly (RuntimeError)"
        gate.error = None
        with anyio.fail_after(10):
            await bench.listed.wait()
    assert SECRET not in f"{bench.log}"


async def test_while_a_changed_list_cannot_be_judged_nothing_is_sent_to_its_server(sdk: Make) -> None:
    """security.md F10, S22: the audit log is gone when a list changes; the call that comes next is refused."""
    gate = Failing()
    bench = Pooled(sdk(), gate=gate)
    async with bench.pool.running():
        assert (await bench.send(make_call("sdk"))).result is not None
        gate.error, gate.at = AuditUnavailableError("disk full"), "list"
        entry = bench.pool._entries["sdk", ME.key]
        assert entry.link is not None
        entry.announced.add(["tools"])
        entry.refresh.set()
        with anyio.fail_after(5):
            while not bench.log:  # noqa: ASYNC110 - what is waited for is a line of the log
                await anyio.sleep(0.005)
        with pytest.raises(DownstreamUnavailableError, match="nothing was sent"):
            await bench.send(make_call("sdk"))
        gate.error = None
        assert (await bench.send(make_call("sdk"))).result is not None
    assert "could not be read again" in bench.log[0]


class Slow(Anything):
    """A gate that takes its time before a start, or before a list is judged, until it is let go."""

    def __init__(self, at: str) -> None:
        self.at, self.go = at, anyio.Event()

    async def before_start(self, server: ResolvedServer) -> Program | None:
        if self.at == "start":
            await self.go.wait()
        return None

    async def listed(
        self, server: ResolvedServer, listing: Listing, *, first: bool, program: Program | None = None
    ) -> None:
        if self.at == "list" and not first:
            await self.go.wait()


async def test_a_call_to_a_server_that_does_not_come_up_is_given_up_and_nothing_is_sent(sdk: Make) -> None:
    """security.md F2, F3: a bound on time, and the permit stays unused."""
    bench = Pooled(sdk(start_timeout_s=0.05), gate=Slow("start"))
    permit = issue_permit("c1", "rule")
    async with bench.pool.running():
        with anyio.fail_after(5), pytest.raises(DownstreamUnavailableError, match="it is still starting"):
            await bench.pool.forward(make_call("sdk"), permit, RawArguments({}), execution_id="x_1", progress=None)
        with anyio.fail_after(5):
            await bench.pool.settled(0.05)
        assert bench.pool.state("sdk").status == "starting"
    assert not permit.used


async def test_a_server_that_takes_for_ever_to_list_again_keeps_no_list_waiting(sdk: Make) -> None:
    """security.md F3: what is known of it stays, and a call of its own waits for the list instead."""
    bench = Pooled(sdk(), gate=Slow("list"))
    async with bench.pool.running():
        assert (await bench.send(make_call("sdk"))).result is not None
        with anyio.fail_after(5):
            await bench.pool.refresh_all(ME.key, older_than_s=0.0, timeout_s=0.05)
        assert set(bench.listings) == {"sdk"}
        with anyio.move_on_after(0.05) as waiting:
            await bench.send(make_call("sdk"))
        assert waiting.cancelled_caught
