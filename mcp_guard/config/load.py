"""Find and load guard.yaml (decisions.md D32): all problems at once, with line, path and hint; no value echoed."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import platformdirs
from pydantic import JsonValue, ValidationError

from mcp_guard.canon import digest
from mcp_guard.config.document import Document, read_document
from mcp_guard.config.explain_errors import findings_of
from mcp_guard.config.problems import Check, Finding, Place, Problem, fail
from mcp_guard.config.references import ResolvedServers, Resolver, resolve_notify, resolve_servers
from mcp_guard.config.schema import GuardConfig, ServerConfig
from mcp_guard.config.servernames import ambiguous_names
from mcp_guard.errors import ConfigError

CONFIG_VARIABLE = "MCP_GUARD_CONFIG"
FILE_NAME = "guard.yaml"
_APP = "mcp-guard"
_HTTP_TYPES = ("http", "streamable-http", "streamableHttp", "streamable_http")


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid configuration and what belongs to it."""

    config: GuardConfig
    """As written: references unresolved, so it can be shown."""
    path: Path
    data_dir: Path
    """Absolute; not created here."""
    warnings: tuple[str, ...]
    digest: str
    """SHA-256 over the configuration as written."""
    servers: Mapping[str, ServerConfig] = field(repr=False)
    """Servers that are not disabled, references resolved: for starting them only."""
    secrets: tuple[str, ...] = field(repr=False)
    files: tuple[Path, ...] = ()
    """Files of `${file:…}`: no call may lead into them."""
    notify: tuple[str, ...] = field(default=(), repr=False)
    """`approvals.notify`, references resolved."""

    @property
    def folder(self) -> Path:
        """The folder of the file, against which its relative paths are read."""
        return self.path.parent


def find_config(explicit: Path | None, env: Mapping[str, str], *, cwd: Path | None = None) -> Path:
    """Path of the configuration: `--config`, else MCP_GUARD_CONFIG, else the user's config folder.

    A guard.yaml in the current folder is never used by itself: a cloned repository must not bring its own policy
    and commands.

    Raises:
        ConfigError: there is none.
    """
    for given, source in ((explicit, "--config"), (env.get(CONFIG_VARIABLE), CONFIG_VARIABLE)):
        if given:
            path = Path(given).expanduser()
            if not path.is_file():
                raise ConfigError(f"the file given with {source} does not exist", hint=f"check the path in {source}")
            return path.absolute()
    path = user_config_file()
    if path.is_file():
        return path
    if ((cwd or Path.cwd()) / FILE_NAME).is_file():
        raise ConfigError(
            "no configuration; the guard.yaml in this folder is not used by itself: it may have come with a repository",
            hint="read it, then pass `--config ./guard.yaml`",
        )
    raise ConfigError("no configuration found", hint="`mcp-guard init` writes one; or pass `--config PATH`")


def user_config_file() -> Path:
    """Where a user's own guard.yaml lies."""
    return platformdirs.user_config_path(_APP, appauthor=False) / FILE_NAME


def config_words(path: Path, env: Mapping[str, str]) -> str:
    """` --config PATH` for a command that a person is told to run; empty where it finds this file by itself."""
    if path == Path(env.get(CONFIG_VARIABLE) or user_config_file()).expanduser().absolute():
        return ""
    return f' --config "{path}"' if sys.platform == "win32" else f" --config {shlex.quote(str(path))}"


def user_data_dir() -> Path:
    """The folder around the data folders of all ids of a user."""
    return platformdirs.user_data_path(_APP, appauthor=False)


def wrap_dir() -> Path:
    """Where `wrap` keeps what it changed in hosts' files, and their old text: for all configurations of the user.

    Beside the data folders, which are named after ids; no id begins with a dot.
    """
    return user_data_dir() / ".wrap"


def load_config(
    path: Path,
    env: Mapping[str, str],
    *,
    checks: Sequence[Check] = (),
    resolver: Resolver | None = None,
    resolve: bool = True,
    only: str | None = None,
) -> LoadedConfig:
    """Read, validate and resolve a configuration.

    Args:
        path: The file: YAML, or JSON by its suffix.
        env: For references.
        checks: Of other parts; what they find is told together with the rest.
        resolver: Default: one over `env`, the file's folder and the system's keyring.
        resolve: False for commands that start no server; `servers` and `secrets` are then empty.
        only: The one server that will run; the variables of others need not be there.

    Raises:
        ConfigError: lists every problem as `guard.yaml:LINE: path: what`.
    """
    document = read_document(path := path.absolute())
    data, problems = _accept_host_block(document)
    problems += document.problems
    if document.writers == "anyone":
        problems.append(document.problem((), "everybody on this machine may write to this file", "chmod go-w"))
    if document.data is None:
        fail(problems)
    config, findings = _validate(data)
    problems += [document.problem(f.place, f.what, f.hint) for f in findings]
    resolver = resolver or Resolver(env, path.parent)
    notify = resolve_notify(config.approvals.notify if resolve else (), resolver)
    resolved = _resolved(config, resolver, only) if resolve else resolve_servers({}, resolver, only)
    late = [*resolved.findings, *_rules_name_servers(data)]
    for check in checks:
        late += check(config, path.parent)
    problems += [document.problem(_by_index(f.place, data), f.what, f.hint) for f in late]
    fail(problems)
    return replace(_loaded(config, path, document, resolved), notify=notify)


