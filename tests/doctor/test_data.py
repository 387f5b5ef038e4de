"""The data folder, approvals.db and the keys, in every state a disk can leave them in."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mcp_guard.approval.holders import Holders
from mcp_guard.approval.store import DOMAIN
from mcp_guard.clock import SystemClock
from mcp_guard.doctor import data, keys, store
from mcp_guard.doctor.data import DISK_FULL, DISK_LOW
from mcp_guard.doctor.finding import Finding
from mcp_guard.doctor.setup import Setup
from mcp_guard.keystore import KeyStore
from mcp_guard.storage.sqlite import Database
from mcp_guard.system import FileLock
from tests.doctor.conftest import NOW_NS, Place, codes
from tests.fakes import CountingIds

ALL: list[Callable[[Setup], list[Finding]]] = [
    data.usable, data.sizes, store.database, store.lock, store.stale_holders, keys.keys,
]  # fmt: skip


@pytest.fixture
async def database(place: Place) -> Path:
    """A database as a guard makes it, closed."""
    path = place.data / "approvals.db"
    made = await Database.open(path, DOMAIN, "mcp_guard.vault")
    await made.close()
    return path


def run_all(setup: Setup) -> list[str]:
    return [code for check in ALL for code in codes(check(setup))]


def test_a_data_folder_that_is_not_there_yet_is_fine(place: Place) -> None:
    place.data.rmdir()
    setup = place.setup()

    assert run_all(setup) == []
    assert data.usable(setup)[0].text == f"{place.data} is made at the first start"
    assert not place.data.exists()


def test_a_data_folder_that_is_a_file_is_a_problem(place: Place) -> None:
    """docs/doctor.md, data-unusable."""
    place.data.rmdir()
    place.data.write_text("")

    findings = data.usable(place.setup())

    assert codes(findings) == ["data-unusable"]
    assert findings[0].text == f"The data folder {place.data} cannot be written."
    assert run_all(place.setup()) == ["data-unusable"]


def test_a_data_folder_below_a_file_is_a_problem(place: Place) -> None:
    """docs/doctor.md, data-unusable."""
    place.config["data_dir"] = "./guard.yaml/data"

    assert codes(data.usable(place.setup())) == ["data-unusable"]


@pytest.mark.parametrize(("free", "code"), [(DISK_FULL - 1, "disk-full"), (DISK_LOW - 1, "disk-low"), (DISK_LOW, "")])
def test_little_room_on_the_disk_is_told(place: Place, free: int, code: str) -> None:
    """docs/doctor.md, disk-full and disk-low; security.md F10."""
    assert codes(data.room(free, place.data)) == ([code] if code else [])


def test_a_large_data_folder_is_a_note(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/doctor.md, data-large."""
    (place.data / "audit" / "00").mkdir(parents=True)
    (place.data / "audit" / "00" / "2026-08.db").write_bytes(b"x" * 3000)
    assert [f.text for f in data.sizes(place.setup())] == ["3.0 kB of data (record 3.0 kB)"]
    (place.data / "audit" / "00" / "2026-09.db").write_bytes(b"x" * 21_000)
    assert [f.text for f in data.sizes(place.setup())] == ["24.0 kB of data (record 24.0 kB, growing by 1.0 kB a day)"]

    monkeypatch.setattr(data, "LARGE", 2000)

    assert codes(data.sizes(place.setup())) == ["data-large"]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (5 * 10**12, "5.0 TB")]
)
def test_sizes_are_short(number: int, text: str) -> None:
    assert data.size(number) == text


async def test_a_sound_database_is_fine_and_nothing_appears_beside_it(place: Place, database: Path) -> None:
    before = sorted(place.data.iterdir())

    assert [f.text for f in store.database(place.setup())] == ["approvals.db is sound, 0 requests open"]
    assert sorted(place.data.iterdir()) == before


async def test_a_database_in_use_is_read(place: Place) -> None:
    path = place.data / "approvals.db"
    live = await Database.open(path, DOMAIN, "mcp_guard.vault")
    try:
        assert codes(store.database(place.setup())) == []
    finally:
        await live.close()


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_database_is_a_problem(place: Place, content: bytes) -> None:
    """docs/doctor.md, store-damaged; security.md F12."""
    path = place.data / "approvals.db"
    path.write_bytes(content)

    findings = store.database(place.setup())

    assert codes(findings) == ["store-damaged"]
    assert findings[0].mend == f"stop your hosts, move {path} and its -wal file away; open requests are lost"
    assert store.stale_holders(place.setup()) == []


def test_a_database_that_cannot_be_opened_is_not_called_damaged(place: Place) -> None:
    """docs/doctor.md, store-unreadable."""
    path = place.data / "approvals.db"
    path.mkdir()

    findings = store.database(place.setup())

    assert [(f.code, f.text) for f in findings] == [("store-unreadable", "approvals.db cannot be opened or read.")]
    assert codes(keys.keys(place.setup())) == []


