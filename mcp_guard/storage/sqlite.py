"""SQLite files that several guard processes may share (decisions.md D7).

WAL, synchronous=FULL, and no automatic checkpoint: every write transaction and every checkpoint happens under one
OS lock next to the file, so that the WAL-reset bug of SQLite before 3.51.3 cannot bite.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

import aiosqlite
import anyio

from mcp_guard.errors import StoreUnavailableError
from mcp_guard.system import PRIVATE_FILE, FileLock, make_private_dir

_LOCK_WAIT_S = 2.0
_LOCK_POLL_S = 0.004
_CHECKPOINT_PAGES = 1000
"""Pages of 4 KiB in the WAL before the next writer folds it back."""


class Database:
    """One SQLite file: one connection for writing, one for reading, one for `data_version`."""

    def __init__(self, path: Path, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self.path = path
        self._writer = writer
        self._reader = reader
        self._write_gate = anyio.Lock()
        self._lock = FileLock(path.with_name(path.name + ".lock"))

    @classmethod
    async def open(cls, path: Path, *domains: str) -> Database:
        """Open or create the file and bring the schema of each domain (a package name) up to date.

        Raises:
            StoreUnavailableError: the folder cannot be written, or the file is not usable.
        """
        opened: list[aiosqlite.Connection] = []
        try:
            make_private_dir(path.parent)
            opened = [await _connect(path), await _connect(path)]
            database = cls(path, *opened)
            async with database.write() as db:
                await _migrate(db, domains)
        except BaseException as error:
            for connection in opened:
                await connection.close()  # its thread would keep the process alive
            if not isinstance(error, OSError | sqlite3.Error):
                raise
            raise StoreUnavailableError(
                f"the store {path.name} cannot be opened: {type(error).__name__}",
                hint="check owner, mode and free space of the data folder",
            ) from error
        return database

    async def close(self) -> None:
        """Close both connections. Held under the OS lock, since closing may checkpoint."""
        with anyio.CancelScope(shield=True):
            async with self._write_gate:
                # When another process holds it, closing without it is safe: only the checkpoint is skipped.
                with contextlib.suppress(StoreUnavailableError):
                    await self._acquire()
                try:
                    await self._reader.close()
                    await self._writer.close()
                finally:
                    self._lock.release()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[aiosqlite.Connection]:
        """One write transaction: committed at the end of the block, rolled back when it raises.

        The block is shielded from cancellation, so keep it short.

        Raises:
            StoreUnavailableError: the lock was not to be had within 2 s, or SQLite failed.
        """
        with anyio.CancelScope(shield=True):
            async with self._write_gate:
                await self._acquire()
                try:
                    await self._writer.execute("BEGIN IMMEDIATE")
                    try:
                        yield self._writer
                        await self._writer.execute("COMMIT")
                    except BaseException:
                        if self._writer.in_transaction:
                            await self._writer.execute("ROLLBACK")
                        raise
                    await self._checkpoint_if_long()
                except sqlite3.IntegrityError:
                    raise
                except sqlite3.Error as error:
                    raise StoreUnavailableError(f"the store {self.path.name} failed: {type(error).__name__}") from error
                finally:
                    self._lock.release()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[aiosqlite.Connection]:
        """The reading connection.

        Raises:
            StoreUnavailableError: SQLite failed.
        """
        try:
            yield self._reader
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the store {self.path.name} failed: {type(error).__name__}") from error

    async def data_version(self) -> int:
        """A number that changes when any other connection, also of another process, has committed."""
        # Shielded: a cancelled read would leave its statement open, and with it an old snapshot for all readers.
        with anyio.CancelScope(shield=True):
            async with self.read() as db, db.execute("PRAGMA data_version") as cursor:
                row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def _acquire(self) -> None:
        with anyio.move_on_after(_LOCK_WAIT_S):
            while True:
                try:
                    if self._lock.try_acquire():
                        return
                except OSError as error:
                    raise StoreUnavailableError(
                        f"the lock of {self.path.name} cannot be opened: {error.strerror}"
                    ) from error
                await anyio.sleep(_LOCK_POLL_S)
        raise StoreUnavailableError(f"the store {self.path.name} is locked by another process")

    async def _checkpoint_if_long(self) -> None:
        wal = self.path.with_name(self.path.name + "-wal")
        # What was committed stays so: if this fails, the block has not, and the next writer tries again.
        with contextlib.suppress(OSError, sqlite3.Error):
            if wal.stat().st_size > _CHECKPOINT_PAGES * 4096:
                await self._writer.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")


async def _connect(path: Path) -> aiosqlite.Connection:
    db = await aiosqlite.connect(path, isolation_level=None)
    try:
        for pragma in (
            "busy_timeout=2000",
            "journal_mode=WAL",
            "synchronous=FULL",
            "wal_autocheckpoint=0",
            "foreign_keys=ON",
            "secure_delete=ON",
        ):
            await db.execute_fetchall(f"PRAGMA {pragma}")
        # Text that somebody else wrote need not be text: reading it as such may not fail a whole query.
        db.text_factory = _text
        await anyio.Path(path).chmod(PRIVATE_FILE)
    except BaseException:
        await db.close()  # its thread would keep the process alive
        raise
    return db


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


async def _migrate(db: aiosqlite.Connection, domains: tuple[str, ...]) -> None:
    await db.execute(
        "CREATE TABLE IF NOT EXISTS migration(domain TEXT, number INTEGER, PRIMARY KEY(domain, number)) STRICT"
    )
    for domain in domains:
        rows = await db.execute_fetchall("SELECT number FROM migration WHERE domain = ?", (domain,))
        done = {row[0] for row in rows}
        folder = files(domain) / "migrations" / "sqlite"
        for script in sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name):
            number = int(script.name.split("_", 1)[0])
            if number not in done:
                for statement in _statements(script.read_text(encoding="utf-8")):
                    await db.execute(statement)
                await db.execute("INSERT INTO migration VALUES (?, ?)", (domain, number))


def _statements(script: str) -> list[str]:
    """Split a migration into statements, so that it runs inside our transaction (`executescript` would commit)."""
    found: list[str] = []
    rest = ""
    for line in script.splitlines():
        rest += line + "\n"
        if sqlite3.complete_statement(rest):
            found.append(rest)
            rest = ""
    return [s for s in found if s.strip()]
