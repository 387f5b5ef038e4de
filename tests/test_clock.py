"""Time and ids."""

from __future__ import annotations

import re

import pytest

from mcp_guard.clock import BOOT_ID, RandomIds, SystemClock, iso
from tests.fakes import CountingIds, FakeClock


def test_random_ids_are_128_bits_in_26_characters_and_differ() -> None:
    """decisions.md D18."""
    ids = {RandomIds().new("call") for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"call_[a-z2-7]{26}", value) for value in ids)


def test_counting_ids_have_the_same_length_and_count() -> None:
    """decisions.md D18: tests own randomness."""
    ids = CountingIds()
    assert [ids.new("a"), ids.new("b")] == [f"a_{1:026d}", f"b_{2:026d}"]


def test_the_system_clock_moves_on() -> None:
    """decisions.md D18."""
    clock = SystemClock()
    assert clock.mono_ns() <= clock.mono_ns()
    assert clock.now_ns() > 1_700_000_000_000_000_000


def test_advancing_moves_both_clocks_and_jumping_the_wall_alone() -> None:
    """security.md F14."""
    clock = FakeClock(start_ns=10_000_000_000)
    mono = clock.mono_ns()
    clock.advance(2.5)
    assert (clock.now_ns(), clock.mono_ns() - mono) == (12_500_000_000, 2_500_000_000)
    clock.jump(-2.5)
    assert (clock.now_ns(), clock.mono_ns() - mono) == (10_000_000_000, 2_500_000_000)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_999_999, "1970-01-01T00:00:00.001Z"),
        (1_790_000_000_123_456_789, "2026-09-21T14:13:20.123Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_iso_is_utc_with_milliseconds_cut_off(ns: int, text: str) -> None:
    """ISO 8601."""
    assert iso(ns) == text


def test_the_boot_id_names_one_process() -> None:
    """security.md F14: monotonic values of two boots never compare."""
    assert re.fullmatch(r"[a-z2-7]{16}", BOOT_ID)
