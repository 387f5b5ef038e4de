"""Named, rotating keys as private files (0600, created with O_EXCL) in the data folder.

Names in use: `vault` (placeholder tags and vault encryption), `approval` (stored arguments and results), `lookup`
(attach look-up), `decision` (Ed25519, signs decision statements and grants), `checkpoint` (Ed25519, signs audit
checkpoints), `state` (requestState), `catalogue` (remembered lists), `identity` (identities of servers), `reviewer`
(rows of reviewers), `console` (links and sessions of the page). A key file is `<name>.<n>.key`; the highest n is
current, older ones still open and verify.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mcp_guard.errors import ConfigError, StoreUnavailableError
from mcp_guard.system import make_private_dir, write_new_private

_KEY_BYTES = 32
_NONCE_BYTES = 12
_ID_BYTES = 4


class KeyStore:
    """Keys of one data folder. Keys are made on first use and cached."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rings: dict[str, list[bytes]] = {}

    def __repr__(self) -> str:
        return f"KeyStore({self._folder})"

    def ring(self, name: str) -> list[bytes]:
        """All keys of this name, current first; 32 bytes each.

        Raises:
            ConfigError: a key file is damaged or cannot be read or made.
        """
        if name not in self._rings:
            self._rings[name] = self._load(name)
        return self._rings[name]

    def has(self, name: str) -> bool:
        """Whether a key of this name was ever made here. Makes none."""
        return bool(self._files(name))

    def secret(self, name: str) -> bytes:
        """The current key of this name, 32 bytes."""
        return self.ring(name)[0]

    def signing_key(self, name: str) -> Ed25519PrivateKey:
        """The current Ed25519 key of this name."""
        return Ed25519PrivateKey.from_private_bytes(self.secret(name))

    def rotate(self, name: str) -> None:
        """Make a new current key; older keys stay for opening and verifying."""
        number = max((int(path.suffixes[-2][1:]) for path in self._files(name)), default=0) + 1
        write_new_private(self._folder / f"{name}.{number}.key", os.urandom(_KEY_BYTES))
        self._rings.pop(name, None)

    def seal(self, name: str, plain: bytes, *, bound_to: str) -> bytes:
        """Encrypt with AES-256-GCM under the current key: key id, nonce, ciphertext. `bound_to` is authenticated."""
        key = self.secret(name)
        nonce = os.urandom(_NONCE_BYTES)
        return _key_id(key) + nonce + AESGCM(key).encrypt(nonce, plain, bound_to.encode())

    def open(self, name: str, sealed: bytes, *, bound_to: str) -> bytes:
        """Decrypt what `seal` made.

        Raises:
            StoreUnavailableError: unknown key, altered bytes, or bound to something else.
        """
        key_id, nonce, body = sealed[:4], sealed[4 : 4 + _NONCE_BYTES], sealed[4 + _NONCE_BYTES :]
        for key in self.ring(name):
            if _key_id(key) == key_id:
                try:
                    return AESGCM(key).decrypt(nonce, body, bound_to.encode())
                except (InvalidTag, ValueError):  # ValueError: cut short
                    break
        raise StoreUnavailableError(
            f"stored data under key {name!r} cannot be opened: it was altered, or its key is missing",
            hint="restore the keys folder of the data folder from a backup",
        )

    def _files(self, name: str) -> list[Path]:
        found = [p for p in self._folder.glob(f"{name}.*.key") if p.suffixes[-2][1:].isdigit()]
        return sorted(found, key=lambda p: int(p.suffixes[-2][1:]), reverse=True)

    def _load(self, name: str) -> list[bytes]:
        try:
            make_private_dir(self._folder)
            if not self._files(name):
                self._create_first(name)
            keys = [path.read_bytes() for path in self._files(name)]
        except OSError as error:
            raise ConfigError(
                f"the key {name!r} cannot be read or made in the data folder: {error.strerror}",
                hint="make the data folder writable for you alone, or set data_dir to another folder",
            ) from error
        if any(len(key) != _KEY_BYTES for key in keys):
            raise ConfigError(f"a file of the key {name!r} is damaged", hint="restore the keys folder from a backup")
        return keys

    def _create_first(self, name: str) -> None:
        # Written aside and linked into place: a second process never reads half a key.
        aside = self._folder / f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
        write_new_private(aside, os.urandom(_KEY_BYTES))
        try:
            os.link(aside, self._folder / f"{name}.1.key")
        except FileExistsError:
            pass  # another process was first; its key is the key
        finally:
            aside.unlink()


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"mcp-guard/key-id\0" + key).digest()[:_ID_BYTES]
