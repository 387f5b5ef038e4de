"""Names, routing, definitions, and what is remembered between runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcp_guard.downstream.catalog import Catalog
from mcp_guard.downstream.definition import Listing, definition_digest
from mcp_guard.downstream.remembered import Remembered
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import ConfigError, InvalidArgumentsError, UnknownTargetError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import UNREVIEWED, CallKind, JsonDict, Principal, ToolFacts

ME = Principal("os", "me")


def server(name: str, names: Any = "prefixed", identity: str = "id") -> ResolvedServer:
    return ResolvedServer(name, identity, command=("x",), names=names)


def tool(name: str, **more: Any) -> JsonDict:
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def facts(server: str, name: str, annotations: JsonDict, definition: str | None) -> ToolFacts:
    return UNREVIEWED


def catalog(*servers: ResolvedServer, remembered: Remembered | None = None) -> Catalog:
    return Catalog({one.name: one for one in servers}, facts_of=facts, remembered=remembered)


def names(of: Catalog) -> list[Any]:
    return [one["name"] for one in of.tools()]


def test_tools_are_found_under_their_exact_exposed_name_only() -> None:
    """decisions.md D14; security.md S7."""
    cat = catalog(server("crm"), server("fs", "plain"))
    cat.update("crm", Listing(tools=(tool("get"),)))
    cat.update("fs", Listing(tools=(tool("read_file"),)))
    assert names(cat) == ["crm_get", "read_file"]
    target = cat.resolve("crm_get", ME)
    assert (target.server, target.name, target.exposed, target.kind) == ("crm", "get", "crm_get", CallKind.TOOL)
    for wrong in ("get", "CRM_get", "crm_get ", "crm_ge\u0442", "crm__get", ""):
        with pytest.raises(UnknownTargetError):
            cat.resolve(wrong, ME)


def test_a_later_server_never_takes_a_name_of_an_earlier_one() -> None:
    """decisions.md D14; security.md S23. Whichever of them is ready first."""
    cat = catalog(server("a", "plain"), server("b", "plain"))
    cat.update("b", Listing(tools=(tool("x"), tool("y"))))
    cat.update("a", Listing(tools=(tool("x"),)))
    assert cat.resolve("x", ME).server == "a"
    assert names(cat) == ["x", "y"]
    assert cat.problems == ("b: x is quarantined, a has this name already",)


def test_reserved_names_and_unusable_tools_are_left_out_alone() -> None:
    """decisions.md D14; security.md S29, S30."""
    bomb: JsonDict = {"type": "object", "anyOf": [{"const": n} for n in range(6000)]}
    bad: list[JsonDict] = [{"name": "no"}, {"inputSchema": {}}]
    bad += [tool("guard_approve"), tool(""), tool("b", inputSchema=bomb)]
    cat = catalog(server("a", "plain"))
    cat.update("a", Listing(tools=(*bad, tool("good"))))
    assert names(cat) == ["good"]
    assert len(cat.problems) == len(bad)


@pytest.mark.parametrize("pair", [("guard", "x"), ("git", "git_hub")])
def test_ambiguous_or_reserved_server_names_are_refused_at_start(pair: tuple[str, str]) -> None:
    """decisions.md D14: git_hub_x could be a tool of either."""
    with pytest.raises(ConfigError, match=r"tools? of"):
        catalog(*(server(name) for name in pair))
    catalog(*(server(name, "plain") for name in pair))


def test_the_digest_covers_everything_a_model_or_reviewer_may_rely_on() -> None:
    """security.md S21, S22."""
    base = tool("t", description="d")
    changed: list[JsonDict] = [
        {**base, "name": "u"},
        {**base, "title": "T"},
        {**base, "description": "e"},
        {**base, "inputSchema": {"type": "object", "properties": {}}},
        {**base, "outputSchema": {"type": "object"}},
        {**base, "annotations": {"readOnlyHint": True}},
        {**base, "_meta": {"ui": "a page"}},
        {**base, "icons": [{"src": "https://example.org/i"}]},
        {**base, "execution": {"taskSupport": "optional"}},
        {**base, "vendor": 1},
    ]
    digests = {definition_digest(one) for one in (base, *changed)}
    assert len(digests) == 11


def test_uris_are_routed_by_listing_then_template_then_sole_provider() -> None:
    """ARCHITECTURE.md, "One call"."""
    cat = catalog(server("a"), server("b"))
    template: JsonDict = {"uriTemplate": "db://{table}", "name": "t"}
    cat.update("a", Listing(resources=({"uri": "file:///a", "name": "a"},), capabilities=("resources",)))
    cat.update("b", Listing(templates=(template,), capabilities=("resources",)))
    assert cat.resolve_resource("file:///a").server == "a"
    assert cat.resolve_resource("db://users").server == "b"
    assert cat.resolve_resource("db://users").name == "db://users"
    with pytest.raises(UnknownTargetError):
        cat.resolve_resource("other:///x")
    cat.update("b", Listing())
    assert cat.resolve_resource("other:///x").server == "a"


def test_prompts_and_completions_find_their_server() -> None:
    """decisions.md D37."""
    cat = catalog(server("a"))
    cat.update("a", Listing(prompts=({"name": "p"},), templates=({"uriTemplate": "db://{t}", "name": "t"},)))
    assert cat.resolve_prompt("a_p").name == "p"
    assert cat.resolve_completion({"type": "ref/prompt", "name": "a_p"}).name == "p"
    assert cat.resolve_completion({"type": "ref/resource", "uri": "db://{t}"}).server == "a"
    for ref in ({"type": "ref/prompt", "name": "p"}, {"type": "ref/resource", "uri": "x"}, {}):
        with pytest.raises(UnknownTargetError):
            cat.resolve_completion(dict(ref))


def test_the_last_catalogue_is_there_before_any_server_is(tmp_path: Path) -> None:
    """decisions.md D27; sealed, since definitions are unmasked."""
    remembered = Remembered(tmp_path / "catalogue", KeyStore(tmp_path / "keys"))
    first = catalog(server("a"), remembered=remembered)
    assert not first.complete
    assert first.offers("prompts")
    listing = Listing(tools=(tool("t", description="hunter2"),), capabilities=("tools",), protocol="2025-11-25")
    assert first.update("a", listing)
    assert not first.update("a", listing)
    again = catalog(server("a"), remembered=remembered)
    assert again.complete
    assert names(again) == ["a_t"]
    assert again.protocols() == {"a": "2025-11-25"}
    assert not again.offers("prompts")
    assert all(b"hunter2" not in file.read_bytes() for file in (tmp_path / "catalogue").iterdir())


def test_a_catalogue_of_another_command_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    """decisions.md D27: the identity is the digest over the command."""
    remembered = Remembered(tmp_path, KeyStore(tmp_path / "keys"))
    catalog(server("a"), remembered=remembered).update("a", Listing(tools=(tool("t"),)))
    assert remembered.load(server("a", identity="other")) is None
    path = tmp_path / "a.sealed"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert remembered.load(server("a")) is None
    (tmp_path / "blocked").write_text("a file where a folder should be")
    assert not Remembered(tmp_path / "blocked", KeyStore(tmp_path / "keys")).save(server("a"), Listing())


def test_arguments_are_checked_against_the_schema_of_the_target() -> None:
    """decisions.md D23: before a human is asked."""
    cat = catalog(server("a"))
    schema: JsonDict = {"type": "object", "required": ["x"]}
    cat.update("a", Listing(tools=(tool("t", inputSchema=schema),)))
    target = cat.resolve("a_t", ME)
    cat.validate_arguments(target, {"x": 1})
    for _ in range(2):
        with pytest.raises(InvalidArgumentsError, match=r"required \(x\)"):
            cat.validate_arguments(target, {})


def test_a_result_is_checked_against_the_schema_that_clients_are_shown() -> None:
    """decisions.md D12."""
    cat = catalog(server("a"))
    schema: JsonDict = {"type": "object", "properties": {"n": {"type": "integer"}}}
    cat.update("a", Listing(tools=(tool("t", outputSchema=schema), tool("plain"))))
    target = cat.resolve("a_t", ME)

    def relax(given: JsonDict) -> JsonDict:
        return {**given, "properties": {"n": {"type": ["integer", "string"]}}}

    assert cat.result_fits(target, {"structuredContent": {"n": "[PHONE_k3f7q2m5xa]"}}, relax=relax)
    assert not cat.result_fits(target, {"structuredContent": {"n": []}}, relax=relax)
    assert cat.result_fits(target, {"content": []}, relax=relax)
    assert cat.result_fits(cat.resolve("a_plain", ME), {"structuredContent": {"n": []}}, relax=relax)


def test_facts_are_asked_for_the_definition_that_is_offered_now() -> None:
    """security.md S21, S22: what was reviewed counts for one definition of a tool only."""
    asked: list[tuple[str, str | None]] = []

    def facts_of(_server: str, name: str, _annotations: JsonDict, definition: str | None) -> ToolFacts:
        asked.append((name, definition))
        return UNREVIEWED

    found = Catalog({"a": server("a")}, facts_of=facts_of)
    for text in ("Reads.", "Reads, and deletes."):
        definition = tool("look", description=text)
        found.update("a", Listing(tools=(definition,)))
        assert asked[-1] == ("look", definition_digest(definition))
