"""`mcp-guard demo` from the first line to the last: sets the stage, plays the scenes, and cleans up."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import anyio
from rich.console import Console
from rich.text import Text

from mcp_guard.approval.review import Verdict
from mcp_guard.demo import person, scenes
from mcp_guard.demo.agent import connected
from mcp_guard.demo.claims import WIDTH, Claims, cut, say
from mcp_guard.demo.workspace import Workspace
from mcp_guard.system import at_terminal

_LOG_LINES = 10
TIME_LIMIT_S = 150.0
"""A person needs about 60 seconds; nobody waits for a demo that hangs."""


def run_demo(*, auto: bool, console: Console | None = None) -> int:
    """Play the demo; see `mcp_guard.demo.run`."""
    console = console or make_console()
    if not auto and not at_terminal():
        sys.stderr.write("[usage] the demo asks a person, and there is no terminal here\n")
        sys.stderr.write("hint: run `mcp-guard demo --auto`; a second process answers then\n")
        return 2
    try:
        # On Windows a file that a killed process held may stay busy for a moment.
        with tempfile.TemporaryDirectory(prefix="mcp-guard-demo-", ignore_cleanup_errors=True) as folder:
            return anyio.run(_play, console, Path(folder), auto)
    except TimeoutError:
        _stopped(console, f"The demo did not end within {TIME_LIMIT_S:.0f} seconds and was stopped.")
        return 1
    except KeyboardInterrupt:
        _stopped(console, "Stopped. Nothing was left behind.")
        return 130


def make_console() -> Console:
    """At most 80 columns, no markup in data; NO_COLOR and a dumb terminal give plain text."""
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    wide = Console(highlight=False, markup=False, emoji=False, color_system=None if plain else "auto")
    wide.width = WIDTH
    return wide


def _stopped(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold red"))


async def _play(console: Console, folder: Path, auto: bool) -> int:  # noqa: FBT001 - anyio.run passes by position
    work = Workspace(folder)

    async def by_token(ticket: str) -> Verdict | None:
        done = await work.approve(ticket)
        console.print(Text("   A second process with a reviewer's token approves."))
        return "approve" if done.code == 0 else None

    async def by_person(ticket: str) -> Verdict | None:
        console.print(Text("   Press a to approve or d to deny.", style="bold"))
        verdict = await person.press_a_or_d()
        return verdict if await person.decide(work.config, ticket, verdict) else None

    stage = scenes.Stage(console, Claims(console), work, by_token if auto else by_person, auto)
    _welcome(console, stage.claims.mark)
    try:
        with anyio.fail_after(TIME_LIMIT_S):
            await _scenes(stage)
    except TimeoutError:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: a demo says what broke, it shows no traceback
        stage.claims.claim(f"The demo went through to its end (it broke off: {_kind(error)})", ok=False)
    if not stage.claims.all_held:
        _last_words(console, work)
    return 0 if stage.claims.all_held else 1


def _kind(error: BaseException) -> str:
    return _kind(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else type(error).__name__


def _last_words(console: Console, work: Workspace) -> None:
    log = work.folder / "guard.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    console.print(Text("\nWhat the guard wrote to stderr:", style="bold"))
    for line in lines[-_LOG_LINES:] or ["(nothing)"]:
        say(console, cut(line, 2 * WIDTH))


def _welcome(console: Console, mark: str) -> None:
    console.print(Text("mcp-guard demo", style="bold"))
    console.print("A scripted agent calls a small CRM through a real guard, in a temporary folder.")
    console.print(f"Every line with {mark} is checked while you read it. The people are invented.")


async def _scenes(stage: scenes.Stage) -> None:
    work = stage.work
    if not await work.add_reviewer():
        stage.claims.claim("A reviewer was registered", ok=False)
        return
    async with connected(work.serve, cwd=work.folder, env=work.env()) as agent:
        await scenes.masking(stage, agent)
        await scenes.deletion(stage, agent)
        ticket = await scenes.export_then_kill(stage, agent)
    async with connected(work.serve, cwd=work.folder, env=work.env()) as agent:
        await scenes.after_restart(stage, agent, ticket)
    await scenes.audit(stage)
    await scenes.ending(stage)
