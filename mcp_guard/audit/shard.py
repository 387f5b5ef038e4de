"""One log file, open for writing: records, payloads, tiles and a signed checkpoint in one transaction."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiosqlite

from mcp_guard.audit.checkpoint import CheckpointError, Head, Signer, parse, verify
from mcp_guard.audit.record import Prepared
from mcp_guard.audit.schema import STATEMENTS, uri_of
from mcp_guard.audit.tree import Tile, Tree, leaf_hash
from mcp_guard.errors import AuditUnavailableError
from mcp_guard.model import Receipt
from mcp_guard.storage.hop import HopConnection, in_one_hop
from mcp_guard.system import write_new_private

_VERIFY_HINT = "run `mcp-guard audit verify`; it names the first bad record"


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one transaction writes."""

    tree: Tree
    head: Head
    note: bytes
    records: list[tuple[object, ...]]
    payloads: list[tuple[object, ...]]
    tiles: list[Tile]


class Shard:
    """The current file of a slot. Its tree is moved on only after a commit."""

    def __init__(self, path: Path, origin: str, signer: Signer, db: aiosqlite.Connection, tree: Tree) -> None:
        self.path = path
        self.origin = origin
        self._signer = signer
        self._db = db
        self._tree = tree
        self._identity = _identity(path)
        self._wal_identity: tuple[int, int] | None = None
        self._sign_with_old_keys = True

    @property
    def month(self) -> str:
        """YYYY-MM."""
        return self.path.stem

    @property
    def head(self) -> Head:
        """The log as of the last durable batch."""
        return Head(self.origin, self._tree.size, self._tree.root())

    @classmethod
    async def open(cls, path: Path, origin: str, signer: Signer, *, create: bool) -> Shard:
        """Open the file and check that its tree is the one that was signed last.

        Raises:
            AuditUnavailableError: the stored tree is not the signed one, or another log's.
            sqlite3.Error, OSError: the file cannot be used.
        """
        if create:
            _create(path)
        # "rw", not "rwc": a file that was removed must not come back empty.
        db = await aiosqlite.connect(uri_of(path, "rw"), uri=True, isolation_level=None, factory=HopConnection)
        try:
            for pragma in ("busy_timeout=2000", "journal_mode=WAL", "synchronous=FULL", "cell_size_check=ON"):
                await db.execute_fetchall(f"PRAGMA {pragma}")
            await _make_tables(db)
            return cls(path, origin, signer, db, await _restore(db, origin, signer))
        except BaseException:
            await db.close()
            raise

    async def close(self) -> None:
        """Close the connection; a connection that failed before may fail again, which changes nothing."""
        with contextlib.suppress(sqlite3.Error, ValueError):
            await self._db.close()

    async def last_ts(self) -> int:
        """Wall microseconds of the last record, 0 when there is none."""
        rows = await self._db.execute_fetchall("SELECT ts FROM rec ORDER BY idx DESC LIMIT 1")
        return next((int(row[0]) for row in rows), 0)

    async def commit(
        self, records: Sequence[Prepared], unless: Iterable[tuple[str, str]] = ()
    ) -> list[Receipt] | dict[tuple[str, str], Receipt]:
        """Write a batch and its checkpoint; returns once they are durable.

        Args:
            records: In the order in which they get their places.
            unless: Keys (call_id, type). Where records with some of these exist, nothing is written.

        Returns:
            A receipt for each record; or, by key, the receipts of those that exist.

        Raises:
            AuditUnavailableError: the file was removed or replaced.
            sqlite3.Error, OSError: it may or may not have been stored; close and open again before going on.
        """
        self._check_files()
        batch, wanted = self._plan(records), list(unless)
        known = await in_one_hop(self._db, lambda db: _stored(db, wanted) or _write(db, batch))
        if known:
            return known
        # Again after the commit: what was written into an unlinked file is not acknowledged.
        self._check_files()
        first = self._tree.size
        self._tree = batch.tree
        self._sign_with_old_keys = False
        return [_receipt(batch.head, first + i) for i in range(len(records))]

    async def holds(self, head: Head) -> bool:
        """Whether the log still has the checkpoint of an earlier head."""
        if head.size == 0:
            return True
        rows = await self._db.execute_fetchall("SELECT note FROM ckpt WHERE size = ?", (head.size,))
        return any(_signed(row[0], self._signer) == head for row in rows)

    def _plan(self, records: Sequence[Prepared]) -> _Batch:
        tree = self._tree.copy()
        rows: list[tuple[object, ...]] = []
        payloads: list[tuple[object, ...]] = []
        tiles: list[Tile] = []
        for record in records:
            idx = tree.size
            rows.append((idx, *record.columns, record.body, record.leaf))
            payloads += [(idx, row.part, row.salt, row.data) for row in record.payloads]
            tiles += tree.append(record.leaf)
        head = Head(self.origin, tree.size, tree.root())
        note = self._signer.sign(head, with_old_keys=self._sign_with_old_keys)
        return _Batch(tree, head, note, rows, payloads, tiles)

    def _check_files(self) -> None:
        """SQLite goes on writing into an unlinked file without a word (security.md S36)."""
        wal = self.path.with_name(self.path.name + "-wal")
        try:
            wal_now = _identity(wal) if self._wal_identity or wal.exists() else None
            same = _identity(self.path) == self._identity
        except OSError:
            same, wal_now = False, None
        if not same or (self._wal_identity is not None and wal_now != self._wal_identity):
            raise AuditUnavailableError("the log file was removed or replaced while in use", hint=_VERIFY_HINT)
        self._wal_identity = wal_now


