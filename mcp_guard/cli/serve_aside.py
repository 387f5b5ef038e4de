"""A guard on a data folder of its own: what `doctor` starts to measure, so that it touches nothing of the user's.

Not a command: `python -P -m mcp_guard.cli.serve_aside CONFIG FOLDER`. Servers without a `cwd` start in the folder of
guard.yaml: what lies where a person happens to stand is not run. Neither is what guard.lock holds back.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from mcp_guard.cli.exit import report
from mcp_guard.errors import DownstreamUnavailableError, QuarantinedError

if TYPE_CHECKING:
    from mcp_guard.config.load import LoadedConfig


def main(argv: list[str]) -> int:
    """Serve on stdio until the client goes. Returns the exit code."""
    config, folder = argv
    return report(lambda: _serve(Path(config), Path(folder)))


def _serve(config: Path, folder: Path) -> int:
    from mcp_guard.app import ServeOptions, serve
    from mcp_guard.cli.loading import load

    loaded = load(config)
    accepted = _accepted(replace(loaded, data_dir=folder))
    # Without pins: the first start would write down what each server is, and that is for a real one to do.
    new = {"pins": "off"}
    servers = {name: server.model_copy(update=new) for name, server in loaded.config.servers.items()}
    unpinned = {
        name: server.model_copy(update={**new, "cwd": server.cwd or str(loaded.folder)})
        for name, server in loaded.servers.items()
        if name in accepted
    }
    written = loaded.config.model_copy(update={"servers": servers})
    anyio.run(serve, replace(loaded, config=written, servers=unpinned, data_dir=folder), ServeOptions())
    return 0


def _accepted(loaded: LoadedConfig) -> set[str]:
    """Servers whose program the lock does not hold back."""
    from mcp_guard.downstream.lockfile import LOCK_NAME, LockFile
    from mcp_guard.downstream.looking import OnlyLooking
    from mcp_guard.parts import from_own_folder, prepare_data_dir, resolve_servers

    prepare_data_dir(loaded.data_dir)
    gate, found = OnlyLooking(LockFile(loaded.folder / LOCK_NAME)), set[str]()
    for name, server in from_own_folder(resolve_servers(loaded), loaded).items():
        try:
            gate.judge(server)
        except QuarantinedError:
            continue
        except DownstreamUnavailableError:
            pass  # its program is missing: it is measured how the guard does with that
        found.add(name)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
