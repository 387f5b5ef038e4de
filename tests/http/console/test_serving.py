"""Who serves the page, and who is let in by `mcp-guard console` (docs/console.md; decisions.md D25)."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import httpx2
import pytest

from mcp_guard.approval.channels.console import console_url
from mcp_guard.cli import main
from mcp_guard.cli.approvals import TOKEN_VARIABLE
from mcp_guard.config.load import load_config
from mcp_guard.http.console import serving
from mcp_guard.http.console.parts import open_parts
from mcp_guard.http.console.probe import probe_path, serves_here
from mcp_guard.http.console.serving import bind, keep_serving
from mcp_guard.keystore import KeyStore
from tests.e2e.harness import Guard, RawGuard, basic, until
from tests.http.console.bench import Page, free_port, hidden_fields, page_at

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals as POSIX has them")
LINK = re.compile(r"http://127\.0\.0\.1:\d+/[0-9a-f]{16}/login/[A-Za-z0-9_-]{43}")


def guarded(folder: Path, **console: object) -> tuple[Guard, int]:
    port = free_port()
    return basic(folder, console={"port": port, **console}), port


def url_of(guard: Guard, port: int) -> str:
    return console_url(port, KeyStore(guard.data / "keys"))


def answers(url: str) -> int:
    try:
        return httpx2.get(url).status_code
    except httpx2.TransportError:
        return 0


@contextmanager
def told(guard: Guard, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`mcp-guard console` as a process that serves the page, and its link."""
    command = [sys.executable, "-m", "mcp_guard.cli.main", "console", "--config", str(guard.path)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={**os.environ, **env}, text=True
    ) as process:
        assert process.stdout
        try:
            lines = [process.stdout.readline() for _ in range(5)]
            found = LINK.search("".join(lines))
            assert found is not None
            assert lines[-1] == "Serving the page until Ctrl-C.\n"
            yield process, found[0]
        finally:
            process.kill()


@POSIX
async def test_a_guard_on_stdio_serves_the_page_once_a_request_waits_and_runs_what_is_approved(tmp_path: Path) -> None:
    """docs/console.md: request, page, approval, effect, without a form at the client."""
    guard, port = guarded(tmp_path)
    async with RawGuard(guard) as raw:
        await raw.call("leaky_echo", {"value": "x"})
        assert bind_and_release(port)
        await raw.call("leaky_delete_thing", {"id": 7})
        await until(lambda: answers(url_of(guard, port)) == 401)
        code, output = await anyio.to_thread.run_sync(guard.terminal, "console")
        link = LINK.search(output)
        assert code == 0, output
        assert link is not None
        assert "A running guard serves the page." in output
        async with browser(link[0]) as http:
            approval = re.search(r"requests/(apr_[a-z0-9]+)", (await http.get(url_of(guard, port))).text)
            assert approval is not None
            path = f"{url_of(guard, port)}requests/{approval[1]}"
            action = httpx2.URL(path).path + "/approve"
            chosen = hidden_fields((await http.get(path)).text, httpx2.URL(path).path + "/confirm")
            look = (await http.get(path + "/confirm", params=chosen)).text

            async def approved() -> bool:
                answer = await http.post(path + "/approve", data=hidden_fields(look, action))
                assert answer.status_code == 303
                return "confirm" not in answer.headers["location"]

            await until(approved)
        await until(lambda: guard.count("delete_thing") == 1)

    assert answers(url_of(guard, port)) == 0


def browser(link: str) -> httpx2.AsyncClient:
    """A browser in which the button of this link was pressed."""
    origin = link[: link.index("/", 7)]
    with httpx2.Client(headers={"origin": origin}) as http:
        assert http.post(link).status_code == 303
        cookies = dict(http.cookies)
    return httpx2.AsyncClient(headers={"origin": origin}, cookies=cookies, timeout=10)


def bind_and_release(port: int) -> bool:
    listener = bind(port)
    if listener is not None:
        listener.close()
    return listener is not None


