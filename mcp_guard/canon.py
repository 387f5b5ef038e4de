"""Canonical bytes and digests (approvals.md S1, S2).

The canonical form is typed: exact integers of any size, floats tagged, keys sorted by code point, strings as given
(no Unicode normalisation). So 1, 1.0 and "1" differ, and 2^60 survives. RFC 8785 refuses integers above 2^53 and
merges 1.0 with 1, which is why it is not used for what a human approves.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterator

from pydantic import JsonValue

from mcp_guard.errors import InvalidArgumentsError

_FINGERPRINT_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def canonical(value: JsonValue) -> bytes:
    """Return the canonical bytes of a JSON value; equal bytes if and only if equal values.

    Raises:
        InvalidArgumentsError: NaN, an infinity, a lone surrogate, or nesting beyond the interpreter's limit.
    """
    try:
        return b"".join(_parts(value))
    except (UnicodeEncodeError, RecursionError, ValueError) as error:
        message = "a value has no canonical form (NaN, infinity, lone surrogate, or too deep)"
        raise InvalidArgumentsError(message) from error


def _parts(value: object) -> Iterator[bytes]:
    if value is None or isinstance(value, bool):
        yield {None: b"n;", True: b"t;", False: b"f;"}[value]
    elif isinstance(value, str):
        data = value.encode("utf-8")
        yield b"s%d:" % len(data)
        yield data
    elif isinstance(value, int):
        yield b"i%s;" % _digits(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError
        yield b"d%s;" % value.hex().encode()
    elif isinstance(value, list):
        yield b"l%d:" % len(value)
        for item in value:
            yield from _parts(item)
    elif isinstance(value, dict):
        yield b"m%d:" % len(value)
        for key in sorted(value):
            yield from _parts(key)
            yield from _parts(value[key])
    else:
        raise ValueError


def _digits(value: int) -> bytes:
    return hex(value).encode()


def digest(domain: str, value: JsonValue) -> str:
    """SHA-256 over `mcp-guard/<domain>/v1`, NUL and the canonical bytes, as 64 hex characters."""
    return hashlib.sha256(f"mcp-guard/{domain}/v1\0".encode() + canonical(value)).hexdigest()


def keyed_digest(key: bytes, domain: str, value: JsonValue) -> str:
    """HMAC-SHA256 with the same framing as `digest`, so that low-entropy values cannot be guessed from it."""
    return hmac.digest(key, f"mcp-guard/{domain}/v1\0".encode() + canonical(value), "sha256").hex()


def fingerprint(action_digest: str) -> str:
    """Eight characters of a digest for humans to compare, e.g. K7QF-93WM. Not a security boundary by itself."""
    number = int(action_digest[:10], 16)
    chars = []
    for _ in range(8):
        number, index = divmod(number, len(_FINGERPRINT_ALPHABET))
        chars.append(_FINGERPRINT_ALPHABET[index])
    return "".join(chars[:4]) + "-" + "".join(chars[4:])


def same_fingerprint(typed: str, mark: str) -> bool:
    """Whether a person typed this fingerprint. Case, spaces and dashes do not count."""
    return _letters(typed) == _letters(mark)


def _letters(text: str) -> str:
    return "".join(character for character in text.upper() if character.isalnum())
