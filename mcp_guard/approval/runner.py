"""The desk's background work: wake, execute, expire, recover, adopt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import anyio
import anyio.abc
import structlog

from mcp_guard.approval.execution import Execution
from mcp_guard.approval.grants import Grants
from mcp_guard.approval.holders import Holders
from mcp_guard.approval.machine import LIVE, Lose, Release, State
from mcp_guard.approval.outbox import Outbox
from mcp_guard.approval.rows import Request
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.approval.wake import Wake
from mcp_guard.errors import GuardError
from mcp_guard.ports import Executor

_Part: TypeAlias = Callable[[], Awaitable[None]]

_log = structlog.get_logger(__name__)

_POLL_S = 0.025
_POLL_IDLE_S = 0.25
_IDLE_AFTER_S = 30.0
_ROUND_S = 0.5
"""Expiry is noticed within this time also when nobody touches the store."""
_RECOVER_EVERY_S = 2.0
_FORGET_EVERY_S = 300.0
"""Requests that are long over are looked for this often, and at the start."""


class Runner:
    """Carries out what this process holds, as long as `run` runs."""

    def __init__(
        self,
        *,
        store: ApprovalStore,
        holders: Holders,
        outbox: Outbox,
        wake: Wake,
        execution: Execution,
        grants: Grants,
        adopts: Callable[[str, str], bool],
    ) -> None:
        self._store = store
        self._holders = holders
        self._outbox = outbox
        self._wake = wake
        self._execution = execution
        self._grants = grants
        self._adopts = adopts
        self._running: set[str] = set()
        self._holding = False

    async def run(self, executor: Executor, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Recover, then work until cancelled."""
        await self.recover()
        task_status.started()
        async with anyio.create_task_group() as group:
            group.start_soon(self._poll)
            recovered = forget_at = anyio.current_time()
            while True:
                signal = self._wake.signal
                start = partial(self._start_approved, group, executor)
                steps: list[_Part] = [self._release, start, self._outbox.flush, self._sweep]
                steps += [self._outbox.flush_reviewers, self._look]
                if anyio.current_time() >= forget_at:
                    steps.append(self._store.forget)
                    forget_at = anyio.current_time() + _FORGET_EVERY_S
                if anyio.current_time() - recovered > _RECOVER_EVERY_S:
                    steps.append(self.recover)
                    recovered = anyio.current_time()
                done = [await self._done(step) for step in steps]
                if not all(done):
                    signal = anyio.Event()
                with anyio.move_on_after(_ROUND_S):
                    await signal.wait()

    async def _release(self) -> None:
        if await self._grants.release(self._holders.id):
            self._wake.ring()

    async def recover(self) -> None:
        """Take over from holders that died: T15 and T17, then adoption of what this process can carry out."""
        others = await self._store.unattended(self._holders.id)
        dead = {h for h in {request.row.holder for request in others} if not self._holders.alive(h)}
        orphans = [request for request in others if request.row.holder in dead]
        if not orphans:
            return
        async with self._store.write() as transaction:
            for orphan in orphans:
                request: Request | None = await transaction.get(orphan.row.id)
                if request is None or request.row.holder != orphan.row.holder:
                    continue
                if request.row.state is State.EXECUTING:
                    exec_id = request.row.exec_id
                    event = Lose(exec_id) if request.row.sent else Release(exec_id)
                    step = await transaction.step(request, event, actor="recovery")
                    request = step if isinstance(step, Request) else request
                over = request.row.state not in LIVE
                if over or self._adopts(request.row.owner, request.server):
                    await transaction.hold(request, self._holders.id)
        self._wake.ring()

    async def _done(self, step: _Part) -> bool:
        """Whether this part of a round went through. Fail closed: what failed claimed nothing, and is tried again."""
        try:
            await step()
        except GuardError as error:
            _log.warning("approval_round_failed", error=error.code)
            return False
        except Exception as error:  # noqa: BLE001 - the boundary: one bad row may not end the guard
            _log.error("approval_round_broke", error=type(error).__name__)
            return False
        return True

    async def _start_approved(self, group: anyio.abc.TaskGroup, executor: Executor) -> None:
        for request in await self._store.approved(self._holders.id):
            self._start(group, request, executor)

    def _start(self, group: anyio.abc.TaskGroup, request: Request, executor: Executor) -> None:
        approval_id = request.row.id
        if approval_id in self._running or (request.run == "on_pickup" and not self._wake.attached(approval_id)):
            return
        self._running.add(approval_id)
        group.start_soon(self._carry_out, request, executor)

    async def _carry_out(self, request: Request, executor: Executor) -> None:
        try:
            await self._execution.carry_out(request, executor)
        except GuardError as error:
            _log.warning("approved_call_waits", approval=request.row.id, error=error.code)
            await anyio.sleep(_ROUND_S)
        except Exception as error:  # noqa: BLE001 - the boundary: one request may not stop the others
            _log.error("approved_call_broke", approval=request.row.id, error=type(error).__name__)
            await anyio.sleep(_ROUND_S)
        finally:
            self._running.discard(request.row.id)

    async def _sweep(self) -> None:
        if await self._store.any_due():
            async with self._store.write():
                pass  # the transaction itself expires what is due
            self._wake.ring()

    async def _look(self) -> None:
        """Note whether anything here waits for people: a decision is then to take effect at once, call or no call."""
        self._holding = await self._store.any_open(self._holders.id)

    async def _poll(self) -> None:
        """Notice commits of other processes; slower when for 30 s nothing happened and nothing waits."""
        seen, last_change = -1, anyio.current_time()
        while True:
            try:
                version = await self._store.version()
            except GuardError:
                version = seen
            if version != seen:
                seen, last_change = version, anyio.current_time()
                self._wake.ring()
            idle = anyio.current_time() - last_change > _IDLE_AFTER_S and not (self._holding or self._wake.attached())
            await anyio.sleep(_POLL_IDLE_S if idle else _POLL_S)
