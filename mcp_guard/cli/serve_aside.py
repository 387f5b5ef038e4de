"""A guard on a data folder of its own: what `doctor` starts to measure, so that it touches nothing of the user's.

Not a command: `python -P -m mcp_guard.cli.serve_aside CONFIG FOLDER`. Servers without a `cwd` start in the folder of
guard.yaml: what lies where a person happens to stand is not run.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import anyio

from mcp_guard.cli.exit import report


def main(argv: list[str]) -> int:
    """Serve on stdio until the client goes. Returns the exit code."""
    config, folder = argv
    return report(lambda: _serve(Path(config), Path(folder)))


def _serve(config: Path, folder: Path) -> int:
    from mcp_guard.app import ServeOptions, serve
    from mcp_guard.cli.loading import load

    loaded = load(config)
    # Without pins: the first start would write down what each server is, and that is for a real one to do.
    new = {"pins": "off"}
    servers = {name: server.model_copy(update=new) for name, server in loaded.config.servers.items()}
    unpinned = {
        name: server.model_copy(update={**new, "cwd": server.cwd or str(loaded.folder)})
        for name, server in loaded.servers.items()
    }
    written = loaded.config.model_copy(update={"servers": servers})
    anyio.run(serve, replace(loaded, config=written, servers=unpinned, data_dir=folder), ServeOptions())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
