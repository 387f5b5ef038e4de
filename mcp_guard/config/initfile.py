"""Plan and write a first guard.yaml, from a host's servers or empty. No host file is changed.

Everything that the guard does by default stands in the file, so that nobody has to look it up to change it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mcp_guard.config.hostfile import HostServer, host_servers, projects_with_servers, starts_the_guard
from mcp_guard.config.load import user_config_file
from mcp_guard.config.problems import spell
from mcp_guard.config.schema import GuardConfig, ServerConfig
from mcp_guard.config.secretfiles import FOLDER, SecretFiles
from mcp_guard.errors import ConfigError, UsageError
from mcp_guard.system import make_private_dir, write_new_private

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_REFERENCE = re.compile(r"\$\{([^{}]*)(\}?)")
_EVERYWHERE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|[A-Za-z_][A-Za-z0-9_]*(?::-.*)?", re.DOTALL)
"""References that hosts resolve to variables of the environment, as the guard does."""
_HOSTS_OWN = frozenset(
    {
        *("workspaceFolder", "workspaceFolderBasename", "workspaceRoot", "userHome"),
        *("cwd", "file", "pathSeparator", "execPath"),
    }
)
_GUARDS_OWN = frozenset({"file:", "keyring:", "config_dir"})
"""Begins references that mean something in guard.yaml and nothing in the file of a host."""

_HEAD = """\
# What this guard is for. `mcp-guard check` reads it and says what is wrong.
version: 1
id: {id}              # names the data folder: keep it
environment: {environment}      # rules can match on it
"""

_EMPTY = """
# Servers behind the guard: paste the `mcpServers` of your host, or write
#   files: {command: npx, args: ["-y", "@modelcontextprotocol/server-filesystem", "/path/to/folder"]}
# Secrets: ${env:NAME}, ${file:secrets/NAME} (beside this file) or ${keyring:SERVICE/USER}.
servers: {}
"""

_SERVERS = """
# Servers behind the guard. `names` says how their tools are offered: plain (read_file) or prefixed (files_read_file).
# Hosts remember tool names: leave it as it is once a host has seen them.
# Secrets: ${env:NAME}, ${file:secrets/NAME} (beside this file) or ${keyring:SERVICE/USER}.
"""

_TAIL = """
# What happens to a tool of each risk where no rule matches. Tools that nobody reviewed count as high.
defaults:
  low: allow
  medium: allow
  high: require_approval
  critical: require_approval      # by a reviewer with a token: `mcp-guard reviewer add NAME`

# Your own judgements: all rules that match count, and the strictest wins. For example
#   - id: ask-before-delete
#     match: {server: crm, tool: "delete_*"}
#     effect: require_approval
rules: []

# Secrets and personal data. by_manifest: personal data reaches what is known to need it, such as a recipient.
masking:
  results: {secrets: placeholder, pii: placeholder}
  arguments: {secrets: ask, pii: by_manifest}
  announce: true                  # say in each answer what was masked

# personal: you confirm the calls of your own agent.
approvals:
  mode: personal
  hold_s: 45.0                    # a call waits this long for you, then it becomes a ticket
  expires_after_s: 900.0          # an unanswered request is closed
  use_within_s: 300.0             # an approval that is not used is void
"""


@dataclass(frozen=True, slots=True)
class InitPlan:
    """What `init` would write."""

    text: str
    """The whole of guard.yaml; plain secrets are not in it."""
    servers: tuple[str, ...]
    """Names in guard.yaml."""
    notes: tuple[str, ...]
    """For the user, in order: what was changed, left out or needs a hand. Never a value."""
    secrets: Mapping[str, str] = field(repr=False, default_factory=dict)
    """Path relative to guard.yaml → content, to be written 0600."""


def config_id_for(path: Path) -> str:
    """Id for a configuration at `path`: `personal` for the user's own, else one of its own for each path."""
    path = path.expanduser().absolute()
    if path == user_config_file():
        return "personal"
    stem = _UNSAFE.sub("-", path.parent.name).strip("-._")[:40] or "guard"
    return f"{stem}-{sha256(str(path).encode()).hexdigest()[:6]}"


def plan_init(source: Mapping[str, Any] | None, *, config_id: str, environment: str = "default") -> InitPlan:
    """Plan a guard.yaml. Reads and writes nothing.

    Args:
        source: A host's file as parsed by `read_host_file`, or None to start empty.
        config_id: See `config_id_for`.
        environment: Name for rules.

    Raises:
        ConfigError: the source has no block of servers.
    """
    notes: list[str] = []
    secrets = SecretFiles(careful=True)
    servers: dict[str, dict[str, Any]] = {}
    for entry in host_servers(source) if source is not None else ():
        fields = _accepted(entry, notes)
        if fields is not None:
            name = free_name(entry.name, servers)
            if name != entry.name:
                notes.append(f"{spell((entry.name,))} is called {name} here: names are letters, digits and _ . -")
            servers[name] = _with_secrets_moved(name, fields, secrets, notes)
    if source is not None and (count := projects_with_servers(source)):
        notes.append(f"servers that belong to single projects ({count} projects) were not read")
    for fields in servers.values():
        # A name is frozen when it is first seen, so a server that comes later must not rename these.
        fields["names"] = "plain" if len(servers) == 1 else "prefixed"
    text = first_text(servers, config_id=config_id, environment=environment)
    return InitPlan(text, tuple(servers), tuple(notes), secrets.files)