def _resolved(config: GuardConfig, resolver: Resolver, only: str | None) -> ResolvedServers:
    found = resolve_servers(config.servers, resolver, only)
    ambiguous = ambiguous_names(config.servers) if only is None else ()
    return replace(found, warnings=(*found.warnings, *ambiguous))


def _loaded(config: GuardConfig, path: Path, document: Document, resolved: ResolvedServers) -> LoadedConfig:
    warnings = [str(document.problem(f.place, f.what, f.hint)) for f in resolved.warnings]
    if document.writers == "group":
        warnings.append(str(document.problem((), "the group may write to this file", "chmod g-w")))
    return LoadedConfig(
        config=config,
        path=path,
        data_dir=data_dir(config, path.parent),
        warnings=tuple(warnings),
        digest=digest("config", config.model_dump(mode="json")),
        servers=resolved.servers,
        secrets=resolved.secrets,
        files=resolved.files,
    )


def data_dir(config: GuardConfig, folder: Path) -> Path:
    """The data folder, absolute: as configured, relative to the file, or the user's data folder for this id."""
    if config.data_dir is None:
        return user_data_dir() / config.id
    return (folder / Path(config.data_dir).expanduser()).absolute()


def config_schema() -> dict[str, JsonValue]:
    """JSON Schema of guard.yaml."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **GuardConfig.model_json_schema(),
        "title": "mcp-guard configuration, version 1",
    }


def _accept_host_block(document: Document) -> tuple[dict[str, JsonValue], list[Problem]]:
    """Take a pasted `mcpServers` object as `servers`, with the transport names that hosts use."""
    if not isinstance(document.data, dict):
        return {}, [] if document.data is None else [document.problem((), "must be a block of keys")]
    data = dict(document.data)
    if "mcpServers" not in data:
        return data, []
    if "servers" in data:
        return data, [document.problem(("mcpServers",), "give servers or mcpServers, not both")]
    pasted = data.pop("mcpServers")
    for place in [p for p in document.lines if p[:1] == ("mcpServers",)]:
        document.lines[("servers", *place[1:])] = document.lines[place]
    data["servers"] = {n: _host_server(s) for n, s in pasted.items()} if isinstance(pasted, dict) else pasted
    return data, []


def _host_server(server: JsonValue) -> JsonValue:
    if not isinstance(server, dict) or server.get("type") not in _HTTP_TYPES:
        return server
    return {**server, "type": "http"}


def _validate(data: dict[str, JsonValue]) -> tuple[GuardConfig, list[Finding]]:
    """Validate; where something is wrong, go on with what is left without it, so that the later checks still run."""
    findings: list[Finding] = []
    rest = data
    for attempt in range(3):
        try:
            return GuardConfig.model_validate(rest), findings
        except ValidationError as error:
            found = findings_of(error, rest, GuardConfig)
            # Later attempts see moved indexes; only what they say of the whole file is new.
            findings += found if attempt == 0 else [f for f in found if f.place == ()]
            rest = _without(rest, {item["loc"][:2] for item in error.errors(include_input=False)})
    return GuardConfig(version=1, id="unnamed"), findings


def _without(data: dict[str, JsonValue], bad: Container[Place]) -> dict[str, JsonValue]:
    """Drop each server, rule or value that holds an error; supply what is required."""
    rest: dict[str, JsonValue] = {"version": 1, "id": "unnamed"}
    for top, block in data.items():
        # The one check over the whole file is about the ids of rules.
        if (top,) in bad or (top == "rules" and () in bad):
            continue
        if isinstance(block, dict):
            rest[top] = {key: value for key, value in block.items() if (top, key) not in bad}
        elif isinstance(block, list):
            rest[top] = [value for index, value in enumerate(block) if (top, index) not in bad]
        else:
            rest[top] = block
    return rest


def _rules_name_servers(data: dict[str, JsonValue]) -> list[Finding]:
    """A rule for a server that is not there never matches. Read from the document: all rules, also broken ones."""
    servers, rules = data.get("servers"), data.get("rules")
    if not isinstance(rules, list) or not isinstance(servers, (dict, type(None))):
        return []
    findings = []
    for index, rule in enumerate(rules):
        match = rule.get("match") if isinstance(rule, dict) else None
        wanted = match.get("server") if isinstance(match, dict) else None
        for name in wanted if isinstance(wanted, list) else [wanted]:
            if isinstance(name, str) and not _names_a_server(name, servers or {}):
                place = ("rules", index, "match", "server")
                findings.append(Finding(place, "names a server that is not configured", _near(name, servers or {})))
    return findings


def _names_a_server(pattern: str, servers: Mapping[str, JsonValue]) -> bool:
    return pattern in servers or any(c in pattern for c in "*?")


def _near(name: str, servers: Mapping[str, JsonValue]) -> str:
    near = difflib.get_close_matches(name, list(servers), n=1)
    return f"did you mean {near[0]}?" if near else ""


def _by_index(place: Place, data: dict[str, JsonValue]) -> Place:
    """Turn ("rules", id, …) into ("rules", index, …)."""
    rules = data.get("rules")
    if place[:1] != ("rules",) or len(place) == 1 or not isinstance(place[1], str) or not isinstance(rules, list):
        return place
    for index, rule in enumerate(rules):
        if isinstance(rule, dict) and rule.get("id") == place[1]:
            return ("rules", index, *place[2:])
    return place
