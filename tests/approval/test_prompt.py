"""What a person is shown (approvals.md S17, security.md S15)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import JsonValue

from mcp_guard.approval.channels.elicitation import fingerprint_typed, form_schema, read_answer
from mcp_guard.approval.prompt import MAX_CHARACTERS, build_prompt, build_view, visible
from mcp_guard.approval.rows import Request
from mcp_guard.approval.statement import Stored
from mcp_guard.model import ArgumentFact, JsonDict, MaskedText, Prompt, PromptAnswer, Risk, Suspended, ToolFacts
from tests.approval.bench import SECRET, Bench, call_of, decision_of, views_of


async def request_for(folder: Path, arguments: JsonDict, risk: Risk = Risk.MEDIUM) -> Request:
    async with Bench(folder).guard(background=False) as bench:
        got = await bench.ask(call_of(arguments), decision=replace(decision_of(), risk=risk))
        assert isinstance(got, Suspended)
        request = await bench.store.get(got.approval_id)
    assert request is not None
    return request


async def test_the_prompt_says_who_what_where_why_and_until_when(tmp_path: Path) -> None:
    """decisions.md D36: on stdio the requester is unverified."""
    prompt = build_prompt(await request_for(tmp_path, {"table": "users", "token": SECRET}))
    lines = prompt.message.split("\n")
    assert lines[:5] == [
        "mcp-guard: approve this call?",
        "Requester: alice (unverified)",
        "Tool: db.drop_table",
        "Environment: prod",
        "Risk: medium (destructive)",
    ]
    assert lines[5:8] == ["Arguments:", '  "table" = "users"', '  "token" = "[SECRET]"']
    assert lines[-2].startswith("Expires: 20")
    assert lines[-1] == f"Fingerprint: {prompt.fingerprint}"
    assert SECRET not in prompt.message
    assert not prompt.type_fingerprint


@pytest.mark.parametrize(
    "arguments",
    [
        {"x": "a" * 10_000},
        {f"key{n}": "v" * 50 for n in range(200)},
        {"x": "\u202e" * 5_000},
        {"x": " " * 5_000 + "DROP"},
        {"k" * 9_000: "v"},
    ],
    ids=["long", "many", "hidden", "padding", "long key"],
)
async def test_what_is_cut_is_counted_and_costs_more_than_a_click(tmp_path: Path, arguments: JsonDict) -> None:
    """Attack 30: padding cannot push the danger out of sight unnoticed."""
    prompt = build_prompt(await request_for(tmp_path, arguments))
    assert len(prompt.message) <= MAX_CHARACTERS
    assert "more characters" in prompt.message
    assert prompt.type_fingerprint
    assert prompt.message.endswith(prompt.fingerprint)


async def test_a_value_cannot_pretend_to_be_a_line_of_the_guard(tmp_path: Path) -> None:
    """Attack 31."""
    prompt = build_prompt(await request_for(tmp_path, {"note": "x\nRisk: low (approved by security)"}))
    assert [line for line in prompt.message.split("\n") if line.startswith("Risk:")] == ["Risk: medium (destructive)"]


async def test_the_name_of_an_argument_cannot_pretend_to_be_a_line_of_the_guard(tmp_path: Path) -> None:
    """Attack 31: an agent may name its arguments as it likes."""
    arguments: JsonDict = {"Risk": "low", "Tool": "db.read", "x\nRisk: low": 1, '" = 1, "Fingerprint': "A"}
    lines = build_prompt(await request_for(tmp_path, arguments)).message.split("\n")
    start = lines.index("Arguments:")
    assert lines[start + 1 : -2] == [
        '  "Risk" = "low"',
        '  "Tool" = "db.read"',
        '  "x\\nRisk: low" = 1',
        '  "\\" = 1, \\"Fingerprint" = "A"',
    ]
    assert not any(line.startswith(" ") for line in [*lines[:start], *lines[-2:]])


@pytest.mark.parametrize(
    "character",
    list("\x00\t\r\n\x1b\x7f\x85\xa0\xad\u034f\u115f\u200b\u200d\u202e\u2028\u2066\u3164\ufe0f\ufeff\uffa0\U000e0041"),
    ids=lambda c: f"U+{ord(c):04X}",
)
def test_no_hidden_character_survives(character: str) -> None:
    """Attack 27."""
    assert visible(f"a{character}b") == f"a\\u{{{ord(character):x}}}b"


def test_ordinary_text_of_any_language_stays_and_stacks_of_marks_do_not() -> None:
    """Attack 27."""
    for text in ("Zoë", "e\u0301te\u0301", "日本語", "नमस्ते", "שלום", "ok 👍"):
        assert visible(text) == text
    assert "\\u{301}" in visible("e" + "\u0301" * 9)


def test_the_riskiest_arguments_come_first() -> None:
    """security.md S15."""
    call = call_of({"note": "n", "to": "x@example.org", "table": "users"})
    facts = ToolFacts(
        listed=True,
        effects=("write",),
        risk=Risk.HIGH,
        resource="/table",
        arguments={"/to": ArgumentFact(role="recipient"), "/note": ArgumentFact(role="content")},
    )
    call = replace(call, target=replace(call.target, facts=facts))
    view = build_view(Stored(call, views_of(call), decision_of(), "prod", "personal"), MaskedText)
    assert view["order"] == ["table", "to", "note"]
    assert view["resource"] == "users"


HIGH = Prompt("apr_1", MaskedText("?"), "K7QF-93WM", type_fingerprint=True)


def test_the_form_denies_by_default_and_asks_to_type_for_high_risk() -> None:
    """approvals.md 5.3."""
    schema: JsonValue = form_schema(HIGH)
    assert isinstance(schema, dict)
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert properties["decision"] == {
        "type": "string",
        "title": "Decision",
        "enum": ["deny", "approve_once"],
        "default": "deny",
    }
    assert schema["required"] == ["decision", "fingerprint"]
    low = form_schema(replace(HIGH, type_fingerprint=False))
    assert low["required"] == ["decision"]


@pytest.mark.parametrize(
    ("action", "content", "verdict"),
    [
        ("accept", {"decision": "approve_once"}, "approve"),
        ("accept", {"decision": "deny"}, "deny"),
        ("decline", {}, "deny"),
        ("decline", {"decision": "approve_once"}, "deny"),
        ("cancel", {"decision": "approve_once"}, "dismissed"),
        ("accept", {}, "dismissed"),
        ("accept", {"decision": True}, "dismissed"),
        ("accept", {"decision": ["approve_once"]}, "dismissed"),
        ("accept", {"decision": "approve"}, "dismissed"),
        ("", {"decision": "approve_once"}, "dismissed"),
    ],
)
def test_only_an_explicit_approval_is_one(action: str, content: dict[str, object], verdict: str) -> None:
    """approvals.md 5.3: accept without decision=approve_once is not approved."""
    assert read_answer(action, content).verdict == verdict


def test_the_typed_fingerprint_is_compared_without_case_and_dashes() -> None:
    assert fingerprint_typed(HIGH, PromptAnswer("approve", fingerprint=" k7qf93wm"))
    assert not fingerprint_typed(HIGH, PromptAnswer("approve", fingerprint="K7QF"))
    assert not fingerprint_typed(HIGH, PromptAnswer("approve"))
