"""Named, rotating keys."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mcp_guard.errors import ConfigError, StoreUnavailableError
from mcp_guard.keystore import KeyStore


def test_a_key_is_made_once_private_and_stays(tmp_path: Path) -> None:
    """decisions.md D32: keys O_EXCL 0600."""
    first = KeyStore(tmp_path / "keys").secret("vault")
    assert KeyStore(tmp_path / "keys").secret("vault") == first
    assert len(first) == 32
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["vault.1.key"]
    if sys.platform != "win32":
        assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "keys" / "vault.1.key").stat().st_mode & 0o777 == 0o600


def test_names_have_different_keys(tmp_path: Path) -> None:
    """One key, one purpose."""
    keys = KeyStore(tmp_path)
    assert keys.secret("vault") != keys.secret("approval")


def test_of_many_that_make_a_key_at_once_all_get_the_same(tmp_path: Path) -> None:
    """Several guard processes start together; nobody reads half a key."""
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: KeyStore(tmp_path).secret("vault"), range(32)))
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["vault.1.key"]


def test_what_is_sealed_opens_and_is_bound(tmp_path: Path) -> None:
    """security.md: stored arguments and results are encrypted, and rows cannot be exchanged."""
    keys = KeyStore(tmp_path)
    sealed = keys.seal("vault", b"canary", bound_to="row 1")
    assert b"canary" not in sealed
    assert keys.open("vault", sealed, bound_to="row 1") == b"canary"
    assert keys.seal("vault", b"canary", bound_to="row 1") != sealed
    for name, data, bound in (("vault", sealed, "row 2"), ("approval", sealed, "row 1"), ("vault", b"", "row 1")):
        with pytest.raises(StoreUnavailableError, match="cannot be opened"):
            keys.open(name, data, bound_to=bound)


def test_no_changed_byte_of_sealed_data_opens(tmp_path: Path) -> None:
    """AES-256-GCM authenticates every byte; key id and nonce are checked too."""
    keys = KeyStore(tmp_path)
    sealed = keys.seal("vault", b"canary", bound_to="row 1")
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(StoreUnavailableError):
            keys.open("vault", changed, bound_to="row 1")
    for end in range(len(sealed)):
        with pytest.raises(StoreUnavailableError):
            keys.open("vault", sealed[:end], bound_to="row 1")


def test_after_rotation_new_data_has_the_new_key_and_old_data_still_opens(tmp_path: Path) -> None:
    """Keys rotate; older ones still open and verify."""
    keys = KeyStore(tmp_path)
    old = keys.seal("vault", b"old", bound_to="x")
    old_key = keys.secret("vault")
    for _ in range(10):
        keys.rotate("vault")
    assert keys.secret("vault") != old_key
    assert keys.ring("vault")[-1] == old_key
    assert len(set(keys.ring("vault"))) == 11
    assert keys.open("vault", old, bound_to="x") == b"old"
    assert KeyStore(tmp_path).ring("vault") == keys.ring("vault")


def test_rotating_goes_on_from_the_highest_number(tmp_path: Path) -> None:
    """An old key may have been removed by hand."""
    keys = KeyStore(tmp_path)
    keys.rotate("vault")
    keys.rotate("vault")
    (tmp_path / "vault.1.key").unlink()
    keys.rotate("vault")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vault.2.key", "vault.3.key"]


def test_rotating_a_name_that_was_never_used_makes_its_first_key(tmp_path: Path) -> None:
    """`rotate` before first use."""
    keys = KeyStore(tmp_path / "keys")
    (tmp_path / "keys").mkdir()
    keys.rotate("vault")
    assert len(keys.ring("vault")) == 1


def test_signing_keys_are_stable(tmp_path: Path) -> None:
    """Checkpoints and decisions verify after a restart."""
    signature = KeyStore(tmp_path).signing_key("checkpoint").sign(b"x")
    KeyStore(tmp_path).signing_key("checkpoint").public_key().verify(signature, b"x")


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_damaged_key_file_is_a_config_error(tmp_path: Path, content: bytes) -> None:
    """Fail closed: a short key is never used, and nothing is made in its place."""
    (tmp_path / "vault.1.key").write_bytes(content)
    with pytest.raises(ConfigError, match="damaged"):
        KeyStore(tmp_path).secret("vault")
    assert (tmp_path / "vault.1.key").read_bytes() == content


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    """security.md F10."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be read or made"):
        KeyStore(tmp_path / "file" / "keys").secret("vault")


def test_files_that_only_look_like_keys_are_not_used(tmp_path: Path) -> None:
    """A backup next to a key must not become a key."""
    keys = KeyStore(tmp_path)
    good = keys.secret("vault")
    (tmp_path / "vault.old.key").write_bytes(os.urandom(32))
    (tmp_path / "vault.2.key.bak").write_bytes(os.urandom(32))
    assert KeyStore(tmp_path).ring("vault") == [good]


def test_a_key_store_shows_no_key(tmp_path: Path) -> None:
    """CONTRIBUTING.md, habit 4."""
    keys = KeyStore(tmp_path)
    assert keys.secret("vault").hex() not in repr(keys)
    assert repr(keys) == f"KeyStore({tmp_path})"
