"""A program that is exchanged around its start, and commands that only look (docs/pins.md; security.md S22)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_guard.downstream.lockfile import LockFile
from mcp_guard.downstream.looking import OnlyLooking
from mcp_guard.downstream.program import observe
from mcp_guard.errors import QuarantinedError
from tests.downstream.test_pins import FIRST, Bench

_OTHER = "two"


def _replaced(script: Path) -> None:
    script.with_name("next").write_text(_OTHER, encoding="utf-8")
    script.with_name("next").replace(script)


def _replaced_and_back(script: Path) -> None:
    _replaced(script)
    script.with_name("next").write_text("one", encoding="utf-8")
    script.with_name("next").replace(script)


def _moved_away_and_back(script: Path) -> None:
    os.link(script, script.with_name("kept"))
    _replaced(script)
    script.with_name("kept").replace(script)


def _written_and_back(script: Path) -> None:
    times = script.stat()
    script.write_text(_OTHER, encoding="utf-8")
    script.write_text("one", encoding="utf-8")
    os.utime(script, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.skipif(sys.platform == "win32", reason="ctime is the time of creation there")
@pytest.mark.parametrize("swap", [_replaced, _replaced_and_back, _moved_away_and_back, _written_and_back])
async def test_a_program_that_is_exchanged_between_the_look_and_the_start_is_quarantined(
    swap: Callable[[Path], None], tmp_path: Path
) -> None:
    """docs/pins.md, when it is compared: also where the accepted file is back when it lists."""
    bench = Bench(tmp_path)
    await bench.list()
    program = await bench.pins.before_start(bench.mail)
    assert program is not None
    swap(bench.script)
    with pytest.raises(QuarantinedError, match="quarantined and ended: its program files changed"):
        await bench.pins.listed(bench.mail, FIRST, first=True, program=program)
    assert bench.objection("get") == "its program files changed since it was accepted"
    assert "mail: its program files changed while it started" in bench.log
    with pytest.raises(QuarantinedError, match="not started"):
        await Bench(tmp_path).pins.before_start(bench.mail)


@pytest.mark.skipif(sys.platform == "win32", reason="ctime is the time of creation there")
async def test_a_program_that_is_exchanged_during_its_very_first_start_is_ended_and_pinned_by_nobody(
    tmp_path: Path,
) -> None:
    """docs/pins.md, first contact: nothing says which of the two programs listed; the next start is the first again."""
    bench = Bench(tmp_path)
    program = await bench.pins.before_start(bench.mail)
    _replaced(bench.script)
    with pytest.raises(QuarantinedError, match="quarantined and ended: its program files changed while it") as caught:
        await bench.pins.listed(bench.mail, FIRST, first=True, program=program)
    assert "start a new session" in caught.value.hint
    assert bench.log == ["mail: its program files changed while it started"]
    assert [record.type for record in bench.records] == ["server.quarantined"]
    assert bench.objection("get") == "it was not accepted yet"
    assert not (tmp_path / "guard.lock").exists()
    program = await bench.pins.before_start(bench.mail)
    await bench.pins.listed(bench.mail, FIRST, first=True, program=program)
    assert bench.objection("get") is None


async def test_a_program_that_stays_as_it_is_meets_no_quarantine(tmp_path: Path) -> None:
    """docs/pins.md: looking twice is no reason."""
    bench = Bench(tmp_path)
    for _ in range(2):
        program = await bench.pins.before_start(bench.mail)
        await bench.pins.listed(bench.mail, FIRST, first=True, program=program)
    assert bench.objection("get") is None


async def test_a_command_that_only_looks_starts_no_program_that_changed_and_writes_nothing(tmp_path: Path) -> None:
    """docs/pins.md, `check --connect`, `trust` and `doctor`: also one that is quarantined already."""
    bench = Bench(tmp_path)
    await bench.list()
    before = (tmp_path / "guard.lock").read_bytes()
    assert await OnlyLooking(LockFile(tmp_path / "guard.lock")).before_start(bench.mail) == observe(bench.mail)
    bench.script.write_text(_OTHER, encoding="utf-8")
    gate = OnlyLooking(LockFile(tmp_path / "guard.lock"))
    with pytest.raises(QuarantinedError, match="quarantined and not started") as caught:
        await gate.before_start(bench.mail)
    assert "start a session through the guard" in caught.value.hint
    assert (tmp_path / "guard.lock").read_bytes() == before
    with pytest.raises(QuarantinedError):
        await bench.list()
    bench.script.write_text("one", encoding="utf-8")
    with pytest.raises(QuarantinedError, match="not started") as caught:
        await OnlyLooking(LockFile(tmp_path / "guard.lock")).before_start(bench.mail)
    assert "`mcp-guard pins diff mail` shows it" in caught.value.hint


async def test_a_command_that_only_looks_starts_nothing_under_a_broken_lock(tmp_path: Path) -> None:
    """docs/errors.md, config: fail closed."""
    bench = Bench(tmp_path)
    (tmp_path / "guard.lock").write_text("{", encoding="utf-8")
    with pytest.raises(QuarantinedError, match=r"guard.lock is not usable") as caught:
        await OnlyLooking(LockFile(tmp_path / "guard.lock")).before_start(bench.mail)
    assert "mcp-guard doctor" in caught.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="ctime is the time of creation there")
async def test_a_command_that_only_looks_ends_a_program_that_was_exchanged_while_it_started(tmp_path: Path) -> None:
    """security.md S22."""
    bench = Bench(tmp_path)
    gate = OnlyLooking(LockFile(tmp_path / "guard.lock"))
    program = await gate.before_start(bench.mail)
    _replaced_and_back(bench.script)
    with pytest.raises(QuarantinedError, match="changed while it started"):
        await gate.listed(bench.mail, FIRST, first=True, program=program)
