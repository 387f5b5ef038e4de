"""All checks together: bounded, and visible when one of them breaks."""

from __future__ import annotations

import os
import threading
import time

import pytest

from mcp_guard.config.load import LoadedConfig, load_config
from mcp_guard.doctor import run
from mcp_guard.doctor.finding import Finding, Level, find, fine
from mcp_guard.doctor.run import CHECKS, GROUPS, Check, diagnose
from mcp_guard.doctor.setup import Setup
from mcp_guard.storage.sqlite import Database
from tests.doctor.conftest import Place, codes
from tests.doctor.test_record import write
from tests.fakes import FakeClock


def _load(place: Place) -> LoadedConfig:
    return load_config(place.path, place.env, resolve=False)


def test_a_check_that_breaks_is_a_finding_without_the_text_of_its_error(place: Place) -> None:
    """docs/doctor.md, check-failed; security.md S35."""

    def breaks(_setup: Setup) -> list[Finding]:
        raise ValueError("sk-live-0123456789")

    place.write()
    checks = (Check("data", "something", breaks), Check("machine", "well", lambda _setup: [fine("well")]))

    diagnosis = diagnose(place.machine, place.path, lambda: _load(place), quick=True, checks=checks)

    assert [(f.code, f.text) for f in diagnosis.groups["data"]] == [
        ("check-failed", "The check of something failed (ValueError).")
    ]
    assert diagnosis.groups["machine"] == [fine("well")]
    assert diagnosis.worst is Level.WARNING
    assert "sk-live" not in str(diagnosis.data())


def test_a_check_that_hangs_is_a_finding_and_keeps_nobody_waiting(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/doctor.md, check-failed: "takes at most 30 seconds"."""
    monkeypatch.setattr(run, "CHECK_S", 0.3)
    end = threading.Event()

    def hangs(_setup: Setup) -> list[Finding]:
        end.wait()
        return []

    place.write()
    started = time.monotonic()
    try:
        found = diagnose(
            place.machine, place.path, lambda: _load(place), quick=True, checks=[Check("data", "a disk", hangs)] * 9
        )
    finally:
        end.set()

    assert [f.text for f in found.groups["data"]] == ["The check of a disk took too long."] * 9
    assert time.monotonic() - started < 20


def test_a_configuration_that_breaks_the_loader_is_a_finding(place: Place) -> None:
    def broken() -> LoadedConfig:
        raise RuntimeError("sk-live-0123456789")

    diagnosis = diagnose(place.machine, place.path, broken, quick=True)

    assert codes(diagnosis.groups["configuration"]) == ["check-failed"]
    assert diagnosis.unusable
    assert "sk-live" not in str(diagnosis.data())


def test_the_worst_comes_first_and_each_group_has_its_place(place: Place) -> None:
    found = [fine("a"), find("servers-none", "b"), find("clock-behind", "c")]
    place.write()

    diagnosis = diagnose(
        place.machine, place.path, lambda: _load(place), quick=True, checks=[Check("machine", "x", lambda _: found)]
    )

    assert [f.level for f in diagnosis.groups["machine"]] == [Level.WARNING, Level.NOTE, Level.OK]
    assert tuple(diagnosis.groups) == GROUPS
    assert {check.group for check in CHECKS} <= set(GROUPS)
    assert diagnosis.data()["counts"] == {"ok": 1, "note": 1, "warning": 1, "problem": 0}
    assert diagnosis.data()["worst"] == "warning"


def test_a_guard_without_servers_is_a_note(place: Place) -> None:
    """docs/doctor.md, servers-none."""
    place.write()

    diagnosis = diagnose(place.machine, place.path, lambda: _load(place), checks=())

    assert codes(diagnosis.groups["servers"]) == ["servers-none"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize(
    ("closed", "told"),
    [
        ("data", {"data-unusable"}),
        ("data/keys", {"key-unusable", "record-unverifiable"}),
        ("data/keys/checkpoint.1.key", {"key-unusable", "record-unverifiable"}),
        ("data/audit", {"record-unreadable"}),
        ("data/approvals.db", {"store-unreadable"}),
    ],
)
async def test_what_may_not_be_read_is_a_finding_and_breaks_no_check(
    place: Place, clock: FakeClock, closed: str, told: set[str]
) -> None:
    """docs/doctor.md; security.md F10, F12, F19."""
    await write(place.data, clock)
    await (await Database.open(place.data / "approvals.db", "mcp_guard.approval", "mcp_guard.vault")).close()
    place.write()
    path = place.folder / closed
    mode = path.stat().st_mode
    path.chmod(0)

    diagnosis = diagnose(place.machine, place.path, lambda: _load(place), quick=True)

    path.chmod(mode)
    assert {f.code for name in ("data", "record") for f in diagnosis.groups[name] if f.level is not Level.OK} == told
    assert "check-failed" not in codes(diagnosis.findings)


def test_the_times_of_all_parts_stay_below_half_a_minute() -> None:
    """docs/doctor.md: "takes at most 30 seconds". Stopping servers takes 5 s, stopping the guard 2 s."""
    assert run.LOAD_S + run.PROBE_S + 5 + run.STARTUP_S + 2 <= 30
    assert run.LOAD_S + run.CHECK_S <= 30
