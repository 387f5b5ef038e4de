"""approvals.db: sound, of this version, not locked for ever, its requests in the hands of living guards."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Final

from mcp_guard.approval.store import DOMAIN as APPROVALS
from mcp_guard.doctor.finding import Finding, count, find, fine
from mcp_guard.doctor.setup import Setup
from mcp_guard.system import FileLock

FILE: Final = "approvals.db"

_DOMAINS: Final = (APPROVALS, "mcp_guard.vault")
_NOT_ITS_CONTENT: Final = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY,
})  # fmt: skip
"""Primary result codes that say nothing of what is in the file."""
_LOCK_WAIT_S: Final = 3.0
"""A guard waits 2 s for the lock before it refuses a call."""
_FRESH_NS: Final = 10_000_000_000


def database(setup: Setup) -> list[Finding]:
    """Whether approvals.db opens, is sound, and was not written by a newer version."""
    folder = setup.data_dir
    path = None if folder is None else folder / FILE
    if path is None or not path.exists():
        return []
    try:
        with closing(peek(path)) as db:
            sound = db.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
            rows = db.execute("SELECT domain, max(number) FROM migration GROUP BY domain").fetchall()
            pending = db.execute("SELECT count(*) FROM approval WHERE state = 'pending'").fetchone()[0]
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF in _NOT_ITS_CONTENT:
            return [find("store-unreadable", f"{FILE} cannot be opened or read.", path=path)]
        sound, rows, pending = False, [], 0
    if not sound:
        text = f"{FILE} is damaged: SQLite cannot read it, and the guard does not start."
        return [find("store-damaged", text, path=path)]
    known = {domain: _newest(domain) for domain in _DOMAINS}
    if any(number > known.get(domain, 0) for domain, number in rows):
        return [find("store-newer", f"{FILE} was written by a newer mcp-guard.", path=path)]
    return [fine(f"{FILE} is sound, {count(pending, 'request')} open")]


def peek(path: Path) -> sqlite3.Connection:
    """Open a database of ours without leaving a trace; the caller closes it.

    Where no write-ahead log lies beside it nobody has it open, and SQLite needs no file to share with others.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    mode = "ro" if path.with_name(path.name + "-wal").exists() else "ro&immutable=1"
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=2.0)
    for pragma in ("query_only=ON", "trusted_schema=OFF"):
        db.execute(f"PRAGMA {pragma}")
    return db


def _newest(domain: str) -> int:
    scripts = (files(domain) / "migrations" / "sqlite").iterdir()
    return max((int(s.name.split("_", 1)[0]) for s in scripts if s.name.endswith(".sql")), default=0)


def lock(setup: Setup) -> list[Finding]:
    """Whether some process keeps the lock of approvals.db, which is held for milliseconds (security.md F11)."""
    folder = setup.data_dir
    path = None if folder is None else folder / f"{FILE}.lock"
    if path is None or not path.exists():
        return []
    end = time.monotonic() + _LOCK_WAIT_S
    while time.monotonic() < end:
        if _free(path):
            return []
        time.sleep(0.01)
    return [find("store-locked", f"A process has held the lock of {FILE} for {_LOCK_WAIT_S:.0f} s.")]


def _free(path: Path) -> bool:
    """Whether nobody holds the lock of an existing file. Takes it for an instant."""
    held = FileLock(path)
    if not held.try_acquire():
        return False
    held.release()
    return True


def stale_holders(setup: Setup) -> list[Finding]:
    """Requests that belong to guard processes which are gone."""
    folder = setup.data_dir
    path = None if folder is None else folder / FILE
    if folder is None or path is None or not path.exists():
        return []
    try:
        with closing(peek(path)) as db:
            sql = "SELECT holder, count(*) FROM approval WHERE state IN ('pending', 'approved', 'executing') GROUP BY 1"
            rows = db.execute(sql).fetchall()
    except sqlite3.Error:
        return []  # `database` says what is wrong with it
    return _stale(folder / "holders", rows, setup.machine.now_ns)


def _stale(holders: Path, rows: Iterable[tuple[str, int]], now_ns: int) -> list[Finding]:
    left = sum(number for holder, number in rows if not _alive(holders / f"{Path(holder).name}.lock", now_ns))
    if not left:
        return []
    return [find("holders-stale", f"{count(left, 'open request')} of a guard that is gone.")]


def _alive(path: Path, now_ns: int) -> bool:
    """Whether a guard holds this lock; a guard that is just starting may not have it yet, and is not disturbed."""
    try:
        return abs(now_ns - path.stat().st_mtime_ns) < _FRESH_NS or not _free(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True
