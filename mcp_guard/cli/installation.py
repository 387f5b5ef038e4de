"""Who may loosen without a terminal: only the data folder with which these servers were accepted (decisions.md D25).

Reviewers and what was served so far stand in the data folder, and a variable of the environment is enough to have
another one, with reviewers of one's own. What was accepted stands beside guard.yaml, so that file says whose word
counts.
"""

from __future__ import annotations

from mcp_guard.cli.options import keys_of
from mcp_guard.config.load import LoadedConfig
from mcp_guard.errors import NotEligibleError
from mcp_guard.manifest.find import named_manifests
from mcp_guard.manifest.user import FOLDER


def check_installation(found: LoadedConfig) -> None:
    """Refuse where something was accepted or reviewed already, and not with this data folder.

    Raises:
        NotEligibleError: it was; a terminal is needed.
        ConfigError: guard.lock is not usable.
    """
    from mcp_guard.parts import lock_and_copies

    file, _ = lock_and_copies(found, keys_of(found))
    lock = file.read()
    if lock is None:
        named = named_manifests(found.config, found.folder)
        allowed = all(path in named for path in (found.folder / FOLDER).glob("*.yaml"))
    else:
        allowed = file.install in lock.installs
    if not allowed:
        raise NotEligibleError(
            "these servers were accepted or reviewed with another data folder than this one",
            hint="run it in a terminal once: from then on guard.lock names this data folder too",
        )
