"""A set-up of its own for each test: a home folder, a guard.yaml, a data folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mcp_guard.config.load import load_config
from mcp_guard.doctor.finding import Finding
from mcp_guard.doctor.setup import Machine, Setup, take_in
from tests.fakes import FakeClock

NOW_NS = FakeClock().now_ns()
SERVE_ASIDE = (sys.executable, "-m", "mcp_guard.cli.serve_aside")


@dataclass
class Place:
    """Where a set-up lies. `setup` reads it as it is then."""

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    platform: str = "linux"
    now_ns: int = NOW_NS

    @property
    def path(self) -> Path:
        return self.folder / "guard.yaml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def machine(self) -> Machine:
        return Machine(self.env, self.home, self.folder, self.platform, self.now_ns, SERVE_ASIDE)

    def write(self) -> None:
        self.path.write_text(json.dumps(self.config), encoding="utf-8")
        self.path.chmod(0o600)

    def take_in(self) -> tuple[Setup, list[Finding]]:
        return take_in(self.machine, self.path, lambda: load_config(self.path, self.env, resolve=False))

    def setup(self, **servers: dict[str, Any]) -> Setup:
        """The set-up, with these servers."""
        if servers:
            self.config["servers"] = servers
        self.write()
        return self.take_in()[0]


def codes(findings: Iterable[Finding]) -> list[str]:
    """Their codes, without what is fine."""
    return [finding.code for finding in findings if finding.code != "ok"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("home", "data"):
        (tmp_path / name).mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    return Place(tmp_path, {"version": 1, "id": "t", "data_dir": "./data", "servers": {}})