def _stored(db: sqlite3.Connection, keys: list[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
    """Receipts of the records that exist with these (call_id, type)."""
    if not keys:
        return {}
    query = (
        "SELECT r.call_id, r.type, r.idx, (SELECT note FROM ckpt WHERE size > r.idx ORDER BY size LIMIT 1) "
        "FROM json_each(?) j JOIN rec r ON r.call_id = json_extract(j.value, '$[0]') "
        "AND r.type = json_extract(j.value, '$[1]') ORDER BY r.idx DESC"
    )
    rows = db.execute(query, (json.dumps(keys),)).fetchall()
    return {(call_id, kind): _receipt(parse(note), idx) for call_id, kind, idx, note in rows}


def _write(db: sqlite3.Connection, batch: _Batch) -> dict[tuple[str, str], Receipt]:
    db.execute("BEGIN IMMEDIATE")
    try:
        db.executemany("INSERT INTO rec VALUES (?,?,?,?,?,?,?,?,?,?)", batch.records)
        db.executemany("INSERT INTO payload VALUES (?,?,?,?)", batch.payloads)
        db.executemany("INSERT INTO tile VALUES (?,?,?)", batch.tiles)
        db.execute("INSERT INTO ckpt VALUES (?,?)", (batch.head.size, batch.note))
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    return {}


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    if found.st_nlink < 1:
        raise FileNotFoundError
    return found.st_dev, found.st_ino


def _create(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        write_new_private(path, b"")
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # The name of a new file is durable once its folder is; Windows cannot open folders and does not need to.
    with contextlib.suppress(PermissionError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


async def _make_tables(db: aiosqlite.Connection) -> None:
    if await db.execute_fetchall("SELECT 1 FROM sqlite_schema LIMIT 1"):
        return
    await db.execute("BEGIN IMMEDIATE")
    for statement in STATEMENTS:
        await db.execute(statement)
    await db.execute("COMMIT")


async def _restore(db: aiosqlite.Connection, origin: str, signer: Signer) -> Tree:
    """The tree as stored; equal to the last signed checkpoint, or the log is not opened."""
    size = next(iter(await db.execute_fetchall("SELECT coalesce(max(idx) + 1, 0) FROM rec")))[0]
    notes = list(await db.execute_fetchall("SELECT note FROM ckpt ORDER BY size DESC LIMIT 1"))
    if size == 0 and not notes:
        return Tree()
    levels = []
    for level, first, end in Tree.spans(size):
        levels.append(await _hashes(db, level, first, end))
        if len(levels[-1]) != end - first:
            raise _mismatch()
    tree = Tree.restore(size, levels)
    if not notes or _signed(notes[0][0], signer) != Head(origin, size, tree.root()):
        raise _mismatch()
    return tree


async def _hashes(db: aiosqlite.Connection, level: int, first: int, end: int) -> list[bytes]:
    if level:
        query = "SELECT hash FROM tile WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx"
        return [row[0] for row in await db.execute_fetchall(query, (level, first, end))]
    rows = await db.execute_fetchall("SELECT body FROM rec WHERE idx >= ? AND idx < ? ORDER BY idx", (first, end))
    return [leaf_hash(row[0]) for row in rows]


def _signed(note: bytes, signer: Signer) -> Head | None:
    try:
        return verify(note, signer.vkeys)
    except CheckpointError:
        return None


def _mismatch() -> AuditUnavailableError:
    return AuditUnavailableError("the stored log is not the one that was signed last", hint=_VERIFY_HINT)


def _receipt(head: Head, index: int) -> Receipt:
    return Receipt(head.origin, index, head.size, head.root_b64)
