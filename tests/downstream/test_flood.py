"""A server whose lists are huge, or change all the time, keeps nobody else waiting (docs/limits.md; security.md F3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_guard.downstream import report
from mcp_guard.downstream.accepted import Anything
from mcp_guard.downstream.catalog import Catalog
from mcp_guard.downstream.definition import Definition, Listing, Program, worked_out
from mcp_guard.downstream.lockfile import Quarantine
from mcp_guard.downstream.pace import FIRST_PAUSE_S, LONGEST_PAUSE_S, Pace
from mcp_guard.downstream.patient import LONG_LINE, PatientPump
from mcp_guard.downstream.remembered import Remembered
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.downstream.steps import json_in_steps
from mcp_guard.keystore import KeyStore
from mcp_guard.model import UNREVIEWED, JsonDict
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
    """docs/limits.md: the first change is read at once, a call waits for the next look, a client's list does not."""
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
        with anyio.move_on_after(0.3) as waited:
            await bench.send(make_call("raw", "echo"))
        assert waited.cancelled_caught
    assert len(lists) == 2


class Slow(Anything):
    """A gate that takes its time over every list but the first."""

    def __init__(self) -> None:
        self.looking, self.done = anyio.Event(), anyio.Event()

    async def listed(
        self, server: ResolvedServer, listing: Listing, *, first: bool, program: Program | None = None
    ) -> None:
        if not first:
            self.looking.set()
            await self.done.wait()


async def test_a_call_waits_also_while_the_changed_list_is_being_read(sdk: Make) -> None:
    """security.md S22; docs/pins.md: until it was listed again, and judged."""
    gate = Slow()
    bench = Bench(sdk(), gate=gate)
    async with bench.pool.running():
        bench.pool.start(ME.key)
        with anyio.fail_after(20):
            await bench.pool.settled(20)
            entry = bench.pool._entries["sdk", ME.key]
            entry.announced += 1
            entry.refresh.set()
            await gate.looking.wait()
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
