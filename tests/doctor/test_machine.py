"""Python, SQLite, the clock, packages."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from mcp_guard.approval.channels import notify
from mcp_guard.approval.store import DOMAIN
from mcp_guard.doctor import machine
from mcp_guard.storage.sqlite import Database
from tests.doctor.conftest import NOW_NS, Place, codes
from tests.doctor.test_record import write
from tests.fakes import FakeClock


@pytest.mark.parametrize(
    ("version", "code"),
    [((3, 36, 0), "sqlite-too-old"), ((3, 37, 0), "sqlite-old"), ((3, 51, 2), "sqlite-old"), ((3, 51, 3), "ok")],
)
def test_an_old_sqlite_is_told(version: tuple[int, ...], code: str) -> None:
    """docs/doctor.md, sqlite-old and sqlite-too-old; decisions.md D7."""
    findings = machine.sqlite(version)

    assert [f.code for f in findings] == [code]
    assert ".".join(map(str, version)) in findings[0].text


def test_this_python_and_its_sqlite_can_run_the_guard(place: Place) -> None:
    findings = machine.versions(place.setup())

    assert findings[0].text.startswith("Python 3.")
    assert "sqlite-too-old" not in codes(findings)


async def test_a_clock_behind_the_store_is_a_warning(place: Place) -> None:
    """docs/doctor.md, clock-behind; security.md F14."""
    database = await Database.open(place.data / "approvals.db", DOMAIN)
    await database.close()
    with closing(sqlite3.connect(place.data / "approvals.db")) as db:
        db.execute("UPDATE approval_clock SET high_ns = ?", (NOW_NS + 3 * 3600 * 10**9,))
        db.commit()

    findings = machine.clock(place.setup())

    assert codes(findings) == ["clock-behind"]
    assert findings[0].text.startswith("The clock is 3 h behind: something was written at 2026-09-21T")
    place.now_ns += 3 * 3600 * 10**9
    assert codes(machine.clock(place.setup())) == []


async def test_a_clock_behind_the_record_is_a_warning(place: Place, clock: FakeClock) -> None:
    """docs/doctor.md, clock-behind; security.md F14."""
    assert machine.clock(place.setup()) == []
    clock.jump(40)
    await write(place.data, clock)

    findings = machine.clock(place.setup())

    assert codes(findings) == ["clock-behind"]
    assert findings[0].text.startswith("The clock is 40 s behind: ")


def test_a_damaged_store_and_record_do_not_stop_the_check_of_the_clock(place: Place) -> None:
    (place.data / "approvals.db").write_bytes(b"x" * 5000)
    (place.data / "audit" / "00").mkdir(parents=True)
    (place.data / "audit" / "00" / "2026-11.db").write_bytes(b"x" * 5000)

    assert machine.clock(place.setup()) == []


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (600, "10 min"), (7200, "2 h"), (12 * 86_400, "12 days")])
def test_spans_are_short(seconds: int, text: str) -> None:
    assert machine.span(seconds * 10**9) == text


@pytest.mark.parametrize(
    ("approvals", "code"), [({"notify": ["desktop"]}, "notify-missing"), ({}, "notify-off"), ({"notify": []}, "")]
)
def test_a_desktop_that_shows_nothing_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch, approvals: dict[str, list[str]], code: str
) -> None:
    """docs/doctor.md, notify-missing and notify-off."""
    monkeypatch.setattr(notify, "_desktop_command", lambda _text: None)
    monkeypatch.setattr(notify, "_desktop_address", lambda: None)
    place.config["approvals"] = approvals

    assert codes(machine.notifications(place.setup())) == ([code] if code else [])


def test_an_address_without_its_variable_is_told_and_not_shown(place: Place) -> None:
    """docs/security.md S35: an address for notices holds a token."""
    place.config["approvals"] = {"notify": ["json://127.0.0.1/${env:NO_SUCH_TOKEN}/hidden-part"]}

    found = machine.notifications(place.setup())

    assert codes(found) == ["notify-missing"]
    assert "hidden-part" not in found[0].text


@pytest.mark.filterwarnings("ignore:'imghdr':DeprecationWarning")  # a module that apprise loads
def test_an_address_for_notices_is_fine(place: Place) -> None:
    """docs/doctor.md, notify-off."""
    place.config["approvals"] = {"notify": ["json://127.0.0.1:9/"]}

    assert [f.text for f in machine.notifications(place.setup())] == ["notifications can be shown"]
