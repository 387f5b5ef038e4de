"""Writing big things in small steps: one call for all of it would keep every other thread of the process waiting."""

from __future__ import annotations

import json
from collections.abc import Iterator


def json_in_steps(value: object, levels: int) -> bytes:
    """A JSON value as bytes.

    Args:
        value: What `json` takes.
        levels: Objects and arrays down to this depth are taken apart; what they hold is written in one step each.

    Raises:
        ValueError: it has no JSON form (NaN, lone surrogate).
    """
    return "".join(_pieces(value, levels)).encode()


def _pieces(value: object, levels: int) -> Iterator[str]:
    if levels and isinstance(value, dict):
        for index, (key, item) in enumerate(value.items()):
            yield f"{',' if index else '{'}{json.dumps(key, ensure_ascii=False)}:"
            yield from _pieces(item, levels - 1)
        yield "}" if value else "{}"
    elif levels and isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield "," if index else "["
            yield from _pieces(item, levels - 1)
        yield "]" if value else "[]"
    else:
        yield json.dumps(value, ensure_ascii=False, allow_nan=False)