def first_text(servers: Mapping[str, dict[str, Any]], *, config_id: str, environment: str = "default") -> str:
    """A whole guard.yaml with these servers.

    Raises:
        UsageError: id or environment is not a name.
    """
    return _HEAD.format(id=_scalar(config_id), environment=_scalar(environment)) + _servers_text(servers) + _TAIL


def write_init(plan: InitPlan, path: Path) -> None:
    """Write a plan: the secrets first, then guard.yaml, all 0600. Nothing is overwritten.

    Raises:
        ConfigError: one of the files exists, or cannot be written; nothing is left behind then.
    """
    if os.path.lexists(path):
        raise ConfigError(f"{path.name} exists and is left as it is", hint="edit it, or pass --config with a new path")
    made: list[Path] = []
    try:
        for file, text in _files_to_write(plan, path).items():
            made.append(file)
            write_new_private(file, text.encode())
    except OSError as error:
        exists = isinstance(error, FileExistsError)
        for file in made[:-1] if exists else made:
            file.unlink(missing_ok=True)
        name = made[-1].name if made else path.parent.name
        what = "exists already" if exists else f"cannot be written: {error.strerror}"
        raise ConfigError(
            f"{name} {what}", hint="nothing was written; move it away, or pass --config with a path in another folder"
        ) from error


def _files_to_write(plan: InitPlan, path: Path) -> dict[Path, str]:
    """Make the folders, and tell which files go into them; guard.yaml last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {path.parent / name: text for name, text in plan.secrets.items()}
    if plan.secrets:
        ignore = path.parent / FOLDER / ".gitignore"
        make_private_dir(ignore.parent)
        files |= {} if ignore.exists() else {ignore: "*\n"}
    return {**files, path: plan.text}


def _accepted(entry: HostServer, notes: list[str]) -> dict[str, Any] | None:
    """The fields of an entry that the guard can serve, else None and a note why not."""
    shown = spell((entry.name,))
    if starts_the_guard(entry.fields):
        notes.append(f"{shown} was left out: it is the guard itself")
        return None
    if entry.fields.get("type") == "sse":
        notes.append(f"{shown} was left out: the old SSE transport is not supported; see whether it offers http")
        return None
    try:
        ServerConfig.model_validate(entry.fields)
    except ValidationError as error:
        reasons = {".".join(str(step) for step in item["loc"][:1]) or item["msg"] for item in error.errors()}
        notes.append(f"{shown} was left out, it is not valid: {'; '.join(sorted(reasons))}")
        return None
    if entry.left_out:
        keys = ", ".join(spell((key,)) for key in entry.left_out)
        notes.append(f"{shown}: without a meaning here, left out: {keys}")
    return dict(entry.fields)


def _with_secrets_moved(name: str, fields: dict[str, Any], secrets: SecretFiles, notes: list[str]) -> dict[str, Any]:
    before = len(secrets.files)
    foreign = {kind for text in _texts(fields) for kind in _foreign(text)}
    moved = secrets.move_from(name, fields)
    new = list(secrets.files)[before:]
    if new:
        notes.append(f"{name}: plain secrets were moved to {', '.join(new)}")
    if foreign:
        # Enabled, an unknown reference would stop the whole guard, and one of the guard's own would be resolved: a
        # file of the user's would go to a server that somebody else wrote down.
        moved["disabled"] = True
    if hosts := sorted(foreign - _GUARDS_OWN):
        notes.append(f"{name} is disabled: only its host knows {', '.join(hosts)}; write the value, then enable it")
    if ours := sorted(foreign & _GUARDS_OWN):
        shown = ", ".join(f"${{{kind}{'…' if kind.endswith(':') else ''}}}" for kind in ours)
        notes.append(f"{name} is disabled: here {shown} reads what is yours, for this server; enable it if you mean it")
    return moved


def _foreign(text: str) -> Iterator[str]:
    """What the references in a host's text are called, but for variables of the environment."""
    for body, end in _REFERENCE.findall(text):
        kind, colon, _ = body.partition(":")
        if not end:
            yield "a ${ that is not closed"
        elif body in _HOSTS_OWN or body in _GUARDS_OWN or not _EVERYWHERE.fullmatch(body):
            yield kind + colon if kind + colon in _GUARDS_OWN else spell((kind,))


def _texts(fields: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for value in fields.values():
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        found += [text for text in inner if isinstance(text, str)]
    return found


def free_name(name: str, taken: Container[str]) -> str:
    """A name for guard.yaml near the one of the host, and not taken."""
    stem = _UNSAFE.sub("-", name).strip("-._")[:56] or "server"
    free, number = stem, 2
    while free in taken:
        free, number = f"{stem}-{number}", number + 1
    return free


def _servers_text(servers: Mapping[str, dict[str, Any]]) -> str:
    if not servers:
        return _EMPTY
    return _SERVERS + yaml.safe_dump({"servers": dict(servers)}, sort_keys=False, allow_unicode=True, width=120)


def _scalar(name: str) -> str:
    """A name as YAML: `1` and `on` need quotes.

    Raises:
        UsageError: it is not a name.
    """
    try:
        GuardConfig(version=1, id=name)
    except ValidationError as error:
        raise UsageError("id and environment are letters, digits and _ . - and start with a letter or digit") from error
    text = yaml.safe_dump(name).splitlines()[0]
    return str(text)
