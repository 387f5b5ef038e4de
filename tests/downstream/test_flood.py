"""A server whose lists are huge, or change all the time, keeps nobody else waiting (docs/limits.md; security.md F3)."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mcp_guard.downstream import report
from mcp_guard.downstream.accepted import Anything
from mcp_guard.downstream.announced import ALL, Announced, ListKind
from mcp_guard.downstream.catalog import Catalog
from mcp_guard.downstream.definition import Definition, Listing, Program, worked_out
from mcp_guard.downstream.lockfile import Quarantine
from mcp_guard.downstream.pace import FIRST_PAUSE_S, LONGEST_PAUSE_S, Pace
from mcp_guard.downstream.patient import LONG_LINE, PatientPump
from mcp_guard.downstream.process import ChildProcess
from mcp_guard.downstream.remembered import Remembered
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.downstream.steps import json_in_steps
from mcp_guard.errors import OutcomeUnknownError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import UNREVIEWED, CallKind, JsonDict
from mcp_guard.wire.reader import Limits
from tests.downstream.test_pins import Bench as Pinned
from tests.downstream.test_pins import listing, mask, tool
from tests.downstream.test_pool import ME, Bench, make_call

Make = Callable[..., ResolvedServer]


# -- announced changes -----------------------------------------------------------------------------------------


def test_the_first_change_is_looked_at_at_once_and_while_they_go_on_the_pauses_double() -> None:
    """docs/limits.md: a list that takes long makes no quiet time of it."""
    pace, now, pauses = Pace(), 100.0, []
    for _ in range(8):
        pauses.append(pace.wait_s(now))
        began = now + pauses[-1]
        now = began + 5.0  # it was announced again meanwhile
        pace.listed(began, now)
    assert pauses == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert (pauses[1], pauses[-1]) == (FIRST_PAUSE_S, LONGEST_PAUSE_S)
    assert pace.wait_s(now + 3 * LONGEST_PAUSE_S) == 0.0
    pace.listed(now + 3 * LONGEST_PAUSE_S, now + 3 * LONGEST_PAUSE_S)
    assert pace.wait_s(now + 3 * LONGEST_PAUSE_S) == FIRST_PAUSE_S


async def test_a_server_that_announces_changes_all_the_time_is_not_listed_all_the_time(
    raw: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/limits.md: the first change is read at once, then a client's list waits for none, a call reads once."""
    monkeypatch.setattr("mcp_guard.downstream.pace.FIRST_PAUSE_S", 600.0)
    bench, lists, twice = Bench(raw("restless")), list[Listing](), anyio.Event()

    def took(_: str, found: Listing) -> None:
        lists.append(found)
        if len(lists) > 1:
            twice.set()

    bench.pool._on_listing = took
    async with bench.pool.running():
        bench.pool.start(ME.key)
        with anyio.fail_after(10):
            await twice.wait()
            await bench.pool.refresh_all(ME.key, older_than_s=60.0, timeout_s=10.0)
            assert len(lists) == 2
            for _ in range(3):
                await bench.send(make_call("raw", "echo"))
    assert 2 <= len(lists) <= 5


