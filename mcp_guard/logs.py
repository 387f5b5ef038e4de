"""structlog through one processor chain that masks (decisions.md D19; security.md S35).

Everything that a Python program can print by itself goes the same way: stdlib logging, warnings, uncaught exceptions
and the event loop's handler. Of an exception only its type and the places (file:line) are kept, never its text.
Nothing is ever written to stdout: on stdio that is the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]
_FRAMES = 12
"""Innermost frames that are kept."""
_DEPTH = 8


def configure(
    mask: Callable[[str], str], level: Level = "info", stream: TextIO | None = None, *, as_json: bool | None = None
) -> None:
    """Send all logging to `stream` (default: stderr), masked. JSON lines unless the stream is a terminal.

    Args:
        mask: Returns text with nothing left to mask; where it raises, the text is dropped.
        level: Least level that is written.
        stream: Any text stream except stdout.
        as_json: JSON or short console lines; default by whether the stream is a terminal.
    """
    out = stream or sys.stderr
    json_lines = not out.isatty() if as_json is None else as_json
    chain: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception_without_text,
        _Masking(mask),
        _to_json if json_lines else _to_line,
    ]
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _Lines(out),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(max(logging.INFO, logging.getLevelNamesMapping()[level.upper()]))
    warnings.showwarning = _warning
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


class _Lines:
    """Writes each event as one line. A stream that is closed or broken stops no call: the record is the audit log."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(line, file=self._out, flush=True)

    debug = info = warning = error = critical = msg


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Log what the event loop would print by itself; called once it runs."""
    loop.set_exception_handler(_loop_problem)


def frames(error: BaseException) -> list[str]:
    """`file.py:line` of the innermost frames, outermost first."""
    found: list[str] = []
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        found.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return found[-_FRAMES:]


def _exception_without_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    info = event.pop("exc_info", None)
    event.pop("stack_info", None)
    error = info[1] if isinstance(info, tuple) else info
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["at"] = frames(error)
    return event


class _Masking:
    """Masks every string of an event, names of fields included; replaces what is not plain data by its type."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        self._mask = mask

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {self._text(str(key)): self._value(value, 0) for key, value in event.items()}

    def _text(self, text: str) -> str:
        try:
            return self._mask(text)
        except Exception:  # noqa: BLE001 - what could not be masked is not logged, whatever the reason (F18)
            return "[MASKED:error]"

    def _value(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping) and depth < _DEPTH:
            return {self._text(str(key)): self._value(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple) and depth < _DEPTH:
            return [self._value(item, depth + 1) for item in value]
        return f"<{type(value).__name__}>"


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    # ASCII only: control characters and terminal sequences cannot reach the terminal (log injection).
    return json.dumps(event, ensure_ascii=True)


def _to_line(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    level, message = event.pop("level", "info"), event.pop("event", "")
    event.pop("timestamp", None)
    shown = json.dumps(message, ensure_ascii=True)[1:-1].replace('\\"', '"')
    rest = "".join(f" {key}={json.dumps(value, ensure_ascii=True)}" for key, value in event.items())
    return f"mcp-guard {level}: {shown}{rest}"


class _Bridge(logging.Handler):
    """Standard logging of libraries. Arguments are formatted in and masked as one text; exceptions lose theirs."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's arguments may raise anything when they are formatted
            message = "a message that could not be formatted"
        name = record.levelname.lower() if record.levelno <= logging.ERROR else "error"
        method = getattr(log, name, log.warning)
        method(message, logger=record.name, exc_info=record.exc_info)


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del message, file, line  # the text and the source line may quote the value that is warned of
    structlog.get_logger().warning("warning", error=category.__name__, at=[f"{Path(filename).name}:{lineno}"])


def _uncaught(kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        structlog.get_logger().error("uncaught exception", exc_info=error)


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    structlog.get_logger().error("uncaught exception in a thread", exc_info=args.exc_value)


def _loop_problem(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    structlog.get_logger().error("problem in the event loop", exc_info=context.get("exception"))
