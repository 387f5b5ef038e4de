"""A `Record` as the bytes that are hashed and stored (decisions.md D9).

The body is serialised once, before it gets its place, and never again: verification hashes the stored bytes.
Payloads are detachable: the body holds a salted commitment, the salt and the masked text stand in a row of their own,
so that deleting the row erases the content and leaves the tree valid.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from pydantic import JsonValue

from mcp_guard.audit.tree import leaf_hash
from mcp_guard.clock import BOOT_ID
from mcp_guard.errors import AuditUnavailableError
from mcp_guard.model import JsonDict, MaskedJson, Record

BODY_VERSION = 1
ALGORITHM = "sha256-salt32"
COLUMNS: Final = ("ts", "type", "call_id", "session", "actor", "tool", "outcome")
"""Columns of a record's row that are copies of body fields, in table order."""

ONCE: Final = frozenset({"call.intent", "call.forwarded", "call.result"})
"""Types of which a call has one record in a slot (decisions.md D26)."""

TERMINAL: Final = frozenset({"call.result", "call.refused", "call.interrupted", "call.delivered"})
"""Types that end a call."""

_MAX_INT = 1 << 53
_SALT_BYTES = 32
_COMPRESS_ABOVE = 1024
PAYLOAD_CAP = 65_536
"""Bytes of a payload's JSON text that are kept; of more, head and tail are, with the digest of the whole."""
_HALF = PAYLOAD_CAP // 2 - 64


@dataclass(frozen=True, slots=True, repr=False)
class PayloadRow:
    """The detachable part: salt and masked JSON text, perhaps compressed."""

    part: str
    salt: bytes
    data: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Prepared:
    """A record ready to be given its place."""

    columns: tuple[int | str, ...]
    """Values of `COLUMNS`."""
    body: bytes
    leaf: bytes
    payloads: tuple[PayloadRow, ...]

    @property
    def once_key(self) -> tuple[str, str] | None:
        """(call_id, type) where a second record of the kind must not exist."""
        kind, call_id = str(self.columns[1]), str(self.columns[2])
        return (call_id, kind) if call_id and kind in ONCE else None


def prepare(record: Record, *, record_id: str, now_ns: int, mono_ns: int) -> Prepared:
    """Serialise a record.

    Raises:
        AuditUnavailableError: it has no canonical form (a float, an integer of 2^53 or more, a key that is not ASCII,
            a lone surrogate, too deep). Nothing of the value is in the message.
    """
    try:
        refs: JsonDict = {}
        rows = []
        for part, payload in record.payloads.items():
            row, refs[part] = _commit(part, payload)
            rows.append(row)
        body = _body(record, refs, record_id=record_id, now_ns=now_ns, mono_ns=mono_ns)
        _check(body)
        data = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError, RecursionError):
        raise AuditUnavailableError(
            "a record has no canonical form, so it cannot be written",
            hint="the call was not recorded; report this with the name of the tool",
        ) from None
    columns = tuple(value for name in COLUMNS if isinstance(value := body[name], int | str))
    return Prepared(columns, data, leaf_hash(data), tuple(rows))


def _body(record: Record, refs: JsonDict, *, record_id: str, now_ns: int, mono_ns: int) -> JsonDict:
    return {
        "v": BODY_VERSION,
        "type": record.type,
        "id": record_id,
        # Nanoseconds since 1970 exceed 2^53: the body holds microseconds.
        "ts": (record.at_ns or now_ns) // 1000,
        "mono": mono_ns // 1000,
        "boot": BOOT_ID,
        "call_id": record.call_id,
        "session": record.session,
        "actor": record.actor,
        "tool": record.tool,
        "outcome": record.outcome,
        "fields": dict(record.fields),
        "payloads": refs,
    }


def _check(value: object) -> None:
    """Refuse what orjson would write differently from RFC 8785, or not at all."""
    if value is None or isinstance(value, bool | str):
        return
    if isinstance(value, int):
        if abs(value) >= _MAX_INT:
            raise ValueError
    elif isinstance(value, list):
        for item in value:
            _check(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not (isinstance(key, str) and key.isascii()):
                raise ValueError
            _check(item)
    else:
        raise TypeError


def _commit(part: str, payload: MaskedJson) -> tuple[PayloadRow, JsonDict]:
    text = json.dumps(payload.value, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()
    salt = secrets.token_bytes(_SALT_BYTES)
    kept = text
    if truncated := len(text) > PAYLOAD_CAP:
        left_out = len(text) - 2 * _HALF
        kept = text[:_HALF] + f"\n[{left_out} bytes left out]\n".encode() + text[-_HALF:]
    compressed = len(kept) > _COMPRESS_ABOVE
    data = zlib.compress(kept) if compressed else kept
    ref: JsonDict = {
        "alg": ALGORITHM,
        "commit": hashlib.sha256(salt + data).hexdigest(),
        "bytes": len(text),
        "truncated": truncated,
        "encoding": "zlib" if compressed else "identity",
    }
    if truncated:
        # Salted as well, so that erasing the row leaves nothing that could be guessed at.
        ref["whole"] = hashlib.sha256(salt + text).hexdigest()
    return PayloadRow(part, salt, data), ref


def payload_holds(ref: Mapping[str, JsonValue], salt: bytes, data: bytes) -> bool:
    """Whether a stored payload is the one that the body commits to."""
    return ref.get("alg") == ALGORITHM and ref.get("commit") == hashlib.sha256(salt + data).hexdigest()


def decode_payload(ref: Mapping[str, JsonValue], data: bytes) -> JsonValue:
    """The masked value of a stored payload; of a truncated one the text, head and tail.

    Raises:
        ValueError: the bytes are not what the body says they are.
    """
    if ref.get("encoding") == "zlib":
        inflate = zlib.decompressobj()
        try:
            data = inflate.decompress(data, PAYLOAD_CAP + 1)
        except zlib.error as error:
            raise ValueError("damaged payload") from error
    if len(data) > PAYLOAD_CAP:
        raise ValueError("damaged payload")
    text = data.decode("ascii")
    if ref.get("truncated"):
        return text
    value: JsonValue = json.loads(text)
    return value
