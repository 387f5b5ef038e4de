"""What is proposed for tools that nobody reviewed: never laxer than a careful person (docs/manifests.md)."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mcp_guard.cli.loading import load
from mcp_guard.manifest.propose import CLASSES, propose, summary
from mcp_guard.manifest.words import Looks
from mcp_guard.model import JsonDict, Risk
from mcp_guard.parts import probe_listings
from tests.e2e.harness import Guard
from tests.e2e.test_reference_servers import PACKAGES, installed, node

EXPECTED: dict[str, dict[str, str]] = yaml.safe_load(
    (Path(__file__).parent / "reference_tools.yaml").read_text(encoding="utf-8")
)
MODULES = {"git": "mcp_server_git", "time": "mcp_server_time", "fetch": "mcp_server_fetch"}
READ_ONLY: JsonDict = {"readOnlyHint": True, "destructiveHint": False, "openWorldHint": False}
CALM = {Looks.READ, Looks.WEB}


def tool(name: str, *arguments: str, **more: Any) -> JsonDict:
    properties = {argument: {"type": "string"} for argument in arguments}
    return {"name": name, "description": "", "inputSchema": {"type": "object", "properties": properties}, **more}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[JsonDict, ...]]:
    """What the installed reference servers list."""
    folder = tmp_path_factory.mktemp("reference")
    servers: dict[str, Any] = {
        name: {"command": sys.executable, "args": ["-m", module]}
        for name, module in MODULES.items()
        if find_spec(module)
    }
    for name in EXPECTED.keys() - MODULES.keys():
        for package in installed(f"server-{name}"):
            script = str(PACKAGES / package / "dist" / "index.js")
            extra = [str(folder)] if name == "filesystem" else []
            servers[name] = {
                "command": node(),
                "args": [script, *extra],
                "env": {"MEMORY_FILE_PATH": str(folder / "m")},
            }
    guard = Guard(folder, {"version": 1, "id": "r", "data_dir": "./data", "servers": servers})
    guard.write()

    async def probe() -> dict[str, tuple[JsonDict, ...]]:
        found = await probe_listings(load(guard.path), timeout_s=60)
        return {name: listing.tools for name, (_, listing) in found.items() if listing is not None}

    return anyio.run(probe)


def test_no_tool_of_a_reference_server_that_changes_or_runs_things_is_proposed_as_allowed(
    reference: dict[str, tuple[JsonDict, ...]],
) -> None:
    """docs/manifests.md: compared with what was written down by hand."""
    assert {"git", "time", "fetch"} <= reference.keys()
    for server, tools in reference.items():
        assert {str(one["name"]) for one in tools} == EXPECTED[server].keys()
        for one in tools:
            expected = EXPECTED[server][str(one["name"])]
            allowed = Risk(propose(one).entry.risk).rank <= Risk.MEDIUM.rank
            assert expected == "either" or allowed == (expected == "reads"), (server, one["name"])


@pytest.mark.parametrize(
    ("definition", "looks"),
    [
        (tool("get_and_delete", "id"), Looks.DELETE),
        (tool("getAndDelete", "id"), Looks.DELETE),
        (tool("getanddelete", "id"), Looks.DELETE),
        (tool("find_or_create", "name"), Looks.CHANGE),
        (tool("list_then_run", "id"), Looks.EXECUTE),
        (tool("read_write_file", "path"), Looks.CHANGE),
        (tool("checkOut", "id"), Looks.CHANGE),
        (tool("status_update", "id"), Looks.CHANGE),
        (tool("run_command", "command"), Looks.EXECUTE),
        (tool("helper", "command"), Looks.EXECUTE),
        (tool("get_output", "shell_command"), Looks.EXECUTE),
        (tool("invoke", "name"), Looks.EXECUTE),
        (tool("execute_sql", "query"), Looks.STATEMENT),
        (tool("query", "sql"), Looks.STATEMENT),
        (tool("send_email", "to", "body"), Looks.SEND),
        (tool("get_help", "to", "message"), Looks.SEND),
        (tool("fetch", "url", "body"), Looks.SEND),
        (tool("get_page", "webhook_url"), Looks.SEND),
        (tool("http_request", "url", "payload"), Looks.SEND),
        (tool("pay_invoice", "id"), Looks.SPEND),
        (tool("get_transfer", "amount", "recipient"), Looks.SPEND),
        (tool("add_collaborator", "user"), Looks.GRANT),
        (tool("set_role", "user"), Looks.GRANT),
        (tool("revoke_key", "id"), Looks.GRANT),
        (tool("get_secret", "name"), Looks.SECRETS),
        (tool("list_tokens"), Looks.SECRETS),
        (tool("search", "path", "content"), Looks.CHANGE),
        (tool("read_page", "edits"), Looks.CHANGE),
        (tool("list_items", "dry_run"), Looks.CHANGE),
        (tool("read_page", "new_title"), Looks.CHANGE),
        (tool("manage_items", "action"), Looks.UNCLEAR),
        (tool("get_result", "code"), Looks.UNCLEAR),
        (tool("get_page", title="Delete page"), Looks.DELETE),
        (tool("get_page", description="Gets a page and deletes it."), Looks.DELETE),
        (tool("get_page", description="Reads a page, then sends it to the team."), Looks.SEND),
        (tool("calculate", "x", description="Evaluates by running arbitrary code."), Looks.EXECUTE),
    ],
    ids=lambda value: str(value["name"]) if isinstance(value, dict) else value.name,
)
def test_what_speaks_of_change_counts_whatever_the_hints_say(definition: JsonDict, looks: Looks) -> None:
    """security.md S21: a server may lie in its annotations."""
    assert propose(definition).looks is looks
    assert propose({**definition, "annotations": READ_ONLY}).looks is looks
    assert propose(definition).entry.risk == CLASSES[looks].risk


@pytest.mark.parametrize(
    ("definition", "looks"),
    [
        (tool("sequentialthinking", "thought", annotations=READ_ONLY), Looks.READ),
        (tool("get_workflow_run", "run_id"), Looks.READ),
        (tool("list_workflow_runs", "repo"), Looks.READ),
        (tool("get_pull_request", "number"), Looks.READ),
        (tool("list_commits", "repo"), Looks.READ),
        (tool("search_issues", "query"), Looks.READ),
        (tool("list_deleted_files"), Looks.READ),
        (tool("get_updates", "since"), Looks.READ),
        (tool("github_get_file_contents", "path"), Looks.READ),
        (tool("getLibraryDocs", "library_id"), Looks.READ),
        (tool("get_orders_by_status", "status"), Looks.READ),
        (tool("audit_log"), Looks.READ),
        (tool("fetch_page", "url"), Looks.WEB),
        (tool("scrape", "urls"), Looks.WEB),
        (tool("search", "query", annotations={"openWorldHint": True}), Looks.WEB),
        (tool("resolve_library_id", "name", annotations=READ_ONLY), Looks.READ),
        (tool("get_diff", description="Shows changes that are staged, and updates since."), Looks.READ),
    ],
    ids=lambda value: str(value["name"]) if isinstance(value, dict) else value.name,
)
def test_what_clearly_only_reads_is_not_asked_about(definition: JsonDict, looks: Looks) -> None:
    """docs/manifests.md: a person with six servers will not answer a hundred questions."""
    assert propose(definition).looks is looks


TEXT: JsonDict = {"type": "string"}


def described(name: str, description: str = "", **arguments: Any) -> JsonDict:
    """A tool with descriptions, of itself or of its arguments."""
    schemas = {
        key: {**TEXT, "description": value} if isinstance(value, str) else value for key, value in arguments.items()
    }
    return {"name": name, "description": description, "inputSchema": {"type": "object", "properties": schemas}}


@pytest.mark.parametrize(
    "definition",
    [
        described("get_output", shell_cmd=TEXT),
        described("get_result", python_code=TEXT),
        described("get_result", cmdline=TEXT),
        described("get_result", js=TEXT),
        described("get_rows", sqlText=TEXT),
        described("get_file", delete_path=TEXT),
        described("get_file", deletepath=TEXT),
        described("list_files", ids_to_delete={"type": "array"}),
        described("get_file", path="Path of the file to delete permanently"),
        described("get_file", path="Removes what lies there"),
        described("get_file", path="The file that will be removed"),
        described("query", query="SQL to execute"),
        described("get_log", source="Evaluated as shell code: it runs the given script"),
        described("get_x", what={"type": "string", "enum": ["read", "delete"]}),
        described("get_x", kind={"anyOf": [{"const": "read"}, {"const": "overwrite"}]}),
        described("get_x", parts={"type": "array", "items": {"enum": ["read", "purge"]}}),
        described("get_file", "Tool that can delete a file from the disk."),
        described("get_file", "Used for deleting a file"),
        described("get_file", "The file will be deleted."),
        described("get_file", "Use this tool when you must drop a table or remove it"),
        described("get_file", "Does not only read: deletes"),
        described("get_file", "Reads a file. " * 400 + "Then it deletes the disk."),
        described("get_file", "Reads a file. " * 700),
        described("get_file", "\u5220\u9664\u6307\u5b9a\u7684\u6587\u4ef6"),
        described("get_file", "Elimina el archivo para siempre"),
        described("get_file", "Wymaz plik z dysku bez pytania o nic"),
        described("get_file", "Reads the file. \u0423\u0434\u0430\u043b\u044f\u0435\u0442 \u0444\u0430\u0439\u043b"),
        described("get_file", "Th\u0435n it d\u0435l\u0435tes the file"),
        described("get_file", "Then it \uff44\uff45\uff4c\uff45\uff54\uff45\uff53 the file"),
        described("get_file", dеlete={"type": "boolean"}),
        described("get_transfer", amount={"type": "number"}, to=TEXT),
        described("get_payment", sum={"type": "number"}, iban=TEXT),
        described("check_run_job_start_update", id=TEXT),
        described("view_and_nuke", id=TEXT),
        described("view_and_frobnicate", id=TEXT),
        described("get_d3l3te", id=TEXT),
        described("lookup_host", host=TEXT, data=TEXT),
        described("fetch", url=TEXT, data=TEXT),
    ],
    ids=str,
)
def test_a_definition_that_speaks_of_change_anywhere_asks(definition: JsonDict) -> None:
    """security.md S21: in the name or description of an argument, in its choices, in a language nobody here reads."""
    for one in (definition, {**definition, "annotations": READ_ONLY}):
        assert propose(one).looks not in CALM, propose(one)


@pytest.mark.parametrize(
    "definition",
    [
        described("get_issue", "Get details of a specific issue in a repository.", owner="Repository owner"),
        described(
            "list_issues", "List issues.", state={"enum": ["open", "closed"]}, sort={"enum": ["created", "updated"]}
        ),
        described(
            "list_repos", "Lists the repositories of a user.", updated_after="Only those updated after this date"
        ),
        described("search_code", "Search for code across repositories.", query="Search query with qualifiers"),
        described("read_file", "Read the complete contents of a file. Does not modify or delete it.", path="The path"),
        described("query_docs", "Retrieves documentation and code examples for a library.", library_id="Library ID"),
        described("get_weather", "Get the weather for a place.", place="Name of the city", units={"enum": ["metric"]}),
        described("get_forecast", "Get the forecast.", latitude={"type": "number"}, longitude={"type": "number"}),
        described("list_pull_requests", "List pull requests.", base="Filter by base branch", head="Filter by head"),
        described("get_pull_request_files", "Get the files changed in a pull request.", pullNumber={"type": "integer"}),
        described("get_commit", "Get details of a commit.", sha="Commit SHA, branch name, or tag name"),
        described("list_branches", "List branches in a repository.", perPage="Results per page"),
        described(
            "search_messages", "Search messages.", channel="Channel to search in", before="Sent before this date"
        ),
        described("list_channels", "List channels in the workspace.", include_archived={"type": "boolean"}),
        described("get_user", "Get a user by id.", user_id="The id of the user"),
        described("list_tables", "List all tables of the database.", schema="Name of the schema"),
        described("describe_table", "Show the columns of a table.", table="Name of the table"),
        described("list_events", "List calendar events.", timeMin="Start of the range", timeMax="End of the range"),
        described("get_event", "Get an event.", event_id="Event identifier"),
        described("list_files", "List files in a folder.", include_deleted={"type": "boolean"}),
        described("get_file_info", "Get metadata: size, created and modified time.", path="Path of the file"),
        described("search_files", "Search for files by pattern.", excludePatterns={"type": "array"}),
        described("get_page", "Get a page.", page_id="Page", format={"enum": ["html", "markdown"]}),
        described("list_workflow_runs", "List runs of a workflow.", event="Event that started the run"),
        described("get_job_logs", "Get logs of a job.", job_id="Job", tail_lines="Number of lines from the end"),
        described("get_stock_price", "Returns the price of a stock.", symbol="Ticker symbol"),
        described("convert_currency", "Converts an amount.", amount="Amount", **{"from": TEXT, "to": TEXT}),
        described("list_deployments", "List deployments.", environment="Filter by environment"),
        described("get_package_info", "Get info about a package.", python_version="Version of Python"),
        described("find_symbol", "Find a symbol in the code base.", name_path="Path of the symbol", depth="Depth"),
        described("list_emails", "List emails in a mailbox.", label="Only with this label", from_date="Date"),
        described("get_order_status", "Get the status of an order.", order_id="Number of the order"),
    ],
    ids=lambda one: str(one["name"]),
)
def test_tools_as_common_servers_have_them_for_reading_stay_allowed(definition: JsonDict) -> None:
    """docs/manifests.md: who is asked for each look turns the guard off."""
    assert propose(definition).looks in CALM, propose(definition)


@pytest.mark.parametrize(
    ("annotations", "looks"),
    [
        ({"readOnlyHint": False}, Looks.CHANGE),
        ({"destructiveHint": True}, Looks.DELETE),
        ({"readOnlyHint": True, "destructiveHint": True}, Looks.DELETE),
        ({"readOnlyHint": "true"}, Looks.READ),
        ("readOnlyHint", Looks.READ),
    ],
)
def test_annotations_raise_freely(annotations: Any, looks: Looks) -> None:
    """decisions.md D31: what a server says of itself may raise the risk."""
    assert propose(tool("get_page", "id", annotations=annotations)).looks is looks


@pytest.mark.parametrize("hint", ["true", 1, None, [True]])
def test_a_hint_that_is_not_true_is_no_hint(hint: Any) -> None:
    """security.md S21: only what the specification calls a hint counts."""
    assert propose(tool("frobnicate", annotations={"readOnlyHint": hint})).looks is Looks.UNCLEAR


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        "object",
        {"type": "array"},
        {"type": "object", "additionalProperties": True},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "patternProperties": {".*": {}}},
        {"type": "object", "properties": {"a": {"$ref": "https://example.org/schema"}}},
        {"type": "object", "allOf": [{} for _ in range(5000)]},
    ],
    ids=["none", "empty", "text", "array", "open", "open-typed", "pattern", "elsewhere", "huge"],
)
def test_a_schema_that_does_not_say_its_arguments_asks(schema: Any) -> None:
    """Fail closed: what cannot be looked at may be anything."""
    definition = {"name": "get_page", "inputSchema": schema, "annotations": READ_ONLY}
    assert propose(definition).looks is Looks.UNCLEAR


def test_arguments_are_found_wherever_a_schema_hides_them() -> None:
    """security.md S21: a name in `$defs`, `anyOf` or an item of a list is an argument too."""
    inner: JsonDict = {"type": "object", "properties": {"command": {"type": "string"}}}
    schemas: list[JsonDict] = [
        {"type": "object", "properties": {"a": {"type": "array", "items": inner}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": inner}},
        {"type": "object", "anyOf": [inner]},
    ]
    for schema in schemas:
        assert propose({"name": "get_page", "inputSchema": schema}).looks is Looks.EXECUTE


@pytest.mark.parametrize(
    ("choices", "looks"),
    [(["list", "get"], Looks.READ), (["list", "delete"], Looks.DELETE), (["GET", "POST"], Looks.SEND)],
)
def test_the_choices_of_an_action_are_read(choices: list[str], looks: Looks) -> None:
    """One tool for everything is as risky as the worst of it."""
    schema: Any = {"type": "object", "properties": {"action": {"type": "string", "enum": choices}}}
    assert propose({"name": "get_items", "inputSchema": schema}).looks is looks


def test_a_switch_that_changes_things_counts_and_others_do_not() -> None:
    """`delete_after` is an order; `include_deleted` is a filter."""
    for name, looks in (("delete_after", Looks.DELETE), ("include_deleted", Looks.READ), ("new_only", Looks.READ)):
        schema: Any = {"type": "object", "properties": {name: {"type": "boolean"}}}
        assert propose({"name": "list_items", "inputSchema": schema}).looks is looks


@pytest.mark.parametrize("name", ["get_p\u0430ge", "g\u0435t_page", "\u0261et_page", "get_page\u00e9"])
def test_letters_that_look_like_others_ask(name: str) -> None:
    """security.md S23: a name that only looks like the one that a person knows."""
    assert propose(tool(name, "id", annotations=READ_ONLY)).looks is Looks.UNCLEAR


def test_wide_letters_hide_no_word() -> None:
    """security.md S21: `\uff44\uff45\uff4c\uff45\uff54\uff45` is read as `delete`."""
    assert propose(tool("get_\uff44\uff45\uff4c\uff45\uff54\uff45", annotations=READ_ONLY)).looks is Looks.DELETE


def test_arguments_get_the_role_that_their_name_tells() -> None:
    """decisions.md D33: recipients, identifiers and content are sent as they are, what is looked for is not."""
    found = propose(tool("send_mail", "to", "subject", "body", "api_key", "page_token", "thing", "a/b~c_id")).entry
    roles = {pointer: argument.role for pointer, argument in found.arguments.items()}
    assert roles == {
        "/to": "recipient", "/subject": "content", "/body": "content", "/api_key": "secret",
        "/page_token": "identifier", "/a~1b~0c_id": "identifier",
    }  # fmt: skip
    assert found.resource == "/a~1b~0c_id"


def test_what_is_looked_for_goes_out_unmasked_only_where_the_server_says_that_it_stays_inside() -> None:
    """decisions.md D33: placeholders to the web."""

    def role(**annotations: bool) -> str | None:
        return propose(tool("search", "query", annotations=annotations)).entry.arguments["/query"].role

    assert (role(), role(openWorldHint=True), role(openWorldHint=False)) == ("query", "query", "identifier")
    assert propose(tool("fetch_page", "url")).entry.arguments["/url"].role == "query"


def test_many_long_definitions_are_read_in_a_moment() -> None:
    """security.md S21: a server cannot hold the guard up with its list."""
    definitions = [
        tool(f"get_thing_{n}", *(f"argument_{k}" for k in range(40)), description="Reads. " * 1000) for n in range(150)
    ]
    started = time.perf_counter()
    looks = [propose(definition).looks for definition in definitions]
    assert time.perf_counter() - started < 5
    assert summary(looks) == [(Looks.READ, 150)]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
        max_leaves=20,
    ),
    st.text(max_size=30),
)
def test_no_definition_breaks_the_reading_or_gets_its_text_into_the_reason(value: Any, text: str) -> None:
    """security.md S21: `why` is shown to reviewers; nothing a server wrote may stand in it but words of ours."""
    strange = {"name": text, "title": value, "description": text, "inputSchema": value, "annotations": value}
    for definition in (strange, {**strange, "inputSchema": {"type": "object", "properties": {text: value}}}):
        found = propose(definition)
        assert found.entry.why.isascii()
        assert found.entry.why.isprintable()
