"""Plan what `unwrap` puts back: the very bytes where nobody touched the file since, else the wrapped entries alone.

Needs the journal and the old content only; guard.yaml may be gone or broken.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp_guard.config.hostfile import at, parse_host_file, read_bytes
from mcp_guard.config.problems import spell
from mcp_guard.errors import ConfigError
from mcp_guard.wrap.apply import Write, locked, write_all
from mcp_guard.wrap.command import is_guard
from mcp_guard.wrap.edit import Change, apply_changes
from mcp_guard.wrap.intent import clear_leftovers
from mcp_guard.wrap.journal import FILE, ChangeRecord, FileRecord, Journal, digest_of, digest_of_values, read_journal
from mcp_guard.wrap.jsonc import Place
from mcp_guard.wrap.locate import HostFile


@dataclass(frozen=True, slots=True, repr=False)
class Restored:
    """What becomes of one file. May hold secrets: shows its path only."""

    file: HostFile
    before: bytes
    after: bytes
    exact: bool
    """Whether it is byte for byte as before it was wrapped."""
    records: tuple[FileRecord, ...]

    def __repr__(self) -> str:
        return f"Restored({self.file.path})"


@dataclass(slots=True, repr=False)
class UnwrapPlan:
    """All that `unwrap` would do."""

    journal: Journal
    raw: bytes | None
    files: list[Restored] = field(default_factory=list)
    settled: list[FileRecord] = field(default_factory=list)
    """Records of files that were put back by other means."""
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"UnwrapPlan({self.files})"


def plan_unwrap(
    files: Sequence[HostFile] | None, folder: Path, *, named: bool, config: str | None = None
) -> UnwrapPlan:
    """Plan to put back what was wrapped.

    Args:
        files: Those to look at; None: all in the journal.
        folder: Where the journal is.
        named: Whether the user named one file: then a file that cannot be used is an error and not a note.
        config: Only what was wrapped with this guard.yaml.

    Raises:
        ConfigError: the journal cannot be read, or the named file cannot be used.
    """
    journal, raw = read_journal(folder)
    plan = UnwrapPlan(journal, raw)
    for file in _wanted(files, journal):
        records = [record for record in journal.of(file.path) if config in (None, record.config)]
        if not records:
            continue
        try:
            _plan_file(file, records, folder, plan)
        except ConfigError as error:
            if named:
                raise
            plan.notes.append(f"{file.path}: {error.message}; it was left as it is")
    return plan


def _wanted(files: Sequence[HostFile] | None, journal: Journal) -> list[HostFile]:
    """The files of the journal that are meant, under the paths that it has for them."""
    wrapped = {record.path: HostFile(record.host, Path(record.path)) for record in journal.files}
    if files is None:
        return [*wrapped.values()]
    meant = {os.path.realpath(file.path) for file in files}
    return [file for path, file in wrapped.items() if os.path.realpath(path) in meant]


def _plan_file(file: HostFile, records: list[FileRecord], folder: Path, plan: UnwrapPlan) -> None:
    if not file.path.exists():
        plan.notes.append(f"{file.path} is gone; its old content is in {folder / records[0].backup}")
        return
    before = content = read_bytes(file.path)
    exact = True
    for record in reversed(records):
        if digest_of(content) == record.before:
            continue  # put back by other means, or never written
        old = _old(record, folder)
        if digest_of(content) == record.after:
            content = old
        else:
            exact = False
            content = _merged(file, content, old, record, plan.notes)
    if content == before:
        plan.settled += records
    else:
        plan.files.append(Restored(file, before, content, exact, tuple(records)))


def _old(record: FileRecord, folder: Path) -> bytes:
    try:
        old = (folder / record.backup).read_bytes()
    except OSError:
        old = b""
    if digest_of(old) != record.before:
        raise ConfigError(
            f"the old content of {record.path} is gone or was changed",
            hint="write the servers into the file by hand; guard.yaml says how they are started",
        )
    return old


def _merged(file: HostFile, content: bytes, old: bytes, record: FileRecord, notes: list[str]) -> bytes:
    """The file as it is now, with what was wrapped as it was."""
    now = parse_host_file(content, file.path)
    then = parse_host_file(old, file.path)
    changes = [
        change
        for made in record.changes
        if (change := _back(made, now, then, lambda place, what: notes.append(f"{file.title}: {spell(place)} {what}")))
    ]
    return apply_changes(file, content, changes, old) if changes else content


def _back(made: ChangeRecord, now: dict[str, Any], then: dict[str, Any], note: Any) -> Change | None:
    place: Place = made.place
    here, earlier = at(now, place), at(then, place)
    if not isinstance(here, dict):
        note(place[-1:], "is gone since; it stays so")
        return None
    entry = here.get(made.changed[0]) if "command" not in made.changed else here
    if not isinstance(entry, dict) or not is_guard(entry):
        note(place[-1:], "does not start the guard any more; it stays as it is")
        return None
    if digest_of_values({key: here.get(key) for key in made.changed}) != made.digest:
        note(place[-1:], "was edited since it was wrapped: its old command, arguments and environment are put back")
    # What somebody wrote there since, under a name that was free, is his.
    ours = {*made.changed, *(key for key in made.removed if key not in here)}
    back = {key: value for key, value in earlier.items() if key in ours}
    return Change(place, back, frozenset(made.changed) - set(back), source=place)


def carry_back(plan: UnwrapPlan, folder: Path) -> None:
    """Put back what was planned. The old content of a file that is exactly as before is removed.

    Raises:
        ConfigError: a file changed since the plan was made, or cannot be written. Nothing was changed then.
    """
    done = [*plan.settled, *(record for file in plan.files for record in file.records)]
    if not done:
        return
    with locked(folder):
        clear_leftovers(folder)
        hosts = [Write(file.file.path, file.before, file.after) for file in plan.files]
        write_all([*hosts, Write(folder / FILE, plan.raw, plan.journal.without(done).to_bytes())])
        kept = {record.backup for file in plan.files if not file.exact for record in file.records}
        for record in done:
            if record.backup not in kept:
                with contextlib.suppress(OSError):  # all is put back; what stays here is private
                    (folder / record.backup).unlink()
