"""Who signed in at the page, was refused, signed out: kept until a guard has put it into the audit log (D26).

The process that serves the page may be no guard, so it never opens the log. Rows are authenticated: of one that was
written by hand nothing is repeated.
"""

from __future__ import annotations

import hmac
from typing import Any, Literal

import aiosqlite
import anyio

from mcp_guard.approval.store import ApprovalStore
from mcp_guard.approval.transaction import fetch
from mcp_guard.canon import keyed_digest
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Assurance, JsonDict, Record
from mcp_guard.ports import AuditTrail

What = Literal["signed_in", "refused", "signed_out"]
How = Literal["link", "token", "session"]
_KEY = "console"
_MAX_WAITING = 1_000
"""Rows that wait for a guard. Beyond it, who is refused leaves none: nobody fills the disk by guessing."""
_SESSION_CHARS = 16
_COLUMNS = ("at_ns", "what", "how", "name", "assurance", "session")
_INSERT = """INSERT INTO console_event(at_ns, what, how, name, assurance, session, mac)
    VALUES (:at_ns, :what, :how, :name, :assurance, :session, :mac)"""


async def note(
    db: aiosqlite.Connection,
    keys: KeyStore,
    at_ns: int,
    what: What,
    how: How,
    *,
    name: str = "",
    assurance: Assurance | None = None,
    session: str = "",
) -> None:
    """Keep what happened, in the transaction in which it does. `session` is the hash of a session's secret."""
    if what == "refused" and (await fetch(db, "SELECT count(*) AS n FROM console_event"))[0]["n"] >= _MAX_WAITING:
        return
    row: dict[str, str | int] = {
        "at_ns": at_ns,
        "what": what,
        "how": how,
        "name": name,
        "assurance": "" if assurance is None else assurance.name,
        "session": session[:_SESSION_CHARS],
    }
    row["mac"] = _mac(keys.secret(_KEY), row)
    await db.execute(_INSERT, row)


class ConsoleLog:
    """Appends what was noted, by whatever process."""

    def __init__(self, store: ApprovalStore, audit: AuditTrail, keys: KeyStore) -> None:
        self._store = store
        self._audit = audit
        self._keys = keys

    async def flush(self) -> None:
        """Append and forget. The caller sees to it that no other guard does it at the same time.

        Raises:
            AuditUnavailableError, StoreUnavailableError: it stays to be appended.
        """
        for row in await self._store.console_events():
            with anyio.CancelScope(shield=True):  # a guard that ends between the two would leave it to be told twice
                await self._audit.append(self._record(row))
                async with self._store.write() as transaction:
                    await transaction.forget_console_event(row["seq"])

    def _record(self, row: dict[str, Any]) -> Record:
        macs = (_mac(key, row) for key in self._keys.ring(_KEY))
        if not any(hmac.compare_digest(mac.encode(), str(row["mac"]).encode()) for mac in macs):
            return Record("console.unverified")
        fields: JsonDict = {"event": row["seq"], "how": row["how"]}
        if row["name"]:
            fields |= {"reviewer": row["name"], "assurance": row["assurance"], "console_session": row["session"]}
        return Record(f"console.{row['what']}", actor=row["name"], fields=fields, at_ns=row["at_ns"])


def _mac(key: bytes, row: dict[str, Any]) -> str:
    return keyed_digest(key, "console-event", [row[column] for column in _COLUMNS])
