"""A guard process with its own slot of the audit log, for tests with several of them on one data folder."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import anyio

from mcp_guard.audit.log import AuditLog
from mcp_guard.clock import RandomIds, SystemClock
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Answer, Receipt, Record
from mcp_guard.permit import Permit
from mcp_guard.ports import ApprovedRun
from tests.approval.bench import Bench


def die() -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    os.kill(os.getpid(), signal.SIGKILL)


class Killed(AuditLog):
    """A log whose process is killed right before, or right after, it appends what happened at the page."""

    when = ""

    async def append(self, record: Record) -> Receipt:
        if record.type.startswith("console.") and self.when == "before":
            die()
        receipt = await super().append(record)
        if record.type.startswith("console.") and self.when == "after":
            die()
        return receipt


async def execute(_run: ApprovedRun, _permit: Permit) -> Answer:
    raise AssertionError


async def work(folder: Path, ready: Connection, when: str) -> None:
    keys, clock, ids = KeyStore(folder / "keys"), SystemClock(), RandomIds()
    kind = Killed if when else AuditLog
    audit = await kind.open(folder / "audit", keys, clock, ids, append_timeout_s=5.0)
    if isinstance(audit, Killed):
        audit.when = when
    bench = Bench(folder, clock=clock, audit=audit)  # type: ignore[arg-type]  # the real one instead of a list
    async with anyio.create_task_group() as group:
        await group.start(audit.run)
        async with bench.parts():
            await group.start(bench.desk.run, execute)
            ready.send("ready")
            await anyio.sleep_forever()


def main(folder: Path, ready: Connection, when: str = "") -> None:
    anyio.run(work, folder, ready, when)
