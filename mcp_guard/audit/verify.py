"""Checking the log against its signed checkpoints, read only, also while guards write.

A file proves itself only up to its own last checkpoint. A tail cut off together with its checkpoints, or an older copy
put back, shows only against a head that was seen elsewhere: `trusted` takes such heads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from mcp_guard.audit.checkpoint import Head
from mcp_guard.audit.fileproof import Erasure, FileProof, FileResult
from mcp_guard.audit.schema import LogFile, log_files, read_only


class Outcome(IntEnum):
    """What verification found; the value is the exit code."""

    OK = 0
    TAMPERED = 1
    UNVERIFIABLE = 2
    UNREADABLE = 3


_WORST = (Outcome.TAMPERED, Outcome.UNREADABLE, Outcome.UNVERIFIABLE)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    outcome: Outcome
    file: str
    """slot/month.db, or the slot."""
    record: int | None
    """Index of the first record concerned, where there is one."""
    text: str

    def __str__(self) -> str:
        place = self.file if self.record is None else f"{self.file}: record {self.record}"
        return f"{self.outcome.name} {place}: {self.text}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked and what was found."""

    outcome: Outcome
    problems: tuple[Problem, ...]
    files: int
    records: int
    calls: int
    """Records `call.intent`."""
    erased: int
    """Payloads that are gone by a recorded erasure."""
    heads: tuple[Head, ...]
    """Last verified head of each file; worth keeping outside."""
    dropped: int = 0
    """Records that were not written although their call went on. There is no code path that does it."""

    @property
    def exit_code(self) -> int:
        """0 ok, 1 tampered, 2 unverifiable, 3 cannot read."""
        return int(self.outcome)


def verify(folder: Path, vkeys: Iterable[str], *, trusted: Iterable[Head] | None = None) -> Report:
    """Check every record, column, payload, tile, index and checkpoint of every slot.

    Args:
        folder: The audit folder.
        vkeys: Public keys that may have signed.
        trusted: Heads that were seen outside of this folder, e.g. in receipts.
    """
    try:
        files = log_files(folder)
    except OSError:
        files = []
    if not files:
        return _report([Problem(Outcome.UNREADABLE, ".", None, "there is no log to read")], [])
    heads, keys = list(trusted or ()), tuple(vkeys)
    if not keys:
        return _report([Problem(Outcome.UNVERIFIABLE, ".", None, "the key that signed this log is missing")], [])
    problems = _check_slots(files)
    results: list[FileResult] = []
    before: FileResult | None = None
    for file in files:
        result = _check_file(file, keys, heads, problems)
        if result is None:
            before = None
            continue
        same_slot = before is not None and before.file.slot == file.slot
        problems += _check_link(result, before if same_slot else None, is_first=not _has_older(files, file))
        results.append(result)
        before = result
    problems += _check_erasures(results)
    problems += _check_heads(heads, results, complete=len(results) == len(files))
    return _report(problems, results)


def _check_file(
    file: LogFile, vkeys: tuple[str, ...], trusted: list[Head], problems: list[Problem]
) -> FileResult | None:
    try:
        with closing(read_only(file.path)) as db:
            result = FileProof(db, file, vkeys, trusted).run()
    except sqlite3.OperationalError:
        problems.append(Problem(Outcome.UNREADABLE, file.name, None, "the file cannot be opened or read"))
        return None
    except sqlite3.DatabaseError:
        problems.append(Problem(Outcome.TAMPERED, file.name, None, "the file is damaged: SQLite cannot read it"))
        return None
    problems += [Problem(Outcome.TAMPERED, file.name, record, text) for record, text in result.tampered]
    problems += [Problem(Outcome.UNVERIFIABLE, file.name, record, text) for record, text in result.unverifiable]
    return result


def _has_older(files: list[LogFile], file: LogFile) -> bool:
    return any(other.slot == file.slot and other.month < file.month for other in files)


def _check_slots(files: list[LogFile]) -> list[Problem]:
    present = {file.slot for file in files}
    last = max(int(slot) for slot in present)
    return [
        Problem(Outcome.TAMPERED, f"{number:02d}", None, "the slot is missing, although later ones are there")
        for number in range(last)
        if f"{number:02d}" not in present
    ]


def _check_link(result: FileResult, before: FileResult | None, *, is_first: bool) -> list[Problem]:
    """Each file names the final head of the one before it."""
    if result.records == 0 or result.tampered:
        return []
    previous = result.previous
    if is_first:
        wrong = previous is not None
        text = "the file before this one is missing"
    elif before is None:
        return []
    else:
        wrong = previous != (f"{before.file.month}.db", before.head.size, before.head.root_b64)
        text = "the file before this one is not the one that it continues"
    return [Problem(Outcome.TAMPERED, result.file.name, 0, text)] if wrong else []


def _check_erasures(results: list[FileResult]) -> list[Problem]:
    declared = {erasure for result in results for erasure in result.declared}
    return [
        Problem(Outcome.TAMPERED, result.file.name, missing.index, f"payload {missing.part!r} is gone, undeclared")
        for result in results
        for missing in result.missing
        if missing not in declared
    ]


def _check_heads(heads: list[Head], results: list[FileResult], *, complete: bool) -> list[Problem]:
    problems = []
    by_origin = {result.head.origin: result for result in results}
    for head in heads:
        result = by_origin.get(head.origin)
        if result is None:
            if complete:
                problems.append(Problem(Outcome.TAMPERED, head.origin, None, "a log seen earlier is not here"))
        elif head.size > result.head.size:
            text = f"truncated or rolled back: size {head.size} was seen, only {result.head.size} records are signed"
            problems.append(Problem(Outcome.TAMPERED, result.file.name, result.head.size, text))
    return problems


def _report(problems: list[Problem], results: list[FileResult]) -> Report:
    found = {problem.outcome for problem in problems}
    outcome = next((worst for worst in _WORST if worst in found), Outcome.OK)
    missing: set[Erasure] = {erasure for result in results for erasure in result.missing}
    declared = {erasure for result in results for erasure in result.declared}
    return Report(
        outcome=outcome,
        problems=tuple(sorted(problems, key=lambda p: _WORST.index(p.outcome))),
        files=len(results),
        records=sum(result.records for result in results),
        calls=sum(result.calls for result in results),
        erased=len(missing & declared),
        heads=tuple(result.head for result in results),
    )
