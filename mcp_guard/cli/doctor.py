"""`mcp-guard doctor`: what is wrong with this set-up, each with what mends it."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from mcp_guard.cli.exit import FINDING, OK, USAGE
from mcp_guard.cli.loading import load
from mcp_guard.cli.options import MODULE, ConfigOption, JsonOption, console, print_json
from mcp_guard.clock import SystemClock
from mcp_guard.config.load import find_config, user_config_file
from mcp_guard.errors import ConfigError

if TYPE_CHECKING:
    from mcp_guard.doctor.finding import Finding
    from mcp_guard.doctor.run import Diagnosis

_WIDTH = 96
_INDENT = 10
_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "bold red"}


def doctor(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="Start no server: look only.")] = False,
) -> None:
    """Say what is wrong with this set-up and what mends it. Changes nothing; takes at most 30 seconds.

    Exit: 0 nothing worse than a note, 1 findings, 2 no usable configuration.
    """
    from mcp_guard.doctor.run import diagnose
    from mcp_guard.doctor.setup import Machine

    path = _find(config)
    machine = Machine(
        env=dict(os.environ),
        home=Path.home(),
        cwd=Path.cwd(),
        platform=sys.platform,
        now_ns=SystemClock().now_ns(),
        serve_aside=(*MODULE, "mcp_guard.cli.serve_aside"),
    )
    if not as_json and not quick and path is not None and sys.stderr.isatty():
        sys.stderr.write("starting every server once; this takes some seconds …\n")
    diagnosis = diagnose(machine, path, lambda: load(path, resolve=False), quick=quick)
    if as_json:
        print_json(diagnosis.data())
    else:
        _print(diagnosis, path)
    raise typer.Exit(_code(diagnosis))


def _find(config: Path | None) -> Path | None:
    """The configuration; None when there is none of the user's own. One that was named must be there."""
    try:
        return find_config(config, os.environ)
    except ConfigError:
        if config is not None or os.environ.get("MCP_GUARD_CONFIG") or user_config_file().exists():
            raise
        return None


def _code(diagnosis: Diagnosis) -> int:
    if diagnosis.unusable:
        return USAGE
    return FINDING if diagnosis.worst in {"warning", "problem"} else OK


def _print(diagnosis: Diagnosis, path: Path | None) -> None:
    out = console()
    width = min(out.width, _WIDTH)
    out.print(f"mcp-guard doctor: {path}" if path is not None else "mcp-guard doctor")
    for name, findings in diagnosis.groups.items():
        if findings:
            out.print()
            out.print(Text(name, style="bold"))
            _print_group(out, findings, width)
    out.print()
    out.print(_summary(diagnosis))


def _print_group(out: Console, findings: list[Finding], width: int) -> None:
    for finding in findings:
        if finding.level != "ok":
            _print_finding(out, finding, width)
    fine = [finding.text.rstrip(".") for finding in findings if finding.level == "ok"]
    if fine:
        _line(out, "ok", "; ".join(fine), width)


def _print_finding(out: Console, finding: Finding, width: int) -> None:
    _line(out, finding.level.value, f"{finding.text} [{finding.code}]", width)
    for line in finding.detail:
        out.print(Text(textwrap.indent(_wrapped(line, width, _INDENT + 4), " " * (_INDENT + 2)), style="dim"))
    # Not wrapped: a command is copied as one line.
    out.print(f"{' ' * _INDENT}→ {finding.mend}")


def _line(out: Console, level: str, text: str, width: int) -> None:
    body = textwrap.indent(_wrapped(text, width, _INDENT), " " * _INDENT)[_INDENT:]
    out.print(Text.assemble((f"  {level}".ljust(_INDENT), _STYLES[level]), body))


def _wrapped(text: str, width: int, taken: int) -> str:
    room = max(width - taken, 20)
    return "\n".join(textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False))


def _summary(diagnosis: Diagnosis) -> str:
    levels = [finding.level.value for finding in diagnosis.findings]
    counts = [(levels.count(level), level) for level in ("problem", "warning", "note")]
    said = [f"{number} {level}{'' if number == 1 else 's'}" for number, level in counts if number]
    if not said:
        return "all is well"
    return f"{', '.join(said)}; docs/doctor.md explains each [code]"
