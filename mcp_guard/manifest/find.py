"""Where manifests are, and which one is for which server (decisions.md D31).

A manifest is named by `servers.X.manifest`, or found by the package that the command starts. The operator's own
manifests come before the shipped ones. Over them lies, tool by tool, the user manifest of the server (`manifest.user`),
which is found by the server's name: its owner wrote it for this very entry of guard.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue, ValidationError

import mcp_guard
from mcp_guard.canon import digest
from mcp_guard.config.document import read_document
from mcp_guard.config.explain_errors import findings_of
from mcp_guard.config.problems import Finding, Problem, fail, spell
from mcp_guard.config.schema import GuardConfig, ServerConfig
from mcp_guard.manifest.model import ToolManifest, to_facts
from mcp_guard.manifest.package import package_urls
from mcp_guard.manifest.user import FOLDER, UserManifest, read_user_manifest, user_manifest_path
from mcp_guard.model import UNREVIEWED, JsonDict, Risk, ToolFacts

_CHANGING = frozenset({"write", "delete", "execute", "spend", "grant"})


def shipped_folder() -> Path:
    """The manifests that come with the guard: inside the package, or in the repository of an editable install."""
    package = Path(mcp_guard.__file__).parent
    inside = package / "tool_manifests" / "servers"
    return inside if inside.is_dir() else package.parent / "tool_manifests" / "servers"


def is_path(manifest: str) -> bool:
    """Whether the name of a manifest is a path, and not an id."""
    return manifest.endswith((".yaml", ".yml", ".json")) or "/" in manifest or "\\" in manifest


@dataclass(frozen=True, slots=True)
class Manifests:
    """The manifest of each server of one configuration."""

    by_server: Mapping[str, ToolManifest]
    """By the server's name in guard.yaml; a server without a manifest is not in it."""
    digests: Mapping[str, str]
    """By the server's name in guard.yaml."""
    users: Mapping[str, UserManifest] = field(default_factory=dict)
    """User manifests by the server's name in guard.yaml."""
    user_digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """One digest over all, part of the policy digest: facts that change make earlier approvals void."""
        return digest("manifests", {**self.digests, **{f"{name}/user": d for name, d in self.user_digests.items()}})

    def facts_for(
        self, server: str, tool: str, annotations: JsonDict | None = None, definition: str | None = None
    ) -> ToolFacts:
        """Facts about a tool, cautious where none are listed.

        Args:
            server: Name in guard.yaml.
            tool: The downstream's own tool name.
            annotations: What the server says of its tool: may raise the risk, never lower it.
            definition: Digest of the tool's definition today. None where no server runs (`explain`, `check`): the
                definition is then taken to be the one that was reviewed. Whoever decides calls knows it.
        """
        shipped = self.shipped_facts(server, tool, annotations)
        entry = self.users[server].tools.get(tool) if server in self.users else None
        if entry is None:
            return shipped
        facts = to_facts(entry, manifest=server, manifest_digest=self.user_digests[server])
        if definition in (None, entry.definition):
            return facts  # the annotations are part of the definition that was reviewed
        return _changed(shipped, facts)

    def shipped_facts(self, server: str, tool: str, annotations: JsonDict | None = None) -> ToolFacts:
        """The same without the user manifest."""
        manifest = self.by_server.get(server)
        facts = manifest.facts(tool, self.digests[server]) if manifest else None
        return UNREVIEWED if facts is None else _raised(facts, annotations or {})


def _changed(facts: ToolFacts, reviewed: ToolFacts) -> ToolFacts:
    """Facts about a tool that its owner reviewed under another definition: never laxer than that review."""
    if not facts.listed:
        why = "not reviewed: its definition is not the one that you reviewed"
        return replace(facts, risk=max(facts.risk, reviewed.risk, key=lambda risk: risk.rank), why=why)
    if reviewed.risk.rank <= facts.risk.rank:
        return facts
    return replace(facts, risk=reviewed.risk, why=f"{facts.why} Raised: as you rated an earlier definition of it.")


def _raised(facts: ToolFacts, annotations: Mapping[str, JsonValue]) -> ToolFacts:
    changes = bool(_CHANGING & set(facts.effects))
    told = Risk.LOW
    if annotations.get("destructiveHint") is True and annotations.get("readOnlyHint") is not True:
        told = Risk.MEDIUM if changes else Risk.HIGH
    elif annotations.get("readOnlyHint") is False and not changes:
        told = Risk.MEDIUM
    if told.rank <= facts.risk.rank:
        return facts
    return replace(facts, risk=told, why=f"{facts.why} Raised: the server itself says that it changes things.")


