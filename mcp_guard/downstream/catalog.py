"""Names, lists and routing: what clients see, and which downstream a name or URI belongs to.

Order of the configuration decides: a later server never takes a name from an earlier one (decisions.md D14).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mcp_guard.downstream import report
from mcp_guard.downstream.accepted import Accepted, Anything
from mcp_guard.downstream.bounds import schema_fits
from mcp_guard.downstream.definition import Listing
from mcp_guard.downstream.index import FactsOf, Index, build, target_of, work_out
from mcp_guard.downstream.names import check_servers, exposed_name
from mcp_guard.downstream.remembered import Remembered
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import QuarantinedError, UnknownTargetError
from mcp_guard.model import CallKind, JsonDict, Principal, Target

if TYPE_CHECKING:
    from mcp_guard.downstream.schemas import ArgumentChecker


class Catalog:
    """What all servers offer together.

    Args:
        servers: By name, in the order of the configuration.
        facts_of: Facts about a tool, from its manifest.
        remembered: Catalogues of the last run; None keeps nothing between runs.
        pins: What was accepted; None holds servers to nothing.

    Raises:
        ConfigError: names would be ambiguous or reserved.
    """

    def __init__(
        self,
        servers: Mapping[str, ResolvedServer],
        *,
        facts_of: FactsOf,
        remembered: Remembered | None = None,
        pins: Accepted | None = None,
    ) -> None:
        check_servers(servers)
        self._servers = dict(servers)
        self._facts_of = facts_of
        self._remembered = remembered
        self._pins = pins if pins is not None else Anything()
        self._judged = self._pins.generation
        self._listings: dict[str, Listing] = {}
        self._listed: set[str] = set()
        self._prepared: dict[str, Listing] = {}
        self._checkers: dict[tuple[str, str], ArgumentChecker] = {}
        for name, server in self._servers.items():
            known = remembered.load(server) if remembered is not None else None
            if known is not None and self._pins.knows(name):
                self._listings[name] = known
        self._index = self._built()

    def update(self, server: str, listing: Listing) -> bool:
        """Take over what a server offers now; False when nothing changed."""
        if self._prepared.get(server) is not listing:
            self.prepare(server, listing)
        self._listed.add(server)
        if self._listings.get(server) == listing:
            return self.judge_again()
        self._listings[server] = listing
        self._rebuild()
        return True

    def prepare(self, server: str, listing: Listing) -> None:
        """Do beforehand what takes long in `update`. For a worker thread: others have their turn meanwhile."""
        work_out(listing)
        if self._remembered is not None and self._listings.get(server) != listing:
            self._remembered.save(self._servers[server], listing)
        self._prepared[server] = listing

    def judge_again(self) -> bool:
        """Look at the lists anew where the lock says something else now; False when it does not."""
        if self._pins.generation == self._judged:
            return False
        self._rebuild()
        return True

    def _rebuild(self) -> None:
        self._judged = self._pins.generation
        self._index = self._built()

    def _built(self) -> Index:
        index = build(self._servers, self._listings, facts_of=self._facts_of, pins=self._pins)
        used = {target.definition_digest for target, _ in index.tools.values()}
        self._checkers = {key: checker for key, checker in self._checkers.items() if key[1] in used}
        return index

    @property
    def complete(self) -> bool:
        """Whether every server's offer is known, from this run or the last one."""
        return len(self._listings) == len(self._servers)

    @property
    def problems(self) -> tuple[str, ...]:
        """Items that are not offered and why: names only, for `check` and the log."""
        return tuple(self._index.problems)

    def from_last_run(self, server: str) -> bool:
        """Whether a server is held to nothing (`pins: off`) and what is known of it is what it said in the last run.

        Its tools may be others by now, so no call is judged by that.
        """
        return self._servers[server].pins == "off" and server not in self._listed

    def protocols(self) -> dict[str, str]:
        """Last known protocol revision by server."""
        return {name: listing.protocol for name, listing in self._listings.items()}

    def offers(self, capability: str) -> bool:
        """Whether any server declared `tools`, `resources`, `prompts` or `completions`; True while one is unknown."""
        return not self.complete or any(capability in listing.capabilities for listing in self._listings.values())

    def instructions(self) -> dict[str, str]:
        """Instructions by server, unmasked, only where there are some."""
        found = {name: text for name in self._servers if (text := self._listing(name).instructions)}
        return {name: text for name, text in found.items() if self._pins.instructions_shown(name, text)}

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
            QuarantinedError: it is not the one that was accepted.
        """
        if exposed in self._index.quarantined and exposed not in self._index.tools:
            raise _quarantined(*self._index.quarantined[exposed])
        return _found(self._index.tools, exposed)

    def resolve_prompt(self, exposed: str) -> Target:
        """Target of a prompt, by exact name.

        Raises:
            UnknownTargetError: no such prompt.
            QuarantinedError: it is not the one that was accepted.
        """
        if exposed in self._index.withheld and exposed not in self._index.prompts:
            raise _quarantined(*self._index.withheld[exposed])
        return _found(self._index.prompts, exposed)

    def resolve_resource(self, uri: str) -> Target:
        """Target of a URI: the server that lists it, else one whose template matches, else the only provider.

        Raises:
            UnknownTargetError: none of these.
            QuarantinedError: it is not the one that was accepted.
        """
        listed = self._index.resources.get(uri)
        if listed is None and uri in self._index.withheld:
            raise _quarantined(*self._index.withheld[uri])
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
            QuarantinedError: it is not the one that was accepted.
        """
        uri = ref.get("uri")
        if ref.get("type") == "ref/prompt":
            target = self.resolve_prompt(str(ref.get("name")))
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
            QuarantinedError: the server or the tool is not the one that was accepted.
        """
        server = self._servers.get(target.server)
        if server is None:
            raise UnknownTargetError("the downstream server is no longer configured")
        whole = self._pins.server_objection(target.server)
        if whole is not None:
            raise _quarantined(target.server, whole)
        if target.kind is not CallKind.TOOL:
            return replace(target, server_identity=server.identity)
        if target.server not in self._listings:
            return None
        for found, _ in self._index.tools.values():
            if (found.server, found.name) == (target.server, target.name):
                return found
        if (held := self._index.quarantined.get(exposed_name(server, target.name))) and held[0] == server.name:
            raise _quarantined(*held)
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

    def _uri_target(self, server: str, uri: str) -> Target:
        return self._target(CallKind.RESOURCE, server, uri, uri)

    def _target(self, kind: CallKind, server: str, name: str, exposed: str) -> Target:
        return target_of(self._servers[server], kind, name, exposed)


_NOTHING: Final = Listing()


def _quarantined(server: str, why: str) -> QuarantinedError:
    hint = f"do not retry; the user sees with `{report.mending(server, why)}` what is the matter, and decides"
    return QuarantinedError(f"{server} offers this, but it is quarantined: {why}", hint=hint)


def _found(names: dict[str, tuple[Target, JsonDict]], exposed: str) -> Target:
    found = names.get(exposed)
    if found is None:
        raise UnknownTargetError("no tool or prompt has this name")
    return found[0]