async def test_calls_to_a_server_that_announces_a_change_after_each_of_them_wait_for_no_pause(
    raw: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/limits.md: only what the guard reads without being asked is paced."""
    monkeypatch.setattr("mcp_guard.downstream.pace.FIRST_PAUSE_S", 600.0)
    bench = Bench(raw("changes_tools"))
    async with bench.pool.running():
        with anyio.fail_after(20):
            for _ in range(6):
                assert (await bench.send(make_call("raw", "echo"))).result is not None


@asynccontextmanager
async def looked_at(sdk: Make, kind: ListKind) -> AsyncIterator[tuple[Bench, Slow]]:
    """A server that announced a change of this list, which is being read and judged now, until `done` is set."""
    gate = Slow()
    bench = Bench(sdk(), gate=gate)
    async with bench.pool.running():
        bench.pool.start(ME.key)
        with anyio.fail_after(20):
            await bench.pool.settled(20)
            entry = bench.pool._entries["sdk", ME.key]
            entry.announced.add([kind])
            entry.refresh.set()
            await gate.looking.wait()
        yield bench, gate


async def test_a_change_of_other_lists_keeps_no_call_waiting(sdk: Make) -> None:
    """docs/pins.md: a call waits for the list that says what it reaches."""
    async with looked_at(sdk, "resources") as (bench, _):
        with anyio.fail_after(20):
            assert (await bench.send(make_call("sdk"))).result is not None
        with anyio.move_on_after(0.1) as waited:
            await bench.send(make_call("sdk", "file:///a", CallKind.RESOURCE), {"uri": "file:///a"})
        assert waited.cancelled_caught


async def test_calls_that_come_together_read_a_changed_list_once(sdk: Make) -> None:
    """docs/limits.md: and only that list; what is known of the others stays."""
    gate = Slow()
    bench = Bench(sdk(), gate=gate)
    async with bench.pool.running():
        bench.pool.start(ME.key)
        with anyio.fail_after(20):
            await bench.pool.settled(20)
            before = bench.listings["sdk"]
            bench.pool._entries["sdk", ME.key].announced.add(["tools"])
            async with anyio.create_task_group() as calls:
                for _ in range(3):
                    calls.start_soon(bench.send, make_call("sdk"))
                await gate.looking.wait()
                gate.done.set()
            after = bench.listings["sdk"]
            assert gate.looks == 1
            assert after.prompts
            assert after.prompts is before.prompts
            assert after.tools == before.tools
            assert after.tools is not before.tools
            # The lock changed: by an older look, what was accepted since would differ from it.
            bench.pool.start_again()
            bench.pool._entries["sdk", ME.key].announced.add(["tools"])
            await bench.send(make_call("sdk"))
    assert bench.listings["sdk"].prompts is not before.prompts


def test_what_is_announced_while_a_list_is_read_is_read_again() -> None:
    """security.md S22: the answer may be older than the announcement."""
    lists = Announced()
    lists.took(ALL, lists.so_far(), 5.0)
    assert lists.unread() == ()
    lists.add(["prompts"])
    mark = lists.so_far()
    lists.add(["prompts"])
    lists.took(["prompts"], mark, 6.0)
    assert lists.unread(until=mark) == ()
    assert lists.unread() == ("prompts",)
    assert lists.unread(["tools"]) == ()
    assert lists.unread(["tools", "resources"], before=5.0) == ("tools", "resources")


class Slow(Anything):
    """A gate that takes its time over every list but the first."""

    def __init__(self) -> None:
        self.looking, self.done, self.looks = anyio.Event(), anyio.Event(), 0

    async def listed(
        self, server: ResolvedServer, listing: Listing, *, first: bool, program: Program | None = None
    ) -> None:
        if not first:
            self.looks += 1
            self.looking.set()
            await self.done.wait()


async def test_a_call_waits_also_while_the_changed_list_is_being_read(sdk: Make) -> None:
    """security.md S22; docs/pins.md: until it was listed again, and judged."""
    async with looked_at(sdk, "tools") as (bench, gate):
        with anyio.move_on_after(0.2) as waited:
            await bench.send(make_call("sdk"))
        assert waited.cancelled_caught
        gate.done.set()
        with anyio.fail_after(20):
            assert (await bench.send(make_call("sdk"))).result is not None


# -- long lines ------------------------------------------------------------------------------------------------


def _line(number: int, text: str = "") -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": {"text": text}}).encode() + b"\n"


async def test_a_long_line_is_read_beside_the_loop_and_what_follows_keeps_its_order() -> None:
    """docs/limits.md: also a line that is refused, and the end of the stream."""
    order: list[Any] = []
    done = anyio.Event()
    pump = PatientPump(
        Limits(line_bytes=1 << 20, nodes=100),
        accept=lambda message: order.append(message["id"]),
        refuse=lambda error, _line: order.append(error.message),
        busy=order.append,
        broken=order.append,
    )
    long = "x" * LONG_LINE
    pump.feed(_line(1) + _line(2, long) + _line(3) + b"no json\n" + _line(4, long)[:-2] + b"\n" + _line(5))
    assert order == [1, True]
    pump.when_done(done.set)
    with anyio.fail_after(10):
        await done.wait()
    bad = "the message is not strict JSON"
    assert [one for one in order if not isinstance(one, bool)] == [1, 2, 3, bad, bad, 5]
    assert order[-1:] == [False]
    pump.when_done(lambda: order.append("at once"))
    assert order[-1:] == ["at once"]


async def test_a_long_line_that_cannot_be_handled_ends_the_wait_for_it() -> None:
    """security.md F4: whatever goes wrong with a message, what waits for the end of the stream is told."""
    order: list[Any] = []
    done = anyio.Event()

    def accept(message: JsonDict) -> None:
        raise RuntimeError(message["id"])

    pump = PatientPump(
        Limits(line_bytes=1 << 20, nodes=100),
        accept=accept,
        refuse=lambda error, _line: order.append(error.message),
        busy=order.append,
        broken=lambda error: order.append(str(error)),
    )
    pump.feed(_line(1, "x" * LONG_LINE) + _line(2))
    pump.when_done(done.set)
    with anyio.fail_after(10):
        await done.wait()
    assert order == [True, "1", False]


async def test_a_server_whose_message_cannot_be_read_for_lack_of_memory_is_ended(
    raw: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """security.md F4: the call that waits for it is told at once, and the log says why."""

    def lacking(line: bytes, limits: Limits) -> JsonDict:
        raise MemoryError

    monkeypatch.setattr("mcp_guard.downstream.patient.parse_message", lacking)
    bench = Bench(raw("long"))
    async with bench.pool.running():
        with anyio.fail_after(4), pytest.raises(OutcomeUnknownError):
            await bench.send(make_call("raw", "echo"))
    assert "raw: closed: a message could not be read (MemoryError)" in bench.log


async def test_a_server_that_is_given_up_is_not_read_any_more_after_a_long_line(log: list[str]) -> None:
    """security.md F4: what it goes on writing stays in the pipe."""
    code = "import sys; sys.stdout.write('x' * 300_000 + '\\n' + 'no json\\n' * 25); sys.stdout.flush(); input()"
    server = ResolvedServer("child", "id", command=(sys.executable, "-S", "-E", "-c", code))
    child = await ChildProcess.spawn(server, mask_text=str, log=log.append)
    try:
        with anyio.fail_after(10):
            await child.wait_ended()
        await anyio.lowlevel.checkpoint()
        pipe: Any = child._transport.get_pipe_transport(1)
        assert not pipe.is_reading()
    finally:
        await child.stop()
    assert "child: closed: too many unreadable lines" in log


async def test_an_answer_that_is_long_reaches_the_call_also_when_the_server_ends_at_once(
    raw: Make,
) -> None:
    """security.md F1: what it had written still counts."""
    bench = Bench(raw("last_words"))
    async with bench.pool.running():
        answer = await bench.send(make_call("raw", "echo"))
    assert answer.result is not None
    assert len(json.dumps(answer.result)) > LONG_LINE


# -- definitions -----------------------------------------------------------------------------------------------


def test_what_is_worked_out_of_a_definition_is_worked_out_once() -> None:
    """docs/limits.md."""
    asked: list[str] = []

    def length(definition: JsonDict) -> int:
        asked.append(str(definition["name"]))
        return len(definition)

    one = Definition(tool("a"))
    assert [worked_out(length, one), worked_out(length, one)] == [3, 3]
    assert worked_out(length, dict(one)) == 3
    assert asked == ["a", "a"]


def test_a_list_that_was_prepared_is_written_down_once(tmp_path: Path) -> None:
    """docs/limits.md: taking it over does nothing that takes long."""
    server = ResolvedServer("mail", "id", ("mail",))
    remembered = Remembered(tmp_path / "catalogue", KeyStore(tmp_path / "keys"))
    catalog = Catalog({"mail": server}, facts_of=lambda *_: UNREVIEWED, remembered=remembered)
    found = listing(tool("get"))
    catalog.prepare("mail", found)
    assert remembered.load(server) == found
    (tmp_path / "catalogue" / "mail.sealed").unlink()
    assert catalog.update("mail", found)
    assert [one["name"] for one in catalog.tools()] == ["mail_get"]
    assert remembered.load(server) is None


async def test_many_tools_that_changed_are_one_line_of_the_log_and_a_few_of_the_record(tmp_path: Path) -> None:
    """docs/pins.md: `pins diff` has them all."""
    bench = Pinned(tmp_path)
    await bench.list(listing(*(tool(f"t{number}") for number in range(200))))
    await bench.list(listing(*(tool(f"t{number}", "and to me") for number in range(200))))
    assert bench.log[1:] == [
        "mail: quarantined: 200 items that changed or are new, such as t0, t1, t10; see `mcp-guard pins diff mail`"
    ]
    assert bench.records[-1].fields["quarantined"] == ["200 items that changed or are new, such as t0, t1, t10"]
    assert bench.objection("t199", "and to me") == "its description changed since it was accepted"


def test_a_summary_tells_of_the_server_itself_however_many_tools_there_are() -> None:
    """docs/pins.md."""
    held = Quarantine(server=["files"], tools={f"t{number}": ["new"] for number in range(9)})
    told = report.summary(held, mask, most=5)
    assert told == [
        "the server: its program files changed since it was accepted",
        "9 items that changed or are new, such as t0, t1, t2",
    ]
    assert report.summary(held, mask, most=9) == report.lines(held, mask)


@pytest.mark.parametrize(
    "value", [{}, {"a": []}, {"a": [{"b": "é"}, 1], "c": {}, 'd"': [[]]}, {"a": (1, 2)}], ids=range(4)
)
def test_what_is_written_in_steps_is_the_same_json(value: JsonDict) -> None:
    """docs/limits.md."""
    for levels in range(4):
        assert json.loads(json_in_steps(value, levels)) == json.loads(json.dumps(value))


@pytest.mark.parametrize("value", [float("nan"), "\ud800"])
def test_what_has_no_json_form_is_not_written(value: Any) -> None:
    """security.md S3."""
    with pytest.raises(ValueError):  # noqa: PT011 - whichever the text is
        json_in_steps({"a": [value]}, 2)
