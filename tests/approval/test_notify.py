"""Notices on their way out: real HTTP on loopback, a real program for the desktop."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest
import structlog

from mcp_guard.approval.channels import notify
from mcp_guard.approval.channels.notify import Notifier, problems, sentence

TOKEN = "tk-notify-canary"

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise, Python < 3.13


class Sink(ThreadingHTTPServer):
    """Keeps every request as path, headers and body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, dict[str, str], str]] = []
        self.status = 200

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self.server_address[1]}/{TOKEN}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Sink)
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.seen.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("waiting", "text"), [(1, "mcp-guard: a call waits"), (3, "mcp-guard: 3 calls wait")])
async def test_a_notice_says_how_many_calls_wait_and_nothing_else(sink: Sink, waiting: int, text: str) -> None:
    """docs/security.md S19: no tool, no argument, no address, no token."""
    await Notifier([sink.address]).tell(waiting)

    ((path, _, body),) = sink.seen
    assert path == f"/{TOKEN}"
    said = json.loads(body)
    assert said["message"] == text == sentence(waiting)
    assert {key: value for key, value in said.items() if key not in {"message", "version", "type"}} == {
        "title": "",
        "attachments": [],
    }


async def test_that_a_tool_is_held_back_is_told_without_its_name(sink: Sink) -> None:
    """docs/pins.md: a notice may be shown on a locked screen."""
    await Notifier([sink.address]).tell_held_back()
    assert [json.loads(body)["message"] for _, _, body in sink.seen] == ["mcp-guard: a tool changed and is held back"]


@pytest.fixture
def log() -> io.StringIO:
    """What the guard logs, whatever an earlier test configured."""
    stream = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(stream),
    )
    return stream


async def test_a_target_that_fails_keeps_no_other_from_being_told(
    sink: Sink, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    """docs/security.md S35: addresses hold tokens, and no log may."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with caplog.at_level(logging.DEBUG):
        targets = [f"json://127.0.0.1:{port}/{TOKEN}", "nonsense://" + TOKEN, sink.address]
        await Notifier(targets).tell(2)

    assert len(sink.seen) == 1
    out, err = capfd.readouterr()
    assert TOKEN not in caplog.text + out + err + log.getvalue()
    assert "approvals.notify[0]" in log.getvalue()
    assert "approvals.notify[2]" not in log.getvalue()


async def test_a_service_that_hangs_is_given_up_and_blocks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/approvals.md S5: a dead channel."""
    monkeypatch.setattr(notify, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, anyio.fail_after(3):
        await Notifier([f"json://127.0.0.1:{silent.getsockname()[1]}/?cto=1&rto=1"]).tell(1)


async def test_the_desktop_is_told_by_the_program_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/known-hosts.md: a notice on the desktop."""
    if sys.platform == "win32":
        return  # there the extra does it
    out = tmp_path / "said"
    program = tmp_path / ("osascript" if sys.platform == "darwin" else "notify-send")
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {out}\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    await Notifier(["desktop"]).tell(1)

    assert "mcp-guard: a call waits" in out.read_text(encoding="utf-8")
    assert problems(["desktop"]) == []


async def test_a_desktop_that_cannot_be_told_costs_no_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    """docs/approvals.md S5: a dead channel; and it is found dead without loading a hundred services."""
    if sys.platform == "win32":
        return  # there the extra does it
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "apprise", None)
    await Notifier(["desktop"]).tell(1)

    assert "notice_not_sent" in log.getvalue()
    assert problems(["desktop"]) == ["approvals.notify[0]: nothing here can show a desktop notification"]


def test_problems_name_the_place_and_never_the_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CONTRIBUTING.md, habit 4."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = problems(["json://127.0.0.1/" + TOKEN, "nonsense://" + TOKEN])

    assert found == ["approvals.notify[1]: apprise does not understand this address"]


async def test_without_the_extra_nothing_is_sent_and_nothing_fails(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/config.md: `approvals.notify` needs the extra `notify`."""
    monkeypatch.setitem(sys.modules, "apprise", None)

    await Notifier([sink.address]).tell(1)

    assert sink.seen == []
    assert problems([sink.address]) == ["approvals.notify[0]: the package apprise is not installed (extra `notify`)"]


def test_a_notifier_shows_no_target() -> None:
    """CONTRIBUTING.md, habit 4."""
    assert TOKEN not in repr(Notifier([TOKEN]))


async def test_a_program_that_cannot_be_run_is_a_notice_that_was_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    """docs/approvals.md S5: a dead channel keeps no call; of the failure only its type is told."""
    if sys.platform == "win32":
        return  # there the extra does it
    program = tmp_path / ("osascript" if sys.platform == "darwin" else "notify-send")
    program.write_bytes(b"\x7fELF no program")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    await Notifier(["desktop"]).tell(1)
    assert "notice_broke" in log.getvalue()
    assert "notice_not_sent" in log.getvalue()
    assert str(tmp_path) not in log.getvalue()
