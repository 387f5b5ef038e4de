"""The demo's downstream as a real process, through the SDK's client in both eras."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, cast

import mcp_types as types
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

Mode = Literal["legacy", "auto"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def crm(folder: Path, mode: Mode = "auto") -> Client:
    args = ["-m", "mcp_guard.demo.crm", "--db", str(folder / "crm.db"), "--effects", str(folder / "effects.jsonl")]
    return Client(StdioServerParameters(command=sys.executable, args=args), mode=mode)


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "crm.db")) as db:
        return list(db.execute(query))


def text(result: types.CallToolResult) -> str:
    return "".join(part.text for part in result.content if isinstance(part, types.TextContent))


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_customer_is_read_as_text_and_as_structured_content_in_both_eras(folder: Path, mode: Mode) -> None:
    """docs/cli.md, `demo`: the demo server has personal data to mask, in text and in structuredContent."""
    async with crm(folder, mode) as client:
        result = await client.call_tool("get_customer", {"customer_id": "C-1001"})

    assert result.structured_content == json.loads(text(result))
    assert result.structured_content["email"] == "maya.fields@example.com"
    assert result.structured_content["api_token"].startswith("sk_demo_")


async def test_reads_are_written_down_but_are_no_effects(folder: Path) -> None:
    """CONTRIBUTING.md, habit 3: the downstream's own effect log is what effects are counted by."""
    async with crm(folder) as client:
        await client.call_tool("search_customers", {"query": "maya", "limit": 1})
        await client.call_tool("list_orders", {"customer_id": "C-1001"})

    assert rows(folder, "SELECT tool FROM calls") == [("search_customers",), ("list_orders",)]
    assert rows(folder, "SELECT tool FROM effects") == []
    assert not (folder / "effects.jsonl").exists()


async def test_each_effect_is_kept_with_its_arguments_as_received_and_its_execution_id(folder: Path) -> None:
    """docs/cli.md, `demo`: "server got" is read from here. approvals.md S4: the server can tell two executions."""
    arguments = {"to": "maya.fields@example.com", "subject": "Hello", "body": "Thank you"}
    execution = cast("types.RequestParamsMeta", {"io.mcp-guard/execution-id": "exe_1"})
    async with crm(folder) as client:
        await client.call_tool("send_reply", arguments, meta=execution)
        await client.call_tool("export_customer_data", {"segment": "eu", "destination": "share://partners"})

    found = rows(folder, "SELECT tool, arguments, execution_id FROM effects")
    assert [(tool, run) for tool, _, run in found] == [("send_reply", "exe_1"), ("export_customer_data", None)]
    assert json.loads(found[0][1]) == arguments
    lines = [json.loads(line) for line in (folder / "effects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["execution_id"] for line in lines] == ["exe_1", None]
    assert rows(folder, "SELECT recipient FROM outbox") == [("maya.fields@example.com",)]
    assert len(json.loads((folder / "export-1.json").read_text(encoding="utf-8"))) == 2


async def test_export_stays_in_the_own_folder_whatever_the_destination_says(folder: Path) -> None:
    """The demo leaves nothing behind (docs/cli.md, `demo`), so its server writes nowhere else."""
    outside = folder / "outside.json"
    async with crm(folder) as client:
        result = await client.call_tool("export_customer_data", {"segment": "us", "destination": str(outside)})

    assert not result.is_error
    assert not outside.exists()


async def test_delete_works_once_and_a_failed_one_is_no_effect(folder: Path) -> None:
    """docs/cli.md, `demo`: the delete really has an effect, so that one and two can be told apart."""
    async with crm(folder) as client:
        first = await client.call_tool("delete_production_db", {"name": "crm-production"})
        second = await client.call_tool("delete_production_db", {"name": "crm-production"})

    assert (first.is_error, second.is_error) == (False, True)
    assert rows(folder, "SELECT name FROM databases") == [("crm-staging",)]
    assert rows(folder, "SELECT count(*) FROM effects") == [(1,)]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("get_customer", {}),
        ("get_customer", {"customer_id": 7}),
        ("get_customer", {"customer_id": "C-1001", "more": "x"}),
        ("get_customer", {"customer_id": "C-9999"}),
        ("no_such_tool", {}),
    ],
)
async def test_call_that_cannot_be_done_is_an_error_result_and_is_not_counted(
    folder: Path, tool: str, arguments: dict[str, Any]
) -> None:
    """CONTRIBUTING.md, habit 3: fail closed; no effect without a complete call."""
    async with crm(folder, "legacy") as client:
        result = await client.call_tool(tool, arguments)

    assert result.is_error
    assert rows(folder, "SELECT count(*) FROM calls") == [(0,)]


async def test_annotations_say_honestly_what_reads_and_what_destroys(folder: Path) -> None:
    """mcp spec 2026-07-28, ToolAnnotations: hints, which the demo's own server sets truthfully."""
    async with crm(folder) as client:
        tools = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}

    reading = {name for name, hints in tools.items() if hints and hints.read_only_hint}
    destroying = {name for name, hints in tools.items() if hints and hints.destructive_hint}
    assert reading == {"search_customers", "get_customer", "list_orders"}
    assert destroying == {"delete_production_db"}


async def test_second_start_keeps_what_is_there(folder: Path) -> None:
    """docs/cli.md, `demo`: the guard restarts its servers, and effects are counted over all of them."""
    for _ in range(2):
        async with crm(folder) as client:
            await client.call_tool("send_reply", {"to": "a@example.org", "subject": "s", "body": "b"})

    assert rows(folder, "SELECT count(*) FROM effects") == [(2,)]
