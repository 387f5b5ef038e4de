"""The format of a tool manifest: facts about the tools of one server, no judgements (decisions.md D31).

A manifest has no `approval:` key: who must approve what is the operator's policy. The JSON Schema in
`tool_manifests/schema/manifest.v1.json` is generated from `ToolManifest`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, JsonValue, field_validator, model_validator

from mcp_guard.canon import digest
from mcp_guard.config.schema import Model, Name
from mcp_guard.model import ArgumentFact, JsonDict, Risk, ToolFacts

EffectName: TypeAlias = Literal["read", "write", "delete", "execute", "send", "spend", "grant"]
"""What a tool does to the world. `execute`: runs code or commands; `send`: data leaves to somebody else;
`spend`: costs money; `grant`: changes who may do what."""

RiskName: TypeAlias = Literal["low", "medium", "high", "critical"]

Category: TypeAlias = Literal[
    "data_export",
    "data_change",
    "deletion",
    "privilege_change",
    "iam",
    "schema_change",
    "key_rotation",
    "snapshot",
    "payment",
    "message",
    "code_execution",
    "configuration",
    "deployment",
    "network",
]
"""The kind of action, for rules that speak of kinds (`match: {category: data_export}`)."""

FLOOR: dict[EffectName, Risk] = {
    "read": Risk.LOW,
    "write": Risk.LOW,
    "send": Risk.MEDIUM,
    "delete": Risk.MEDIUM,
    "execute": Risk.HIGH,
    "spend": Risk.HIGH,
    "grant": Risk.HIGH,
}
"""The lowest risk that a tool with this effect can have in a manifest."""

Pointer = Annotated[str, Field(pattern=r"^(/([^~/]|~0|~1)*)+$", max_length=200)]
"""JSON Pointer (RFC 6901) into the arguments. It covers everything below it: `/paths` also means `/paths/0`."""

Line = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
"""One line of plain text without control characters: it is shown in terminals."""

Purl = Annotated[str, Field(pattern=r"^pkg:[a-z]+/[A-Za-z0-9._%@/+-]+(#[A-Za-z0-9._/-]+)?$", max_length=300)]
"""Package URL without a version: `pkg:npm/%40modelcontextprotocol/server-filesystem`, `pkg:pypi/mcp-server-git`,
`pkg:docker/mcp/fetch`. A program inside a Python package adds its module: `pkg:pypi/acme#acme/server`."""


class ArgumentEntry(Model):
    """Facts about one argument."""

    role: Literal["recipient", "identifier", "content", "query", "secret"] | None = None
    """recipient: whom it goes to; identifier: what is affected; content: what is stored or sent; query: what is
    looked for; secret: a credential."""
    show: Literal["full", "masked", "digest", "hidden"] = "masked"
    """How reviewers see it."""


class Template(Model):
    """A call of another tool of the same server that undoes or previews a call."""

    tool: Annotated[str, Field(min_length=1, max_length=128)]
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Its arguments; a string that is `{/pointer}` stands for that argument of the original call."""


class ToolEntry(Model):
    """Facts about one tool."""

    effects: Annotated[list[EffectName], Field(min_length=1)]
    risk: RiskName
    """Worst plausible harm. Each effect has a floor: execute, spend and grant are at least high, send and delete
    at least medium."""
    category: Category | None = None
    resource: Pointer | None = None
    """Which argument names what is affected."""
    arguments: dict[Pointer, ArgumentEntry] = Field(default_factory=dict)
    undo: Template | None = None
    preview: Template | None = None
    why: Line
    """Why this risk, in one sentence that a reviewer reads."""

    @model_validator(mode="after")
    def _not_below_the_floor(self) -> Self:
        for effect in self.effects:
            if Risk(self.risk).rank < FLOOR[effect].rank:
                raise ValueError(f"a tool that can {effect} is at least {FLOOR[effect].value}")
        if len(set(self.effects)) != len(self.effects):
            raise ValueError("an effect stands twice")
        return self


class ToolManifest(Model):
    """Facts about the tools of one server, as reviewed at one version."""

    manifest: Literal[1]
    server: Name
    """Id of this manifest; equals the stem of its file."""
    package: Purl | Annotated[list[Purl], Field(min_length=1, max_length=20)]
    """The package, or the packages under which the same server is published."""
    reviewed_version: Annotated[str, Field(min_length=1, max_length=64)]
    tools: dict[Annotated[str, Field(min_length=1, max_length=128)], ToolEntry]
    """By the server's own tool name. A tool that is not listed is treated as high: not reviewed."""

    @field_validator("tools")
    @classmethod
    def _templates_name_listed_tools(cls, tools: dict[str, ToolEntry]) -> dict[str, ToolEntry]:
        for entry in tools.values():
            for template in (entry.undo, entry.preview):
                if template is not None and template.tool not in tools:
                    raise ValueError("undo and preview must name a tool of this manifest")
        return tools

    @property
    def packages(self) -> tuple[str, ...]:
        """All package URLs."""
        return (self.package,) if isinstance(self.package, str) else tuple(self.package)

    @property
    def digest(self) -> str:
        """SHA-256 over the facts, 64 hex characters; equal for equal facts however the file is laid out."""
        return digest("manifest", self.model_dump(mode="json"))

    def facts(self, tool: str, manifest_digest: str = "") -> ToolFacts | None:
        """Facts about one tool, None when it is not listed. `manifest_digest` saves computing `digest` each time."""
        entry = self.tools.get(tool)
        if entry is None:
            return None
        return to_facts(entry, manifest=self.server, manifest_digest=manifest_digest or self.digest)


def to_facts(entry: ToolEntry, *, manifest: str, manifest_digest: str) -> ToolFacts:
    """Turn an entry of a manifest into the guard's own noun."""
    return ToolFacts(
        listed=True,
        effects=tuple(entry.effects),
        risk=Risk(entry.risk),
        category=entry.category,
        resource=entry.resource,
        arguments={pointer: ArgumentFact(a.role, a.show) for pointer, a in entry.arguments.items()},
        why=entry.why,
        manifest=manifest,
        manifest_digest=manifest_digest,
    )


def manifest_schema() -> JsonDict:
    """JSON Schema of a manifest file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ToolManifest.model_json_schema(),
        "title": "mcp-guard tool manifest, version 1",
    }
