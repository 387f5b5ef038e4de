"""Logging goes through masking, whoever logs."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import sys
import threading
import warnings

import pytest
import structlog

from mcp_guard import logs
from mcp_guard.config.schema import MaskingConfig
from mcp_guard.masking.masker import Masker

SECRET = "ghp_2F2HIrOpxR7Ex4scUXHvfC2ifTfPUC5V9rJG"


@pytest.fixture
def stream() -> io.StringIO:
    out = io.StringIO()
    logs.configure(Masker(MaskingConfig(), b"k" * 32).text, "info", out)
    return out


def fail() -> None:
    raise ValueError(SECRET)


def raised() -> ValueError:
    with pytest.raises(ValueError, match=SECRET) as caught:
        fail()
    return caught.value


def test_secret_reaches_no_log_line_by_any_way(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """security.md S35: canary in every raise site."""
    error = raised()
    log = structlog.get_logger()
    log.info(f"got {SECRET}", field={"a": [SECRET]}, thing=object(), **{SECRET: 1})  # noqa: G004 - text put together by the caller is the case
    log.error("failed", exc_info=error)
    logging.getLogger("library").warning("value %s", SECRET)
    logging.getLogger("library").error("failed", exc_info=error)
    logs._Bridge().emit(logging.LogRecord("library", logging.ERROR, "f.py", 1, "wrong %d", (SECRET,), None))
    warnings.showwarning(UserWarning(SECRET), UserWarning, "file.py", 3)
    sys.excepthook(ValueError, error, error.__traceback__)
    threading.excepthook(threading.ExceptHookArgs((ValueError, error, error.__traceback__, None)))

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 8
    assert SECRET not in stream.getvalue()
    assert lines[1]["error"] == "ValueError"
    assert lines[1]["at"][0].startswith("test_logs.py:")
    assert capsys.readouterr() == ("", "")


async def test_event_loop_problem_is_logged_without_its_text(stream: io.StringIO) -> None:
    """security.md S35."""
    loop = asyncio.get_running_loop()
    logs.watch_loop(loop)
    loop.call_exception_handler({"message": SECRET, "exception": raised()})
    loop.set_exception_handler(None)
    assert json.loads(stream.getvalue())["error"] == "ValueError"
    assert SECRET not in stream.getvalue()


def test_line_that_cannot_be_masked_is_dropped() -> None:
    """security.md F18."""

    def broken(_text: str) -> str:
        raise RuntimeError

    masking = logs._Masking(broken)
    assert masking(None, "info", {"event": SECRET}) == {"[MASKED:error]": "[MASKED:error]"}


def test_console_line_is_short_and_holds_no_control_characters() -> None:
    """Log injection, security.md S35."""
    line = logs._to_line(None, "info", {"level": "info", "event": "a\x1b[31m\nb", "n": 1})
    assert line == "mcp-guard info: a\\u001b[31m\\nb n=1"


def test_uncaught_keyboard_interrupt_says_nothing(stream: io.StringIO) -> None:
    """Ctrl-C is no fault."""
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("broken", ["closed", "nobody reads"])
def test_a_stream_that_takes_no_lines_stops_nothing(broken: str) -> None:
    """security.md F18: a host may close the guard's stderr; the record is the audit log."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", closefd=False) as out:
        logs.configure(str, "info", out)
        if broken == "closed":
            out.close()
        structlog.get_logger().warning("a line")
        logging.getLogger("library").warning("a line")
        sys.excepthook(ValueError, ValueError(), None)
        with contextlib.suppress(OSError):
            out.close()
    os.close(writing)
