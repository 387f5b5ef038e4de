"""Loading guard.yaml with every check there is; shared by `serve`, which must not import typer, and the rest."""

from __future__ import annotations

import os
from pathlib import Path

from mcp_guard.config.load import LoadedConfig, find_config, load_config
from mcp_guard.manifest.find import Shelf
from mcp_guard.policy.rules import policy_check


def load(path: Path | None, *, resolve: bool = True, only: str | None = None) -> LoadedConfig:
    """Find and load the configuration; manifests and conditions are checked together with the rest.

    Args:
        path: As given with `--config`.
        resolve: Whether references are resolved; only what starts servers needs them, and a reviewer's terminal
            does not have the host's variables.
        only: See `load_config`.

    Raises:
        ConfigError: there is none, or it has problems; all of them are listed.
    """
    shelf = Shelf()
    checks = (shelf.check, policy_check(shelf.facts_of))
    return load_config(find_config(path, os.environ), os.environ, checks=checks, resolve=resolve, only=only)
