"""The keys: whole, readable, and there where stored data needs them (security.md F19)."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from mcp_guard.doctor.finding import Finding, count, find, fine
from mcp_guard.doctor.setup import Setup
from mcp_guard.doctor.store import FILE, peek

_KEY_BYTES: Final = 32
_TABLES: Final = {"approval": "approval", "decision": "decision", "reviewer": "reviewer", "vault": "vault_entry"}
_KEY: Final = re.compile(r"([a-z]+)\.(\d+)\.key")


def keys(setup: Setup) -> list[Finding]:
    """Whether each key can be read and is whole, and whether those are there that stored data needs."""
    data = setup.data_dir
    if data is None or not data.is_dir():
        return []
    folder = data / "keys"
    if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
        return [find("key-unusable", "The folder of keys cannot be read.", path=folder)]
    present, findings = _read_keys(folder)
    needed = _used(data / FILE)
    needed |= {"checkpoint"} if any(data.glob("audit/[0-9][0-9]/*.db")) else set()
    gone = sorted(needed - present)
    if gone:
        named = ", ".join(gone)
        text = f"Keys are missing that stored data needs: {named}."
        findings.append(find("key-missing", text, path=folder))
    return findings or ([fine(count(len(present), "key"))] if present else [])


def _used(path: Path) -> set[str]:
    """Keys under which approvals.db holds something."""
    if not path.exists():
        return set()
    try:
        with closing(peek(path)) as db:
            return {key for key, table in _TABLES.items() if db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()}  # noqa: S608 - constants
    except sqlite3.Error:
        return set()  # `store` says what is wrong with it


def _read_keys(folder: Path) -> tuple[set[str], list[Finding]]:
    present: set[str] = set()
    findings = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = _KEY.fullmatch(path.name)
        if name is None:
            continue
        present.add(name[1])
        try:
            whole = len(path.read_bytes()) == _KEY_BYTES
        except OSError:
            whole = False
        if not whole:
            findings.append(find("key-unusable", f"The key file {path.name} is damaged or cannot be read.", path=path))
    return present, findings


def ring(folder: Path, name: str) -> list[bytes]:
    """All keys of a name, in no order.

    Raises:
        OSError: one cannot be read.
    """
    return [path.read_bytes() for path in folder.glob(f"{name}.*.key")]
