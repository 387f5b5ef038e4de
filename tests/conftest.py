"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.fakes import CountingIds, FakeClock

# How busy the machine is does not matter; in CI the same examples come each time.
settings.register_profile(
    "guard", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("guard")


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


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """What one test configures in this process, no later one sees: guards started here send all logging their way."""
    root = logging.getLogger()
    handlers, level, log = list(root.handlers), root.level, structlog.get_config()
    hooks = warnings.showwarning, sys.excepthook, threading.excepthook
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**log)
    warnings.showwarning, sys.excepthook, threading.excepthook = hooks