async def test_what_a_client_sends_is_not_told_on_stderr(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    """A stray upgrade must not make the server advise to install packages."""
    caplog.set_level(logging.WARNING)  # an earlier test may have let the client's own requests be told
    async with page.client(headers={"connection": "upgrade", "upgrade": "websocket"}) as http:
        answer = await http.get(page.root)

    assert answer.status_code == 401
    assert caplog.records == []


async def test_with_serve_off_a_guard_serves_no_page(tmp_path: Path) -> None:
    """docs/config.md, console.serve."""
    guard, port = guarded(tmp_path, serve=False)
    async with RawGuard(guard) as raw:
        await raw.call("leaky_delete_thing", {"id": 7})
        assert bind_and_release(port)


@POSIX
def test_serve_http_serves_the_page_beside_its_endpoint(tmp_path: Path) -> None:
    """The bearer token of the endpoint opens no page, and the page needs none."""
    guard, port = guarded(tmp_path)
    params = guard.params("--http", f"127.0.0.1:{free_port()}")
    with subprocess.Popen([params.command, *params.args], stderr=subprocess.PIPE, cwd=tmp_path, text=True) as process:
        try:
            assert process.stderr
            assert "listens on" in process.stderr.readline()
            token = (guard.data / "http.token").read_text()
            anyio.run(until, lambda: answers(url_of(guard, port)) == 401)
            answer = httpx2.get(url_of(guard, port), headers={"Authorization": f"Bearer {token}"})
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0

    assert answer.status_code == 401


def test_a_guard_that_nobody_asked_anything_has_not_loaded_the_templates(tmp_path: Path) -> None:
    """Cold paths stay cold: the start-up of every host pays for what is imported."""
    script = (
        "import sys, mcp_guard.app; sys.exit('jinja2' in sys.modules or 'mcp_guard.http.console.app' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False).returncode == 0


@pytest.mark.parametrize("env", [{}, {TOKEN_VARIABLE: "mgr_nobody"}], ids=["nothing", "a wrong token"])
def test_without_a_terminal_or_a_token_no_link_is_made(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """decisions.md D25: agents hold shells."""
    guard, _ = guarded(tmp_path)
    code = console(guard, monkeypatch, env)
    said = capsys.readouterr()

    assert code == 1
    assert "[not_eligible]" in said.err
    assert "http" not in said.out + said.err


@POSIX
def test_with_a_token_it_serves_the_page_itself_until_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The link is the reviewer's: A2."""
    guard, port = guarded(tmp_path)
    token = anyio.run(rita, guard)
    with told(guard, MCP_GUARD_REVIEWER_TOKEN=token) as (process, link):
        again = console(guard, monkeypatch, {TOKEN_VARIABLE: token})
        with httpx2.Client(headers={"origin": f"http://127.0.0.1:{port}"}) as http:
            assert http.post(link).status_code == 303
            shown = http.get(url_of(guard, port))
        process.send_signal(signal.SIGINT)
        code = process.wait(10)

    assert again == 0
    assert "A running guard serves the page." in capsys.readouterr().out
    assert "rita <small>a reviewer with a token</small>" in shown.text
    assert code in {0, 130}
    assert token not in shown.text


def test_a_foreign_program_on_the_port_is_told_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A one-time code must never reach anybody else."""
    guard, port = guarded(tmp_path)
    token = anyio.run(rita, guard)
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", port)) as foreign:

        def listen() -> None:
            with foreign.accept()[0] as caller:
                heard.append(caller.recv(4096))
                caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        thread = threading.Thread(target=listen)
        thread.start()
        code = console(guard, monkeypatch, {TOKEN_VARIABLE: token})
        thread.join(10)
    said = capsys.readouterr()

    assert code == 2
    assert f"port {port} is used by another program" in said.err
    assert "console.port" in said.err
    assert "login" not in said.out
    assert len(heard) == 1
    assert b"login" not in heard[0]
    assert console_url(port, KeyStore(guard.data / "keys")).split("/")[3].encode() not in heard[0]


def console(guard: Guard, monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> object:
    """Run `mcp-guard console` in this process, which has no terminal; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["mcp-guard", "console", "--config", str(guard.path)])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main.run()
    return ended.value.code


async def rita(guard: Guard) -> str:
    """Register a reviewer; returns the token."""
    async with open_parts(load_config(guard.path, env={})) as parts:
        return await parts.review.reviewers.add("rita")


async def test_a_guard_proves_itself_only_on_its_own_port_and_for_its_own_folder(page: Page, tmp_path: Path) -> None:
    """What relays the question from another port cannot answer it."""
    keys, port = page.parts.keys, page.parts.port

    def asked(of: KeyStore, at: int) -> bool:
        return serves_here(of, at)

    assert await anyio.to_thread.run_sync(asked, keys, port)
    assert not await anyio.to_thread.run_sync(asked, KeyStore(tmp_path / "keys"), port)
    assert not await anyio.to_thread.run_sync(asked, keys, free_port())
    async with page.client() as http:
        answer = await http.get(probe_path(keys) + "x", headers={"host": "127.0.0.1:1"})
    assert answer.status_code == 421


async def test_when_the_one_that_serves_goes_the_next_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several hosts start several guards; one of them serves."""
    monkeypatch.setattr(serving, "_TAKE_OVER_S", 0.02)
    async with page_at(tmp_path) as first, anyio.create_task_group() as group:
        parts = replace(first.parts, port=free_port())
        url = console_url(parts.port, parts.keys)
        one = anyio.CancelScope()

        async def serve_one() -> None:
            with one:
                await keep_serving(parts)

        async def reached() -> bool:
            async with first.client() as http:
                try:
                    return (await http.get(url)).status_code == 401
                except httpx2.TransportError:
                    return False

        group.start_soon(serve_one)
        await until(reached, 5)
        group.start_soon(keep_serving, parts)
        one.cancel()
        await until(reached, 5)
        group.cancel_scope.cancel()
