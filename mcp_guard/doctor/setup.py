"""What the checks look at. Everything of the machine comes in through it, so that a check can be tried alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mcp_guard.config.load import LoadedConfig
from mcp_guard.config.references import Resolver, resolve_servers
from mcp_guard.config.schema import ServerConfig
from mcp_guard.doctor.finding import Finding, find
from mcp_guard.errors import ConfigError

Load = Callable[[], LoadedConfig]
"""Finds and loads guard.yaml with every check there is, references unresolved; raises ConfigError."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine as the process sees it."""

    env: Mapping[str, str] = field(repr=False)
    home: Path
    cwd: Path
    platform: str
    """As `sys.platform`."""
    now_ns: int
    """Wall clock, nanoseconds since 1970 UTC."""
    serve_aside: Sequence[str]
    """Command that runs a guard on a data folder of its own; takes the configuration and that folder."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A machine and the configuration found on it."""

    machine: Machine
    path: Path | None
    """guard.yaml, also when it is not valid; None: there is none."""
    loaded: LoadedConfig | None = None
    """None: there is none, or it is not valid. Holds only servers whose references could be resolved."""
    complete: bool = False
    """Whether a guard that is started here finds all references."""

    @property
    def data_dir(self) -> Path | None:
        """The data folder; None where there is none that can be looked into, which `data.usable` tells."""
        folder = None if self.loaded is None else self.loaded.data_dir
        if folder is None or not os.path.isdir(folder) or not os.access(folder, os.R_OK | os.X_OK):  # noqa: PTH112 - Path.is_dir raises
            return None
        return folder


def take_in(machine: Machine, path: Path | None, load: Load) -> tuple[Setup, list[Finding]]:
    """Load the configuration, and say what is wrong with it.

    Args:
        machine: The machine.
        path: guard.yaml, None when there is none.
        load: Loads it.
    """
    if path is None:
        return Setup(machine, None), [find("config-missing", "Nothing is set up yet: there is no guard.yaml.")]
    try:
        written = load()
    except ConfigError as error:
        return Setup(machine, path), [find("config-invalid", line, path=path) for line in _problems(error)]
    loaded, findings = _resolved(written, machine.env)
    complete = all(finding.code != "reference-unresolved" for finding in findings)
    return Setup(machine, path, loaded, complete), findings


def _problems(error: ConfigError) -> list[str]:
    """Each problem of an error that lists many; none of them holds a value of the file."""
    first, *rest = error.message.splitlines()
    return rest or [first]


def _resolved(written: LoadedConfig, env: Mapping[str, str]) -> tuple[LoadedConfig, list[Finding]]:
    """Resolve server by server: one reference that is missing here must not hide how the other servers do."""
    servers: dict[str, ServerConfig] = {}
    secrets: list[str] = []
    files: list[Path] = []
    findings: list[Finding] = []
    for name, server in written.config.servers.items():
        resolved = resolve_servers({name: server}, Resolver(env, written.folder))
        secrets += resolved.secrets
        files += resolved.files
        if not resolved.findings:
            servers |= resolved.servers
        for problem in resolved.findings:
            how = problem.hint or f"mend the reference in {written.path}"
            findings.append(find("reference-unresolved", f"Server {name} was not started: {problem.what}.", how=how))
        if name not in resolved.servers and not server.disabled:
            text = f"Server {name} cannot be started here: only its host sets its variables."
            findings.append(find("server-left-out", text))
        if any("fewer than" in warning.what for warning in resolved.warnings):
            text = f"A secret of server {name} is so short that it is not masked as an exact value."
            findings.append(find("secret-short", text))
    known = replace(written, servers=servers, secrets=tuple(secrets), files=tuple(files))
    return known, findings
