"""Calls that a grant may cover, and processes that use it."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.clock import SystemClock
from mcp_guard.model import Answer, Call, Decision, GrantOffer, JsonDict, Principal, Suspended
from tests.approval.bench import ALICE, LOCAL_ALICE, Bench, call_of, decision_of

FOLDER = GrantOffer(900.0, 3, {"/path": "folder"})
SAME = GrantOffer(900.0, 2, None)
SCHEMA: JsonDict = {"type": "object", "properties": {"path": {}, "content": {}}}


def granting(*offers: GrantOffer, **terms: Any) -> Decision:
    """A decision that asks and offers grants."""
    return decision_of(grants=offers or (SAME, FOLDER), **terms)


def write(name: str, *, principal: Principal = ALICE, **more: Any) -> Call:
    """A call that writes a file of this name in /srv/work/notes."""
    call = call_of({"path": f"/srv/work/notes/{name}", "content": name}, principal=principal)
    changes = {"input_schema": SCHEMA, "server_identity": "i1", **more}
    return replace(call, target=replace(call.target, **changes))


def outside(path: str = "/etc/one/two/three") -> Call:
    """A call that writes elsewhere."""
    return replace(write("x"), arguments=call_of({"path": path, "content": "x"}).arguments)


def wide(bench: Bench) -> Bench:
    """A guard whose policy still offers the grants when an approved call is checked again."""
    bench.today = lambda _decision: granting()
    return bench


async def ask(bench: Bench, call: Call, decision: Decision | None = None) -> str:
    """The approval id of a call that becomes a ticket or runs at once."""
    got = await bench.ask(call, decision=decision or granting())
    assert isinstance(got, Suspended | Answer)
    assert got.approval_id is not None
    return got.approval_id


async def _use(folder: Path, number: int, told: Connection) -> None:
    async with wide(Bench(folder, clock=SystemClock(), max_open=100)).guard(background=False) as bench:
        told.send("ready")
        await anyio.to_thread.run_sync(told.recv)
        ids = [await ask(bench, write(f"{number}-{n}"), granting(hold_s=0.0)) for n in range(4)]
        told.send([await bench.state(approval_id) for approval_id in ids].count("approved"))


def use_grant(folder: Path, number: int, told: Connection) -> None:
    """A process that asks for four calls, and tells how many a grant let through."""
    anyio.run(_use, folder, number, told)


async def _take(folder: Path, told: Connection) -> None:
    async with wide(Bench(folder, clock=SystemClock())).guard(background=False) as bench:
        told.send(await ask(bench, write("a"), granting(hold_s=0.0)))
        await anyio.sleep_forever()


def take_use(folder: Path, told: Connection) -> None:
    """A process that takes a use of a grant and is killed before it sends."""
    anyio.run(_take, folder, told)


async def grant(bench: Bench, index: int = 1, reviewer: Reviewer = LOCAL_ALICE, **terms: Any) -> str:
    """Approve a first call with a grant, wait until it ran, and return the id of the grant."""
    first = await ask(bench, write("first"), granting(**terms))
    await bench.review.decide(first, "approve", reviewer, grant=index)
    await bench.until(first, "completed")
    return (await bench.review.list_grants())[0].id
