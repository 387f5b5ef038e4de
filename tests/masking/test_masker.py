"""The masker behind its port."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from mcp_guard.config.schema import ArgumentMasking, MaskingConfig, ResultMasking
from mcp_guard.errors import MaskingError
from mcp_guard.masking import masker as masker_module
from mcp_guard.masking.masker import Masker
from mcp_guard.model import (
    ArgumentFact,
    Call,
    CallContext,
    CallKind,
    JsonDict,
    Principal,
    RawArguments,
    Risk,
    Target,
    ToolFacts,
    VaultEntry,
)

KEY = b"k" * 32
CARD = "4111111111111111"
TOKEN = "ghp_2F2HIrOpxR7Ex4scUXHvfC2ifTfPUC5V9rJG"
PRINCIPAL = Principal("os", "user")


def make(**config: object) -> Masker:
    return Masker(MaskingConfig.model_validate(config), KEY)


def call(arguments: JsonDict, *, local: bool = True, server: str = "crm", **roles: ArgumentFact) -> Call:
    facts = ToolFacts(True, (), Risk.LOW, arguments={f"/{name}": fact for name, fact in roles.items()})
    target = Target(CallKind.TOOL, server, "tool", "tool", local, facts=facts)
    return Call("c", target, RawArguments(arguments), PRINCIPAL, CallContext("stdio", "2025-11-25", "s"))


def with_facts(asked: Call, facts: dict[str, ArgumentFact]) -> Call:
    described = ToolFacts(True, (), Risk.LOW, arguments={f"/{name}": fact for name, fact in facts.items()})
    return replace(asked, target=replace(asked.target, facts=described))


async def known(value: JsonValue, server: str = "crm") -> tuple[JsonValue, dict[str, VaultEntry]]:
    masked = await make().mask(value, scope=PRINCIPAL.key, server=server)
    return masked.json.value, {entry.token: entry for entry in masked.entries}


async def test_text_that_is_json_stays_json_and_numbers_become_quoted_placeholders() -> None:
    """docs/masking.md: in text JSON a number must become a string."""
    text = json.dumps({"email": "jo@x.com", "ssn": 219099999, "note": 'a\njo@x.com "q"', "n": 1}, indent=2)
    masked = await make().mask({"content": [{"type": "text", "text": text}]}, scope="s", server="x")

    shown = json.dumps(masked.json.value)
    inner = json.loads(masked.json.value["content"][0]["text"])  # type: ignore[index, call-overload, arg-type]
    assert "jo@x.com" not in shown
    assert "219099999" not in shown
    assert inner["n"] == 1
    assert inner["email"] in inner["note"]


async def test_media_is_neither_scanned_nor_counted_and_text_blobs_are_decoded() -> None:
    """decisions.md D3."""
    blob = base64.b64encode(b"mail jo@x.com").decode()
    image = "QUtJQUlPU0ZPRE5ON0VYQU1QTDE="
    value: JsonValue = {
        "content": [
            {"type": "image", "data": image, "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "https://u:pw1234@h.com/a", "blob": blob, "mimeType": "text/csv"}},
        ]
    }
    masked = await make().mask(value, scope="s", server="x")

    content = masked.json.value["content"]  # type: ignore[index, call-overload]
    assert content[0]["data"] == image  # type: ignore[index, call-overload]
    resource = content[1]["resource"]  # type: ignore[index, call-overload]
    assert base64.b64decode(resource["blob"]).startswith(b"mail [EMAIL_")  # type: ignore[index, call-overload, arg-type]
    assert "pw1234" not in resource["uri"]  # type: ignore[index, call-overload, operator]


async def test_finding_across_a_step_boundary_is_found() -> None:
    """decisions.md D34."""
    for offset in range(8_170, 8_200, 3):
        masked = await make().mask(
            "a " * (offset // 2) + f"mail jo.doe@x.com and {TOKEN} " + "b " * 9_000, scope="s", server="x"
        )
        assert "jo.doe" not in str(masked.json.value)
        assert TOKEN[8:] not in str(masked.json.value)


async def test_value_above_the_limit_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """decisions.md D3: withheld with a clear error."""
    monkeypatch.setattr(masker_module, "MAX_TEXT", 100)
    with pytest.raises(MaskingError, match="withheld"):
        await make().mask("x" * 101, scope="s", server="x")


async def test_large_value_is_masked_in_a_worker() -> None:
    """decisions.md D3."""
    masked = await make().mask(["plain words " * 30_000, "jo@x.com"], scope="s", server="x")
    assert [note.type for note in masked.notes] == ["EMAIL"]


async def test_failing_engine_withholds_and_says_nothing_of_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """security.md F18."""

    def broken(*_: object) -> object:
        raise ValueError(TOKEN)

    monkeypatch.setattr(masker_module, "examine", broken)
    with pytest.raises(MaskingError) as caught:
        await make().mask({"a": TOKEN}, scope="s", server="x")
    assert TOKEN not in str(caught.value)
    assert caught.value.__suppress_context__
    assert make().text(TOKEN) == "[MASKED:error]"


async def test_configuration_turns_pii_off_removes_and_allows() -> None:
    """decisions.md D33."""
    off = Masker(MaskingConfig(results=ResultMasking(pii="off", secrets="remove")), KEY)
    masked = await off.mask(f"jo@x.com {TOKEN}", scope="s", server="x")
    assert masked.json.value == "jo@x.com [SECRET]"
    assert masked.entries == ()
    allowed = await make(allow=["jo@x.com"]).mask("jo@x.com li@x.com", scope="s", server="x")
    assert str(allowed.json.value).startswith("jo@x.com [EMAIL_")


@pytest.mark.parametrize(
    "text",
    ["ADMIN={}", "+ADMIN={}", "- {}", "see ?to={}&n=1", "a=1&to={}", "m='{}'", "{}\n", "<{}>", "mailto:{}"],
)
async def test_the_key_of_an_assignment_is_no_part_of_the_address_in_it(text: str) -> None:
    """D33: one address, one placeholder, also in a settings file, in its diff and in a query."""
    masker = make()
    alone = (await masker.mask("jo@x.com", scope="s", server="x")).json.value
    masked = await masker.mask(text.format("jo@x.com"), scope="s", server="x")
    assert masked.json.value == text.format(alone)


@pytest.mark.parametrize("address", ["bounce-jo=x.com@list.example.org", "r&d@x.com", "jo+tag@x.com"])
async def test_an_address_with_signs_in_it_is_masked_whole(address: str) -> None:
    """Source: RFC 5321, 4.1.2: what an atom may hold."""
    masked = await make().mask(address, scope="s", server="x")
    assert str(masked.json.value).startswith("[EMAIL_")


async def test_configured_secret_is_masked_wherever_it_stands() -> None:
    """decisions.md D33: references that the configuration resolved."""
    guard = Masker(MaskingConfig(), KEY, secrets=["plainword"])
    value: JsonValue = {"uri": "x://a/plainword", "plainword": ["a plainword b", 'jo@x.com {"k": "plainword"}', 12]}
    masked = await guard.mask(value, scope="s", server="x")
    assert "plainword" not in json.dumps(masked.json.value)
    assert {(note.type, note.rule) for note in masked.notes} == {("SECRET", "configured"), ("EMAIL", "email")}
    views = guard.derive(call({"a": "with plainword in it"}), {})
    assert views.secrets == ("SECRET",)
    assert "plainword" not in json.dumps([views.for_reviewer.value, views.for_log.value])


async def test_placeholder_is_stable_in_a_scope_and_differs_between_scopes() -> None:
    """decisions.md D24, security.md S37."""
    one = await make().mask("jo@x.com", scope="a", server="x")
    two = await make().mask("jo@x.com", scope="a", server="y")
    other = await make().mask("jo@x.com", scope="b", server="x")
    assert one.json == two.json != other.json


async def test_announcement_names_counts_and_the_switch_and_the_notes_name_the_rules() -> None:
    """decisions.md D33."""
    masked = await make().mask(f"jo@x.com li@x.com {TOKEN}", scope="s", server="x")
    assert make().announce(masked.notes) == (
        "[mcp-guard] masked 3: EMAIL ×2, SECRET ×1 (placeholders; the guard restores them where allowed). "
        "Off: masking.results.pii: off"
    )
    assert [note.rule for note in masked.notes] == ["email", "token:github"]
    assert make(announce=False).announce(masked.notes) == make().announce(()) == ""


async def test_announcement_of_secrets_alone_does_not_tell_how_to_turn_them_all_off() -> None:
    """decisions.md D33."""
    guard = make(results={"secrets": "remove"})
    masked = await guard.mask(TOKEN, scope="s", server="x")
    assert guard.announce(masked.notes) == "[mcp-guard] masked 1: SECRET ×1. Off: masking.allow, for single values"


async def test_pii_goes_back_into_its_own_server_exactly() -> None:
    """decisions.md D33: restore; D24: round trip."""
    value: JsonValue = {"mail": "Jo@X.com", "ssn": 219099999}
    shown, entries = await known(value)
    views = make().derive(call({"row": shown}), entries)
    assert views.for_downstream.value == {"row": value}
    assert views.refused == ()
    assert "Jo@X.com" not in json.dumps(views.for_reviewer.value)


async def test_placeholder_for_another_server_is_refused() -> None:
    """decisions.md D33: a known placeholder never goes unrestored."""
    shown, entries = await known("jo@x.com", server="crm")
    views = make().derive(call({"to": shown}, server="web"), entries)
    assert views.refused == tuple(entries)
    assert "jo@x.com" not in json.dumps(views.for_downstream.value)


async def test_secret_is_restored_into_content_only_and_not_asked_for_again() -> None:
    """decisions.md D33: a file read and written back must survive."""
    shown, entries = await known(f"key={TOKEN}")
    content = ArgumentFact("content")
    back = make().derive(call({"content": shown}, content=content), entries)
    assert back.for_downstream.value == {"content": f"key={TOKEN}"}
    assert back.secrets == ()
    assert make().derive(call({"query": shown}), entries).refused == tuple(entries)


async def test_placeholder_survives_edits_and_unknown_ones_stay() -> None:
    """decisions.md D24."""
    shown, entries = await known("jo@x.com")
    bare = str(shown)[1:-1]
    forms = [bare.lower(), f"%5B{bare}%5D", f"[{bare}]", "[EMAIL_aaaaaaaaaa]"]
    views = make().derive(call({"a": list(forms)}), entries)
    assert views.for_downstream.value == {"a": ["jo@x.com", "jo@x.com", "jo@x.com", "[EMAIL_aaaaaaaaaa]"]}


async def test_another_scope_restores_nothing() -> None:
    """docs/masking.md, "Back again": 0 cross-session restores."""
    shown, entries = await known("jo@x.com")
    foreign = {t: VaultEntry("else", t, e.type, e.value, e.server) for t, e in entries.items()}
    views = make().derive(call({"a": shown}), foreign)
    assert "jo@x.com" not in json.dumps(views.for_downstream.value)
    assert views.refused == tuple(entries)


@pytest.mark.parametrize(
    ("role", "local", "raw"),
    [("recipient", False, True), ("query", False, False), (None, True, True), (None, False, False)],
)
def test_arguments_are_masked_by_manifest(*, role: str | None, local: bool, raw: bool) -> None:
    """decisions.md D33."""
    facts = {"to": ArgumentFact(role)} if role else {}  # type: ignore[arg-type]
    asked = call({"to": "jo@x.com"}, local=local)
    views = make().derive(with_facts(asked, facts), {})
    assert (views.for_downstream.value == {"to": "jo@x.com"}) is raw
    assert "jo@x.com" not in json.dumps(views.for_reviewer.value)
    assert "jo@x.com" not in json.dumps(views.for_log.value)


def test_secret_in_arguments_is_asked_for_or_masked() -> None:
    """decisions.md D33: arguments.secrets."""
    views = make().derive(call({"a": TOKEN}), {})
    assert views.for_downstream.value == {"a": TOKEN}
    assert views.secrets == ("SECRET",)
    assert TOKEN not in json.dumps([views.for_reviewer.value, views.for_log.value])
    hard = Masker(MaskingConfig(arguments=ArgumentMasking(secrets="placeholder")), KEY).derive(call({"a": TOKEN}), {})
    assert TOKEN not in json.dumps(hard.for_downstream.value)


def test_hidden_and_digested_arguments_are_not_shown() -> None:
    """decisions.md D11."""
    facts = {"a": ArgumentFact(show="hidden"), "b": ArgumentFact(show="digest")}
    views = make().derive(with_facts(call({"a": "plain", "b": "words"}), facts), {})
    shown = views.for_reviewer.value
    assert isinstance(shown, dict)
    assert shown["a"] == "[hidden]"
    assert str(shown["b"]).startswith("[digest ")


def test_output_schema_takes_placeholders_and_definition_keeps_names() -> None:
    """decisions.md D12."""
    schema: JsonDict = {
        "type": "object",
        "properties": {"format": {"type": "integer", "minimum": 3}, "m": {"type": "string", "format": "email"}},
    }
    relaxed = make().relax_schema(schema)
    assert relaxed["properties"] == {"format": {"type": ["integer", "string"]}, "m": {"type": "string"}}
    shown = make().definition({"name": "x", "description": f"use {TOKEN}", "inputSchema": schema})
    assert shown == {"name": "x", "description": "use [SECRET]", "inputSchema": schema}


SECRETS = st.sampled_from([TOKEN, CARD, "jo@x.com", "219-09-9999", "DE89370400440532013000"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(value=JSON, secret=SECRETS, left=st.sampled_from(["", "see ", '"', "\n", "(", "a=", "\t"]), nested=st.booleans())
async def test_planted_secret_survives_nowhere_in_a_masked_value(
    *, value: JsonValue, secret: str, left: str, nested: bool
) -> None:
    """security.md S25."""
    planted: JsonValue = {"x": value, "k": [left + secret], left + secret: 1}
    whole: JsonValue = {"content": [{"type": "text", "text": json.dumps(planted)}]} if nested else planted
    masked = await make().mask(whole, scope="s", server="x")
    assert secret not in json.dumps(masked.json.value)
    if nested:
        json.loads(masked.json.value["content"][0]["text"])  # type: ignore[index, call-overload, arg-type]
