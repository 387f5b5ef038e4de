"""Tools as common servers have them, their classes written by hand: what may run unasked, and what must not."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_guard.manifest.propose import propose
from mcp_guard.manifest.words import Looks
from mcp_guard.model import JsonDict

CALM = {Looks.READ, Looks.WEB}
READ_ONLY: JsonDict = {"readOnlyHint": True, "destructiveHint": False}


def tool(name: str, description: str, *arguments: str) -> JsonDict:
    properties: Any = {argument: {"type": "string"} for argument in arguments}
    return {"name": name, "description": description, "inputSchema": {"type": "object", "properties": properties}}


MISREAD = [
    tool("echo_to_file", "Echo text to a file.", "path", "text"),
    tool("get_rid_of_file", "Gets rid of the file at this path.", "path"),
    tool("resolve_incident", "Resolves the incident with this id.", "id"),
    tool("ping_user", "Pings the user in the channel.", "user", "text"),
    tool("convert_lead", "Convert a lead to an account.", "lead_id"),
    tool("resolve_thread", "Resolve a review thread of the pull request.", "thread_id"),
    tool("translate_document", "Translates the document and stores it back.", "path"),
    tool("convert_file", "Converts the file to PDF in place.", "path"),
    tool("check_off_task", "Check off the task.", "task_id"),
    tool("convert_to_paid_plan", "Convert the account to a paid plan.", "id"),
]
"""What `trust --yes` once called reading."""
ASKS = [
    tool("slack_reply_to_thread", "Reply to a message thread in Slack.", "channel_id", "thread_ts", "text"),
    tool("slack_add_reaction", "Add a reaction emoji to a message.", "channel_id", "timestamp", "reaction"),
    tool("jira_transition_issue", "Move an issue through its workflow.", "issue_key", "transition_id"),
    tool("resolve_comment", "Resolve a comment.", "comment_id"),
    tool("convert_pull_request_to_draft", "Converts the pull request to a draft.", "pull_number"),
    tool("check_run_rerequest", "Asks for the checks to be made again.", "check_run_id"),
    tool("notion_query_and_archive", "Queries pages and archives what was found.", "query"),
    tool("stripe_finalize_invoice", "Finalizes a draft invoice.", "invoice"),
    tool("stripe_resolve_dispute", "Resolves a dispute by accepting it.", "dispute"),
    tool("kubectl_scale", "Scale a deployment.", "deployment", "replicas"),
    tool("cordon_node", "Marks the node as unschedulable.", "node"),
    tool("browser_press_key", "Press a key on the keyboard.", "key"),
    tool("browser_check_box", "Check a checkbox on the page.", "ref"),
    tool("read_email_and_mark_read", "Reads an email and marks it as read.", "id"),
    tool("gmail_view_thread", "Shows a thread. Marks all messages in it as read.", "thread_id"),
    tool("acknowledge_incident", "Acknowledges an incident.", "id"),
    tool("check_in_guest", "Check in the guest of the booking.", "booking_id"),
    tool("list_item_for_sale", "List an item on the marketplace.", "item", "price"),
    tool("translate_page", "Translate a page.", "page_id"),
    tool("ping_channel", "Ping everyone in a channel.", "channel"),
    tool("get_screenshot", "Takes a screenshot and saves it.", "name"),
    tool("fetch_logs", "Fetches logs, dumps them to a file.", "pod"),
    tool("get_image", "Rotates the image in place.", "name"),
    tool("get_report", "Get a report.", "path", "text"),
    tool("search_users", "Approves all users that are found.", "query"),
]
READS = [
    tool("slack_get_channel_history", "Get recent messages from a channel.", "channel_id", "limit"),
    tool("slack_get_thread_replies", "Get all replies in a message thread.", "channel_id", "thread_ts"),
    tool("jira_search", "Search Jira issues using JQL.", "jql", "fields", "limit"),
    tool("jira_get_transitions", "Get available status transitions for an issue.", "issue_key"),
    tool("list_check_runs", "List check runs of a commit.", "owner", "repo", "ref"),
    tool("get_pull_request_comments", "Get the review comments on a pull request.", "pull_number"),
    tool("list_resolved_threads", "List threads that are resolved.", "pull_number"),
    tool("notion_query_database", "Query a database.", "database_id", "filter", "sorts"),
    tool("stripe_retrieve_balance", "Retrieve the balance of the account."),
    tool("list_disputes", "Lists disputes. Returns them newest first.", "limit"),
    tool("kubectl_get", "Get or list Kubernetes resources.", "kind", "name", "namespace"),
    tool("describe_pod", "Describe a pod in the given namespace.", "name", "namespace"),
    tool("get_pod_logs", "Get the logs of a pod.", "name", "tail"),
    tool("search_emails", "Search emails with a query as in the search field.", "query"),
    tool("read_email", "Get the content of an email.", "message_id"),
    tool("check_status", "Check the status of a job.", "job_id"),
    tool("check_availability", "Check whether a room is free on a date.", "date"),
    tool("convert_time", "Convert time between timezones.", "source_timezone", "time", "target_timezone"),
    tool("convert_currency", "Converts an amount from one currency to another.", "amount"),
    tool("resolve-library-id", "Resolves a package name to a library ID and returns matching libraries.", "name"),
    tool("translate_text", "Translates text into another language.", "text", "target_language"),
    tool("ping", "Check that the server is alive."),
    tool("echo", "Echoes back the input.", "message"),
    tool("find_in_file", "Find where a text stands in a file.", "path", "text"),
    tool("find_stores", "Find stores near a place. Lists the stores that are open.", "city"),
    tool("search_files", "Use a question mark as a wildcard.", "pattern"),
    tool("list_policies", "Lists the policies that are in place.", "account"),
]


@pytest.mark.parametrize("definition", [*MISREAD, *ASKS], ids=lambda one: str(one["name"]))
def test_a_tool_that_changes_something_in_plain_words_asks(definition: JsonDict) -> None:
    """docs/manifests.md: a verb of two meanings is no proof of reading."""
    assert propose(definition).looks not in CALM, propose(definition)


@pytest.mark.parametrize("definition", READS, ids=lambda one: str(one["name"]))
def test_a_tool_that_reads_in_plain_words_does_not_ask(definition: JsonDict) -> None:
    """docs/manifests.md: who is asked for each look turns the guard off."""
    assert propose(definition).looks in CALM, propose(definition)


@pytest.mark.parametrize("definition", [one for one in MISREAD if "convert_" not in str(one["name"])], ids=str)
def test_a_hint_of_the_server_does_not_outweigh_what_its_words_say(definition: JsonDict) -> None:
    """security.md S21: a server may lie in its annotations."""
    hinted = {**definition, "annotations": READ_ONLY}

    assert propose(hinted).looks not in CALM, propose(hinted)


def test_a_verb_of_two_meanings_reads_where_the_server_says_so_and_nothing_speaks_against_it() -> None:
    """docs/manifests.md: the hint counts where it is all that is known."""
    unclear = tool("resolve_entry", "Looks at the entry and returns what it stands for.", "entry")

    assert propose(unclear).looks is Looks.UNCLEAR
    assert propose({**unclear, "annotations": READ_ONLY}).looks is Looks.READ


def test_a_reason_quotes_no_words_that_the_server_put_between_ours() -> None:
    """security.md S21: reasons are shown to reviewers as the guard's own."""
    why = propose(tool("get_x", "Resolves safe harmless thread.", "id")).entry.why

    assert why == 'Its description says "resolves ... thread".'
