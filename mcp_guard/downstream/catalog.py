"""Names, lists and routing: what clients see, and which downstream a name or URI belongs to.

Order of the configuration decides: a later server never takes a name from an earlier one (decisions.md D14).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from mcp.shared.uri_template import InvalidUriTemplate, UriTemplate
from pydantic import JsonValue

from mcp_guard.canon import digest
from mcp_guard.downstream.bounds import schema_fits
from mcp_guard.downstream.listing import Listing
from mcp_guard.downstream.names import RESERVED, check_servers, exposed_name
from mcp_guard.downstream.remembered import Remembered
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import GuardError, UnknownTargetError
from mcp_guard.model import CallKind, JsonDict, Principal, Target, ToolFacts

if TYPE_CHECKING:
    from mcp_guard.downstream.schemas import ArgumentChecker

FactsOf = Callable[[str, str, JsonDict], ToolFacts]
"""(server, the downstream's tool name, annotations) → facts."""

MAX_NAME: Final = 128
"""Longest tool name of the specification, in characters."""

_DIGESTED: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")


def definition_digest(tool: JsonDict) -> str:
    """Digest over all that a model or a reviewer may rely on in a tool's definition (threats S21, S22)."""
    return digest("tool-definition", {key: tool.get(key) for key in _DIGESTED})


@dataclass(slots=True)
class _Index:
    """Everything that is derived from the listings; built anew on each change."""

    tools: dict[str, tuple[Target, JsonDict]] = field(default_factory=dict)
    prompts: dict[str, tuple[Target, JsonDict]] = field(default_factory=dict)
    resources: dict[str, tuple[str, JsonDict]] = field(default_factory=dict)
    templates: list[tuple[str, UriTemplate, JsonDict]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Catalog:
    """What all servers offer together.

    Args:
        servers: By name, in the order of the configuration.
        facts_of: Facts about a tool, from its manifest.
        remembered: Catalogues of the last run; None keeps nothing between runs.

    Raises:
        ConfigError: names would be ambiguous or reserved.
    """

    def __init__(
        self, servers: Mapping[str, ResolvedServer], *, facts_of: FactsOf, remembered: Remembered | None = None
    ) -> None:
        check_servers(servers)
        self._servers = dict(servers)
        self._facts_of = facts_of
        self._remembered = remembered
        self._listings: dict[str, Listing] = {}
        self._checkers: dict[tuple[str, str], ArgumentChecker] = {}
        for name, server in self._servers.items():
            known = remembered.load(server) if remembered is not None else None
            if known is not None:
                self._listings[name] = known
        self._index = self._build()

    def update(self, server: str, listing: Listing) -> bool:
        """Take over what a server offers now; False when nothing changed."""
        if self._listings.get(server) == listing:
            return False
        self._listings[server] = listing
        if self._remembered is not None:
            self._remembered.save(self._servers[server], listing)
        self._index = self._build()
        return True

    @property
    def complete(self) -> bool:
        """Whether every server's offer is known, from this run or the last one."""
        return len(self._listings) == len(self._servers)

    @property
    def problems(self) -> tuple[str, ...]:
        """Items that are not offered and why: names only, for `check` and the log."""
        return tuple(self._index.problems)

    def protocols(self) -> dict[str, str]:
        """Last known protocol revision by server."""
        return {name: listing.protocol for name, listing in self._listings.items()}

    def offers(self, capability: str) -> bool:
        """Whether any server declared `tools`, `resources`, `prompts` or `completions`; True while one is unknown."""
        return not self.complete or any(capability in listing.capabilities for listing in self._listings.values())

    def instructions(self) -> dict[str, str]:
        """Instructions by server, unmasked, only where there are some."""
        return {name: text for name in self._servers if (text := self._listing(name).instructions)}

    def tools(self) -> list[JsonDict]:
        """Definitions under their exposed names, unmasked, in the order of the configuration."""
        return [tool for _, tool in self._index.tools.values()]

    def prompts(self) -> list[JsonDict]:
        """Definitions under their exposed names, unmasked."""
        return [prompt for _, prompt in self._index.prompts.values()]

    def resources(self) -> list[JsonDict]:
        """Definitions, unmasked. URIs are the downstream's own."""
        return [resource for _, resource in self._index.resources.values()]

    def templates(self) -> list[JsonDict]:
        """Resource templates, unmasked."""
        return [template for _, _, template in self._index.templates]

    def resolve(self, exposed: str, principal: Principal) -> Target:  # noqa: ARG002 - offers do not depend on people yet
        """Target of a tool, by exact name.

        Raises:
            UnknownTargetError: no such tool.
        """
        return _found(self._index.tools, exposed)

    def resolve_prompt(self, exposed: str) -> Target:
        """Target of a prompt, by exact name.

        Raises:
            UnknownTargetError: no such prompt.
        """
        return _found(self._index.prompts, exposed)

    def resolve_resource(self, uri: str) -> Target:
        """Target of a URI: the server that lists it, else one whose template matches, else the only provider.

        Raises:
            UnknownTargetError: none of these.
        """
        listed = self._index.resources.get(uri)
        if listed is not None:
            return self._uri_target(listed[0], uri)
        for server, template, _ in self._index.templates:
            if template.match(uri) is not None:
                return self._uri_target(server, uri)
        providers = [name for name in self._servers if "resources" in self._listing(name).capabilities]
        if len(providers) == 1 and self.complete:
            return self._uri_target(providers[0], uri)
        raise UnknownTargetError("no downstream server offers this resource")

    def resolve_completion(self, ref: JsonDict) -> Target:
        """Target of a completion, by the prompt or template it refers to.

        Raises:
            UnknownTargetError: no such prompt or template.
        """
        uri = ref.get("uri")
        if ref.get("type") == "ref/prompt":
            target = _found(self._index.prompts, str(ref.get("name")))
            return self._target(CallKind.COMPLETION, target.server, target.name, target.exposed)
        for server, template, _ in self._index.templates:
            if str(template) == uri:
                return self._target(CallKind.COMPLETION, server, str(uri), str(uri))
        raise UnknownTargetError("no downstream server offers this prompt or template")

    def current(self, target: Target) -> Target | None:
        """What stands today where `target` was found; None while nothing is known of its server.

        Looked up by server and own name: another guard process may offer it under another name.

        Raises:
            UnknownTargetError: the server is gone from the configuration, or no longer offers the tool.
        """
        server = self._servers.get(target.server)
        if server is None:
            raise UnknownTargetError("the downstream server is no longer configured")
        if target.kind is not CallKind.TOOL:
            return replace(target, server_identity=server.identity)
        if target.server not in self._listings:
            return None
        for found, _ in self._index.tools.values():
            if (found.server, found.name) == (target.server, target.name):
                return found
        raise UnknownTargetError("the downstream server no longer offers this tool")

    def validate_arguments(self, target: Target, arguments: JsonDict) -> None:
        """Check arguments against the input schema of a tool, within a bound of time.

        Raises:
            InvalidArgumentsError: names JSON Pointer and keyword, never a value.
        """
        if target.input_schema is not None:
            self._checker("in", target, target.input_schema).check(arguments)

    def result_fits(self, target: Target, result: JsonDict, *, relax: Callable[[JsonDict], JsonDict]) -> bool:
        """Whether a masked result fits the output schema that clients are shown (decisions.md D12).

        Args:
            target: Of the call.
            result: A masked result of a tool.
            relax: `Masker.relax_schema`.

        Returns:
            False where its structured content is known to break the schema, so that a client would refuse it.
        """
        structured = result.get("structuredContent")
        if target.output_schema is None or structured is None:
            return True
        return self._checker("out", target, target.output_schema, relax).fits(structured)

    def _checker(
        self, side: str, target: Target, schema: JsonDict, relax: Callable[[JsonDict], JsonDict] | None = None
    ) -> ArgumentChecker:
        key = (side, target.definition_digest)
        if key not in self._checkers:
            from mcp_guard.downstream.schemas import ArgumentChecker

            fits = schema_fits(schema)  # an input schema that is too big is not offered at all
            self._checkers[key] = ArgumentChecker({} if not fits else relax(schema) if relax else schema)
        return self._checkers[key]

    def _listing(self, server: str) -> Listing:
        return self._listings.get(server, _NOTHING)

    def _build(self) -> _Index:
        index = _Index()
        for name, server in self._servers.items():
            listing = self._listing(name)
            for tool in listing.tools:
                self._add_tool(index, server, tool)
            for prompt in listing.prompts:
                self._add_prompt(index, server, prompt)
            for resource in listing.resources:
                uri = resource.get("uri")
                if isinstance(uri, str):
                    index.resources.setdefault(uri, (name, resource))
            for template in listing.templates:
                self._add_template(index, name, template)
        used = {target.definition_digest for target, _ in index.tools.values()}
        self._checkers = {key: checker for key, checker in self._checkers.items() if key[1] in used}
        return index

    def _add_tool(self, index: _Index, server: ResolvedServer, tool: JsonDict) -> None:
        name, schema = tool.get("name"), tool.get("inputSchema")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            index.problems.append(f"{server.name}: a tool has no usable name")
            return
        exposed = exposed_name(server, name)
        if not isinstance(schema, dict) or not schema_fits(schema):
            index.problems.append(f"{server.name}: tool {exposed} has no usable input schema, or one that is too big")
            return
        if self._taken(index, index.tools, server, exposed):
            return
        try:
            target = self._tool_target(server, name, exposed, tool, schema)
        except GuardError:
            index.problems.append(f"{server.name}: tool {exposed} has no canonical form")
            return
        index.tools[exposed] = (target, {**tool, "name": exposed})

    def _tool_target(self, server: ResolvedServer, name: str, exposed: str, tool: JsonDict, schema: JsonDict) -> Target:
        output, annotations = tool.get("outputSchema"), tool.get("annotations")
        return Target(
            kind=CallKind.TOOL,
            server=server.name,
            name=name,
            exposed=exposed,
            local=server.local,
            definition_digest=definition_digest(tool),
            input_schema=schema,
            output_schema=output if isinstance(output, dict) else None,
            facts=self._facts_of(server.name, name, annotations if isinstance(annotations, dict) else {}),
            server_identity=server.identity,
        )

    def _add_prompt(self, index: _Index, server: ResolvedServer, prompt: JsonDict) -> None:
        name = prompt.get("name")
        if not isinstance(name, str) or not name:
            return
        exposed = exposed_name(server, name)
        if not self._taken(index, index.prompts, server, exposed):
            target = self._target(CallKind.PROMPT, server.name, name, exposed)
            index.prompts[exposed] = (target, {**prompt, "name": exposed})

    def _taken(
        self, index: _Index, names: dict[str, tuple[Target, JsonDict]], server: ResolvedServer, exposed: str
    ) -> bool:
        if exposed.startswith(RESERVED):
            index.problems.append(f"{server.name}: {exposed} is a reserved name")
            return True
        if exposed in names:
            owner = names[exposed][0].server
            index.problems.append(f"{server.name}: {exposed} is quarantined, {owner} has this name already")
            return True
        return False

    def _add_template(self, index: _Index, server: str, template: JsonDict) -> None:
        text: JsonValue = template.get("uriTemplate")
        if not isinstance(text, str):
            return
        try:
            index.templates.append((server, UriTemplate.parse(text), template))
        except InvalidUriTemplate:
            index.problems.append(f"{server}: a resource template is not usable")

    def _uri_target(self, server: str, uri: str) -> Target:
        return self._target(CallKind.RESOURCE, server, uri, uri)

    def _target(self, kind: CallKind, server: str, name: str, exposed: str) -> Target:
        resolved = self._servers[server]
        return Target(kind, server, name, exposed, local=resolved.local, server_identity=resolved.identity)


_NOTHING: Final = Listing()


def _found(names: dict[str, tuple[Target, JsonDict]], exposed: str) -> Target:
    found = names.get(exposed)
    if found is None:
        raise UnknownTargetError("no tool or prompt has this name")
    return found[0]
