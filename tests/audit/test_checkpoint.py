"""C2SP signed notes and checkpoints."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_guard.audit.checkpoint import CheckpointError, Head, Signer, parse, verify

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
NAME = "mcp-guard/example"
HEAD = Head(f"{NAME}/00/2026-09", 42, hashlib.sha256(b"root").digest())
SIGNER = Signer(NAME, [KEY])


def test_a_note_has_the_layout_of_the_specification() -> None:
    """C2SP signed-note v1.0.0 and tlog-checkpoint v1.0.0."""
    text, signatures = SIGNER.sign(HEAD).decode().split("\n\n")
    dash, name, encoded = signatures.rstrip("\n").split(" ")
    raw = base64.b64decode(encoded)
    public = KEY.public_key().public_bytes_raw()

    assert text == f"{NAME}/00/2026-09\n42\n{base64.b64encode(HEAD.root).decode()}"
    assert (dash, name) == ("—", NAME)
    assert raw[:4] == hashlib.sha256(NAME.encode() + b"\n\x01" + public).digest()[:4]
    KEY.public_key().verify(raw[4:], (text + "\n").encode())
    assert SIGNER.vkeys == (f"{NAME}+{raw[:4].hex()}+{base64.b64encode(bytes([1]) + public).decode()}",)


def test_a_signed_note_verifies_and_reads_back() -> None:
    """Round trip."""
    note = SIGNER.sign(HEAD)
    assert verify(note, SIGNER.vkeys) == parse(note) == HEAD


def test_no_changed_byte_of_a_note_goes_unseen() -> None:
    """docs/audit.md, "How a change shows"."""
    note = SIGNER.sign(HEAD)
    for at in range(len(note)):
        for bit in (1, 32, 128):
            changed = note[:at] + bytes([note[at] ^ bit]) + note[at + 1 :]
            with pytest.raises(CheckpointError):
                verify(changed, SIGNER.vkeys)


def test_after_a_rotation_both_keys_sign_and_either_verifies() -> None:
    """docs/audit.md, "How a change shows": the first checkpoint of a new key carries both lines."""
    both = Signer(NAME, [OTHER, KEY])
    note = both.sign(HEAD, with_old_keys=True)
    assert note.count("— ".encode()) == 2
    assert verify(note, SIGNER.vkeys) == verify(note, both.vkeys[:1]) == HEAD
    with pytest.raises(CheckpointError, match="known key"):
        verify(both.sign(HEAD), SIGNER.vkeys)


def test_a_bad_signature_of_a_known_key_counts_although_another_one_holds() -> None:
    """C2SP signed-note: a known key's failing signature rejects the note."""
    both = Signer(NAME, [OTHER, KEY])
    text, signatures = both.sign(HEAD, with_old_keys=True).decode().split("\n\n")
    first, second = signatures.rstrip("\n").split("\n")
    raw = bytearray(base64.b64decode(second.split(" ")[2]))
    raw[-1] ^= 1
    bent = f"{text}\n\n{first}\n— {NAME} {base64.b64encode(bytes(raw)).decode()}\n".encode()
    with pytest.raises(CheckpointError, match="bad signature"):
        verify(bent, both.vkeys)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n\n\n",
        b"\xff\n\n- x\n",
        b"o\n1\nAAAA\n\n\xe2\x80\x94 n AAAA\n",
        b"o\n01\n" + base64.b64encode(bytes(32)) + b"\n\n\xe2\x80\x94 n AAAA\n",
        b"o\n-1\n" + base64.b64encode(bytes(32)) + b"\n\n\xe2\x80\x94 n AAAA\n",
        b"o\n1\n" + base64.b64encode(bytes(32)) + b"\nextra\n\n\xe2\x80\x94 n AAAA\n",
        b"x" * 20_000,
    ],
    ids=["empty", "newlines", "not-utf8", "short-root", "leading-zero", "negative", "fourth-line", "huge"],
)
def test_malformed_notes_are_refused(note: bytes) -> None:
    """Fail closed on what is not a checkpoint."""
    with pytest.raises(CheckpointError):
        verify(note, SIGNER.vkeys)


@pytest.mark.parametrize("vkey", ["", "a+b", f"{NAME}+00000000+{base64.b64encode(b'1' * 33).decode()}", "n+x+\u00e9"])
def test_malformed_vkeys_are_refused(vkey: str) -> None:
    """Fail closed: a key that cannot be read verifies nothing."""
    with pytest.raises(CheckpointError):
        verify(SIGNER.sign(HEAD), [vkey])


def test_a_signer_shows_no_key() -> None:
    """CONTRIBUTING.md, habit 4."""
    assert repr(SIGNER) == f"Signer({NAME})"
