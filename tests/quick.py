"""Commands of the guard as processes of their own, forked from one that has imported the guard already.

To start Python and import costs more than most commands, and the tests run hundreds of them. What a person starts is
the same function in the same kind of process; tests of imports, of terminals and of whole days start the real program.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

PROGRAM = (sys.executable, "-m", "mcp_guard.cli.main")
_MAIN = Path(__file__).parents[1] / "mcp_guard" / "cli" / "main.py"


def command(
    words: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `mcp-guard WORDS` without a terminal and without input.

    Args:
        words: What follows the program's name.
        env: The whole environment.
        cwd: Working folder; default: that of the tests.
    """
    where = cwd or Path.cwd()
    if sys.platform == "win32":
        return subprocess.run(
            [*PROGRAM, *words],
            capture_output=True,
            text=True,
            env=env,
            cwd=where,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _server().Process(target=_run, args=(list(words), dict(env), str(where), str(out), str(err)))
        process.start()
        process.join()
        code = process.exitcode
        process.close()
        texts = [path.read_text(encoding="utf-8") for path in (out, err)]
    assert code is not None
    return subprocess.CompletedProcess([*PROGRAM, *words], code, *texts)


@cache
def _server() -> Any:
    if sys.platform == "win32":
        raise NotImplementedError
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mcp_guard.cli.commands", "mcp_guard.parts", "tests.quick"])
    return context


def _run(words: list[str], env: dict[str, str], cwd: str, out: str, err: str) -> None:
    os.environ.clear()
    os.environ.update(env)
    if sys.platform != "win32":
        time.tzset()
    os.chdir(cwd)
    for descriptor, (path, flags) in enumerate(
        [(os.devnull, os.O_RDONLY), (out, os.O_WRONLY | os.O_CREAT), (err, os.O_WRONLY | os.O_CREAT)]
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    sys.argv = [str(_MAIN), *words]
    from mcp_guard.cli.main import run

    run()
