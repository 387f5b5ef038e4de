"""The typer application: every command but `serve`, which `cli.main` answers by itself."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mcp_guard import __version__
from mcp_guard.cli import approvals, audit, console, doctor, pins, setup, status, trust, wrap
from mcp_guard.cli.exit import report

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The guard between AI agents and their tools: masks, asks, records.",
    epilog="Exit codes: 0 ok, 1 finding, 2 usage or configuration, 3 something broke.",
)
app.command()(setup.init)
app.command()(setup.check)
app.command()(setup.explain)
app.command()(trust.trust)
app.command()(doctor.doctor)
app.command()(wrap.wrap)
app.command()(wrap.unwrap)
app.command()(status.status)
app.command("console")(console.command)
app.add_typer(approvals.app, name="approvals")
app.add_typer(approvals.reviewers, name="reviewer")
app.add_typer(audit.app, name="audit")
app.add_typer(pins.app, name="pins")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def serve(context: typer.Context) -> None:
    """Run the guard for a host, on stdio or with --http HOST:PORT."""
    from mcp_guard.cli.serve import main as run_server

    raise typer.Exit(run_server(context.args))


@app.command()
def demo(auto: Annotated[bool, typer.Option("--auto", help="Answer by a second process, and check.")] = False) -> None:
    """Show one call all the way: masked, suspended, approved, executed once, recorded."""
    from mcp_guard.demo import run

    raise typer.Exit(run(auto=auto))


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"mcp-guard {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before any command."""


def main() -> int:
    """Run the command line; returns the exit code."""
    return report(_run)


def _run() -> int:
    app(prog_name="mcp-guard")
    return 0
