"""A process that writes to a log and says on its stdout what was acknowledged; killed and starved by the tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from mcp_guard.audit.log import AuditLog
from mcp_guard.clock import RandomIds, SystemClock
from mcp_guard.errors import AuditUnavailableError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import MaskedJson, Record


async def caller(log: AuditLog, name: str) -> None:
    """Append for ever; one line per acknowledged record."""
    number = 0
    while True:
        number += 1
        call_id = f"call_{name}_{number}"
        args = MaskedJson("x" * 400)
        receipt = await log.append(Record("call.intent", call_id=call_id, payloads={"args": args}))
        os.write(1, f"{receipt.origin} {receipt.index} {call_id}\n".encode())


async def killed(root: Path, name: str) -> None:
    """Write from ten callers until somebody kills the process."""
    log = await AuditLog.open(root / "audit", KeyStore(root / "keys"), SystemClock(), RandomIds())
    async with anyio.create_task_group() as tasks:
        await tasks.start(log.run)
        for number in range(10):
            tasks.start_soon(caller, log, f"{name}_{number}")


def limit_files(size: int | None) -> None:
    """Let no file grow above `size` bytes; None = as large as it likes."""
    if sys.platform != "win32":
        import resource

        endless = resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (endless if size is None else size, endless))


async def starved(root: Path) -> None:
    """Write until the file may grow no more, then be allowed more and write on."""
    log = await AuditLog.open(root / "audit", KeyStore(root / "keys"), SystemClock(), RandomIds())
    limit_files(600_000)
    async with anyio.create_task_group() as tasks:
        await tasks.start(log.run)
        try:
            await caller(log, "before")
        except AuditUnavailableError:
            os.write(1, b"refused\n")
        limit_files(None)
        with anyio.move_on_after(0.3):
            await caller(log, "after")
        await log.close()


if __name__ == "__main__":
    if sys.argv[1] == "killed":
        anyio.run(killed, Path(sys.argv[2]), sys.argv[3])
    else:
        anyio.run(starved, Path(sys.argv[2]))
