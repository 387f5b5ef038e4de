"""From a person's decision to the effect: milliseconds until the downstream server has written its line.

The decision is made in another process, as the command line and the page make it, and no call of the client waits any
more: the ticket is out, so the guard carries the call out by itself. `commit` is the deciding transaction alone: the
part that no guard can make shorter. Only on one machine, in one run, do figures compare.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anyio

from benchmarks.client import BenchError, Client
from benchmarks.targets import HERE, environment
from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.cli.approvals import open_review
from mcp_guard.config.load import load_config
from mcp_guard.model import Assurance

ROUNDS = 30
LIMIT_MS = 50.0
"""What a person does not notice; the median has to stay below."""
_PATIENCE_S = 20.0


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 when the median is above the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.approve", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--decide", type=Path, metavar="CONFIG", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.decide is not None:
        anyio.run(_decide_all, options.decide)
        return 0
    with tempfile.TemporaryDirectory(prefix="mcp-guard-bench-") as folder:
        try:
            effects, commits = measure(Path(folder), options.rounds)
        except BenchError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return _print(effects, commits)


def measure(folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds from the call of `decide` to the effect, and to its commit, one of each a round.

    Raises:
        BenchError: an approved call did not run, ran twice, or its outcome was not delivered.
    """
    config, file = folder / "guard.yaml", folder / "effects"
    file.touch()
    server = {"command": sys.executable, "args": [str(HERE / "stamp_server.py"), str(file)], "names": "plain"}
    rule = {"id": "ask", "match": {"tool": "stamp"}, "effect": "require_approval"}
    written = {"version": 1, "id": "bench", "data_dir": "./data", "servers": {"bench": server}, "rules": [rule]}
    written |= {"approvals": {"hold_s": 0, "max_open": 1000, "notify": []}, "console": {"serve": False}}
    config.write_text(json.dumps(written))
    command = [sys.executable, "-m", "mcp_guard.cli.main", "serve", "--config", str(config)]
    with Client(command, stderr=folder / "guard.log", environment=environment()) as client:
        client.open()
        client.request("tools/list", {})
        with _decider(config, folder) as decider:
            taken = [_round(client, decider, file, number) for number in range(rounds + 1)]
    return [effect for effect, _ in taken[1:]], [commit for _, commit in taken[1:]]  # the first one warms up


def _round(client: Client, decider: subprocess.Popen[str], file: Path, number: int) -> tuple[float, float]:
    call = {"name": "stamp", "arguments": {"number": number}}
    ticket = client.request("tools/call", call)["_meta"]["io.mcp-guard/approval"]["ticket"]
    if decider.stdin is None or decider.stdout is None:
        raise BenchError("the deciding process has no pipes")
    decider.stdin.write(f"{ticket}\n")
    decider.stdin.flush()
    asked, committed = json.loads(decider.stdout.readline())
    (effect,) = _effects(file, number)
    outcome = client.request("tools/call", {"name": "guard_approval_wait", "arguments": {"ticket": ticket}})
    if outcome.get("isError"):
        raise BenchError(f"the outcome was not delivered: {outcome}")
    return (effect - asked) / 1e6, (committed - asked) / 1e6


def _effects(file: Path, number: int) -> list[int]:
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        found = [at for wanted, at in lines if wanted == number]
        if found:
            return found
        time.sleep(0.002)
    raise BenchError(f"the approved call {number} did not run")


@contextlib.contextmanager
def _decider(config: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with the control plane alone: approves the tickets that it reads, and prints when."""
    command = [sys.executable, "-m", "benchmarks.approve", "--decide", str(config)]
    with (folder / "decider.log").open("wb") as log:
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, cwd=HERE.parent) as process:
            yield process
            if process.stdin is not None:
                process.stdin.close()


async def _decide_all(config: Path) -> None:
    async with open_review(load_config(config, env=os.environ)) as review:
        await review.reviewers.add("bench", by="bench")
        reviewer = Reviewer("bench", Assurance.A2, "cli")
        for line in sys.stdin:
            asked = time.monotonic_ns()
            await review.decide(line.strip(), "approve", reviewer)
            print(json.dumps([asked, time.monotonic_ns()]), flush=True)


def _print(effects: list[float], commits: list[float]) -> int:
    print(f"{'approve, in another process':<30}{'median ms':>11}{'p95 ms':>9}{'max ms':>9}")
    for name, figures in (("to the commit", commits), ("to the effect", effects)):
        ordered = sorted(figures)
        p95 = ordered[int(len(ordered) * 0.95)]
        print(f"{name:<30}{statistics.median(ordered):>11.1f}{p95:>9.1f}{ordered[-1]:>9.1f}")
    median = statistics.median(effects)
    print(f"effect, times the commit: {median / statistics.median(commits):.1f}x; limit {LIMIT_MS:g} ms")
    return 0 if median <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