async def test_a_database_with_a_damaged_page_is_a_problem(place: Place, database: Path) -> None:
    """docs/doctor.md, store-damaged; security.md F12."""
    _overwrite(database)

    assert codes(store.database(place.setup())) == ["store-damaged"]


def _overwrite(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[4096:8192] = b"\xaa" * 4096
    path.write_bytes(raw)


async def test_a_database_of_a_newer_version_is_a_problem(place: Place, database: Path) -> None:
    """docs/doctor.md, store-newer."""
    with closing(sqlite3.connect(database)) as db:
        db.execute("INSERT INTO migration VALUES (?, 999)", (DOMAIN,))
        db.commit()

    assert codes(store.database(place.setup())) == ["store-newer"]


async def test_a_lock_that_is_never_given_back_is_a_warning(
    place: Place, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/doctor.md, store-locked; security.md F11."""
    monkeypatch.setattr(store, "_LOCK_WAIT_S", 0.1)
    lock = FileLock(place.data / "approvals.db.lock")
    assert lock.try_acquire()

    assert codes(store.lock(place.setup())) == ["store-locked"]
    lock.release()
    assert store.lock(place.setup()) == []


async def test_requests_of_a_guard_that_is_gone_are_a_note_and_those_of_a_living_one_are_not(
    place: Place, database: Path
) -> None:
    """docs/doctor.md, holders-stale."""
    alive = Holders(place.data / "holders", CountingIds())
    alive.open()
    place.now_ns = SystemClock().now_ns() + 60 * 10**9  # not the lock of a guard that is just starting
    with closing(sqlite3.connect(database)) as db:
        _pending(db, "apr_1", "hld_gone")
        _pending(db, "apr_2", alive.id)

    findings = store.stale_holders(place.setup())

    assert [f.text for f in findings] == ["1 open request of a guard that is gone."]
    alive.close()
    assert [f.text for f in store.stale_holders(place.setup())] == ["2 open requests of a guard that is gone."]


def _pending(db: sqlite3.Connection, approval: str, holder: str) -> None:
    columns = [(row[1], row[2], row[3]) for row in db.execute("PRAGMA table_info(approval)")]
    values = [
        {"TEXT": name + approval, "INTEGER": 0, "BLOB": b""}[kind] if needed else None for name, kind, needed in columns
    ]
    known = {"id": approval, "state": "pending", "holder": holder}
    row = [known.get(name, value) for (name, _, _), value in zip(columns, values, strict=True)]
    db.execute(f"INSERT INTO approval VALUES ({','.join('?' * len(row))})", row)  # noqa: S608 - only question marks
    db.commit()


def test_a_damaged_key_is_a_problem(place: Place) -> None:
    """docs/doctor.md, key-unusable; security.md F19."""
    KeyStore(place.data / "keys").secret("vault")
    path = place.data / "keys" / "vault.1.key"
    assert [f.text for f in keys.keys(place.setup())] == ["1 key"]
    secret = path.read_bytes()
    path.write_bytes(secret[:31])

    findings = keys.keys(place.setup())

    assert [(f.code, f.text) for f in findings] == [
        ("key-unusable", "The key file vault.1.key is damaged or cannot be read.")
    ]
    path.unlink()
    path.mkdir()
    assert codes(keys.keys(place.setup())) == ["key-unusable"]


async def test_a_key_that_stored_data_needs_is_missed(place: Place, database: Path) -> None:
    """docs/doctor.md, key-missing; security.md F19."""
    (place.data / "audit" / "00").mkdir(parents=True)
    (place.data / "audit" / "00" / "2026-11.db").touch()
    KeyStore(place.data / "keys").secret("vault")
    assert codes(keys.keys(place.setup())) == ["key-missing"]
    with closing(sqlite3.connect(database)) as db:
        _pending(db, "apr_1", "hld_gone")

    findings = keys.keys(place.setup())

    assert [f.text for f in findings] == ["Keys are missing that stored data needs: approval, checkpoint."]
    assert sorted(p.name for p in (place.data / "keys").iterdir()) == ["vault.1.key"]


@pytest.mark.skipif(sys.platform == "win32", reason="folders that cannot be listed")
def test_nothing_is_said_without_a_configuration(place: Place) -> None:
    place.path.write_text("version: 2")
    setup, _ = place.take_in()

    assert run_all(setup) == []


def test_a_lock_that_cannot_be_looked_at_belongs_to_a_guard_that_lives(tmp_path: Path) -> None:
    """docs/doctor.md, holders-stale: nobody is told to take over from a guard that may still be sending."""
    loop = tmp_path / "hld_a.lock"
    loop.symlink_to(loop)
    assert store._alive(loop, NOW_NS)
    assert not store._alive(tmp_path / "hld_b.lock", NOW_NS)
