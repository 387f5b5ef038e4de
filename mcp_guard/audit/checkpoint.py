r"""Signed checkpoints: C2SP tlog-checkpoint bodies in C2SP signed notes, Ed25519.

A note is `<text>\n— <key name> <base64(key id ‖ signature)>\n…`, where the text is three lines: origin, decimal size,
base64 root. A vkey is `<name>+<key id hex>+<base64(0x01 ‖ public key)>`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mcp_guard.audit.tree import HASH_BYTES

_ED25519 = b"\x01"
_KEY_ID_BYTES = 4
_KEY_BYTES = 32
_TEXT_LINES = 3
_MAX_NOTE_BYTES = 16_384


class CheckpointError(ValueError):
    """A note or vkey that is malformed, or that no known key signed. Constant text."""


@dataclass(frozen=True, slots=True)
class Head:
    """A log at one size."""

    origin: str
    size: int
    root: bytes

    @property
    def root_b64(self) -> str:
        """The root as it stands in notes and receipts."""
        return base64.b64encode(self.root).decode()

    def text(self) -> str:
        """The signed text of the checkpoint."""
        return f"{self.origin}\n{self.size}\n{self.root_b64}\n"


class Signer:
    """Signs checkpoints under one key name; the first key is the current one."""

    def __init__(self, name: str, keys: Sequence[Ed25519PrivateKey]) -> None:
        self.name = name
        self._keys = [(key, _key_id(name, key.public_key().public_bytes_raw())) for key in keys]

    def __repr__(self) -> str:
        return f"Signer({self.name})"

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Public keys, current first."""
        return tuple(vkey(self.name, key.public_key()) for key, _ in self._keys)

    def sign(self, head: Head, *, with_old_keys: bool = False) -> bytes:
        """The note for `head`; after a key rotation older keys sign once more beside the new one."""
        text = head.text()
        keys = self._keys if with_old_keys else self._keys[:1]
        lines = [
            f"— {self.name} {base64.b64encode(key_id + key.sign(text.encode())).decode()}\n" for key, key_id in keys
        ]
        return f"{text}\n{''.join(lines)}".encode()


def vkey(name: str, key: Ed25519PublicKey) -> str:
    """The printable form of a public key."""
    raw = key.public_bytes_raw()
    return f"{name}+{_key_id(name, raw).hex()}+{base64.b64encode(_ED25519 + raw).decode()}"


def parse(note: bytes) -> Head:
    """Read the head of a note. Says nothing about who signed it.

    Raises:
        CheckpointError: it is not a checkpoint note.
    """
    return _head(_split(note)[0])


def verify(note: bytes, vkeys: Iterable[str]) -> Head:
    """Read a note and check its signatures.

    Signatures by other keys are ignored; every signature by a known key must hold, and there must be one.

    Raises:
        CheckpointError: malformed, or not signed by any of `vkeys`.
    """
    text, lines = _split(note)
    head = _head(text)
    known = [_parse_vkey(key) for key in vkeys]
    held = 0
    for line in lines:
        name, key_id, signature = _signature(line)
        for known_name, known_id, key in known:
            if (name, key_id) == (known_name, known_id):
                _check(key, signature, text)
                held += 1
    if not held:
        raise CheckpointError("not signed by a known key")
    return head


def _check(key: Ed25519PublicKey, signature: bytes, text: str) -> None:
    try:
        key.verify(signature, text.encode())
    except InvalidSignature:
        raise CheckpointError("bad signature") from None


def _key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_KEY_ID_BYTES]


def _parse_vkey(text: str) -> tuple[str, bytes, Ed25519PublicKey]:
    name, _, rest = text.partition("+")
    hex_id, _, encoded = rest.partition("+")
    raw = _base64(encoded)
    public = raw[1:]
    if not name or raw[:1] != _ED25519 or len(public) != _KEY_BYTES or _key_id(name, public).hex() != hex_id:
        raise CheckpointError("malformed vkey")
    return name, bytes.fromhex(hex_id), Ed25519PublicKey.from_public_bytes(public)


def _split(note: bytes) -> tuple[str, list[str]]:
    if len(note) > _MAX_NOTE_BYTES:
        raise CheckpointError("malformed note")
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError:
        raise CheckpointError("malformed note") from None
    text, found, signatures = whole.rpartition("\n\n")
    if not found or not signatures.endswith("\n"):
        raise CheckpointError("malformed note")
    return text + "\n", signatures[:-1].split("\n")


def _head(text: str) -> Head:
    lines = text.split("\n")
    if len(lines) != _TEXT_LINES + 1 or not lines[0]:
        raise CheckpointError("malformed checkpoint")
    origin, size, root = lines[0], lines[1], _base64(lines[2])
    if not (size.isascii() and size.isdecimal() and str(int(size[:20])) == size) or len(root) != HASH_BYTES:
        raise CheckpointError("malformed checkpoint")
    return Head(origin, int(size), root)


def _signature(line: str) -> tuple[str, bytes, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    if dash != "—" or not name:
        raise CheckpointError("malformed signature line")
    raw = _base64(encoded)
    return name, raw[:_KEY_ID_BYTES], raw[_KEY_ID_BYTES:]


def _base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CheckpointError("malformed base64") from None
    # One spelling only: spare bits in the last character would let a note be changed unseen.
    if base64.b64encode(raw).decode() != text:
        raise CheckpointError("malformed base64")
    return raw
