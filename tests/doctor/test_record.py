"""The record, as a doctor sees it (docs/audit.md)."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from mcp_guard.audit.log import AuditLog
from mcp_guard.audit.verify import Outcome, Problem, Report
from mcp_guard.doctor import record
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Record
from tests.doctor.conftest import Place, codes
from tests.fakes import CountingIds, FakeClock


async def write(data: Path, clock: FakeClock, number: int = 3) -> Path:
    """A record of some calls, closed; returns its file."""
    log = await AuditLog.open(data / "audit", KeyStore(data / "keys"), clock, CountingIds(), append_timeout_s=5.0)
    async with anyio.create_task_group() as tasks:
        await tasks.start(log.run)
        for index in range(number):
            await log.append(_record(index))
        await log.close()
    return next((data / "audit" / "00").glob("*.db"))


def _record(index: int) -> Record:
    return Record(
        type="call.intent", call_id=f"call_{index}", session="s", actor="os:jane", tool="a/b", outcome="allow"
    )


async def test_a_record_that_holds_is_fine(place: Place, clock: FakeClock) -> None:
    assert record.holds(place.setup()) == []
    await write(place.data, clock)
    (place.data / "keys").chmod(0o755)

    findings = record.holds(place.setup())

    assert (place.data / "keys").stat().st_mode & 0o777 == 0o755  # nothing is changed, and so nothing is hidden
    assert codes(findings) == []
    assert findings[0].text.endswith(" records in 1 file hold")


async def test_a_changed_record_is_a_problem_that_names_it(place: Place, clock: FakeClock) -> None:
    """docs/doctor.md, record-tampered; security.md S36."""
    file = await write(place.data, clock)
    with closing(sqlite3.connect(file)) as db:
        db.execute("UPDATE rec SET outcome = 'deny' WHERE idx = 1")
        db.commit()

    findings = record.holds(place.setup())

    assert codes(findings) == ["record-tampered"]
    assert findings[0].detail[0].startswith(f"TAMPERED 00/{file.name}: record 1: ")
    assert findings[0].mend == f"mcp-guard audit verify (keep a copy of {place.data / 'audit'} before anything else)"


@pytest.mark.parametrize("cut", [0, 100, 5000])
async def test_a_cut_file_is_a_finding_and_not_a_failure(place: Place, clock: FakeClock, cut: int) -> None:
    """docs/doctor.md, record-tampered and record-unreadable; security.md F12."""
    file = await write(place.data, clock)
    os.truncate(file, cut)

    assert codes(record.holds(place.setup()))[0] in {"record-tampered", "record-unreadable", "record-unverifiable"}


async def test_a_record_without_its_key_cannot_be_verified(place: Place, clock: FakeClock) -> None:
    """docs/doctor.md, record-unverifiable; security.md F19."""
    await write(place.data, clock)
    for key in (place.data / "keys").iterdir():
        key.unlink()

    assert codes(record.holds(place.setup())) == ["record-unverifiable"]
    assert list((place.data / "keys").iterdir()) == []


def test_a_record_that_is_no_folder_is_a_problem(place: Place) -> None:
    """docs/doctor.md, record-unreadable."""
    (place.data / "audit").write_text("")

    assert codes(record.holds(place.setup())) == ["record-unreadable"]
    assert record.slots(place.setup()) == []


async def test_a_long_record_is_left_to_its_own_command(
    place: Place, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/doctor.md, record-long."""
    await write(place.data, clock)
    monkeypatch.setattr(record, "LONG_BYTES", 1000)

    assert codes(record.holds(place.setup())) == ["record-long"]


def test_many_problems_are_cut(place: Place) -> None:
    problems = tuple(Problem(Outcome.UNREADABLE, f"00/{n}.db", None, "gone") for n in range(9))

    (finding,) = record.judge(Report(Outcome.UNREADABLE, problems, 9, 0, 0, 0, ()), place.data)

    assert (finding.code, finding.text) == ("record-unreadable", "The record cannot be read as a whole.")
    assert finding.detail[-1] == "6 more"


def test_many_writers_at_the_same_time_are_a_warning(place: Place) -> None:
    """docs/doctor.md, slots-many."""
    for number in range(record.MANY_SLOTS):
        folder = place.data / "audit" / f"{number:02d}"
        folder.mkdir(parents=True)
        (folder / "2026-11.db").touch()

    assert codes(record.slots(place.setup())) == ["slots-many"]
    (place.data / "audit" / "07" / "2026-11.db").unlink()
    assert codes(record.slots(place.setup())) == []


@pytest.mark.skipif(sys.platform != "linux", reason="files of processes as Linux shows them")
def test_a_file_that_was_removed_while_it_is_written_is_a_problem(place: Place) -> None:
    """docs/doctor.md, record-unlinked; security.md S36."""
    path = place.data / "audit" / "00" / "2026-11.db"
    path.parent.mkdir(parents=True)
    with path.open("wb"):
        assert record.unlinked(place.setup()) == []
        path.unlink()

        findings = record.unlinked(place.setup())

    assert [f.text for f in findings] == [
        f"Process {os.getpid()} writes to audit/00/2026-11.db, which was removed from the data folder."
    ]
    assert codes(findings) == ["record-unlinked"]
