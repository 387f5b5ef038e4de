"""Runs commands of the guard as an agent with a shell would: without a terminal and without a token.

Usage: forger.py FILE with a JSON list of {"argv": […], "stdin": "…"}. Prints a JSON list of the answers. All commands
run in forks of one process that has imported the command line, so that hundreds of them take seconds.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

assert sys.platform != "win32", "there are no forks"

AT_ONCE = 8
PATIENCE_S = 2.0
"""Some commands serve until they are stopped."""


def main(file: Path) -> None:
    for part in ("cli", "approval", "audit", "doctor", "downstream", "http", "masking", "server", "wrap"):
        package = importlib.import_module(f"mcp_guard.{part}")  # once for all forks
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    gc.freeze()

    todo = list(enumerate(json.loads(file.read_text(encoding="utf-8"))))[::-1]
    answers: dict[int, dict[str, Any]] = {}
    running: dict[int, tuple[int, float, IO[bytes]]] = {}
    while todo or running:
        while todo and len(running) < AT_ONCE:
            number, one = todo.pop()
            output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the fork has ended
            running[fork(one, output)] = (number, time.monotonic() + PATIENCE_S, output)
        for pid, (number, deadline, written) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended and time.monotonic() > deadline:
                os.killpg(pid, signal.SIGKILL)
                ended, status = os.waitpid(pid, 0)
            if ended:
                del running[pid]
                written.seek(0)
                code = os.waitstatus_to_exitcode(status)
                answers[number] = {"code": code, "output": written.read().decode(errors="replace")}
                written.close()
        time.sleep(0.005)
    sys.stdout.write(json.dumps([answers[number] for number in sorted(answers)]))


def fork(one: dict[str, Any], output: IO[bytes]) -> int:
    """Start one command in a session of its own: no terminal can be opened from there."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    ours, theirs = os.pipe()
    os.write(theirs, one["stdin"].encode())
    os.close(theirs)
    for target, source in ((0, ours), (1, output.fileno()), (2, output.fileno())):
        os.dup2(source, target)
    sys.argv = ["mcp-guard", *one["argv"]]
    from mcp_guard.cli.main import run

    try:
        run()
    except SystemExit as left:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(left.code if isinstance(left.code, int) else 1)
    finally:
        os._exit(0)
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
