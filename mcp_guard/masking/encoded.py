r"""Views of text that is encoded inside other text: base64, and `\u00xx` escapes outside of JSON. Pure."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

DECODED_MOST = 65_536
"""Characters of one run of base64 that are looked at, decoded (docs/masking.md)."""
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_RIGHT = re.compile(r"[A-Za-z0-9+/_\-]*+={0,2}")
_PROBE = re.compile(r"[A-Za-z0-9+/_\-]{64}")
_STRIDE = 2_048
"""A run that a step of 8 KB cuts, and that the next step does not hold whole, is longer than twice this."""
_URL_SAFE = str.maketrans("-_", "+/")
_ESCAPE = re.compile(r"\\{1,4}u00([2-7][0-9A-Fa-f])")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x7f]")


def widen(text: str, start: int, end: int, floor: int) -> tuple[int, int]:
    """The whole run of base64 around `text[start:end]`, not before `floor`."""
    while start > floor and text[start - 1] in _ALPHABET:
        start -= 1
    match = _RIGHT.match(text, end)
    return start, match.end() if match else end


def long_runs(text: str) -> Iterator[tuple[int, int]]:
    """Runs that the bounded steps of a long text could cut. Probes one place in each stride, which is cheap."""
    floor = 0
    for at in range(0, len(text), _STRIDE):
        if at >= floor and _PROBE.match(text, at):
            start, floor = widen(text, at, at, floor)
            yield start, floor


def decode_base64(run: str) -> str | None:
    """The text that a run of base64 holds; None when it holds none, which is so for nearly every identifier."""
    run = run[: DECODED_MOST * 4 // 3].rstrip("=").translate(_URL_SAFE)
    whole = len(run) - (len(run) % 4 == 1)  # one character left over carries no byte
    try:
        data = binascii.a2b_base64(run[:whole] + "=" * (-whole % 4))
        plain = data.decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        return _without_cut(error)
    return None if _CONTROL.search(plain) else plain


def _without_cut(error: binascii.Error | UnicodeDecodeError) -> str | None:
    """A cap may cut the last character; anything else that is no text is no text."""
    if isinstance(error, UnicodeDecodeError) and error.reason == "unexpected end of data":
        return bytes(error.object[: error.start]).decode()
    return None


def unescape(text: str) -> tuple[str, list[int]]:
    r"""`text` with the printable `\u00xx` escapes replaced, and for each place in it the place in `text`."""
    parts: list[str] = []
    places: list[int] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        parts += [text[at : match.start()], chr(int(match[1], 16))]
        places += [*range(at, match.start()), match.start()]
        at = match.end()
    parts.append(text[at:])
    places += range(at, len(text) + 1)
    return "".join(parts), places
