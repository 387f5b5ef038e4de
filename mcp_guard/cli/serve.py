"""`mcp-guard serve`: parsed with argparse, since typer and rich would double the start-up time."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import anyio

from mcp_guard.cli.exit import USAGE, report

DESCRIPTION = "Run the guard for a host: on stdio, or with --http as a streamable HTTP server on loopback."


def parser() -> argparse.ArgumentParser:
    """The options of `serve`."""
    found = argparse.ArgumentParser(prog="mcp-guard serve", description=DESCRIPTION, allow_abbrev=False)
    found.add_argument("--config", metavar="PATH", type=Path, help="guard.yaml; else MCP_GUARD_CONFIG, else the user's")
    found.add_argument("--server", metavar="NAME", help="offer this downstream server alone, with its plain tool names")
    found.add_argument("--http", metavar="HOST:PORT", help="streamable HTTP on a loopback address instead of stdio")
    found.add_argument(
        "--insecure-loopback", action="store_true", help="with --http: no bearer token; any local program can call"
    )
    return found


def main(argv: list[str]) -> int:
    """Run until the client goes (stdio) or a signal comes. Returns the exit code."""
    options = parser().parse_args(argv)
    if options.insecure_loopback and not options.http:
        sys.stderr.write("mcp-guard serve: --insecure-loopback goes with --http\n")
        return USAGE
    return report(lambda: _serve(options))


def _serve(options: argparse.Namespace) -> int:
    from mcp_guard.app import ServeOptions, serve
    from mcp_guard.cli.loading import load

    loaded = load(options.config, only=options.server)
    wanted = ServeOptions(only=options.server, http=options.http, token=not options.insecure_loopback)
    anyio.run(serve, loaded, wanted)
    return 0
