"""A machine in a folder, to wrap and unwrap on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp_guard.config.hostfile import at, parse_host_file
from mcp_guard.config.load import LoadedConfig, load_config
from mcp_guard.wrap.carry_out import carry_out
from mcp_guard.wrap.diff import diff_lines
from mcp_guard.wrap.locate import HostFile, Machine, file_at, find_files
from mcp_guard.wrap.plan import Options, WrapPlan, plan_wrap
from mcp_guard.wrap.status import HostState, survey
from mcp_guard.wrap.undo import UnwrapPlan, carry_back, plan_unwrap

COMMAND = "/opt/guard/bin/mcp-guard"
PATH = "/usr/local/bin:/usr/bin"


@dataclass
class Bench:
    """Home, configuration and journal below one folder."""

    folder: Path
    platform: str = "linux"
    env: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def config(self) -> Path:
        return self.folder / "config" / "guard.yaml"

    @property
    def journal(self) -> Path:
        return self.folder / "data" / ".wrap"

    @property
    def machine(self) -> Machine:
        return Machine(self.home, self.platform, self.env, self.folder / "project")

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    def plan(self, *, file: Path | None = None, combined: bool = False, remote: bool = False) -> WrapPlan:
        files = find_files(self.machine, project=False) if file is None else [file_at(file, self.machine)]
        options = Options(self.config, (COMMAND,), PATH, combined=combined, remote=remote)
        return plan_wrap(files, options, named=file is not None)

    def wrap(self, **how: Any) -> WrapPlan:
        plan = self.plan(**how)
        if plan.files:
            carry_out(plan, self.journal)
        return plan

    def unwrap(self, files: list[HostFile] | None = None) -> UnwrapPlan:
        plan = plan_unwrap(files, self.journal, named=False)
        carry_back(plan, self.journal)
        return plan

    def survey(self) -> list[HostState]:
        return survey(self.machine)

    def loaded(self, env: dict[str, str] | None = None, only: str | None = None) -> LoadedConfig:
        return load_config(self.config, env or {}, only=only)

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


def entries(path: Path, *place: str) -> dict[str, Any]:
    """A block of a host's file."""
    found = at(parse_host_file(path.read_bytes(), path), place)
    assert isinstance(found, dict)
    return found


def shown(plan: WrapPlan) -> str:
    """All that a person is shown of a plan."""
    lines = [line for found in plan.files for line in diff_lines(found.file, found.before, found.after, 10_000)]
    return "\n".join([*lines, *plan.notes, repr(plan), *plan.servers.new])
