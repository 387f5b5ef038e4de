"""`mcp-guard wrap` and `unwrap`: the guard in front of the servers that hosts already have."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mcp_guard.approval.prompt import visible
from mcp_guard.cli.exit import INTERRUPTED
from mcp_guard.cli.loading import load
from mcp_guard.cli.options import console, follow_up
from mcp_guard.cli.setup import command_line
from mcp_guard.config.load import CONFIG_VARIABLE, user_config_file, wrap_dir
from mcp_guard.config.references import needs_its_host
from mcp_guard.config.secretfiles import FOLDER
from mcp_guard.errors import GuardError, UsageError
from mcp_guard.manifest.find import Shelf
from mcp_guard.system import at_terminal
from mcp_guard.wrap import Machine, survey
from mcp_guard.wrap.locate import TITLES, HostFile, chosen_files

if TYPE_CHECKING:
    from mcp_guard.wrap.plan import WrapPlan
    from mcp_guard.wrap.undo import UnwrapPlan

_KNOWN = ", ".join(name for name in TITLES if name != "file")
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_WIDTH = 100

HostsArgument = Annotated[list[str] | None, typer.Argument(metavar="[HOST]...", help=f"Default: all. One of: {_KNOWN}")]
FileOption = Annotated[Path | None, typer.Option("--file", metavar="PATH", help="This file instead of those of hosts.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Needed outside of a terminal.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]
ProjectOption = Annotated[
    bool, typer.Option("--project", help="Also the files of the project in this folder, which others may share.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="PATH", help="guard.yaml to take the servers; made where needed.")
]


def wrap(  # noqa: PLR0917 - typer makes options of them
    hosts: HostsArgument = None,
    file: FileOption = None,
    combined: Annotated[bool, typer.Option("--combined", help="One entry for all servers.")] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="Also remote servers to which the host may log in by itself.")
    ] = False,
    project: ProjectOption = False,
    dry_run: DryOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
) -> None:
    """Put the guard in front of the servers that your hosts have. Shows the changes and asks once."""
    from mcp_guard.wrap.carry_out import carry_out
    from mcp_guard.wrap.plan import Options, plan_wrap, usable_path

    machine = Machine()
    files = chosen_files(hosts or [], file, machine, project=project)
    options = Options(
        config=(config or Path(machine.env.get(CONFIG_VARIABLE) or user_config_file())).expanduser().absolute(),
        command=command_line(),
        path=usable_path(machine.env),
        combined=combined,
        remote=remote,
    )
    plan = plan_wrap(files, options, named=file is not None)
    out = console()
    _show_wrap(out, plan)
    if not project and file is None:
        _mention_projects(out, machine, plan)
    if not plan.files:
        out.print("nothing to do" + ("" if plan.notes else ": no server of these hosts goes around the guard"))
        return
    if dry_run or not _agreed(f"Change {count(len(plan.files), 'file')}?", yes=yes):
        out.print("nothing was changed")
        return
    carry_out(plan, wrap_dir())
    _wrapped(out, plan)
    _review(out, plan, yes=yes)


def unwrap(
    hosts: HostsArgument = None,
    file: FileOption = None,
    dry_run: DryOption = False,
    yes: YesOption = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="PATH", help="Only what was wrapped with this guard.yaml.")
    ] = None,
) -> None:
    """Put back what `wrap` changed: byte for byte where a file was not touched since, else the entries alone."""
    from mcp_guard.wrap.undo import carry_back, plan_unwrap

    machine = Machine()
    every = not hosts and file is None
    files = None if every else chosen_files(hosts or [], file, machine, project=True)
    only = None if config is None else str(config.expanduser().absolute())
    plan = plan_unwrap(files, wrap_dir(), named=file is not None, config=only)
    out = console()
    _show_unwrap(out, plan)
    if not plan.files:
        out.print("nothing to put back")
        if not dry_run:
            carry_back(plan, wrap_dir())
        return
    if dry_run or not _agreed(f"Put back {count(len(plan.files), 'file')}?", yes=yes):
        out.print("nothing was changed")
        return
    carry_back(plan, wrap_dir())
    out.print(f"done: {count(len(plan.files), 'file')} put back")
    configs = sorted({Path(record.config) for found in plan.files for record in found.records})
    left = [path for config in configs for path in (config, config.parent / FOLDER) if path.exists()]
    if left:
        shown = ", ".join(short(path) for path in dict.fromkeys(left))
        say(out, f"Left as they are: {shown}; also approvals and the audit log, if there are any.")
    _restart(out, [found.file for found in plan.files])


def _show_wrap(out: Console, plan: WrapPlan) -> None:
    from mcp_guard.wrap.diff import diff_lines
    from mcp_guard.wrap.plan import listed

    seen: set[str] = set()
    for found in plan.files:
        _heading(out, found.file)
        _diff(out, diff_lines(found.file, found.before, found.after, _width() - 2, seen))
    if plan.files:
        out.print()
        new, path = list(plan.servers.new), plan.options.config
        verb = "is made, with" if plan.servers.raw is None else "gets"
        if new:
            say(out, f"{short(path)} {verb} {count(len(new), 'server')}: {listed(new)}")
        secrets = len(plan.servers.secrets())
        if secrets:
            where = short(path.parent / "secrets")
            say(
                out,
                f"{count(secrets, 'plain secret')} {'moves' if secrets == 1 else 'move'} into {where}, for you alone",
            )
    for note in plan.notes:
        say(out, f"note: {note}")
    if plan.files and _passing(Path(plan.options.command[0])):
        say(out, "note: this mcp-guard lies in a cache, which may be emptied: install it first, then wrap")


def _passing(command: Path) -> bool:
    """Whether a program lies in the cache of uv or pipx, as `uvx` leaves it."""
    return any(part.startswith(("archive-v", "environments-v")) or part == ".cache" for part in command.parts)


def _wrapped(out: Console, plan: WrapPlan) -> None:
    names = sum(len(found.changes) if not plan.options.combined else len(found.names) for found in plan.files)
    out.print(f"done: {count(names, 'server')} behind the guard, configured in {short(plan.options.config)}")
    say(out, f"The old files, with any secrets that were in them, are in {short(wrap_dir())}, for you alone.")
    _restart(out, [found.file for found in plan.files])
    out.print("undo: mcp-guard unwrap")


def _review(out: Console, plan: WrapPlan, *, yes: bool) -> None:
    """Review the tools of the new servers, or say how, for those that are in no manifest and can be started here."""
    from mcp_guard.cli.trust import offer_reviews
    from mcp_guard.wrap.plan import listed

    path = plan.options.config
    config = load(path, resolve=False).config
    known = Shelf().bind(config, path.parent).by_server
    new = [name for name in plan.servers.new if name not in known]
    here = [name for name in new if not needs_its_host(config.servers[name], os.environ)]
    if here and not yes and at_terminal():
        try:
            offer_reviews(load(path), here, yes=False)
        except GuardError as error:
            say(out, f"not now: {error.message}")
            out.print(f"later: {follow_up('trust --all', path)}")
    elif here:
        which = here[0] if len(here) == 1 else "--all"
        out.print(f"next: {follow_up(f'trust {which}', path)}")
        say(out, f"  so that what only reads does not ask: {listed(here)}")
    if left := [name for name in new if name not in here]:
        say(out, f"Only their host can start {listed(left)}: use them there once, then review them with")
        out.print(f"  {follow_up(f'trust {left[0]}' if len(left) == 1 else 'trust SERVER', path)}")


def _mention_projects(out: Console, machine: Machine, plan: WrapPlan) -> None:
    from mcp_guard.wrap.locate import find_files

    planned = {found.file.path for found in plan.files}
    shared = [file for file in find_files(machine, project=True) if file.shared and file.path not in planned]
    for state in survey(files=shared):
        if state.having("bypassing"):
            say(out, f"note: {state.path} belongs to this project and was left alone; --project wraps it too")


def _show_unwrap(out: Console, plan: UnwrapPlan) -> None:
    from mcp_guard.wrap.diff import diff_lines

    for found in plan.files:
        _heading(out, found.file)
        if found.exact:
            out.print("  exactly as it was before")
        else:
            out.print("  it was edited since: only the wrapped entries are put back")
            _diff(out, diff_lines(found.file, found.before, found.after, _width() - 2))
    for note in plan.notes:
        say(out, f"note: {note}")


def _heading(out: Console, file: HostFile) -> None:
    out.print(f"\n{file.title}: {visible(short(file.path))}", style="bold")


def _diff(out: Console, lines: Iterable[str]) -> None:
    for line in lines:
        out.print(f"  {line}", style=_COLOURS.get(line[:1]))


def _agreed(question: str, *, yes: bool) -> bool:
    if yes:
        return True
    if not at_terminal():
        raise UsageError("there is no terminal to ask in", hint="look at it with --dry-run, then pass --yes")
    try:
        return typer.confirm(question, default=False)
    except typer.Abort:
        sys.stdout.write("\nnothing was changed\n")
        raise typer.Exit(INTERRUPTED) from None


def _restart(out: Console, files: list[HostFile]) -> None:
    titles = dict.fromkeys(file.title if file.host != "file" else f"the host of {short(file.path)}" for file in files)
    out.print(f"restart: {', '.join(titles)} (hosts read these files when they start)")


def say(out: Console, text: str) -> None:
    """Print a sentence, broken between words."""
    indent = " " * (len(text) - len(text.lstrip()) or 2)
    shown = textwrap.fill(
        visible(text), _width(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    out.print(shown)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _WIDTH)


def short(path: Path) -> str:
    """A path as people write it."""
    text, home = os.path.normpath(path), str(Path.home())
    return "~" + text[len(home) :] if text.startswith(home + os.sep) else text


def count(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}{'s' * (number != 1)}"
