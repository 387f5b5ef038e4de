"""`mcp-guard status`: which servers of which hosts go through the guard."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mcp_guard.approval.prompt import visible
from mcp_guard.cli.exit import FINDING, OK
from mcp_guard.cli.options import JsonOption, console, follow_up, print_json
from mcp_guard.cli.wrap import FileOption, count, say, short
from mcp_guard.config.load import CONFIG_VARIABLE, user_config_file, wrap_dir
from mcp_guard.errors import UsageError
from mcp_guard.model import JsonDict
from mcp_guard.wrap import EntryState, HostState, Machine, survey
from mcp_guard.wrap.journal import read_journal
from mcp_guard.wrap.locate import HostFile, file_at, find_files


def status(
    file: FileOption = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="PATH", help="Another guard.yaml than this is a finding too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which servers of your hosts go through the guard, and which go around it. Exit 1 when one does.

    Looks at the files of known hosts, of the project in this folder, and at those that were wrapped with --file.
    """
    machine = Machine()
    states = survey(files=_known_files(machine) if file is None else [file_at(file, machine)])
    if file is not None and not states[0].found:
        raise UsageError(f"{file} does not exist", hint="check the path")
    only = "" if config is None else str(config.expanduser().absolute())
    if as_json:
        print_json({"hosts": [_as_json(state) for state in states]})
    else:
        default = Path(os.environ.get(CONFIG_VARIABLE) or user_config_file()).expanduser().absolute()
        _print_status(console(), states, Path(only) if only else default)
    other = any(only not in ("", entry.config) for state in states for entry in state.having("wrapped"))
    broken = any(entry.broken for state in states for entry in state.having("wrapped"))
    bad = other or broken or any(state.problem or state.having("bypassing") for state in states)
    raise typer.Exit(FINDING if bad else OK)


def _known_files(machine: Machine) -> list[HostFile]:
    """Files of hosts, and those beside that were wrapped: the journal knows them."""
    files = {str(file.path): file for file in find_files(machine, project=True)}
    for record in read_journal(wrap_dir())[0].files:
        if record.path not in files and Path(record.path).exists():
            files[record.path] = HostFile(record.host, Path(record.path))
    return [*files.values()]


def _print_status(out: Console, states: Sequence[HostState], config: Path) -> None:
    # An editor's settings are looked at for old servers only.
    found = [s for s in states if s.found and (s.entries or s.problem or s.path.name != "settings.json")]
    for state in found:
        out.print(f"{state.title}: {visible(short(state.path))}", style="bold")
        if state.problem:
            out.print(f"  {state.problem}", style="red")
        elif not state.entries:
            out.print("  no servers")
        for entry in state.entries:
            _print_entry(out, entry)
    missing = dict.fromkeys(s.title for s in states if all(s.title != other.title for other in found))
    if missing:
        say(out, f"not found: {', '.join(missing)}")
    around = sum(len(state.having("bypassing")) for state in found)
    wrapped = [entry for state in found for entry in state.having("wrapped")]
    broken = [entry for entry in wrapped if entry.broken]
    through = count(len(wrapped) - len(broken), "server")
    out.print(f"{through} through the guard, {around} around it" + (f", {len(broken)} broken" if broken else ""))
    for command in _next(found, config):
        out.print(f"next: {command}")
    if any(entry.suspect for state in found for entry in state.having("bypassing")):
        say(out, "next: look at what only looks like mcp-guard; if it is yours, mcp-guard unwrap, then mcp-guard wrap")


def _next(found: Sequence[HostState], config: Path) -> list[str]:
    """Commands that help; none for what `wrap` leaves as it is, which is told beside each entry."""
    broken = [(state, entry) for state in found for entry in state.having("wrapped") if entry.broken]
    if any(entry.config_gone for _, entry in broken):
        return [f"{follow_up('unwrap', config)}, then {follow_up('wrap', config)}"]
    if any(not entry.program_gone for _, entry in broken):
        return [follow_up("init", config)]  # it takes the default one, which is not there
    takes = [state for state in found if any(not entry.why_left for entry in state.having("bypassing"))]
    # An entry of the own files whose guard is gone gets this one; a project's may be meant for another machine.
    takes += [state for state, entry in broken if not state.shared and entry.program_gone]
    named = [state for state in takes if state.host == "file"]
    rest = [state for state in takes if state.host != "file"]
    words = ["wrap --project" if any(state.shared for state in rest) else "wrap"] if rest else []
    words += [f"wrap --file {shlex.quote(str(state.path))}" for state in named]
    return [follow_up(word, config) for word in dict.fromkeys(words)]


def _print_entry(out: Console, entry: EntryState) -> None:
    colour = {"wrapped": "green", "bypassing": "red", "disabled": "dim"}[entry.state]
    broken = entry.broken if entry.state == "wrapped" else ""
    name = visible(entry.name)
    more = f"  by {visible(short(Path(entry.config)))}" if entry.config else ""
    more += f"  in {visible(short(Path(entry.project)))}" if entry.project else ""
    state, style = ("broken", "red") if broken else (entry.state, colour)
    out.print(f"  {state:<9}  {name:<20}{more}".rstrip(), style=style)
    why = entry.why_left if entry.state == "bypassing" else broken
    if why:
        say(out, f"             {why}")


def _as_json(state: HostState) -> JsonDict:
    return {
        "host": state.host,
        "path": str(state.path),
        "shared": state.shared,
        "found": state.found,
        "problem": state.problem,
        "servers": [
            {
                "name": entry.name,
                "project": entry.project,
                "state": entry.state,
                "broken": entry.broken,
                "suspect": entry.suspect,
                "why_left": entry.why_left,
                "config": entry.config,
                "server": entry.server,
            }
            for entry in state.entries
        ],
    }
