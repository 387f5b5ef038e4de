"""The record: does it hold, do running guards write to files that are still there, are slots left."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_guard.audit.checkpoint import Signer
from mcp_guard.audit.schema import log_files
from mcp_guard.audit.slots import read_install_name
from mcp_guard.audit.verify import Outcome, Report, verify
from mcp_guard.doctor.data import size
from mcp_guard.doctor.finding import Finding, count, find, fine
from mcp_guard.doctor.keys import ring
from mcp_guard.doctor.setup import Setup
from mcp_guard.errors import GuardError

LONG_BYTES: Final = 64 * 1024 * 1024
"""A record above this is not verified here; it would take longer than a person waits."""

MANY_SLOTS: Final = 50
"""There are 100; a process without one does not start."""

_SHOWN: Final = 3
_MAX_LINKS: Final = 20_000
_PROC: Final = Path("/proc")
_GONE: Final = " (deleted)"
_CODES: Final = {
    Outcome.TAMPERED: "record-tampered",
    Outcome.UNVERIFIABLE: "record-unverifiable",
    Outcome.UNREADABLE: "record-unreadable",
}


def holds(setup: Setup) -> list[Finding]:
    """Whether every record fits its signed checkpoints."""
    folder = _folder(setup)
    if folder is None:
        return []
    try:
        files = log_files(folder)
        total = sum(file.path.stat().st_size for file in files)
    except OSError:
        return [find("record-unreadable", "The folder of the record cannot be read.")]
    if not files:
        return [fine("no record yet")]
    if total > LONG_BYTES:
        return [find("record-long", f"The record is not verified here: it has {size(total)}.")]
    return judge(verify(folder, _vkeys(folder)), folder)


def _vkeys(folder: Path) -> tuple[str, ...]:
    """Public keys, from the files as they are: a `KeyStore` would make keys, and folders private."""
    try:
        found = [Ed25519PrivateKey.from_private_bytes(key) for key in ring(folder.parent / "keys", "checkpoint")]
        return Signer(read_install_name(folder), found).vkeys
    except (OSError, ValueError, GuardError):
        return ()  # then nothing can be verified, which the report says


def judge(report: Report, folder: Path) -> list[Finding]:
    """What a verification means."""
    if report.outcome is Outcome.OK:
        return [fine(f"{count(report.records, 'record')} in {count(report.files, 'file')} hold")]
    lines = [str(problem) for problem in report.problems[:_SHOWN]]
    lines += [f"{len(report.problems) - _SHOWN} more"] if len(report.problems) > _SHOWN else []
    said = {
        Outcome.TAMPERED: "The record was changed after it was written, or is damaged.",
        Outcome.UNVERIFIABLE: "The record cannot be verified as a whole.",
        Outcome.UNREADABLE: "The record cannot be read as a whole.",
    }[report.outcome]
    return [find(_CODES[report.outcome], said, detail=lines, path=folder)]


def slots(setup: Setup) -> list[Finding]:
    """How many writers the record has had at the same time; every one keeps a folder."""
    folder = _folder(setup)
    if folder is None:
        return []
    try:
        used = len({file.slot for file in log_files(folder)})
    except OSError:
        return []  # `holds` says so
    if used < MANY_SLOTS:
        return []
    return [find("slots-many", f"{used} guards have written at the same time; 100 is the limit.")]


def unlinked(setup: Setup) -> list[Finding]:
    """Files that a running guard writes to although they were removed: what it writes there is lost (S36)."""
    if setup.data_dir is None or sys.platform != "linux":
        return []
    found = {(pid, path.relative_to(setup.data_dir)) for pid, path in _deleted(setup.data_dir)}
    return [
        find("record-unlinked", f"Process {pid} writes to {path}, which was removed from the data folder.")
        for pid, path in sorted(found)
    ]


def _deleted(folder: Path) -> Iterator[tuple[int, Path]]:
    for number, link in enumerate(_PROC.glob("[0-9]*/fd/*")):
        if number > _MAX_LINKS:
            return
        try:
            target = os.readlink(link)  # noqa: PTH115 - text with a mark at its end, no path
        except OSError:
            continue  # of somebody else, or closed meanwhile
        path = Path(target.removesuffix(_GONE))
        if target.endswith(_GONE) and path.is_relative_to(folder) and path.suffix == ".db":
            yield int(link.parts[2]), path


def _folder(setup: Setup) -> Path | None:
    folder = None if setup.data_dir is None else setup.data_dir / "audit"
    return folder if folder is not None and folder.exists() else None
