"""Reading the log: one view over all slots and files. Never opens for writing, also while guards write.

Inside a slot the order is that of the log; slots are merged by time. Content is masked, but tools and clients wrote
it: a terminal must not be trusted with it unescaped.
"""

from __future__ import annotations

import heapq
import re
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import orjson

from mcp_guard.audit.record import TERMINAL, decode_payload
from mcp_guard.audit.schema import LogFile, log_files, read_only
from mcp_guard.model import JsonDict

_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_SELECT = "SELECT idx, body FROM rec "
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as it was written, with its place."""

    file: str
    """slot/month.db."""
    index: int
    ts_us: int
    """Wall microseconds."""
    type: str
    call_id: str
    session: str
    actor: str
    tool: str
    outcome: str
    fields: JsonDict
    payloads: JsonDict = field(default_factory=dict)
    """Decoded masked payloads by part, where they were asked for; None for an erased one."""


@dataclass(frozen=True, slots=True)
class CallSummary:
    """One call of the population."""

    call_id: str
    ts_us: int
    tool: str
    actor: str
    effect: str
    """allow, require_approval, deny; empty when the call never became one (unknown name)."""
    outcome: str
    """Of the record that ended it, else the state in which its approval request ended, else `suspended` for a call
    whose client has a ticket; empty while it is open."""
    approval: str | None
    forwarded: bool
    """Whether it was sent: a `call.result` that is not a refusal to send, or a `call.forwarded`."""


_OVER = frozenset({"denied", "expired", "cancelled", "invalidated", "unknown"})
"""States of an approval request from which its call is not carried out any more."""

NOT_SENT = frozenset({"downstream_unavailable"})
"""Outcomes of a `call.result` that say that no byte was sent."""


def tail(folder: Path, limit: int = 50) -> list[Entry]:
    """The last `limit` records of all slots, oldest first.

    Raises:
        OSError, sqlite3.Error: the log cannot be read.
        ValueError: a record is damaged; the message names it.
    """
    streams: dict[str, list[Entry]] = {}
    for file in reversed(log_files(folder)):
        stream = streams.setdefault(file.slot, [])
        if len(stream) < limit:
            found = _read(file, "ORDER BY idx DESC LIMIT ?", (limit - len(stream),))
            stream[:0] = reversed(found)
    return _merged(streams.values())[-limit:]


def show(folder: Path, key: str) -> list[Entry]:
    """Everything about one call or approval request, payloads decoded; empty when nothing mentions it.

    Args:
        folder: The audit folder.
        key: A call_id or an approval id.

    Raises:
        OSError, sqlite3.Error: the log cannot be read.
        ValueError: a record or payload is damaged; the message names the record.
    """
    if not _KEY.fullmatch(key):
        return []
    files = log_files(folder)
    needle = f'"{key}"'.encode()
    calls = {key}
    for file in files:
        calls |= {entry.call_id for entry in _read(file, "WHERE instr(body, ?) ORDER BY idx", (needle,))} - {""}
    marks = ",".join("?" * len(calls))
    where = f"WHERE call_id IN ({marks}) OR instr(body, ?) ORDER BY idx"
    streams: dict[str, list[Entry]] = {}
    for file in files:
        streams.setdefault(file.slot, []).extend(_read(file, where, (*sorted(calls), needle), payloads=True))
    return _merged(streams.values())


def population(folder: Path, since_us: int = 0, until_us: int | None = None) -> list[CallSummary]:
    """Every call that began in [since, until), in order of time, each once.

    For reconciling with a downstream's own list of effects: what it did must be `forwarded` here, and the reverse.

    Raises:
        OSError, sqlite3.Error: the log cannot be read.
        ValueError: a record is damaged; the message names it.
    """
    grouped: dict[str, list[Entry]] = {}
    for entry in _merged(_slot_streams(folder, "WHERE call_id <> '' ORDER BY idx")):
        grouped.setdefault(entry.call_id, []).append(entry)
    calls = (_summary(group) for group in grouped.values() if any(entry.type.startswith("call.") for entry in group))
    return [call for call in calls if since_us <= call.ts_us and (until_us is None or call.ts_us < until_us)]


async def follow(folder: Path, *, limit: int = 10, poll_s: float = 0.2) -> AsyncIterator[Entry]:
    """The last `limit` records, then new ones as they come, for ever.

    Raises:
        OSError, sqlite3.Error: the log cannot be read.
        ValueError: a record is damaged; the message names it.
    """
    seen = await anyio.to_thread.run_sync(_sizes, folder)
    for entry in await anyio.to_thread.run_sync(tail, folder, limit):
        if entry.index < seen.get(entry.file, 0):
            yield entry
    while True:
        for entry in await anyio.to_thread.run_sync(_since, folder, seen):
            yield entry
        await anyio.sleep(poll_s)


def unfinished_calls(folder: Path, slot: str) -> list[Entry]:
    """Intents of one slot of which nothing, in any slot, says how the call ended or whom its client has to ask.

    Raises:
        OSError, sqlite3.Error: the log cannot be read.
        ValueError: a record is damaged; the message names it.
    """
    files = log_files(folder)
    closed = _closed(files)
    intents = [
        entry
        for file in files
        if file.slot == slot
        for entry in _read(file, "WHERE type = 'call.intent' ORDER BY idx", ())
    ]
    return [entry for entry in intents if entry.call_id not in closed]


def was_forwarded(folder: Path, call_id: str) -> bool:
    """Whether any slot holds a `call.forwarded` or `call.result` of this call.

    Raises:
        OSError, sqlite3.Error: the log cannot be read.
    """
    for file in log_files(folder):
        with closing(read_only(file.path)) as db:
            sent = "SELECT 1 FROM rec WHERE call_id = ? AND type IN ('call.forwarded', 'call.result')"
            if _size(db) and db.execute(sent, (call_id,)).fetchone():
                return True
    return False


def _closed(files: Iterable[LogFile]) -> set[str]:
    """Calls that ended, or got a ticket and were not sent since: their approval request tells the rest."""
    calls: dict[str, set[str]] = {}
    over: set[str] = set()
    for file in files:
        with closing(read_only(file.path)) as db:
            if _size(db):
                for kind, call_id in db.execute("SELECT type, call_id FROM rec WHERE type <> 'call.intent'"):
                    calls.setdefault(kind, set()).add(call_id)
        approvals = _read(file, "WHERE type >= 'approval.' AND type < 'approval/'", ())
        over.update(entry.call_id for entry in approvals if entry.fields.get("state") in _OVER)
    ended = over.union(*(calls.get(kind, set()) for kind in TERMINAL))
    return ended | (calls.get("call.suspended", set()) - calls.get("call.forwarded", set()))


def _summary(group: Sequence[Entry]) -> CallSummary:
    first = next(entry for entry in group if entry.type.startswith("call."))
    sent = any(
        entry.type == "call.forwarded" or (entry.type == "call.result" and entry.outcome not in NOT_SENT)
        for entry in group
    )
    approval = next((str(a) for entry in group if (a := entry.fields.get("approval"))), None)
    return CallSummary(
        call_id=first.call_id,
        ts_us=first.ts_us,
        tool=first.tool,
        actor=first.actor,
        effect=next((entry.outcome for entry in group if entry.type == "call.intent"), ""),
        outcome=_outcome(group),
        approval=approval,
        forwarded=sent,
    )


def _outcome(group: Sequence[Entry]) -> str:
    ends = [entry.outcome for entry in group if entry.type in TERMINAL]
    ends = ends or [state for entry in group if (state := str(entry.fields.get("state"))) in _OVER]
    return (ends or ["suspended" if any(entry.type == "call.suspended" for entry in group) else ""])[-1]


def _slot_streams(folder: Path, where: str) -> Iterable[list[Entry]]:
    streams: dict[str, list[Entry]] = {}
    for file in log_files(folder):
        streams.setdefault(file.slot, []).extend(_read(file, where, ()))
    return streams.values()


def _merged(streams: Iterable[Sequence[Entry]]) -> list[Entry]:
    return list(heapq.merge(*streams, key=lambda entry: entry.ts_us))


def _sizes(folder: Path) -> dict[str, int]:
    found = {}
    for file in log_files(folder):
        with closing(read_only(file.path)) as db:
            found[file.name] = _size(db)
    return found


def _since(folder: Path, seen: dict[str, int]) -> list[Entry]:
    streams: dict[str, list[Entry]] = {}
    for file in log_files(folder):
        new = _read(file, "WHERE idx >= ? ORDER BY idx LIMIT ?", (seen.get(file.name, 0), _PAGE))
        if new:
            seen[file.name] = new[-1].index + 1
            streams.setdefault(file.slot, []).extend(new)
    return _merged(streams.values())


def _size(db: sqlite3.Connection) -> int:
    # A file that was made a moment ago has no table yet.
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'rec'").fetchone():
        return 0
    return int(db.execute("SELECT coalesce(max(idx) + 1, 0) FROM rec").fetchone()[0])


def _read(file: LogFile, where: str, values: Sequence[object], *, payloads: bool = False) -> list[Entry]:
    with closing(read_only(file.path)) as db:
        if _size(db) == 0:
            return []
        return [
            _entry(file.name, idx, body, _parts(db, idx) if payloads else None)
            for idx, body in db.execute(_SELECT + where, tuple(values)).fetchall()
        ]


def _parts(db: sqlite3.Connection, idx: int) -> Iterator[tuple[str, bytes]]:
    yield from db.execute("SELECT part, data FROM payload WHERE idx = ?", (idx,)).fetchall()


def _entry(file: str, idx: int, body: bytes, parts: Iterable[tuple[str, bytes]] | None) -> Entry:
    try:
        value = orjson.loads(body)
        payloads = {} if parts is None else _payloads(value["payloads"], dict(parts))
        names = ("type", "call_id", "session", "actor", "tool", "outcome", "fields")
        copied = {name: value[name] for name in names}
        return Entry(file=file, index=idx, ts_us=value["ts"], payloads=payloads, **copied)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"record {idx} of {file} is damaged") from None


def _payloads(refs: dict[str, JsonDict], stored: dict[str, bytes]) -> JsonDict:
    return {part: decode_payload(ref, stored[part]) if part in stored else None for part, ref in refs.items()}
