"""Who is signed in at the page: one-time links and sessions, hashed and authenticated (decisions.md D17, D25).

A row counts only when it was written with the key of this installation, is not over, and, for a reviewer, as long as
that very registration exists. So a row written by hand into the database lets nobody in.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Literal

from mcp_guard.approval.consolelog import How, note
from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.approval.reviewers import Reviewers
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.approval.transaction import fetch
from mcp_guard.canon import keyed_digest
from mcp_guard.errors import NotEligibleError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Assurance
from mcp_guard.storage.sqlite import Database

LINK_S = 300
"""Seconds that a one-time link can be used."""
SESSION_S = 12 * 3600
"""Seconds that a session lasts."""
_KEY = "console"
_NS = 1_000_000_000
_STAMP_CHARS = 32
_Kind = Literal["link", "session"]
_INSERT = """INSERT INTO console_pass(
        hash, kind, name, assurance, principal_key, credential, created_ns, expires_ns, mac)
    VALUES (:hash, :kind, :name, :assurance, :principal_key, :credential, :created_ns, :expires_ns, :mac)"""


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is signed in. `id` is the hash of the secret that the browser holds."""

    id: str
    reviewer: Reviewer
    expires_ns: int


class SignIn:
    """Links and sessions of one store."""

    def __init__(self, database: Database, store: ApprovalStore, keys: KeyStore) -> None:
        self._db = database
        self._store = store
        self._keys = keys
        self._reviewers = Reviewers(store, keys)

    async def link(self, reviewer: Reviewer) -> str:
        """Make a one-time code for this person; it can be used within 5 minutes.

        Raises:
            NotEligibleError: a reviewer who is not registered any more.
        """
        return await self._issue("link", reviewer, LINK_S)

    async def use(self, code: str) -> str | None:
        """Turn a code into a session; returns its secret, or None when the code is used up, over or nobody's."""
        found = await self._find("link", code)
        if found is None or not await self._take(found.id):
            return None
        return await self._issue("session", found.reviewer, SESSION_S, "link")

    async def open(self, reviewer: Reviewer) -> str:
        """Start a session for somebody who gave a token; returns its secret.

        Raises:
            NotEligibleError: a reviewer who is not registered any more.
        """
        return await self._issue("session", reviewer, SESSION_S, "token")

    async def refused(self, how: How) -> None:
        """Note for the audit log that somebody was not let in."""
        async with self._db.write() as db:
            await note(db, self._keys, self._store.now_ns(), "refused", how)

    async def session(self, secret: str) -> Session | None:
        """The session with this secret, if it is still good."""
        return await self._find("session", secret)

    async def close(self, session: Session) -> None:
        """Sign out."""
        reviewer = session.reviewer
        async with self._db.write() as db:
            async with db.execute("DELETE FROM console_pass WHERE hash = ?", (session.id,)) as cursor:
                gone = cursor.rowcount == 1
            if gone:
                at_ns, who = self._store.now_ns(), {"name": reviewer.name, "session": session.id}
                await note(db, self._keys, at_ns, "signed_out", "session", assurance=reviewer.assurance, **who)

    def stamp(self, session: Session, *said: str) -> str:
        """A mark that only this program can make for this session: form tokens, and what a person has seen."""
        return keyed_digest(self._keys.secret(_KEY), "console-stamp", [session.id, *said])[:_STAMP_CHARS]

    def stamped(self, session: Session, mark: str, *said: str) -> bool:
        """Whether `mark` is the stamp of this, in constant time."""
        return hmac.compare_digest(mark.encode(), self.stamp(session, *said).encode())

    async def _issue(self, kind: _Kind, reviewer: Reviewer, life_s: int, how: How | None = None) -> str:
        """Keep a new secret. `how` somebody signed in by it goes into the audit log."""
        credential = await self._credential(reviewer)
        secret = secrets.token_urlsafe(32)
        now = self._store.now_ns()
        row: dict[str, str | int] = {
            "hash": _hash(kind, secret),
            "kind": kind,
            "name": reviewer.name,
            "assurance": int(reviewer.assurance),
            "principal_key": reviewer.principal_key or "",
            "credential": credential,
            "created_ns": now,
            "expires_ns": now + life_s * _NS,
        }
        row["mac"] = _mac(self._keys.secret(_KEY), row)
        async with self._db.write() as db:
            await db.execute("DELETE FROM console_pass WHERE expires_ns <= ?", (now,))
            await db.execute(_INSERT, row)
            if how is not None:
                who = {"name": reviewer.name, "session": str(row["hash"])}
                await note(db, self._keys, now, "signed_in", how, assurance=reviewer.assurance, **who)
        return secret

    async def _find(self, kind: _Kind, secret: str) -> Session | None:
        sql = "SELECT console_pass.*, high_ns FROM console_pass, approval_clock WHERE hash = ? AND kind = ?"
        async with self._db.read() as db:
            rows = await fetch(db, sql, (_hash(kind, secret), kind))
        if not rows or not self._own(rows[0]):
            return None
        row = rows[0]
        # The store's clock never runs backwards, so setting the clock back revives nothing.
        if row["expires_ns"] <= self._store.now_ns(row["high_ns"]):
            return None
        reviewer = Reviewer(row["name"], Assurance(row["assurance"]), "console", row["principal_key"] or None)
        try:
            current = await self._credential(reviewer)
        except NotEligibleError:
            return None
        return Session(row["hash"], reviewer, row["expires_ns"]) if current == row["credential"] else None

    async def _take(self, id_: str) -> bool:
        """Remove a row; False when somebody else did."""
        async with self._db.write() as db, db.execute("DELETE FROM console_pass WHERE hash = ?", (id_,)) as cursor:
            return cursor.rowcount == 1

    async def _credential(self, reviewer: Reviewer) -> str:
        """What the sign-in hangs on: for a reviewer this registration, for the OS user nothing."""
        if reviewer.assurance < Assurance.A2:
            return ""
        for row in await self._store.reviewers():
            if row.name == reviewer.name and self._reviewers.own(row):
                return row.mac
        raise NotEligibleError("this reviewer is not registered here any more")

    def _own(self, row: dict[str, Any]) -> bool:
        macs = (_mac(key, row) for key in self._keys.ring(_KEY))
        return any(hmac.compare_digest(mac.encode(), str(row["mac"]).encode()) for mac in macs)


def _mac(key: bytes, row: dict[str, Any]) -> str:
    columns = ("hash", "kind", "name", "assurance", "principal_key", "credential", "created_ns", "expires_ns")
    return keyed_digest(key, "console-pass", [row[column] for column in columns])


def _hash(kind: _Kind, secret: str) -> str:
    # 256 random bits cannot be guessed, so one SHA-256 is enough.
    return hashlib.sha256(f"mcp-guard/console-{kind}\0{secret}".encode()).hexdigest()
