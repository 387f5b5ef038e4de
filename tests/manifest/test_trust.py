"""What `mcp-guard trust` would write, and what a person may change of it (docs/manifests.md)."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_guard.downstream.definition import definition_digest
from mcp_guard.errors import UsageError
from mcp_guard.manifest.find import Manifests, Shelf
from mcp_guard.manifest.trust import Review, Row, Standing, decide, merged
from mcp_guard.manifest.trust import plan as plan_of
from mcp_guard.manifest.user import Reviewed, UserManifest
from mcp_guard.model import JsonDict, Risk

TODAY = Reviewed(by="dana", on="2026-11-21")
NOTHING = Manifests({}, {})


def tool(name: str, *arguments: str, **more: Any) -> JsonDict:
    properties = {argument: {"type": "string"} for argument in arguments}
    return {"name": name, "inputSchema": {"type": "object", "properties": properties}, **more}


def plan(server: str, tools: list[JsonDict], manifests: Manifests) -> list[Row]:
    return plan_of(
        Review(server, manifests, definition_digest, str, lambda text: text.replace("hunter2", "[SECRET]")), tools
    )


def with_user(manifest: UserManifest) -> Manifests:
    return Manifests({}, {}, {"a": manifest}, {"a": manifest.digest})


TOOLS = [tool("run_job", "command"), tool("delete_page", "id"), tool("get_page", "id"), tool("list_pages")]


def test_the_harmless_comes_first_and_every_entry_is_for_the_definition_that_was_seen() -> None:
    """security.md S21, S22."""
    rows = plan("a", TOOLS, NOTHING)
    assert [row.tool for row in rows] == ["get_page", "list_pages", "delete_page", "run_job"]
    assert [row.risk for row in rows] == [Risk.LOW, Risk.LOW, Risk.HIGH, Risk.CRITICAL]
    assert all(row.entry and row.standing is Standing.NEW for row in rows)
    written = merged("a", None, rows, TODAY)
    assert {name: entry.definition for name, entry in written.tools.items()} == {
        str(one["name"]): definition_digest(one) for one in TOOLS
    }


def test_a_tool_of_a_shipped_manifest_is_shown_and_not_written() -> None:
    """docs/manifests.md."""
    shipped = Shelf().shipped()["git"]
    rows = plan("a", [tool("git_log"), *TOOLS], Manifests({"a": shipped}, {"a": shipped.digest}))
    assert (rows[-1].tool, rows[-1].standing, rows[-1].entry) == ("git_log", Standing.SHIPPED, None)
    assert "git_log" not in merged("a", None, rows, TODAY).tools


def test_what_was_reviewed_stays_and_what_changed_is_proposed_anew() -> None:
    """docs/manifests.md: hand edits of entries that nothing is proposed for stay."""
    old = merged("a", None, plan("a", TOOLS, NOTHING), TODAY)
    edited = old.tools["delete_page"].model_copy(update={"risk": "critical", "why": "Mine."})
    gone = old.tools["get_page"].model_copy(update={"why": "Gone."})
    old = old.model_copy(update={"tools": {**old.tools, "delete_page": edited, "gone": gone}, "package": "pkg:npm/x"})
    now = [*TOOLS[:2], tool("get_page", "id", description="Deletes the page."), TOOLS[3]]

    rows = plan("a", now, with_user(old))
    new = merged("a", old, rows, Reviewed(by="rita", on="2026-11-22"))

    assert [(row.tool, row.standing) for row in rows if row.proposed] == [("get_page", Standing.CHANGED)]
    assert (new.tools["delete_page"], new.tools["gone"], new.package) == (edited, gone, "pkg:npm/x")
    assert (new.tools["get_page"].risk, new.reviewed.by) == ("high", "rita")


def test_a_name_that_hides_something_or_has_no_canonical_form_gets_no_entry() -> None:
    """security.md S21: it asks each time, or is not offered at all."""
    odd: list[JsonDict] = [
        tool("get_\u200bpage"),
        tool("get\npage"),
        tool(""),
        tool("x" * 129),
        tool("get_half", description="\ud800"),
        {"name": 7},
        {},
    ]
    rows = plan("a", odd, NOTHING)
    assert len(rows) == 5
    assert all(row.standing is Standing.ODD and row.entry is None for row in rows)


def test_of_two_tools_of_one_name_the_first_counts_as_in_the_catalogue() -> None:
    """security.md S23: the second one is never offered, so it must not be what is reviewed."""
    first, second = tool("get_page", "id"), tool("get_page", "id", description="other")
    rows = plan("a", [first, second], NOTHING)
    assert [row.entry.definition for row in rows if row.entry] == [definition_digest(first)]


def test_a_person_can_let_a_tool_run_or_ask() -> None:
    """docs/manifests.md: single tools, by the numbers of the table."""
    rows = decide(plan("a", TOOLS, NOTHING), "allow", [1, 3])
    assert [row.risk for row in rows] == [Risk.LOW, Risk.LOW, Risk.MEDIUM, Risk.CRITICAL]
    rows = decide(decide(rows, "ask", [2]), "ask", [4])
    assert [row.risk for row in rows] == [Risk.LOW, Risk.HIGH, Risk.MEDIUM, Risk.HIGH]
    written = merged("a", None, rows, TODAY)
    assert UserManifest.model_validate(written.model_dump(mode="json")) == written
    assert written.tools["delete_page"].why.startswith("You decided that it runs without asking.")


@pytest.mark.parametrize("numbers", [[], [0], [5], [1, 99], [-1]])
def test_a_number_that_is_not_in_the_table_changes_nothing(numbers: list[int]) -> None:
    """Bad input."""
    with pytest.raises(UsageError, match="no such number"):
        decide(plan("a", TOOLS, NOTHING), "allow", numbers)


@pytest.mark.parametrize("name", ["run_command", "pay_invoice", "set_role"])
def test_code_money_and_rights_are_not_allowed_by_a_manifest(name: str) -> None:
    """decisions.md D31: a manifest cannot call them low; a rule with a reason can."""
    with pytest.raises(UsageError, match="runs code, moves money or changes rights"):
        decide(plan("a", [tool(name)], NOTHING), "allow", [1])


def test_a_secret_in_a_listing_reaches_neither_the_table_nor_the_file() -> None:
    """security.md S25, S35: what a server lists may hold secrets."""
    named, argued = tool("get_hunter2"), tool("get_page", "hunter2_id", description="hunter2\u200b")
    rows = plan("a", [named, argued], NOTHING)
    assert [(row.tool, row.standing) for row in rows] == [("get_page", Standing.NEW), ("get_[SECRET]", Standing.ODD)]
    assert rows[0].text == "[SECRET]\u200b"
    assert "hunter2" not in repr(rows) + merged("a", None, rows, TODAY).model_dump_json()
