"""`VaultStore`: placeholder -> value, per scope, sealed at rest (decisions.md D24, D7)."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from dataclasses import replace

import aiosqlite

from mcp_guard.errors import MaskingError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import VaultEntry
from mcp_guard.storage.sqlite import Database

MAX_ENTRIES = 100_000
"""Placeholders per scope. A full vault refuses new ones, so the answer that needs them is withheld."""
_KEY = "vault"
_FETCH = "SELECT token, sealed FROM vault_entry WHERE scope = ? AND token IN (SELECT value FROM json_each(?))"


class VaultStore:
    """Implements `mcp_guard.ports.Vault` on one database. Values, types and servers are only stored encrypted."""

    def __init__(self, database: Database, keys: KeyStore, *, max_entries: int = MAX_ENTRIES) -> None:
        self._database = database
        self._keys = keys
        self._max = max_entries

    async def get(self, scope: str, tokens: Iterable[str]) -> dict[str, VaultEntry]:
        """Entries of this scope by token; unknown tokens are absent.

        Raises:
            StoreUnavailableError: the store failed, or a row was altered.
        """
        async with self._database.read() as db:
            return await self._fetch(db, scope, sorted(set(tokens)))

    async def put(self, entries: Iterable[VaultEntry]) -> None:
        """Store all or nothing; idempotent. A known value keeps its first server and gains the others.

        Raises:
            MaskingError: a token stands for another value already, or the scope is full.
            StoreUnavailableError: the store failed.
        """
        by_scope: dict[str, dict[str, VaultEntry]] = {}
        for entry in entries:
            wanted = by_scope.setdefault(entry.scope, {})
            wanted[entry.token] = _joined(wanted.get(entry.token, entry), entry)
        if not by_scope:
            return
        async with self._database.write() as db:
            for scope, wanted in by_scope.items():
                await self._put_scope(db, scope, wanted)

    async def _put_scope(self, db: aiosqlite.Connection, scope: str, wanted: dict[str, VaultEntry]) -> None:
        stored = await self._fetch(db, scope, sorted(wanted))
        joined = {token: _joined(entry, wanted[token]) for token, entry in stored.items()}
        wider = [entry for token, entry in joined.items() if entry != stored[token]]
        if wider:
            await db.executemany(
                "UPDATE vault_entry SET sealed = ? WHERE scope = ? AND token = ?",
                [(self._seal(h, entry), h, entry.token) for entry in wider for h in self._scopes(scope)],
            )
        new = [entry for token, entry in wanted.items() if token not in stored]
        if not new:
            return
        current = self._scopes(scope)[0]
        rows = list(await db.execute_fetchall("SELECT count(*) FROM vault_entry WHERE scope = ?", (current,)))
        if rows[0][0] + len(new) > self._max:
            raise MaskingError(
                "the vault is full for this principal; the answer is withheld",
                hint="set masking.results.pii to remove, or start with a new data folder",
            )
        await db.executemany(
            "INSERT INTO vault_entry(scope, token, sealed) VALUES (?, ?, ?)",
            [(current, entry.token, self._seal(current, entry)) for entry in new],
        )

    async def _fetch(self, db: aiosqlite.Connection, scope: str, tokens: list[str]) -> dict[str, VaultEntry]:
        found: dict[str, VaultEntry] = {}
        for hashed in self._scopes(scope):
            for token, sealed in await db.execute_fetchall(_FETCH, (hashed, json.dumps(tokens))):
                found.setdefault(token, self._open(hashed, scope, token, sealed))
        return found

    def _scopes(self, scope: str) -> list[str]:
        """Keyed hashes of the scope under the current key and the older ones."""
        message = b"mcp-guard/vault-scope/v1\0" + scope.encode()
        return [hmac.digest(key, message, "sha256").hex() for key in self._keys.ring(_KEY)]

    def _seal(self, hashed: str, entry: VaultEntry) -> bytes:
        plain = json.dumps([entry.type, entry.value, entry.server, entry.kind, sorted(entry.also)])
        return self._keys.seal(_KEY, plain.encode(), bound_to=hashed + entry.token)

    def _open(self, hashed: str, scope: str, token: str, sealed: bytes) -> VaultEntry:
        # Rows of older versions have four members.
        kind, value, server, json_type, *more = json.loads(self._keys.open(_KEY, sealed, bound_to=hashed + token))
        also = frozenset[str](more[0] if more else ())
        return VaultEntry(scope=scope, token=token, type=kind, value=value, server=server, kind=json_type, also=also)


def _joined(known: VaultEntry, wanted: VaultEntry) -> VaultEntry:
    """The known entry, with the servers of both.

    Raises:
        MaskingError: they are two values.
    """
    if (known.type, known.value) != (wanted.type, wanted.value):
        raise MaskingError("two values share one placeholder; the answer is withheld")
    return replace(known, also=(known.also | wanted.servers) - {known.server})
