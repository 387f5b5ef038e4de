"""Damage a copy of the log: one byte of one record, below SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_HEAD = 300
"""Bytes of a record that SQLite keeps together in one place, however long the record is."""
_AROUND = 12


@dataclass(frozen=True, slots=True)
class Damage:
    """Which byte was changed."""

    index: int
    """Index of the record in its log."""
    before: str
    after: str
    """The text around it."""


def flip_one_byte(audit_folder: Path, event: str) -> Damage | None:
    """Change one letter in the newest record of an event; None when there is none.

    Args:
        audit_folder: Of a copy that nobody has open.
        event: Such as `call.result`.
    """
    for path in sorted(audit_folder.glob("*/*.db")):
        for index, body in _records(path, event):
            damage = _flip(path, index, body[:_HEAD])
            if damage is not None:
                return damage
    return None


def _records(path: Path, event: str) -> list[tuple[int, bytes]]:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return list(db.execute("SELECT idx, body FROM rec WHERE type = ? ORDER BY idx DESC", (event,)))


def _flip(path: Path, index: int, head: bytes) -> Damage | None:
    data = bytearray(path.read_bytes())
    if data.count(head) != 1:
        return None
    for offset in range(len(head) // 2, len(head) - _AROUND):
        if head[offset : offset + 1].isalpha() and bytes([head[offset] ^ 1]).isalpha():
            place = data.index(head) + offset
            data[place] ^= 1
            path.write_bytes(data)
            around = slice(offset - _AROUND, offset + _AROUND)
            after = bytes(data[place - _AROUND : place + _AROUND])
            return Damage(index, head[around].decode(errors="replace"), after.decode(errors="replace"))
    return None
