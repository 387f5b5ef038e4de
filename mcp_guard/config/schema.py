"""guard.yaml as strict, frozen models. A misspelt key is an error: a misspelt rule is a rule that is not there.

The JSON Schema in `docs/schema/guard.v1.json` is generated from `GuardConfig`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mcp_guard.model import Assurance, Effect

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"

Name = Annotated[str, Field(pattern=NAME)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Model(BaseModel):
    """Base: unknown keys are errors, values are not converted, instances do not change, no value in errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class ServerConfig(Model):
    """One downstream server: `command` (stdio) or `url` (streamable HTTP)."""

    command: str | None = None
    """Program to start; found on PATH when it has no slash."""
    args: list[str] = []
    env: dict[str, str] = {}
    """Added to the child's environment. References such as ${env:NAME} keep secrets out of this file."""
    cwd: str | None = None
    """Working directory; default: the one the host gave to the guard."""
    url: str | None = None
    headers: dict[str, str] = {}
    type: Literal["stdio", "http"] | None = None
    """Accepted for pasted host blocks; must agree with command or url."""
    manifest: str | None = None
    """Id of a shipped manifest, or path of a manifest file; default: found by the package in `command`."""
    environment: str | None = None
    """Overrides the top-level environment for rules."""
    names: Literal["plain", "prefixed"] = "prefixed"
    """Whether its tools are offered as `tool` or as `server_tool`."""
    pins: Literal["program", "definitions", "off"] = "program"
    """What `guard.lock` holds this server to: program (its files, version and definitions), definitions, or nothing."""
    start_timeout_s: Seconds = 30.0
    call_timeout_s: Seconds = 300.0
    disabled: bool = False

    @model_validator(mode="after")
    def _one_transport(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("give exactly one of command and url")
        if self.command is not None and not self.command.strip():
            raise ValueError("command is empty: it names the program that is started")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError("url must start with http:// or https://")
        if self.type is not None and (self.type == "stdio") != (self.command is not None):
            raise ValueError("type does not agree with command or url")
        if self.command is None and (self.args or self.env or self.cwd):
            raise ValueError("args, env and cwd need a command")
        if self.url is None and self.headers:
            raise ValueError("headers need a url")
        return self

    @property
    def local(self) -> bool:
        """Whether it is a local stdio server."""
        return self.command is not None


class Match(Model):
    """Which calls a rule is for. All given keys must match; globs (`*`, `?`) are matched with case."""

    server: str | list[str] | None = None
    tool: str | list[str] | None = None
    """The downstream's own tool name."""
    environment: str | list[str] | None = None
    category: str | list[str] | None = None
    where: Annotated[str, Field(max_length=2000)] | None = None
    """CEL over `args`, `server`, `tool`, `environment`, `principal`, `risk`, `category`; must give a bool."""


def as_list(patterns: str | list[str] | None) -> list[str]:
    """The patterns of one key of `Match` as a list; empty when the key is not given."""
    return [patterns] if isinstance(patterns, str) else list(patterns or ())


GrantBound = Literal["same", "folder", "domain"]
"""same: the value itself; folder: a path in the same folder or below; domain: an address or host of the same domain."""

GrantArgument = Annotated[str, Field(pattern=r"^(/([^~/]|~0|~1)*)+$", max_length=200)]
"""JSON Pointer into the arguments."""


class GrantOption(Model):
    """A standing permission that the reviewer may give with an approval: this tool, within these bounds."""

    for_s: Annotated[float, Field(ge=1, le=28_800)] = 900.0
    max_uses: Annotated[int, Field(ge=1, le=1000)] = 20
    keep: Literal["arguments"] | Annotated[dict[GrantArgument, GrantBound], Field(min_length=1, max_length=16)] = (
        "arguments"
    )
    """What must stay as in the approved call: all arguments, or these, each with its bound. Others may differ."""


class ApprovalOptions(Model):
    """How calls under this rule are approved. Durations in seconds."""

    min_assurance: Literal["A1", "A2", "A3", "A4"] | None = None
    expires_after_s: Annotated[float, Field(ge=1, le=86_400)] | None = None
    use_within_s: Annotated[float, Field(ge=1, le=3_600)] | None = None
    run: Literal["on_approval", "on_pickup"] | None = None
    grants: Annotated[list[GrantOption], Field(max_length=8)] | None = None
    """Grants that the reviewer is offered. Default: fitting ones for high risk, none for critical; [] offers none."""

    @property
    def assurance(self) -> Assurance | None:
        """`min_assurance` as a number."""
        return None if self.min_assurance is None else Assurance[self.min_assurance]


class Rule(Model):
    """One judgement. Among all rules that match, the most restrictive effect wins."""

    id: Name
    match: Match = Match()
    effect: Literal["allow", "require_approval", "deny"]
    reason: Annotated[str, Field(max_length=500)] | None = None
    """Needed where `allow` is looser than the default for the tool; recorded."""
    owner: Annotated[str, Field(max_length=200)] | None = None
    approval: ApprovalOptions = ApprovalOptions()

    @field_validator("id")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value.startswith(("default", "builtin")):
            raise ValueError("rule ids that start with default or builtin are reserved")
        return value

    @property
    def effect_value(self) -> Effect:
        """`effect` as an `Effect`."""
        return Effect(self.effect)


class DefaultsConfig(Model):
    """Effects by risk where no rule matches. Loosening `high` or `critical` here is not possible; write a rule."""

    low: Literal["allow", "require_approval", "deny"] = "allow"
    medium: Literal["allow", "require_approval", "deny"] = "allow"
    high: Literal["require_approval", "deny"] = "require_approval"
    critical: Literal["require_approval", "deny"] = "require_approval"


class ResultMasking(Model):
    """What happens to findings in results."""

    secrets: Literal["placeholder", "remove"] = "placeholder"
    pii: Literal["placeholder", "remove", "off"] = "placeholder"


class ArgumentMasking(Model):
    """What happens to findings in arguments."""

    secrets: Literal["ask", "placeholder", "allow"] = "ask"
    pii: Literal["by_manifest", "placeholder", "allow"] = "by_manifest"


class MaskingConfig(Model):
    """Masking (decisions.md D33). `detectors` may name scrubadub detectors: `scrubadub:postalcode@en_GB`."""

    results: ResultMasking = ResultMasking()
    arguments: ArgumentMasking = ArgumentMasking()
    allow: list[str] = []
    """Exact values that are never masked, e.g. a public support address."""
    detectors: list[str] = []
    announce: bool = True
    """Say in the result's text what was masked."""


class ApprovalsConfig(Model):
    """Approvals. Durations in seconds."""

    mode: Literal["personal", "team"] | None = None
    """personal: the OS user may confirm the calls of the own agent up to A1. Default: personal on stdio."""
    hold_s: Annotated[float, Field(ge=0, le=300)] = 45.0
    """How long a suspended call waits before it becomes a ticket."""
    expires_after_s: Annotated[float, Field(ge=1, le=86_400)] = 900.0
    use_within_s: Annotated[float, Field(ge=1, le=3_600)] = 300.0
    run: Literal["on_approval", "on_pickup"] = "on_approval"
    elicitation: bool = True
    """Whether the client may be asked to show a prompt."""
    max_open: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Open requests per requester."""
    notify: list[str] = ["desktop"]
    """Where "a call waits" is announced: `desktop`, or URLs of apprise. Needs the extra `notify`."""
    allow_self_approval: Literal[False] = False
    """Not configurable. Present so that a file which sets it to true is refused with a clear error."""


class ConsoleConfig(Model):
    """The page for reviewers, on loopback."""

    port: Annotated[int, Field(ge=1, le=65_535)] = 8722
    """Port of the page, on 127.0.0.1."""
    serve: bool = True
    """Whether a guard on stdio serves the page once a request waits; `mcp-guard console` always does."""


class AuditConfig(Model):
    """The audit log."""

    append_timeout_s: Seconds = 5.0
    """After this long without durability the call is refused."""


class GuardConfig(Model):
    """The whole of guard.yaml."""

    version: Literal[1]
    id: Name
    """Names this configuration; the default data folder is named after it."""
    environment: Name = "default"
    data_dir: str | None = None
    """Relative to this file. Default: the user's data folder for this id."""
    servers: dict[Name, ServerConfig] = {}
    manifests: list[str] = []
    """Paths of own manifest files, relative to this file."""
    defaults: DefaultsConfig = DefaultsConfig()
    rules: list[Rule] = []
    masking: MaskingConfig = MaskingConfig()
    approvals: ApprovalsConfig = ApprovalsConfig()
    console: ConsoleConfig = ConsoleConfig()
    audit: AuditConfig = AuditConfig()

    @model_validator(mode="after")
    def _unique_rules(self) -> Self:
        seen: set[str] = set()
        for rule in self.rules:
            if rule.id in seen:
                raise ValueError(f"two rules have the id {rule.id}")
            seen.add(rule.id)
        return self
