"""The vault on a real database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mcp_guard.errors import MaskingError, StoreUnavailableError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import VaultEntry
from mcp_guard.storage.sqlite import Database
from mcp_guard.vault.store import VaultStore

ENTRY = VaultEntry("scope-of-somebody", "EMAIL_k3f5q2m7xa", "EMAIL", "jo.planted@x.com", "crm")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "approvals.db", "mcp_guard.vault")
    yield opened
    await opened.close()


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


async def test_entry_comes_back_in_its_scope_only(database: Database, keys: KeyStore) -> None:
    """decisions.md D24."""
    vault = VaultStore(database, keys)
    await vault.put([ENTRY, ENTRY])
    await vault.put([ENTRY])
    assert await vault.get(ENTRY.scope, [ENTRY.token, "EMAIL_aaaaaaaaaa"]) == {ENTRY.token: ENTRY}
    assert await vault.get("other", [ENTRY.token]) == {}
    assert await vault.get(ENTRY.scope, []) == {}


async def test_token_of_another_value_is_refused_and_nothing_is_stored(database: Database, keys: KeyStore) -> None:
    """decisions.md D24: collision fails closed."""
    vault = VaultStore(database, keys)
    await vault.put([ENTRY])
    second = replace(ENTRY, token="EMAIL_bbbbbbbbbb")
    with pytest.raises(MaskingError):
        await vault.put([second, replace(ENTRY, value="li@x.com")])
    assert await vault.get(ENTRY.scope, [second.token]) == {}
    with pytest.raises(MaskingError):
        await vault.put([second, replace(second, value="li@x.com")])


async def test_full_scope_refuses_new_entries_and_keeps_the_old(database: Database, keys: KeyStore) -> None:
    """decisions.md D24: a collision fails closed."""
    vault = VaultStore(database, keys, max_entries=1)
    await vault.put([ENTRY])
    await vault.put([ENTRY])
    with pytest.raises(MaskingError, match="full"):
        await vault.put([replace(ENTRY, token="EMAIL_bbbbbbbbbb")])
    assert list(await vault.get(ENTRY.scope, [ENTRY.token])) == [ENTRY.token]


async def test_no_plain_value_is_at_rest(database: Database, keys: KeyStore, tmp_path: Path) -> None:
    """decisions.md D7, security.md S37."""
    await VaultStore(database, keys).put([ENTRY])
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("approvals.db*"))  # noqa: ASYNC240 - reads three small local files once
    assert ENTRY.token.encode() in stored
    for plain in (ENTRY.value, ENTRY.scope):
        assert plain.encode() not in stored


async def test_rotated_key_still_opens_and_altered_row_is_refused(database: Database, keys: KeyStore) -> None:
    """Rotation is a feature of the key store; AES-GCM binds a row to scope and token."""
    vault = VaultStore(database, keys)
    await vault.put([ENTRY])
    keys.rotate("vault")
    assert await vault.get(ENTRY.scope, [ENTRY.token]) == {ENTRY.token: ENTRY}
    async with database.write() as db:
        await db.execute("UPDATE vault_entry SET token = 'EMAIL_cccccccccc'")
    with pytest.raises(StoreUnavailableError):
        await vault.get(ENTRY.scope, ["EMAIL_cccccccccc"])


async def test_a_value_keeps_its_first_server_and_gains_the_others(database: Database, keys: KeyStore) -> None:
    """decisions.md D33: back to each server that it came from; D24: and to nobody else's."""
    vault = VaultStore(database, keys)
    await vault.put([ENTRY, replace(ENTRY, server="git")])
    keys.rotate("vault")
    await vault.put([replace(ENTRY, server="files")])
    await vault.put([replace(ENTRY, server="crm")])
    await vault.put([replace(ENTRY, scope="other", server="web")])
    known = (await vault.get(ENTRY.scope, [ENTRY.token]))[ENTRY.token]
    assert known == replace(ENTRY, also=frozenset({"git", "files"}))
    assert known.servers == {"crm", "git", "files"}
    assert (await vault.get("other", [ENTRY.token]))[ENTRY.token].servers == {"web"}


async def test_another_value_gains_a_known_one_no_server(database: Database, keys: KeyStore) -> None:
    """decisions.md D24: a collision fails closed, all or nothing."""
    vault = VaultStore(database, keys)
    second = replace(ENTRY, token="EMAIL_bbbbbbbbbb", value="li@x.com")
    await vault.put([ENTRY, second])
    with pytest.raises(MaskingError):
        await vault.put([replace(ENTRY, server="git"), replace(second, value="ann@x.com")])
    assert (await vault.get(ENTRY.scope, [ENTRY.token]))[ENTRY.token].servers == {"crm"}


async def test_a_row_of_an_older_version_is_read_and_widened(database: Database, keys: KeyStore) -> None:
    """docs/decisions.md D24: placeholders are durable, also over an update of the guard."""
    vault = VaultStore(database, keys)
    await vault.put([ENTRY])
    async with database.write() as db:
        ((scope,),) = await db.execute_fetchall("SELECT scope FROM vault_entry")
        plain = json.dumps([ENTRY.type, ENTRY.value, ENTRY.server, ENTRY.kind]).encode()
        sealed = keys.seal("vault", plain, bound_to=scope + ENTRY.token)
        await db.execute("UPDATE vault_entry SET sealed = ?", (sealed,))
    assert await vault.get(ENTRY.scope, [ENTRY.token]) == {ENTRY.token: ENTRY}
    await vault.put([replace(ENTRY, server="git")])
    assert (await vault.get(ENTRY.scope, [ENTRY.token]))[ENTRY.token].servers == {"crm", "git"}
