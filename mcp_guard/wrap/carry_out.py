"""Carry out a plan: old content and journal first, then secrets, guard.yaml and the hosts' files; all or nothing."""

from __future__ import annotations

import re
from pathlib import Path

from mcp_guard.wrap.apply import Write, locked, write_all
from mcp_guard.wrap.edit import Change
from mcp_guard.wrap.intent import clear_leftovers, with_intent
from mcp_guard.wrap.journal import (
    FILE,
    ChangeRecord,
    FileRecord,
    Journal,
    digest_of,
    digest_of_values,
    read_journal,
)
from mcp_guard.wrap.plan import FilePlan, WrapPlan


def carry_out(plan: WrapPlan, folder: Path) -> None:
    """Make the changes of a plan.

    Args:
        plan: From `plan_wrap`.
        folder: Where the journal and the old content are kept.

    Raises:
        ConfigError: a file changed since the plan was made, or cannot be written. Nothing was changed then.
    """
    with locked(folder):
        clear_leftovers(folder)
        journal, before = read_journal(folder)
        records = [_record(file, plan.options.config, folder, number) for number, file in enumerate(plan.files)]
        backups = [Write(folder / r.backup, None, f.before) for r, f in zip(records, plan.files, strict=True)]
        after = Journal(files=(*journal.files, *records)).to_bytes()
        hosts = [Write(file.file.path, file.before, file.after) for file in plan.files]
        # The journal before the hosts' files: whatever happens in between, `unwrap` knows what to look for.
        writes = [*backups, *plan.servers.writes(), Write(folder / FILE, before, after), *hosts]
        write_all(with_intent(writes, plan.options.config, folder))


def _record(plan: FilePlan, config: Path, folder: Path, number: int) -> FileRecord:
    stem = re.sub(r"[^a-z0-9]+", "-", plan.file.path.name.lower()).strip("-")
    mark = digest_of(str(plan.file.path).encode() + plan.before)[:8]
    backup = f"{plan.file.host}-{stem}-{mark}"
    while (folder / f"{backup}.bak").exists():
        number += 1
        backup = f"{plan.file.host}-{stem}-{mark}-{number}"
    return FileRecord(
        path=str(plan.file.path),
        host=plan.file.host,
        backup=f"{backup}.bak",
        before=digest_of(plan.before),
        after=digest_of(plan.after),
        config=str(config),
        changes=tuple(_change(change) for change in plan.changes),
    )


def _change(change: Change) -> ChangeRecord:
    return ChangeRecord(
        place=change.place,
        changed=tuple(change.values),
        removed=tuple(sorted(change.removed)),
        digest=digest_of_values(dict(change.values)),
    )
