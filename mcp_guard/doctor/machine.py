"""The machine: Python and SQLite, the clock, and packages that a setting needs."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from typing import Final

from mcp_guard.audit.query import tail
from mcp_guard.clock import iso
from mcp_guard.config.references import Resolver, resolve_notify
from mcp_guard.doctor.finding import Finding, find, fine
from mcp_guard.doctor.setup import Setup
from mcp_guard.doctor.store import FILE, peek

OLDEST_SQLITE: Final = (3, 37, 0)
"""First version with STRICT tables."""

MENDED_SQLITE: Final = (3, 51, 3)
"""First version without the bug that loses a write-ahead log which two processes reset at once (decisions.md D7)."""

BEHIND_NS: Final = 5_000_000_000
"""Below this, two clocks of one machine merely disagree."""

_RECENT: Final = 20


def versions(_setup: Setup) -> list[Finding]:
    """Python and SQLite."""
    return [fine(f"Python {sys.version_info.major}.{sys.version_info.minor}"), *sqlite(sqlite3.sqlite_version_info)]


def sqlite(version: tuple[int, ...]) -> list[Finding]:
    """What a version of SQLite means."""
    told = ".".join(str(part) for part in version[:3])
    if version < OLDEST_SQLITE:
        return [find("sqlite-too-old", f"SQLite {told} is too old: the guard's tables need 3.37.")]
    if version < MENDED_SQLITE:
        text = f"SQLite {told} has a bug in its write-ahead log; the guard's own lock keeps it from happening."
        return [find("sqlite-old", text)]
    return [fine(f"SQLite {told}")]


def clock(setup: Setup) -> list[Finding]:
    """Whether the wall clock is behind what was written earlier (security.md F14)."""
    latest = max(_store_clock(setup), _record_clock(setup))
    behind = latest - setup.machine.now_ns
    if behind <= BEHIND_NS:
        return [fine("the clock is not behind")] if latest else []
    text = f"The clock is {span(behind)} behind: something was written at {iso(latest)}."
    return [find("clock-behind", f"{text} Until then, no open request expires by the wall clock.")]


def span(ns: int) -> str:
    """`40 s`, `3 h`, `12 days`."""
    seconds = ns / 1e9
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _store_clock(setup: Setup) -> int:
    path = None if setup.data_dir is None else setup.data_dir / FILE
    if path is None or not path.exists():
        return 0
    try:
        with closing(peek(path)) as db:
            return int(db.execute("SELECT high_ns FROM approval_clock").fetchone()[0])
    except (sqlite3.Error, TypeError, ValueError):
        return 0  # another check says what is wrong with the file


def _record_clock(setup: Setup) -> int:
    folder = None if setup.data_dir is None else setup.data_dir / "audit"
    if folder is None or not folder.is_dir():
        return 0
    try:
        return max((entry.ts_us * 1000 for entry in tail(folder, _RECENT)), default=0)
    except (OSError, sqlite3.Error, ValueError):
        return 0  # another check says what is wrong with the record


def notifications(setup: Setup) -> list[Finding]:
    """Whether every place of `approvals.notify` can be told that a call waits."""
    if setup.loaded is None or not setup.loaded.config.approvals.notify:
        return []
    from mcp_guard.approval.channels.notify import problems

    approvals = setup.loaded.config.approvals
    resolver = Resolver(setup.machine.env, setup.loaded.folder)
    targets = resolve_notify(approvals.notify, resolver)
    missing = [f"approvals.notify: {problem.what}" for problem in (*resolver.warnings, *resolver.findings)]
    found = [*missing, *problems(targets)]
    if not found:
        return [fine("notifications can be shown")]
    code = "notify-missing" if "notify" in approvals.model_fields_set else "notify-off"
    return [find(code, f"Waiting calls are not announced: {text}.") for text in found]
