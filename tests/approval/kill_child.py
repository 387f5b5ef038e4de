"""A guard process to be killed: runs approved calls and leaves one line per effect."""

from __future__ import annotations

import os
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import anyio

from mcp_guard.clock import SystemClock
from mcp_guard.model import Answer, MaskedJson
from mcp_guard.permit import Permit
from mcp_guard.ports import ApprovedRun
from tests.approval.bench import LOCAL_ALICE, Bench


async def execute(effects: int, ready: Connection, run: ApprovedRun, permit: Permit) -> Answer:
    if not await run.mark_sent():
        raise RuntimeError
    permit.use(run.call.call_id)
    os.write(effects, f"{run.approval_id}\n".encode())
    ready.send("effect")
    await anyio.sleep(0.001)
    return Answer(result=MaskedJson({"content": []}))


async def work(folder: Path, ready: Connection) -> None:
    effects = os.open(folder / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    bench = Bench(folder, clock=SystemClock())
    async with bench.parts(), anyio.create_task_group() as group:
        await group.start(bench.desk.run, partial(execute, effects, ready))
        ready.send("ready")
        await anyio.sleep_forever()


def main(folder: Path, ready: Connection) -> None:
    anyio.run(work, folder, ready)


async def decide(folder: Path, approval_id: str, verdict: str) -> str:
    async with Bench(folder, clock=SystemClock()).guard(background=False) as bench:
        try:
            await bench.review.decide(approval_id, "approve" if verdict == "approve" else "deny", LOCAL_ALICE)
        except Exception as error:  # noqa: BLE001 - the test wants the type of whatever it is
            return type(error).__name__
        return "won"


def race(folder: Path, approval_id: str, verdict: str, start: Connection, told: Connection) -> None:
    told.send("ready")
    start.recv()
    told.send(anyio.run(decide, folder, approval_id, verdict))
