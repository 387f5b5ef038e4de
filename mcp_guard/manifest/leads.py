"""What the paths in the arguments of one call lead to, by one look at the disk with one budget."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

from pydantic import JsonValue

from mcp_guard.manifest.disk import Disk, SpentError
from mcp_guard.manifest.gitfolder import GitFolders
from mcp_guard.manifest.protect import OwnFiles

Led = Literal["own_files", "too_many", "above_own_files", "git_folder", "unsure"]
"""`too_many`: texts that may be paths, so that nobody can say whether one leads into own files. `unsure`: the same for
what would be changed."""


class Leads:
    """Tells where the arguments of a call lead."""

    def __init__(self, own: OwnFiles, git: GitFolders, *, elsewhere: Collection[str] = ()) -> None:
        """Bind what is looked for.

        Args:
            own: The guard's own files.
            git: Git's own files.
            elsewhere: Names of servers that cannot open the files of this machine.
        """
        self._own = own
        self._git = git
        self._elsewhere = frozenset(elsewhere)

    def __call__(self, server: str, value: JsonValue, changed: Callable[[], JsonValue]) -> Led | None:
        """Where they lead, by the strictest rule.

        Args:
            server: Name in guard.yaml.
            value: All arguments, or a resource's URI.
            changed: Tells what of them may name a place that is changed; None for nothing.
        """
        if server in self._elsewhere:
            return None
        disk = self._own.disk(server)
        try:
            if self._own.touched_by(server, value, disk):
                return "own_files"
        except SpentError:
            return "too_many"
        places = changed()
        return None if places is None else self._changes(server, places, disk)

    def _changes(self, server: str, changed: JsonValue, disk: Disk) -> Led | None:
        try:
            disk.refill()
            if self._own.below(server, changed, disk):
                return "above_own_files"
            disk.refill()
            return "git_folder" if self._git.led_into_by(server, changed, disk) else None
        except SpentError:
            return "unsure"
