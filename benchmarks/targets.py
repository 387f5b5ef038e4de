"""What is measured: the echo server directly, through the guard, and through a naive proxy."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ECHO = [sys.executable, str(HERE / "echo_server.py")]

GUARD_CONFIG = """\
version: 1
id: bench
data_dir: ./data
servers:
  bench: {{command: {command}, args: {arguments}, names: plain}}
rules:
  - id: allow-echo
    match: {{server: bench, tool: echo}}
    effect: allow
    reason: "benchmark: the server only returns what it was sent"
"""


@dataclass(frozen=True, slots=True)
class Target:
    """One way to reach the echo server."""

    name: str
    command: list[str]


def targets(folder: Path) -> list[Target]:
    """Return the targets in the order in which each round measures them; writes guard.yaml into `folder`."""
    config = folder / "guard.yaml"
    config.write_text(GUARD_CONFIG.format(command=json.dumps(ECHO[0]), arguments=json.dumps(ECHO[1:])))
    guard = [str(Path(sys.executable).with_name("mcp-guard")), "serve", "--config", str(config)]
    return [
        Target("direct", ECHO),
        Target("guard", guard),
        Target("naive", [sys.executable, str(HERE / "naive_proxy.py"), *ECHO]),
    ]


def environment() -> Mapping[str, str]:
    """Environment of the children: byte code may be written, so that start-up is measured as users have it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
