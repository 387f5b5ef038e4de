"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
import structlog

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
