"""The data folder: can it be used, is there room, how large has it become."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Final

from mcp_guard.audit.schema import month_of
from mcp_guard.doctor.finding import Finding, find, fine, told
from mcp_guard.doctor.setup import Setup

DISK_LOW: Final = 512 * 1024 * 1024
DISK_FULL: Final = 16 * 1024 * 1024
LARGE: Final = 2 * 1024 * 1024 * 1024
"""Bytes."""

_MAX_FILES: Final = 20_000


def usable(setup: Setup) -> list[Finding]:
    """Whether the data folder can be written, and how much room and how many bytes there are."""
    if setup.loaded is None:
        return []
    folder = setup.loaded.data_dir
    where = told(folder, setup.machine.home)
    if not os.path.lexists(folder):
        above = next(p for p in folder.parents if os.path.lexists(p))
        if not (above.is_dir() and os.access(above, os.W_OK)):
            return [find("data-unusable", f"The data folder {where} cannot be made.", path=folder)]
        return [fine(f"{where} is made at the first start"), *_disk(above)]
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return [find("data-unusable", f"The data folder {where} cannot be written.", path=folder)]
    return _disk(folder)


def _disk(folder: Path) -> list[Finding]:
    return room(shutil.disk_usage(folder).free, folder)


def room(free: int, folder: Path) -> list[Finding]:
    """What so many free bytes mean: without a record nothing is forwarded (security.md F10)."""
    said = f"{size(free)} free on disk"
    if free < DISK_FULL:
        text = f"The disk is full ({said}): calls are refused, since they cannot be recorded."
        return [find("disk-full", text, path=folder)]
    if free < DISK_LOW:
        return [find("disk-low", f"The disk is nearly full: {said}.", path=folder)]
    return [fine(said)]


def sizes(setup: Setup) -> list[Finding]:
    """How large the data folder is, and its largest parts."""
    folder = setup.data_dir
    if folder is None:
        return []
    total, record = _bytes_below(folder), _bytes_below(folder / "audit")
    parts = f"record {size(record)}"
    growth = _a_day(folder / "audit", setup.machine.now_ns)
    if growth:
        parts += f", growing by {size(growth)} a day"
    if total > LARGE:
        text = f"The data folder holds {size(total)} ({parts})."
        return [find("data-large", text, path=folder / "audit")]
    return [fine(f"{size(total)} of data ({parts})")]


def _a_day(record: Path, now_ns: int) -> int:
    """Bytes a day by which the record has grown this month."""
    found = sum(file.stat().st_size for file in record.glob(f"[0-9][0-9]/{month_of(now_ns)}.db"))
    return found // time.gmtime(now_ns // 1_000_000_000).tm_mday


def _bytes_below(folder: Path) -> int:
    found = 0
    for number, file in enumerate(folder.rglob("*")):
        if number > _MAX_FILES:
            break
        try:
            found += file.lstat().st_size if file.is_file() else 0
        except OSError:
            continue  # gone meanwhile
    return found


def size(number: int) -> str:
    """`312 B`, `1.4 MB`."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004 - decimal units
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"  # noqa: PLR2004 - as above
        value /= 1000
    return f"{value:.1f} TB"
