"""Children: environment, start, stderr, and an end that is certain."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from mcp_guard.downstream.process import ChildProcess, child_env
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.downstream.stderr import BYTES_PER_SECOND
from mcp_guard.errors import DownstreamUnavailableError, MaskingError
from mcp_guard.system import FileLock, death_wrapper


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def server(*command: str, **changes: object) -> ResolvedServer:
    return ResolvedServer("child", "id", command=command, **changes)  # type: ignore[arg-type]


def python(code: str) -> ResolvedServer:
    return server(sys.executable, "-S", "-E", "-c", code)


def test_a_child_inherits_all_but_loader_variables_and_the_guards_own() -> None:
    """decisions.md D29; security.md S39."""
    inherited = {
        "SSH_AUTH_SOCK": "/s",
        "LD_PRELOAD": "/evil.so",
        "DYLD_INSERT_LIBRARIES": "/evil",
        "NODE_OPTIONS": "--require /evil",
        "PYTHONPATH": "/evil",
        "MCP_GUARD_REVIEWER_TOKEN": "secret",
    }
    assert child_env(inherited, {"X": "1"}) == {"SSH_AUTH_SOCK": "/s", "X": "1"}
    assert child_env(inherited, {"PYTHONPATH": "/mine"})["PYTHONPATH"] == "/mine"


def test_a_child_does_not_inherit_what_belongs_to_another_server() -> None:
    """security.md S4: one server does not get another's credentials."""
    inherited = {"CRM_KEY": "secret", "PATH": "/bin", "LANG": "C"}
    assert child_env(inherited, {}, withheld={"CRM_KEY"}) == {"PATH": "/bin", "LANG": "C"}
    assert child_env(inherited, {"CRM_KEY": "mine"}, withheld={"CRM_KEY"})["CRM_KEY"] == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="other names there")
def test_a_child_of_a_shared_guard_inherits_only_what_every_program_needs() -> None:
    """decisions.md D29: team mode."""
    inherited = {"AWS_SECRET_ACCESS_KEY": "secret", "HOME": "/h", "PATH": "/bin", "SSH_AUTH_SOCK": "/s"}
    assert child_env(inherited, {"X": "1"}, minimal=True) == {"HOME": "/h", "PATH": "/bin", "X": "1"}


@pytest.mark.parametrize("command", ["no-such-program-anywhere", "/no/such/program", "./neither"])
async def test_a_missing_command_says_so_before_anything_is_started(command: str, log: list[str]) -> None:
    """security.md F2."""
    with pytest.raises(DownstreamUnavailableError, match="command is not found, or is not executable"):
        await ChildProcess.spawn(server(command), mask_text=str, log=log.append)


async def test_a_missing_working_folder_says_so(log: list[str], tmp_path: Path) -> None:
    """security.md F2."""
    with pytest.raises(DownstreamUnavailableError, match="cwd is not a folder"):
        await ChildProcess.spawn(server(sys.executable, cwd=tmp_path / "gone"), mask_text=str, log=log.append)


async def test_a_command_is_found_on_the_path_that_the_child_will_have(log: list[str], tmp_path: Path) -> None:
    """SECURITY.md: resolved to an absolute path, no shell."""
    program = tmp_path / "mine"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o700)
    child = await ChildProcess.spawn(
        server("mine", "$(touch x)", env={"PATH": str(tmp_path)}), mask_text=str, log=log.append
    )
    await child.wait_ended()
    await child.stop()
    assert await child.exit_code(1) == 0


async def test_stderr_reaches_the_log_masked_and_bounded(log: list[str]) -> None:
    """security.md F5: at most 64 kB/s are kept, the rest is counted, the child is never blocked."""
    code = "import os\nos.write(2, b'token hunter2\\n')\nfor _ in range(1000): os.write(2, b'x' * 999 + b'\\n')"
    child = await ChildProcess.spawn(python(code), mask_text=lambda s: s.replace("hunter2", "[SECRET]"), log=log.append)
    await child.wait_ended()
    await child.stop()
    assert log[0] == "child: stderr: token [SECRET]"
    assert "hunter2" not in "".join(log)
    assert sum(map(len, log)) < 2 * BYTES_PER_SECOND
    assert "bytes dropped" in log[-1]


async def test_a_line_that_cannot_be_masked_is_not_shown(log: list[str]) -> None:
    """security.md F18: fail closed."""

    def broken(_: str) -> str:
        raise MaskingError("a detector failed")

    child = await ChildProcess.spawn(python("import os; os.write(2, b'hunter2')"), mask_text=broken, log=log.append)
    await child.wait_ended()
    await child.stop()
    assert log == ["child: stderr: [a line that could not be masked]"]


async def test_a_child_that_ignores_term_is_gone_within_five_seconds(
    raw: Callable[..., ResolvedServer], log: list[str]
) -> None:
    """security.md F6."""
    child = await ChildProcess.spawn(raw("ignores_term"), mask_text=str, log=log.append)
    with anyio.fail_after(5):
        await child.stop()
    assert not alive(child.pid)


async def test_children_of_a_child_end_with_it(tmp_path: Path) -> None:
    """security.md F6: the whole process group is killed. The lock of a dead process is free."""
    lock = tmp_path / "lock"
    code = (
        "import fcntl, os, signal, sys, time\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"    file = open({str(lock)!r}, 'w')\n"
        "    fcntl.flock(file, fcntl.LOCK_EX)\n"
        "    os.write(2, b'locked\\n')\n"
        "    time.sleep(60)\n"
        "os.read(0, 1)\n"
    )
    locked = anyio.Event()
    child = await ChildProcess.spawn(python(code), mask_text=str, log=lambda _: locked.set())
    await locked.wait()
    assert not FileLock(lock).try_acquire()
    await child.stop()
    with anyio.fail_after(2):
        await anyio.to_thread.run_sync(_wait_for, lock)


def _wait_for(lock: Path) -> None:
    """Until nobody holds the lock any more: the system frees it when its process is gone."""
    deadline = time.monotonic() + 10
    while not FileLock(lock).try_acquire():
        assert time.monotonic() < deadline


GUARD = """
import sys, anyio
from mcp_guard.downstream.process import ChildProcess
from mcp_guard.downstream.server import ResolvedServer
async def main():
    server = ResolvedServer("child", "id", command=(sys.executable, "-c", sys.argv[1]))
    child = await ChildProcess.spawn(server, mask_text=str, log=lambda line: print(line, flush=True))
    await child.wait_ended()
anyio.run(main)
"""


@pytest.mark.skipif(not death_wrapper(), reason="the system offers no cheap way to die with the parent")
def test_a_killed_guard_leaves_no_child_behind(tmp_path: Path) -> None:
    """security.md F6: a child that does not end on EOF was orphaned. The lock of a dead process is free."""
    lock = tmp_path / "lock"
    code = (
        "import fcntl, os, time\n"
        f"file = open({str(lock)!r}, 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "os.write(2, b'locked\\n')\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", GUARD, code], stdout=subprocess.PIPE) as guard:
        assert guard.stdout
        assert b"locked" in guard.stdout.readline()
        guard.kill()
    _wait_for(lock)
