"""User manifests: what a person found out about the tools of one of their servers, `manifests/<server>.yaml`.

An entry is about one definition of a tool, by its digest: a tool that says something else than when it was reviewed is
not reviewed (security.md S21, S22). `mcp-guard trust` writes the file; it may be edited by hand.
"""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from mcp_guard.canon import digest
from mcp_guard.config.document import MAX_BYTES, parse_document, read_document
from mcp_guard.config.explain_errors import findings_of
from mcp_guard.config.problems import Problem
from mcp_guard.config.schema import Model, Name
from mcp_guard.errors import ConfigError
from mcp_guard.manifest.model import Line, Purl, ToolEntry
from mcp_guard.model import JsonDict
from mcp_guard.system import PRIVATE_DIR, replace_private, sync_dir

FOLDER: Final = "manifests"
"""Beside guard.yaml."""

_HEAD: Final = """\
# What you decided about the tools of this server; `mcp-guard trust {server}` adds to it. Edit it if you like:
# `risk` decides (low, medium: runs; high: asks; critical: a reviewer with a token), `definition` says for which
# definition of the tool an entry counts.
"""


class Reviewed(Model):
    """Who looked at these tools last, and when."""

    by: Annotated[Line, Field(max_length=100)]
    on: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    """The day, as 2026-11-21."""

    @field_validator("on")
    @classmethod
    def _a_day(cls, on: str) -> str:
        try:
            date.fromisoformat(on)
        except ValueError:
            raise ValueError("must be a day, as 2026-11-21") from None
        return on


class UserToolEntry(ToolEntry):
    """Facts about one tool, as long as it is defined as it was."""

    definition: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the definition that was reviewed, as `mcp-guard trust` wrote it."""


class UserManifest(Model):
    """Facts about tools of one server of one guard.yaml."""

    manifest: Literal[1]
    server: Name
    """Name of the server in guard.yaml; equals the stem of the file."""
    package: Purl | Annotated[list[Purl], Field(min_length=1, max_length=20)] | None = None
    reviewed_version: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    reviewed: Reviewed
    tools: dict[Annotated[str, Field(min_length=1, max_length=128)], UserToolEntry]
    """By the server's own tool name. An entry comes before that of a shipped manifest."""

    @property
    def digest(self) -> str:
        """SHA-256 over the facts, 64 hex characters; who reviewed them and when is not in it."""
        return digest("user-manifest", self.model_dump(mode="json", exclude={"reviewed"}))


def user_manifest_path(folder: Path, server: str) -> Path:
    """Where the user manifest of a server lies.

    Args:
        folder: Of guard.yaml.
        server: Its name in guard.yaml.
    """
    return folder / FOLDER / f"{server}.yaml"


def read_user_manifest(path: Path, server: str) -> UserManifest | tuple[Problem, ...] | None:
    """The user manifest of a server; all its problems; None where there is no such file."""
    if not os.path.lexists(path):
        return None
    document = read_document(path)
    problems = list(document.problems)
    if document.writers == "anyone":
        problems.append(document.problem((), "everybody on this machine may write to this file", "chmod go-w"))
    if document.data is None and not problems:
        problems.append(document.problem((), "the file is empty", "remove it, or restore it"))
    if document.data is None:
        return tuple(problems)
    try:
        manifest = UserManifest.model_validate(document.data)
    except ValidationError as error:
        found = findings_of(error, document.data, UserManifest)
        return (*problems, *(document.problem(f.place, f.what, f.hint) for f in found))
    if manifest.server != server:
        problems.append(document.problem(("server",), "is not the server after which the file is named"))
    return tuple(problems) or manifest


def write_user_manifest(path: Path, manifest: UserManifest) -> None:
    """Write a user manifest in one step: a guard that starts meanwhile reads the old file or the new one.

    Raises:
        ConfigError: it cannot be written, or would be too large to be read again.
    """
    text = _text(manifest)
    document = parse_document(text, path.name)
    if len(text) > MAX_BYTES or document.problems or UserManifest.model_validate(document.data) != manifest:
        raise ConfigError(
            "the manifest could not be read again as it was written", hint="the server has too many tools, or odd ones"
        )
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(mode=PRIVATE_DIR, exist_ok=True)
        replace_private(target, text.encode())
        sync_dir(target.parent)
    except OSError as error:
        raise ConfigError(f"{FOLDER}/{path.name} cannot be written: {error.strerror}") from error


def _text(manifest: UserManifest) -> str:
    """YAML in ASCII: what a screen would hide in a name is escaped. Small blocks stand on one line."""
    data = manifest.model_dump(mode="json", exclude_defaults=True)
    tools = data.pop("tools")
    lines = [_HEAD.format(server=manifest.server), yaml.safe_dump(data, sort_keys=False, width=110), "tools:"]
    lines[-1:] = ["tools:\n"] if tools else ["tools: {}\n"]
    for name, entry in tools.items():
        lines.append(f"  {_flow(name)}:\n")
        lines += [f"    {key}: {_flow(value)}\n" for key, value in entry.items()]
    return "".join(lines)


def _flow(value: object) -> str:
    # JSON is YAML; plain words without quotes where YAML reads them as text too.
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("\n").removesuffix("\n...")
    return text if "\n" not in text else json.dumps(value)


def user_manifest_schema() -> JsonDict:
    """JSON Schema of a user manifest."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **UserManifest.model_json_schema(),
        "title": "mcp-guard user manifest, version 1",
    }
