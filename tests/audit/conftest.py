"""A running log for the tests of the audit part."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_guard.audit.checkpoint import Head
from mcp_guard.audit.log import AuditLog
from mcp_guard.audit.verify import Report, verify
from mcp_guard.keystore import KeyStore
from mcp_guard.model import MaskedJson, Record
from tests.fakes import CountingIds, FakeClock

OpenLog = Callable[..., AbstractAsyncContextManager[AuditLog]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


@pytest.fixture
def open_log(folder: Path, keys: KeyStore, clock: FakeClock, ids: CountingIds) -> OpenLog:
    """Open the log and run its writer for the length of a block."""

    @asynccontextmanager
    async def opened(append_timeout_s: float = 5.0) -> AsyncIterator[AuditLog]:
        log = await AuditLog.open(folder, keys, clock, ids, append_timeout_s=append_timeout_s)
        failure: BaseException | None = None
        async with anyio.create_task_group() as tasks:
            await tasks.start(log.run)
            # Kept out of the group, so that a test sees its own exception and not a group.
            try:
                yield log
            except Exception as error:  # noqa: BLE001 - raised again below
                failure = error
            await log.close()
        if failure is not None:
            raise failure

    return opened


@dataclass(frozen=True)
class Sample:
    """A finished log with calls, payloads, tiles and two files, and its public keys."""

    folder: Path
    vkeys: tuple[str, ...]

    @property
    def file(self) -> Path:
        """The file with most in it."""
        return self.folder / "00" / "2026-09.db"

    def execute(self, sql: str, *values: object) -> None:
        """Do what somebody with access to the disk can do."""
        with closing(sqlite3.connect(self.file, isolation_level=None)) as db:
            db.execute("PRAGMA writable_schema=ON")
            db.execute(sql, values)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.file)) as db:
            return db.execute(sql, values).fetchall()

    def verify(self, trusted: Iterable[Head] = ()) -> Report:
        return verify(self.folder, self.vkeys, trusted=trusted)


async def _fill(root: Path) -> tuple[str, ...]:
    clock = FakeClock()
    log = await AuditLog.open(root / "audit", KeyStore(root / "keys"), clock, CountingIds())
    async with anyio.create_task_group() as tasks:
        await tasks.start(log.run)
        async with anyio.create_task_group() as calls:
            for number in range(140):
                calls.start_soon(_call, log, f"call_{number}")
        for number in range(140, 150):
            await _call(log, f"call_{number}")
        clock.advance(31 * 86400)
        await _call(log, "call_150")
        await log.close()
    return log.vkeys


async def _call(log: AuditLog, call_id: str) -> None:
    about = ("ses_1", '["os","ann",""]', "crm/get_customer")
    args = MaskedJson({"id": 7, "note": "x" * 40})
    await log.append(Record("call.intent", call_id, *about, "allow", payloads={"args": args}))
    result = MaskedJson({"rows": [{"email": "[EMAIL_k3f7q2m5xa]", "n": 1.5}] * 30})
    await log.append(Record("call.result", call_id, *about, "ok", payloads={"result": result}))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Read only: tests that change it take `sample`."""
    root = tmp_path_factory.mktemp("log")
    return Sample(root / "audit", anyio.run(_fill, root))


@pytest.fixture
def sample(finished: Sample, tmp_path: Path) -> Sample:
    """A copy to tamper with."""
    shutil.copytree(finished.folder, tmp_path / "audit")
    return Sample(tmp_path / "audit", finished.vkeys)
