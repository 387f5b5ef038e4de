"""The tables of one log file, and how files and slots are named.

`rec` is the log; its text columns are copies of body fields for search. `payload` holds the detachable parts, `tile`
roots of full blocks of the tree, `ckpt` one signed note per batch. `tile` and the indexes are derived.
"""

from __future__ import annotations

import re
import sqlite3
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_REC = (
    "CREATE TABLE rec(idx INTEGER PRIMARY KEY, ts INTEGER NOT NULL, type TEXT NOT NULL, call_id TEXT NOT NULL, "
    "session TEXT NOT NULL, actor TEXT NOT NULL, tool TEXT NOT NULL, outcome TEXT NOT NULL, body BLOB NOT NULL, "
    "leaf BLOB NOT NULL) STRICT"
)
_PAYLOAD = (
    "CREATE TABLE payload(idx INTEGER NOT NULL, part TEXT NOT NULL, salt BLOB NOT NULL, data BLOB NOT NULL, "
    "PRIMARY KEY(idx, part)) STRICT"
)
_TILE = (
    "CREATE TABLE tile(level INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL, "
    "PRIMARY KEY(level, idx)) STRICT, WITHOUT ROWID"
)
STATEMENTS = (
    _REC,
    "CREATE INDEX rec_call ON rec(call_id, type)",
    "CREATE INDEX rec_type ON rec(type, ts)",
    _PAYLOAD,
    _TILE,
    "CREATE TABLE ckpt(size INTEGER PRIMARY KEY, note BLOB NOT NULL) STRICT",
)

_FILE = re.compile(r"\d{4}-(0[1-9]|1[0-2])\.db")
_SLOT = re.compile(r"\d{2}")
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, order=True)
class LogFile:
    """One file of the log."""

    slot: str
    month: str
    """YYYY-MM, UTC."""
    path: Path

    @property
    def name(self) -> str:
        """As problems name it: slot/month.db."""
        return f"{self.slot}/{self.month}.db"


def month_of(ns: int) -> str:
    """UTC month of a wall clock reading."""
    return time.strftime("%Y-%m", time.gmtime(ns // _NS))


def slot_files(folder: Path, slot: str) -> list[LogFile]:
    """Files of one slot, oldest first.

    Raises:
        OSError: the folder cannot be read.
    """
    found = [LogFile(slot, p.stem, p) for p in (folder / slot).iterdir() if _FILE.fullmatch(p.name)]
    return sorted(found)


def log_files(folder: Path) -> list[LogFile]:
    """All files of all slots, by slot and month.

    Raises:
        OSError: the folder cannot be read.
    """
    slots = sorted(p.name for p in folder.iterdir() if _SLOT.fullmatch(p.name) and p.is_dir())
    return [file for slot in slots for file in slot_files(folder, slot)]


def uri_of(path: Path, mode: str) -> str:
    """SQLite URI of a file."""
    return f"{path.absolute().as_uri()}?mode={mode}"


def read_only(path: Path) -> sqlite3.Connection:
    """Open a log file for reading only; the caller closes it.

    Raises:
        sqlite3.OperationalError: it cannot be opened.
    """
    db = sqlite3.connect(uri_of(path, "ro"), uri=True, isolation_level=None, timeout=2.0)
    for pragma in ("query_only=ON", "cell_size_check=ON", "mmap_size=0", "trusted_schema=OFF"):
        db.execute(f"PRAGMA {pragma}")
    # Bytes that are no UTF-8 are a finding, not a failure to read.
    db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    return db


@cache
def expected_schema() -> frozenset[tuple[str, ...]]:
    """(type, name, table, SQL) of everything a log file may hold."""
    db = sqlite3.connect(":memory:")
    try:
        for statement in STATEMENTS:
            db.execute(statement)
        return stored_schema(db)
    finally:
        db.close()


def stored_schema(db: sqlite3.Connection) -> frozenset[tuple[str, ...]]:
    """(type, name, table, SQL) of everything that a file holds."""
    rows = db.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema").fetchall()
    return frozenset(tuple(str(value) for value in row) for row in rows)
