"""Fixtures shared by all tests."""

from __future__ import annotations

import pytest

from tests.fakes import CountingIds, FakeClock


@pytest.fixture
def anyio_backend() -> str:
    """The program runs on asyncio (decisions.md D18)."""
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ids() -> CountingIds:
    return CountingIds()