class Shelf:
    """All manifests within reach. Files are parsed once, and only those that a configuration may need."""

    def __init__(self, shipped: Path | None = None) -> None:
        self._shipped = shipped or shipped_folder()
        self._parsed: dict[Path, ToolManifest | tuple[Problem, ...]] = {}
        self._read: dict[Path, UserManifest | tuple[Problem, ...] | None] = {}

    def check(self, config: GuardConfig, folder: Path) -> list[Finding]:
        """Problems of the manifests that a configuration names, for `load_config(checks=…)`."""
        return [*self._bind(config, folder)[1], *self._users(config, folder)[1]]

    def bind(self, config: GuardConfig, folder: Path) -> Manifests:
        """Find the manifest of each server.

        Raises:
            ConfigError: a manifest that the configuration names is missing or not valid.
        """
        found, findings = self._bind(config, folder)
        users, wrong = self._users(config, folder)
        findings += wrong
        fail(Problem("guard.yaml", 1, spell(f.place), f.what, f.hint) for f in findings)
        return _manifests(found, users)

    def facts_of(self, config: GuardConfig, folder: Path) -> Callable[[str, str], ToolFacts]:
        """Facts by server and tool, cautious where a manifest is missing or not valid; for `policy_check`."""
        return _manifests(self._bind(config, folder)[0], self._users(config, folder)[0]).facts_for

    def shipped(self) -> dict[str, ToolManifest]:
        """All shipped manifests by id.

        Raises:
            ConfigError: one of them is not valid.
        """
        parsed = [(path, self._parse(path)) for path in sorted(self._shipped.glob("*.yaml"))]
        fail(problem for _, result in parsed if isinstance(result, tuple) for problem in result)
        return {path.stem: result for path, result in parsed if isinstance(result, ToolManifest)}

    def _bind(self, config: GuardConfig, folder: Path) -> tuple[dict[str, ToolManifest], list[Finding]]:
        findings: list[Finding] = []
        own: list[ToolManifest] = []
        for index, name in enumerate(config.manifests):
            result = self._file(folder / Path(name).expanduser(), ("manifests", index))
            own += [result] if isinstance(result, ToolManifest) else []
            findings += result if isinstance(result, list) else []
            if isinstance(result, ToolManifest) and result.server in {m.server for m in own[:-1]}:
                findings.append(Finding(("manifests", index), "another manifest has the same id"))
        found: dict[str, ToolManifest] = {}
        for name, server in config.servers.items():
            manifest = self._for_server(name, server, own, folder)
            if isinstance(manifest, ToolManifest):
                found[name] = manifest
            findings += manifest if isinstance(manifest, list) else []
        return found, findings

    def _users(self, config: GuardConfig, folder: Path) -> tuple[dict[str, UserManifest], list[Finding]]:
        """The user manifest of each server; never a file that the configuration names as another kind of manifest."""
        found: dict[str, UserManifest] = {}
        findings: list[Finding] = []
        others = named_manifests(config, folder)
        for name in config.servers:
            path = user_manifest_path(folder, name)
            if path in others:
                continue
            if path not in self._read:
                self._read[path] = read_user_manifest(path, name)
            result = self._read[path]
            if isinstance(result, UserManifest):
                found[name] = result
            elif result is not None:
                findings += [Finding(("servers", name), f"{FOLDER}/{problem}") for problem in result]
        return found, findings

    def _for_server(
        self, name: str, server: ServerConfig, own: list[ToolManifest], folder: Path
    ) -> ToolManifest | list[Finding] | None:
        place = ("servers", name, "manifest")
        if server.manifest is None:
            return self._by_package(package_urls(server), own)
        if is_path(server.manifest):
            return self._file(folder / Path(server.manifest).expanduser(), place)
        for manifest in own:
            if manifest.server == server.manifest:
                return manifest
        path = self._shipped / f"{server.manifest}.yaml"
        if path.is_file():
            return self._file(path, place)
        return [Finding(place, "no manifest with this id", "give the id of a shipped manifest, or a path")]

    def _by_package(self, urls: tuple[str, ...], own: list[ToolManifest]) -> ToolManifest | None:
        for url in urls:
            for manifest in [*own, *self._shipped_with(url)]:
                if url in manifest.packages:
                    return manifest
        return None

    def _shipped_with(self, url: str) -> Iterator[ToolManifest]:
        for path in sorted(self._shipped.glob("*.yaml")):
            # A look at the text first: parsing all of them would cost every start.
            if url in path.read_text(encoding="utf-8"):
                result = self._parse(path)
                if isinstance(result, ToolManifest):
                    yield result

    def _file(self, path: Path, place: tuple[str | int, ...]) -> ToolManifest | list[Finding]:
        result = self._parse(path)
        return result if isinstance(result, ToolManifest) else [Finding(place, str(problem)) for problem in result]

    def _parse(self, path: Path) -> ToolManifest | tuple[Problem, ...]:
        if path not in self._parsed:
            self._parsed[path] = _parse(path)
        return self._parsed[path]


def named_manifests(config: GuardConfig, folder: Path) -> frozenset[Path]:
    """The manifests that a configuration names by path."""
    names = [*config.manifests, *(server.manifest for server in config.servers.values() if server.manifest)]
    return frozenset(folder / Path(name).expanduser() for name in names if is_path(name))


def _manifests(found: Mapping[str, ToolManifest], users: Mapping[str, UserManifest]) -> Manifests:
    return Manifests(
        found,
        {name: manifest.digest for name, manifest in found.items()},
        users,
        {name: manifest.digest for name, manifest in users.items()},
    )


def _parse(path: Path) -> ToolManifest | tuple[Problem, ...]:
    document = read_document(path)
    problems = list(document.problems)
    if document.writers == "anyone":
        problems.append(document.problem((), "everybody on this machine may write to this file", "chmod go-w"))
    if document.data is not None:
        try:
            manifest = ToolManifest.model_validate(document.data)
        except ValidationError as error:
            found = findings_of(error, document.data, ToolManifest)
            problems += [document.problem(f.place, f.what, f.hint) for f in found]
        else:
            if not problems:
                return manifest
    return tuple(problems)
