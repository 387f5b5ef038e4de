"""Proof of one log file: every row against the tree, the tree against every checkpoint."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import JsonValue

from mcp_guard.audit.checkpoint import CheckpointError, Head, parse
from mcp_guard.audit.checkpoint import verify as verify_note
from mcp_guard.audit.record import BODY_VERSION, COLUMNS, payload_holds
from mcp_guard.audit.schema import LogFile, expected_schema, stored_schema
from mcp_guard.audit.tree import TILE_BITS, Tree, leaf_hash
from mcp_guard.model import JsonDict

_PAGE = 2000
"""Records per read transaction: far below a second, so that the WAL of a busy guard does not grow."""

_MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Erasure:
    """A payload that is not there any more."""

    slot: str
    file: str
    """month.db."""
    index: int
    part: str


@dataclass(slots=True)
class FileResult:
    """What one file holds and what is wrong with it."""

    file: LogFile
    head: Head
    """Last head that a checkpoint signs and the records give."""
    records: int = 0
    calls: int = 0
    previous: tuple[JsonValue, ...] | None = None
    """(file, size, root) of the predecessor that the first record names."""
    tampered: list[tuple[int | None, str]] = field(default_factory=list)
    unverifiable: list[tuple[int | None, str]] = field(default_factory=list)
    missing: list[Erasure] = field(default_factory=list)
    declared: list[Erasure] = field(default_factory=list)


class _Diverged(Exception):  # noqa: N818 - ends the walk over a file, never leaves this module
    """From here on nothing more can be said of this file."""


class FileProof:
    """Checks one open file."""

    def __init__(self, db: sqlite3.Connection, file: LogFile, vkeys: tuple[str, ...], trusted: Iterable[Head]) -> None:
        self._db = db
        self._vkeys = vkeys
        self._trusted = list(trusted)
        self._tree = Tree()
        self._tiles: dict[tuple[object, ...], bytes] = {}
        self._signed_size = 0
        self._origin = ""
        self._result = FileResult(file, Head("", 0, self._tree.root()))

    def run(self) -> FileResult:
        """Check everything.

        Raises:
            sqlite3.OperationalError: the file cannot be read.
        """
        try:
            self._check_rows()
            self._check_storage()
        except _Diverged:
            pass
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self._bad(None, "the file is damaged: SQLite cannot read it")
        return self._result

    def _check_rows(self) -> None:
        with self._transaction():
            self._check_shape()
            end = int(self._one("SELECT coalesce(max(size), 0) FROM ckpt"))
            self._origin = self._claimed_origin()
            last = int(self._one("SELECT coalesce(max(idx) + 1, 0) FROM rec"))
        for first in range(0, end, _PAGE):
            with self._transaction():
                self._check_page(first, min(first + _PAGE, end))
        if last > end:
            self._unsure(end, f"{last - end} records after the last checkpoint")
        with self._transaction():
            self._check_tiles(end)

    def _check_shape(self) -> None:
        found = stored_schema(self._db)
        if not found:
            self._unsure(None, "the file is empty")
            raise _Diverged
        if found != expected_schema():
            self._bad(None, "tables, indexes or triggers are not the ones of a log")
            raise _Diverged
        strays = (
            "SELECT (SELECT count(*) FROM rec WHERE idx < 0) + (SELECT count(*) FROM ckpt WHERE size < 1) "
            "+ (SELECT count(*) FROM tile WHERE level < 1 OR idx < 0) + (SELECT count(*) FROM payload "
            "WHERE idx < 0 OR idx >= (SELECT coalesce(max(idx) + 1, 0) FROM rec))"
        )
        if self._one(strays):
            self._bad(None, "rows outside of the log")
        if not self._one("SELECT count(*) FROM (SELECT 1 FROM rec LIMIT 1)"):
            self._unsure(None, "the file holds no record")

    def _check_page(self, first: int, end: int) -> None:
        notes = dict(self._rows("SELECT size, note FROM ckpt WHERE size > ? AND size <= ? ORDER BY size", first, end))
        stored: dict[int, dict[str, tuple[bytes, bytes]]] = {}
        for idx, part, salt, data in self._rows("SELECT * FROM payload WHERE idx >= ? AND idx < ?", first, end):
            stored.setdefault(idx, {})[part] = (salt, data)
        query = f"SELECT idx, body, leaf, {', '.join(COLUMNS)} FROM rec WHERE idx >= ? AND idx < ? ORDER BY idx"  # noqa: S608 - constant names
        for idx, body, leaf, *columns in self._rows(query, first, end):
            if idx != self._tree.size:
                break
            self._check_record(idx, body, leaf, tuple(columns), stored.get(idx, {}))
            # A record whose body is wrong is reported once; its leaf lets the rest still be checked.
            for tile in self._tree.append(leaf):
                self._tiles[tile.level, tile.number] = tile.root
            self._check_root(notes.get(self._tree.size))
        if self._tree.size != end:
            self._bad(self._tree.size, "the record is missing")
            raise _Diverged

    def _check_record(
        self, idx: int, body: bytes, leaf: bytes, columns: tuple[object, ...], stored: dict[str, tuple[bytes, bytes]]
    ) -> None:
        self._result.records += 1
        if leaf_hash(body) != leaf:
            self._bad(idx, "the body is not the one that was hashed")
            return
        value = _decode(body)
        if value is None or value.get("v") != BODY_VERSION:
            self._unsure(idx, "written by a version that is not known here")
            return
        if columns != tuple(value.get(name) for name in COLUMNS):
            self._bad(idx, "the columns for search differ from the body")
        self._check_payloads(idx, _dict(value.get("payloads")), stored)
        self._note(idx, value)

    def _check_payloads(self, idx: int, refs: JsonDict, stored: dict[str, tuple[bytes, bytes]]) -> None:
        file = self._result.file
        for part, ref in refs.items():
            if part not in stored:
                self._result.missing.append(Erasure(file.slot, file.path.name, idx, part))
            elif not payload_holds(_dict(ref), *stored[part]):
                self._bad(idx, "a payload is not the one that was recorded")
        if stored.keys() - refs.keys():
            self._bad(idx, "a payload was added")

    def _note(self, idx: int, value: JsonDict) -> None:
        kind, fields = value.get("type"), _dict(value.get("fields"))
        self._result.calls += kind == "call.intent"
        if idx == 0:
            if kind != "log.opened":
                self._bad(0, "the first record does not open a log")
            if previous := _dict(fields.get("previous")):
                self._result.previous = (previous.get("file"), previous.get("size"), previous.get("root"))
        if kind == "payload.erased":
            erased = fields.get("erased")
            for item in erased if isinstance(erased, list) else []:
                entry = _dict(item)
                index = entry.get("index")
                if isinstance(index, int):
                    file, part = str(entry.get("file")), str(entry.get("part"))
                    self._result.declared.append(Erasure(str(entry.get("slot")), file, index, part))

    def _check_root(self, note: bytes | None) -> None:
        size, root = self._tree.size, self._tree.root
        for seen in self._trusted:
            if (seen.origin, seen.size) == (self._origin, size) and seen.root != root():
                self._bad(size - 1, "a head of this size was seen with another root: the log was forked or rewritten")
        if note is None:
            return
        head = self._signed(note)
        if head is None or head.size != size or not self._is_own(head):
            self._bad(size - 1, "the checkpoint at this record is not a valid one of this log")
        elif head.root != root():
            self._bad(self._signed_size, f"records {self._signed_size} to {size - 1} are not the ones that were signed")
            raise _Diverged
        else:
            self._signed_size = size
            self._result.head = head

    def _signed(self, note: bytes) -> Head | None:
        try:
            return verify_note(note, self._vkeys)
        except CheckpointError:
            return None

    def _is_own(self, head: Head) -> bool:
        file = self._result.file
        return head.origin.endswith(f"/{file.slot}/{file.month}") and head.origin == self._origin

    def _claimed_origin(self) -> str:
        """Origin of the last checkpoint; all others must have the same."""
        for (note,) in self._rows("SELECT note FROM ckpt ORDER BY size DESC LIMIT 1"):
            with suppress(CheckpointError):
                return parse(note).origin
        return ""

    def _check_tiles(self, end: int) -> None:
        rows = self._rows("SELECT level, idx, hash FROM tile")
        stored = {(level, idx): root for level, idx, root in rows if (idx + 1) << (TILE_BITS * level) <= end}
        if stored != self._tiles:
            self._bad(None, "tiles are not the ones of the tree")

    def _check_storage(self) -> None:
        """An index edited by itself hides records from search, and no hash sees it."""
        if [row[0] for row in self._rows("PRAGMA integrity_check(1)")] != ["ok"]:
            self._bad(None, "an index or page does not fit the tables: searches may miss records")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._db.execute(sql, values).fetchall()

    def _one(self, sql: str) -> Any:
        return self._rows(sql)[0][0]

    def _bad(self, record: int | None, text: str) -> None:
        self._result.tampered.append((record, text))
        if len(self._result.tampered) >= _MAX_PROBLEMS:
            raise _Diverged

    def _unsure(self, record: int | None, text: str) -> None:
        if len(self._result.unverifiable) < _MAX_PROBLEMS:
            self._result.unverifiable.append((record, text))


def _decode(body: bytes) -> JsonDict | None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _dict(value: JsonValue) -> JsonDict:
    return value if isinstance(value, dict) else {}
