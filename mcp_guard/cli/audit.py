"""`mcp-guard audit tail|show|verify`: read only, also while guards write."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import anyio
import typer
from pydantic import JsonValue

from mcp_guard.approval.prompt import quoted, visible
from mcp_guard.audit import query
from mcp_guard.audit.slots import installed_vkeys
from mcp_guard.audit.verify import Outcome, Report
from mcp_guard.audit.verify import verify as verify_log
from mcp_guard.cli.exit import FINDING, OK
from mcp_guard.cli.options import ConfigOption, JsonOption, console, keys_of, loaded, print_json
from mcp_guard.clock import iso
from mcp_guard.config.load import LoadedConfig
from mcp_guard.errors import AuditUnavailableError

app = typer.Typer(no_args_is_help=True, help="Read and verify the record of every call.")

_MAX_VALUE = 600


@app.command()
def tail(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many records.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new records as they come.")] = False,
) -> None:
    """Print the last records."""
    found = loaded(config)
    folder = _folder(found)
    if follow:
        anyio.run(_follow, found, limit, as_json)
        return
    entries = _read(lambda: query.tail(folder, limit)) if folder.is_dir() else []
    if as_json:
        print_json([_as_json(entry) for entry in entries])
        return
    for entry in entries:
        _print_line(entry)


@app.command()
def show(
    key: Annotated[str, typer.Argument(metavar="ID", help="A call id (call_…) or an approval id (apr_…).")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print everything about one call: intent, decision, who approved what, result."""
    folder = _folder(loaded(config))
    entries = _read(lambda: query.show(folder, key)) if folder.is_dir() else []
    if as_json:
        print_json([_as_json(entry) for entry in entries])
    elif not entries:
        sys.stderr.write("no record mentions this id\nhint: `mcp-guard audit tail` lists recent calls\n")
    else:
        for entry in entries:
            _print_line(entry)
            _print_details(entry)
    raise typer.Exit(OK if entries else FINDING)


@app.command()
def verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check every record against the signed checkpoints. Exit: 0 ok, 1 TAMPERED, 2 unverifiable, 3 cannot read."""
    found = loaded(config)
    report = verify_log(_folder(found), _vkeys(found))
    if as_json:
        print_json(_report_json(report))
    else:
        _print_report(report)
    raise typer.Exit(report.exit_code)


def _vkeys(config: LoadedConfig) -> tuple[str, ...]:
    try:
        return installed_vkeys(_folder(config), keys_of(config))
    except OSError:
        return ()  # no log was ever written here: verification says so


def _folder(config: LoadedConfig) -> Path:
    return config.data_dir / "audit"


async def _follow(config: LoadedConfig, limit: int, as_json: bool) -> None:
    async for entry in query.follow(_folder(config), limit=limit):
        if as_json:
            sys.stdout.write(json.dumps(_as_json(entry)) + "\n")
            sys.stdout.flush()
        else:
            _print_line(entry)


def _read(question: Callable[[], list[query.Entry]]) -> list[query.Entry]:
    try:
        return question()
    except (OSError, sqlite3.Error, ValueError) as error:
        raise AuditUnavailableError(
            f"the log cannot be read: {type(error).__name__}", hint="`mcp-guard audit verify` names the damaged file"
        ) from None


def _as_json(entry: query.Entry) -> JsonValue:
    return {
        "file": entry.file,
        "index": entry.index,
        "time": iso(entry.ts_us * 1000),
        "type": entry.type,
        "call_id": entry.call_id,
        "session": entry.session,
        "actor": entry.actor,
        "tool": entry.tool,
        "outcome": entry.outcome,
        "fields": entry.fields,
        "payloads": entry.payloads,
    }


def _print_line(entry: query.Entry) -> None:
    place = f"{entry.file.split('/')[0]}:{entry.index}"
    parts = (iso(entry.ts_us * 1000), place, entry.type, entry.tool, entry.outcome, entry.call_id)
    console().print("  ".join(visible(part) for part in parts if part))


def _print_details(entry: query.Entry) -> None:
    for name, value in _flat({**entry.fields, **entry.payloads}):
        text = value if len(value) <= _MAX_VALUE else f"{value[:_MAX_VALUE]}… +{len(value) - _MAX_VALUE} characters"
        console().print(f"    {visible(name)}: {text}")


def _flat(value: dict[str, JsonValue], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Name and visible text of what a record holds, one level deep."""
    for name, item in value.items():
        if isinstance(item, dict) and item and not prefix:
            yield from _flat(item, f"{name}.")
        elif item not in (None, [], {}, ""):
            yield prefix + name, visible(item) if isinstance(item, str) else quoted(item)


def _report_json(report: Report) -> JsonValue:
    return {
        "outcome": report.outcome.name,
        "files": report.files,
        "records": report.records,
        "calls": report.calls,
        "dropped": report.dropped,
        "erased": report.erased,
        "heads": [{"origin": h.origin, "size": h.size, "root": h.root_b64} for h in report.heads],
        "problems": [
            {"outcome": p.outcome.name, "file": p.file, "record": p.record, "text": p.text} for p in report.problems
        ],
    }


def _print_report(report: Report) -> None:
    out = console()
    counts = f"{report.records} records, {report.calls} calls, {report.dropped} dropped, {report.files} file(s)"
    for problem in report.problems:
        out.print(visible(str(problem)))
    if report.outcome is Outcome.OK:
        out.print(f"OK: {counts}; every record is the one that was signed")
        for head in report.heads:
            out.print(f"head: {head.origin} {head.size} {head.root_b64}")
        out.print(
            "note: a cut-off end shows only against a head kept elsewhere: keep these, or the receipts in results"
        )
    else:
        out.print(f"{report.outcome.name}: {counts}")
