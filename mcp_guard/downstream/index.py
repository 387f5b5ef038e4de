"""What all servers offer together, built anew on each change: what clients see, and what is withheld and why.

Order of the configuration decides: a later server never takes a name from an earlier one (decisions.md D14).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mcp.shared.uri_template import InvalidUriTemplate, UriTemplate

from mcp_guard.downstream.accepted import Accepted
from mcp_guard.downstream.bounds import schema_fits
from mcp_guard.downstream.definition import MAX_NAME, Listing, worked_out
from mcp_guard.downstream.names import RESERVED, exposed_name
from mcp_guard.downstream.others import Kind, bare, item_key, stable
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.downstream.snapshot import tool_pin
from mcp_guard.manifest.hidden import hides_where_exact
from mcp_guard.model import CallKind, JsonDict, Target, ToolFacts

FactsOf = Callable[[str, str, JsonDict, str | None], ToolFacts]
"""(server, the downstream's tool name, annotations, digest of its definition) → facts."""


@dataclass(slots=True)
class Index:
    """Everything that is derived from the listings."""

    tools: dict[str, tuple[Target, JsonDict]] = field(default_factory=dict)
    prompts: dict[str, tuple[Target, JsonDict]] = field(default_factory=dict)
    resources: dict[str, tuple[str, JsonDict]] = field(default_factory=dict)
    templates: list[tuple[str, UriTemplate, JsonDict]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    quarantined: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Tools by exposed name: server, and why."""
    withheld: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The same of prompts by exposed name, and of resources by URI."""


def build(
    servers: Mapping[str, ResolvedServer], listings: Mapping[str, Listing], *, facts_of: FactsOf, pins: Accepted
) -> Index:
    """Put the listings together.

    Args:
        servers: By name, in the order of the configuration.
        listings: What is known of their offers.
        facts_of: Facts about a tool, from its manifest.
        pins: What was accepted.
    """
    builder = _Builder(facts_of, pins)
    for name, server in servers.items():
        builder.add(server, listings.get(name, Listing()))
    return builder.index


def target_of(server: ResolvedServer, kind: CallKind, name: str, exposed: str) -> Target:
    """A target that is no tool."""
    return Target(kind, server.name, name, exposed, local=server.local, server_identity=server.identity)


class _Builder:
    def __init__(self, facts_of: FactsOf, pins: Accepted) -> None:
        self.index = Index()
        self._facts_of = facts_of
        self._pins = pins

    def add(self, server: ResolvedServer, listing: Listing) -> None:
        """Add one server."""
        for tool, why in self._pins.held_tools(server.name).items():
            self.index.quarantined.setdefault(exposed_name(server, tool), (server.name, why))
        for definition in listing.tools:
            self._add_tool(server, definition)
        if self._pins.server_objection(server.name) is not None:
            return
        for prompt in listing.prompts:
            self._add_prompt(server, prompt)
        for resource in listing.resources:
            self._add_resource(server, resource)
        for template in listing.templates:
            self._add_template(server, template)

    def _add_tool(self, server: ResolvedServer, tool: JsonDict) -> None:
        name, schema = tool.get("name"), tool.get("inputSchema")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            self._problem(server, "a tool has no usable name")
            return
        exposed = exposed_name(server, name)
        if not isinstance(schema, dict) or not worked_out(_usable, tool):
            self._problem(server, f"tool {exposed} has no usable input schema, or one that is too big")
            return
        if self._taken(self.index.tools, server, exposed):
            return
        pin = tool_pin(tool)
        if pin is None:
            self._problem(server, f"tool {exposed} has no canonical form")
            return
        why = self._pins.tool_objection(server.name, name, pin.digest)
        why = why or (_HIDES if worked_out(hides_where_exact, tool) else None)
        if why is not None:
            self.index.quarantined.setdefault(exposed, (server.name, why))
            self._problem(server, f"{exposed} is quarantined, {why}")
            return
        target = self._tool_target(server, name, exposed, tool, pin.digest)
        self.index.tools[exposed] = (target, {**tool, "name": exposed})

    def _tool_target(self, server: ResolvedServer, name: str, exposed: str, tool: JsonDict, definition: str) -> Target:
        schema, output, annotations = (tool.get(key) for key in ("inputSchema", "outputSchema", "annotations"))
        told = annotations if isinstance(annotations, dict) else {}
        return Target(
            kind=CallKind.TOOL,
            server=server.name,
            name=name,
            exposed=exposed,
            local=server.local,
            definition_digest=definition,
            input_schema=schema if isinstance(schema, dict) else None,
            output_schema=output if isinstance(output, dict) else None,
            facts=self._facts_of(server.name, name, told, definition),
            server_identity=server.identity,
        )

    def _add_prompt(self, server: ResolvedServer, prompt: JsonDict) -> None:
        name = prompt.get("name")
        if not isinstance(name, str) or not name:
            return
        exposed = exposed_name(server, name)
        if self._taken(self.index.prompts, server, exposed):
            return
        why = self._objection(server, "prompt", name, prompt)
        if why is not None:
            self.index.withheld.setdefault(exposed, (server.name, why))
            self._problem(server, f"prompt {exposed} is quarantined, {why}")
            return
        target = target_of(server, CallKind.PROMPT, name, exposed)
        self.index.prompts[exposed] = (target, {**prompt, "name": exposed})

    def _add_resource(self, server: ResolvedServer, resource: JsonDict) -> None:
        uri = resource.get("uri")
        if not isinstance(uri, str) or uri in self.index.resources:
            return
        why = self._objection(server, "resource", uri, stable(resource))
        if why is not None:
            self.index.withheld.setdefault(uri, (server.name, why))
            self._problem(server, f"a resource is quarantined, {why}")
            return
        known = self._pins.knows_item(server.name, item_key("resource", uri))
        self.index.resources[uri] = (server.name, resource if known else bare(resource))

    def _add_template(self, server: ResolvedServer, template: JsonDict) -> None:
        text = template.get("uriTemplate")
        if not isinstance(text, str):
            return
        why = self._objection(server, "template", text, template)
        if why is not None:
            self._problem(server, f"a resource template is quarantined, {why}")
            return
        parsed = worked_out(_parsed, template)
        if parsed is None:
            self._problem(server, "a resource template is not usable")
        else:
            self.index.templates.append((server.name, parsed, template))

    def _objection(self, server: ResolvedServer, kind: Kind, name: str, definition: JsonDict) -> str | None:
        pin = tool_pin(definition)
        if pin is None:
            return "it has no canonical form"
        why = self._pins.item_objection(server.name, item_key(kind, name), pin.digest)
        return why or (_HIDES if worked_out(hides_where_exact, definition) else None)

    def _taken(self, names: dict[str, tuple[Target, JsonDict]], server: ResolvedServer, exposed: str) -> bool:
        if exposed.startswith(RESERVED):
            self._problem(server, f"{exposed} is a reserved name")
            return True
        if exposed in names:
            self._problem(server, f"{exposed} is quarantined, {names[exposed][0].server} has this name already")
            return True
        return False

    def _problem(self, server: ResolvedServer, text: str) -> None:
        self.index.problems.append(f"{server.name}: {text}")


def work_out(listing: Listing) -> None:
    """Everything that `build` needs of these definitions and that takes long. For a worker thread."""
    for tool in listing.tools:
        worked_out(_usable, tool)
    for template in listing.templates:
        worked_out(_parsed, template)
    for item in (*listing.tools, *listing.prompts, *map(stable, listing.resources), *listing.templates):
        tool_pin(item)
        worked_out(hides_where_exact, item)


def _usable(tool: JsonDict) -> bool:
    return schema_fits(tool.get("inputSchema"))


def _parsed(template: JsonDict) -> UriTemplate | None:
    try:
        return UriTemplate.parse(str(template.get("uriTemplate")))
    except InvalidUriTemplate:
        return None


_HIDES = "it hides characters where they cannot be shown"
