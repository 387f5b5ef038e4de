"""Entry point of `mcp-guard`. `serve` is on every host's start-up path, so it pays for neither typer nor rich."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command line and exit."""
    if len(sys.argv) > 1 and sys.argv[1] == "serve":
        from mcp_guard.cli.serve import main

        sys.exit(main(sys.argv[2:]))
    from mcp_guard.cli.commands import main as rest

    sys.exit(rest())


if __name__ == "__main__":
    run()
