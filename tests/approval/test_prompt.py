"""What a person is shown (approvals.md S17, security.md S15)."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import JsonValue

from mcp_guard.approval.bounds import at
from mcp_guard.approval.channels.elicitation import fingerprint_typed, form_schema, read_answer
from mcp_guard.approval.offers import why_asked
from mcp_guard.approval.prompt import MAX_CHARACTERS, VIEW, build_prompt, build_view, visible
from mcp_guard.approval.rows import Request
from mcp_guard.approval.statement import Stored
from mcp_guard.canon import digest
from mcp_guard.model import (
    ArgumentFact,
    JsonDict,
    MaskedText,
    Risk,
    Suspended,
    ToolFacts,
)
from mcp_guard.question import Prompt, PromptAnswer
from tests.approval.bench import SECRET, Bench, call_of, decision_of, views_of
from tests.approval.granting import granting, write


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
    assert lines[5].startswith("Rule prod-destructive asks")
    start = lines.index("Arguments:")
    assert lines[start : start + 3] == ["Arguments:", '  "table" = "users"', '  "token" = "[SECRET]"']
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
    assert "fingerprint" in properties
    # A client that checks forms would have it typed also to deny: denying is never the smaller button.
    assert schema["required"] == ["decision"]
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


def granting_view(**more: object) -> Stored:
    """A call with grants, as the policy offers them for a listed tool of high risk."""
    facts = ToolFacts(True, ("write",), Risk.HIGH, resource="/path", why="Replaces a file; the old content is gone.")
    call = write("a.txt", facts=facts)
    decision = replace(granting(), rule="default:high", risk=Risk.HIGH)
    return Stored(call, replace(views_of(call), **more), decision, "prod", "personal")  # type: ignore[arg-type]  # test


WHOM = "for every program that runs as alice"


def test_the_card_says_which_grants_may_be_given_with_all_of_their_bounds() -> None:
    """S13, docs/grants.md: label, seconds, uses, and what stays."""
    offers = build_view(granting_view(), MaskedText)["grants"]
    assert offers == [
        {
            "label": "exactly this call, up to 2 more times within 15 minutes",
            "for_s": 900,
            "max_uses": 2,
            "keep": ["every argument stays the same", WHOM],
        },
        {
            "label": "drop_table within these bounds, up to 3 more times within 15 minutes",
            "for_s": 900,
            "max_uses": 3,
            "keep": ["path: inside /srv/work/notes/", "may differ: content", WHOM],
        },
    ]


def test_the_card_says_why_a_person_is_asked_and_what_would_stop_it() -> None:
    """docs/grants.md: rule or default, fact, and ways that approve nothing."""
    why = build_view(granting_view(), MaskedText)["why"]
    assert why == [
        "No rule covers this call, and calls of high risk ask by default.",
        "The manifest says: Replaces a file; the old content is gone.",
        "To be asked less: a grant with this approval, or a rule by the owner of guard.yaml.",
    ]
    unlisted = Stored(call_of(), views_of(call_of()), decision_of(), "prod", "personal")
    why = build_view(unlisted, MaskedText)["why"]
    assert why == [
        "Rule prod-destructive asks.",
        "Nobody has reviewed this tool yet: no manifest lists it.",
        (
            "To be asked less: a review of the whole server (mcp-guard trust db), "
            "or a change to rule prod-destructive by the owner of guard.yaml."
        ),
    ]
    secret = build_view(granting_view(secrets=("API_KEY",)), MaskedText)
    assert "Secrets in the arguments: API_KEY." in str(secret["why"])
    assert len(secret["grants"] if isinstance(secret["grants"], list) else []) == 1
    assert "approvals approve" not in str(secret)


def test_the_card_says_that_a_folder_of_git_asks_whatever_the_rules_say() -> None:
    """docs/limits.md, "Git's own files": no rule is advised that would change nothing."""
    reason = "the path leads into a .git folder: its files make git run programs"
    stored = granting_view()
    decision = replace(stored.decision, rule="builtin:git-folder", reasons=(reason, "rule all allows it"))
    first, *_, last = why_asked(replace(stored, decision=decision))
    assert first == "The path leads into a .git folder: its files make git run programs."
    assert last == "To be asked less: a grant with this approval."
    bare = replace(decision, terms=replace(decision.terms, grants=()))
    assert why_asked(replace(stored, decision=bare))[-1] == "This is asked whatever the rules say."


def test_a_form_lists_the_grants_after_deny_and_approve() -> None:
    """docs/grants.md: deny stays first and the default; every choice has a title for people."""
    prompt = replace(HIGH, grants=((0, MaskedText("one")), (2, MaskedText("three"))))
    titles = ["Deny", "Approve this call once", "Approve, and grant: one", "Approve, and grant: three"]
    choices = ["deny", "approve_once", "approve_and_grant_1", "approve_and_grant_3"]
    older, newer = form_schema(prompt), form_schema(prompt, titled=True)
    assert at(older, "/properties/decision") == {
        "type": "string",
        "title": "Decision",
        "enum": choices,
        "enumNames": titles,
        "default": "deny",
    }
    assert at(newer, "/properties/decision") == {
        "type": "string",
        "title": "Decision",
        "oneOf": [{"const": choice, "title": title} for choice, title in zip(choices, titles, strict=True)],
        "default": "deny",
    }
    assert form_schema(HIGH) == form_schema(HIGH, titled=True)


@pytest.mark.parametrize(
    ("decision", "answer"),
    [
        ("approve_and_grant_1", PromptAnswer("approve", "", "", 0)),
        ("approve_and_grant_8", PromptAnswer("approve", "", "", 7)),
        ("approve_and_grant_0", PromptAnswer("dismissed")),
        ("approve_and_grant_9", PromptAnswer("dismissed")),
        ("approve_and_grant_-1", PromptAnswer("dismissed")),
        ("approve_and_grant_\u0661", PromptAnswer("dismissed")),
        ("approve_and_grant_01", PromptAnswer("dismissed")),
        ("approve_and_grant_", PromptAnswer("dismissed")),
        ("Approve, and grant: one", PromptAnswer("dismissed")),
        (["approve_and_grant_1"], PromptAnswer("dismissed")),
    ],
    ids=str,
)
def test_only_an_exact_choice_gives_a_grant(decision: object, answer: PromptAnswer) -> None:
    """S5: anything else approves nothing."""
    assert read_answer("accept", {"decision": decision}) == answer
    assert read_answer("cancel", {"decision": decision}).verdict == "dismissed"


async def test_a_grant_that_a_form_cannot_show_whole_is_not_offered_there(tmp_path: Path) -> None:
    """Attack 30: nobody gives bounds that were cut."""
    name = "n" * 300
    arguments: JsonDict = {"path": f"/srv/work/{name}/a.txt"}
    call = replace(write("a"), arguments=call_of(arguments).arguments)
    async with Bench(tmp_path).guard(background=False) as bench:
        got = await bench.ask(call, decision=granting())
        assert isinstance(got, Suspended)
        request = await bench.store.get(got.approval_id)
    assert request is not None
    assert len(str(request.view["grants"])) > 300
    assert [index for index, _ in build_prompt(request).grants] == [0]


async def test_a_path_that_is_cut_keeps_its_name(tmp_path: Path) -> None:
    """docs/approvals.md S17: the name of the file is what one looks for."""
    path = "/srv/work/" + "deep/" * 40 + "payroll.csv"
    call = replace(granting_view().call, arguments=call_of({"path": path, "content": "x " * 200}).arguments)
    async with Bench(tmp_path).guard(background=False) as bench:
        got = await bench.ask(call, decision=granting())
        assert isinstance(got, Suspended)
        request = await bench.store.get(got.approval_id)
    assert request is not None
    prompt = build_prompt(request)
    lines = prompt.message.splitlines()
    resource = next(line for line in lines if line.startswith("Resource: "))
    argument = next(line for line in lines if line.startswith('  "path" = "/srv/work/deep/'))
    assert resource.startswith("Resource: /srv/work/deep/")
    assert resource.endswith("/deep/payroll.csv")
    assert f"(+{len(path) - 60} more characters)" in resource
    assert argument.endswith('/deep/payroll.csv"')
    assert len(argument) == 120
    assert prompt.type_fingerprint
    assert len(prompt.message) <= MAX_CHARACTERS


def test_a_view_that_is_built_another_way_has_another_version() -> None:
    """docs/approvals.md S17: else requests that wait while the guard is renewed look forged. Raise VIEW with it."""
    assert (VIEW, digest("view", build_view(granting_view(), MaskedText))[:16]) == (3, "903383da3ddfd14e")


async def test_a_card_tells_how_many_calls_hang_on_the_answer(tmp_path: Path) -> None:
    """S16: coalesced duplicates."""
    request = replace(await request_for(tmp_path, {"table": "users"}), calls=3)
    message = build_prompt(request, others=5).message
    assert "3 identical calls asked for this; one answer serves them all." in message
    assert "5 more calls of this tool wait." in message
    assert len(message) <= MAX_CHARACTERS


def test_what_the_agent_says_is_masked_and_stands_nowhere_else() -> None:
    """docs/approvals.md S17."""
    call = call_of({"table": "users"})
    said = f"security already approved {SECRET}"
    call = replace(call, context=replace(call.context, justification=said))

    view = build_view(
        Stored(call, views_of(call), decision_of(), "prod", "personal"),
        lambda text: MaskedText(text.replace(SECRET, "[SECRET]")),
    )

    assert view.pop("justification") == "security already approved [SECRET]"
    assert "security already" not in str(view)
    assert said not in repr(call.context)


def test_a_resource_that_the_call_does_not_name_is_none() -> None:
    """docs/approvals.md S17: nothing is made up for a card."""
    call = call_of({})
    facts = ToolFacts(listed=True, effects=("write",), risk=Risk.HIGH, resource="/table")
    call = replace(call, target=replace(call.target, facts=facts))

    view = build_view(Stored(call, views_of(call), decision_of(), "prod", "personal"), MaskedText)

    assert view["resource"] is None


@pytest.mark.parametrize(
    "text",
    ["/" * 100_000 + " x", "\u200b" * 500_000, "\u0301" * 500_000, "\x01" * 500_000, "\n" * 500_000, "a/" * 500_000],
    ids=["slashes", "hidden", "stack", "control", "lines", "path"],
)
async def test_the_longest_argument_is_put_on_a_form_in_a_moment(tmp_path: Path, text: str) -> None:
    """security.md F4: the form is made where calls run; 40,000 slashes and a space held them all for ten seconds."""
    request = await request_for(tmp_path, {"path": text, "table": "users"})
    request = replace(request, view={**request.view, "resource": text})
    began = time.thread_time()
    prompt = build_prompt(request)

    assert time.thread_time() - began < 0.3
    assert prompt.type_fingerprint
    assert " more characters" in prompt.message
    assert len(prompt.message) <= MAX_CHARACTERS
