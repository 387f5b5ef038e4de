"""Cutting lines out of chunks."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from mcp_guard.wire.lines import LineCutter, TooLong


@given(st.lists(st.binary(max_size=6), max_size=12), st.integers(1, 7))
def test_lines_do_not_depend_on_how_the_bytes_were_chunked(parts: list[bytes], size: int) -> None:
    """decisions.md D20."""
    data = b"\n".join(part.replace(b"\r", b"") for part in parts)
    whole, cut = LineCutter(4), LineCutter(4)
    expected = whole.feed(data) + whole.finish()
    found = [line for start in range(0, len(data), size) for line in cut.feed(data[start : start + size])]
    assert found + cut.finish() == expected


def test_a_line_above_the_limit_is_dropped_and_the_next_one_is_read() -> None:
    """security.md S4."""
    cutter = LineCutter(4)
    assert cutter.feed(b"12345678") == []
    assert cutter.feed(b"9\nok\r\n1234\n") == [TooLong(9), b"ok", b"1234"]
    assert cutter.finish() == []


def test_an_endless_line_takes_no_memory() -> None:
    """security.md F4: memory bounded by the limit."""
    cutter = LineCutter(1 << 20)
    chunk = b"x" * 65536
    tracemalloc.start()
    for _ in range(1000):
        cutter.feed(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cutter.unfinished == 65536 * 1000
    assert peak < 3 << 20
