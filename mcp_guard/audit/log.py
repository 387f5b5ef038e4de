"""The writing side: one slot per process, one group-commit task per slot (decisions.md D7, D26).

`open` takes the slot, checks the log and writes `log.opened`; `run` is the writer and belongs into the task group that
outlives every call. A caller waits in `append` until its record is durable.

A batch is whatever is queued when the last one has been committed: no timer, so one caller pays one sync and a hundred
callers share one. After a commit that failed nobody knows what is stored, so the file is closed, and opened and checked
again before anything else is written.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskStatus
from pydantic import JsonValue

from mcp_guard.audit.checkpoint import Head, Signer
from mcp_guard.audit.pending import Pending, split
from mcp_guard.audit.query import unfinished_calls, was_forwarded
from mcp_guard.audit.record import Prepared, prepare
from mcp_guard.audit.schema import month_of, slot_files
from mcp_guard.audit.shard import Shard
from mcp_guard.audit.slots import Slot, install_name, require_key, signer_for, take_slot
from mcp_guard.clock import Clock, Ids
from mcp_guard.errors import AuditUnavailableError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Receipt, Record

QUEUE_BOUND = 10_000
"""Records that may wait; the next one is refused, never dropped."""

MAX_BATCH = 512
"""Records in one transaction: bounds how long the first of them waits."""

_RETRY_NS = 100_000_000
_RETRY_MAX_NS = 5_000_000_000
_CLOCK_TOLERANCE_US = 1_000_000

_log = structlog.get_logger(__name__)


class AuditLog:
    """The audit log of this process. Implements `mcp_guard.ports.AuditTrail`."""

    def __init__(
        self, slot: Slot, name: str, signer: Signer, clock: Clock, ids: Ids, *, append_timeout_s: float
    ) -> None:
        self._slot = slot
        self._name = name
        self._signer = signer
        self._clock = clock
        self._ids = ids
        self._timeout_s = append_timeout_s
        self._shard: Shard | None = None
        self._acked = Head("", 0, b"")
        self._announce: dict[str, JsonValue] | None = {"previous": None}
        self._last_us = 0
        self._retry_at_ns = 0
        self._retry_ns = 0
        self._run_start = ("", 0)
        self._started = False
        self._finished = anyio.Event()
        self._send, self._receive = anyio.create_memory_object_stream[Pending](QUEUE_BOUND)

    def __repr__(self) -> str:
        return f"AuditLog({self.origin})"

    @classmethod
    async def open(
        cls, folder: Path, keys: KeyStore, clock: Clock, ids: Ids, *, append_timeout_s: float = 5.0
    ) -> AuditLog:
        """Take the first free slot of `folder`, check its log against the last checkpoint, write `log.opened`.

        Afterwards start `run` in a task group, or call `close`.

        Args:
            folder: The audit folder; made when absent.
            keys: Holds the Ed25519 key `checkpoint`.
            clock: Wall time for records, monotonic time for back-off.
            ids: Ids of records and of the installation.
            append_timeout_s: Longest wait for a record to become durable.

        Raises:
            AuditUnavailableError: the folder cannot be written, the log is not the one that was signed last, or its
                key is missing.
            ConfigError: the key cannot be read or made.
        """
        try:
            require_key(folder, keys)
            name = install_name(folder, ids)
            signer = signer_for(name, keys)
            slot = take_slot(folder)
        except OSError:
            raise AuditUnavailableError("the audit folder cannot be written") from None
        log = cls(slot, name, signer, clock, ids, append_timeout_s=append_timeout_s)
        try:
            await log._reopen()
            await log._commit([])
            log._run_start = (f"{slot.name}/{log._open_shard().month}.db", log.head.size - 1)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await log._abandon()
            if isinstance(error, sqlite3.Error | OSError):
                raise AuditUnavailableError("the audit log cannot be opened or written") from None
            raise
        return log

    @property
    def origin(self) -> str:
        """Origin line of the current file: mcp-guard/<install id>/<slot>/<month>."""
        return self._acked.origin

    @property
    def slot(self) -> str:
        """Name of this process's slot, two digits."""
        return self._slot.name

    @property
    def head(self) -> Head:
        """The log as of the last acknowledged batch; what may be shown outside as a witness."""
        return self._acked

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Public keys of the checkpoints, current first."""
        return self._signer.vkeys

    async def append(self, record: Record) -> Receipt:
        """Return once the record is durable.

        A second `call.intent` of one call is not written: the receipt of the first is returned, since a call may come
        in rounds. A second `call.forwarded` or `call.result` is an error (decisions.md D26). Cancelling the wait does
        not take the record back.

        Raises:
            AuditUnavailableError: it could not be made durable in time, and may or may not be stored; or this step of
                the call is on record already.
        """
        pending = Pending(self._prepare(record))
        try:
            self._send.send_nowait(pending)
        except anyio.WouldBlock:
            raise AuditUnavailableError("too many records wait to be written") from None
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            raise AuditUnavailableError("the audit log is closed") from None
        with anyio.move_on_after(self._timeout_s):
            await pending.done.wait()
        if pending.receipt is not None:
            return pending.receipt
        if pending.error is not None:
            raise AuditUnavailableError(pending.error.message, hint=pending.error.hint)
        raise AuditUnavailableError("a record could not be made durable in time")

    async def has_forwarded(self, call_id: str) -> bool:
        """Whether any slot says that this call was sent: then it is never sent again, whatever the store says.

        Raises:
            AuditUnavailableError: the log cannot be read.
        """
        try:
            return await anyio.to_thread.run_sync(was_forwarded, self._slot.folder.parent, call_id)
        except (sqlite3.Error, OSError, ValueError):
            raise AuditUnavailableError("the audit log cannot be read") from None

    async def recover(self, is_live: Callable[[str], bool]) -> list[str]:
        """Close the calls that earlier runs in this slot left open, with one `call.interrupted` each.

        Args:
            is_live: Whether a call_id still has a live approval row; such calls stay open.

        Returns:
            The call_ids that were closed.

        Raises:
            AuditUnavailableError: the log cannot be read or written.
        """
        try:
            open_calls = await anyio.to_thread.run_sync(unfinished_calls, self._slot.folder.parent, self.slot)
        except (sqlite3.Error, OSError, ValueError):
            raise AuditUnavailableError("the audit log cannot be read") from None
        closed = []
        for entry in open_calls:
            if (entry.file, entry.index) > self._run_start or is_live(entry.call_id):
                continue
            await self.append(
                Record(
                    "call.interrupted",
                    call_id=entry.call_id,
                    session=entry.session,
                    actor=entry.actor,
                    tool=entry.tool,
                    outcome="unknown",
                    fields={"intent": {"file": entry.file, "index": entry.index}},
                )
            )
            closed.append(entry.call_id)
        return closed

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write until `close` is called or the task is cancelled; then drain, write `log.closed`, free the slot."""
        self._started = True
        task_status.started()
        try:
            async for first in self._receive:
                # A batch that is begun is finished: its callers may already have been told.
                with anyio.CancelScope(shield=True):
                    await self._write([first, *self._queued()])
        finally:
            with anyio.CancelScope(shield=True):
                self._send.close()
                while waiting := self._queued():
                    await self._write(waiting)
                await self._say_goodbye()
                await self._abandon()

    async def close(self) -> None:
        """Take no more records; wait until what is queued has been written and the slot is free."""
        self._send.close()
        if self._started:
            await self._finished.wait()
        else:
            await self._abandon()

    def _prepare(self, record: Record) -> Prepared:
        return prepare(
            record, record_id=self._ids.new("rec"), now_ns=self._clock.now_ns(), mono_ns=self._clock.mono_ns()
        )

    def _queued(self) -> list[Pending]:
        found: list[Pending] = []
        with contextlib.suppress(anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
            while len(found) < MAX_BATCH - 1:
                found.append(self._receive.receive_nowait())
        return found

    async def _write(self, batch: list[Pending]) -> None:
        if self._shard is None and self._clock.mono_ns() < self._retry_at_ns:
            # Not a new failure: counting it as one would put off the next try for as long as anybody calls.
            closed = AuditUnavailableError("the audit log is closed after a failure; it is tried again shortly")
            for pending in batch:
                pending.fail(closed)
            return
        try:
            if self._shard is None:
                await self._reopen()
            await self._rotate_if_due()
            await self._commit(batch)
        except AuditUnavailableError as error:
            await self._failed(batch, error)
        except (sqlite3.Error, OSError, ValueError) as error:
            _log.error("audit_commit_failed", error=type(error).__name__)
            await self._failed(batch, AuditUnavailableError("the audit log could not be written"))

    async def _commit(self, batch: list[Pending]) -> None:
        """Write what is new of a batch, together with what the log has to say of itself."""
        shard = self._open_shard()
        known: dict[tuple[str, str], Receipt] = {}
        while True:
            own = self._own_records()
            fresh, twins = split(batch, known)
            if not own and not fresh:
                break
            keys = [key for pending in fresh if (key := pending.prepared.once_key) is not None]
            written = await shard.commit([*own, *(pending.prepared for pending in fresh)], unless=keys)
            if isinstance(written, dict):
                known |= written  # rare: a call that came back; write the rest without it
                continue
            self._committed(shard, own)
            for pending, receipt in zip(fresh, written[len(own) :], strict=True):
                pending.settle(receipt)
                if pending.prepared.once_key is not None:
                    known[pending.prepared.once_key] = receipt
            break
        for pending in twins:
            self._settle_twin(pending, known)

    def _settle_twin(self, pending: Pending, known: Mapping[tuple[str, str], Receipt]) -> None:
        """An intent is written once for all rounds of a call. Anything else twice means that a call ran twice."""
        key = pending.prepared.once_key
        if key is None or key[1] != "call.intent":
            pending.fail(AuditUnavailableError("this step of the call is on record already; it is not done twice"))
        else:
            pending.settle(known[key])

    def _committed(self, shard: Shard, own: Sequence[Prepared]) -> None:
        self._acked = shard.head
        self._last_us = self._clock.now_ns() // 1000
        if own:
            self._announce = None
        self._retry_ns = 0

    def _own_records(self) -> list[Prepared]:
        found = []
        if self._announce is not None:
            fields: dict[str, JsonValue] = {"origin": self._open_shard().origin, "vkeys": list(self.vkeys)}
            found.append(self._prepare(Record("log.opened", fields={**fields, **self._announce})))
        now_us = self._clock.now_ns() // 1000
        if now_us < self._last_us - _CLOCK_TOLERANCE_US:
            back: dict[str, JsonValue] = {"last_us": self._last_us, "now_us": now_us}
            found.append(self._prepare(Record("clock.jump", outcome="back", fields=back)))
        return found

    def _open_shard(self) -> Shard:
        if self._shard is None:
            raise AuditUnavailableError("the audit log is closed after a failure")
        return self._shard

    async def _reopen(self) -> None:
        """Open the newest file of the slot, or the first one, and check it against what was acknowledged."""
        files = slot_files(self._slot.folder.parent, self.slot)
        first_time = self._acked.size == 0
        month = files[-1].month if files else month_of(self._clock.now_ns())
        shard = await self._open_file(month, create=first_time and not files)
        lost = not first_time and (shard.origin != self._acked.origin or not await shard.holds(self._acked))
        if lost:
            await shard.close()
            raise AuditUnavailableError(
                "records that were acknowledged are gone from the log", hint="run `mcp-guard audit verify`"
            )
        self._shard = shard
        if first_time:
            self._last_us = await shard.last_ts()
            await self._resume_rotation(shard, [file.month for file in files[:-1]])
            await self._rotate_if_due()

    async def _resume_rotation(self, shard: Shard, earlier: list[str]) -> None:
        """A file that has no record yet, because a rotation was cut short, still has to name its predecessor."""
        if shard.head.size or not earlier:
            return
        before = await self._open_file(earlier[-1], create=False)
        self._announce = {"previous": _previous(before)}
        await before.close()

    async def _open_file(self, month: str, *, create: bool) -> Shard:
        path = self._slot.folder / f"{month}.db"
        return await Shard.open(path, f"{self._name}/{self.slot}/{month}", self._signer, create=create)

    async def _rotate_if_due(self) -> None:
        shard = self._open_shard()
        month = month_of(self._clock.now_ns())
        if month <= shard.month:
            return
        following = await self._open_file(month, create=True)
        self._announce = {"previous": _previous(shard)}
        self._shard = following
        self._acked = Head(following.origin, 0, b"")
        await shard.close()

    async def _failed(self, batch: list[Pending], error: AuditUnavailableError) -> None:
        for pending in batch:
            if not pending.done.is_set():
                pending.fail(error)
        shard, self._shard = self._shard, None
        if shard is not None:
            await shard.close()
        # The first try to open it again comes with the next record; after that ever more slowly.
        self._retry_at_ns = self._clock.mono_ns() + self._retry_ns
        self._retry_ns = min(max(2 * self._retry_ns, _RETRY_NS), _RETRY_MAX_NS)

    async def _say_goodbye(self) -> None:
        if self._shard is None:
            return
        with contextlib.suppress(AuditUnavailableError, sqlite3.Error, OSError, ValueError):
            await self._commit([Pending(self._prepare(Record("log.closed")))])

    async def _abandon(self) -> None:
        self._send.close()
        self._receive.close()
        if self._shard is not None:
            await self._shard.close()
            self._shard = None
        self._slot.release()
        self._finished.set()


def _previous(shard: Shard) -> dict[str, JsonValue]:
    return {"file": f"{shard.month}.db", "size": shard.head.size, "root": shard.head.root_b64}
