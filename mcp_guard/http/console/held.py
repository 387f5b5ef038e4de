"""What the guards hold back because it changed, as `guard.lock` says it: the page tells people, who run a command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mcp_guard.config.load import LoadedConfig
from mcp_guard.downstream import report
from mcp_guard.downstream.lockfile import LOCK_NAME, LockFile, Quarantine, Stamp
from mcp_guard.errors import ConfigError
from mcp_guard.model import MaskedText

_NAMES = 5
"""Tools that are named."""


@dataclass(frozen=True, slots=True)
class Held:
    """What of one server is held back. All text is masked."""

    server: str
    what: str
    """`2 tools and the instructions`, `The whole server`."""
    names: tuple[str, ...]
    """Some of the tools."""
    more: int
    """How many more there are."""

    @property
    def one(self) -> bool:
        """Whether it is a single thing."""
        return self.what.startswith("1 ") and " and " not in self.what


class HeldBack:
    """Reads the lock beside the configuration, anew only when it changed. Blocking."""

    def __init__(self, loaded: LoadedConfig, mask: Callable[[str], MaskedText]) -> None:
        self._file = LockFile(loaded.folder / LOCK_NAME)
        self._servers = [name for name, server in loaded.config.servers.items() if server.pins != "off"]
        self._mask = mask
        self._seen: Stamp | None = None
        self._found: tuple[Held, ...] = ()

    def now(self) -> tuple[Held, ...]:
        """One entry for each server with something in quarantine; of a lock that cannot be read there is none."""
        stamp = self._file.stamp()
        if stamp != self._seen:
            self._found, self._seen = self._read(), stamp
        return self._found

    def _read(self) -> tuple[Held, ...]:
        try:
            lock = self._file.read()
        except ConfigError:
            return ()  # `mcp-guard doctor` and every refusal tell of it
        pins = {} if lock is None else lock.servers
        held = [(name, pins[name].quarantine) for name in self._servers if name in pins]
        return tuple(self._held(name, quarantine) for name, quarantine in held if not quarantine.empty)

    def _held(self, name: str, held: Quarantine) -> Held:
        tools = [self._mask(tool) for tool in held.tools]
        if held.server:
            return Held(name, "The whole server", (), 0)
        parts = [report.count(len(tools), "tool")] if tools else []
        parts += [report.count(len(held.others), "other item")] if held.others else []
        parts += ["the instructions"] if held.instructions else []
        return Held(name, " and ".join(parts), tuple(tools[:_NAMES]), max(0, len(tools) - _NAMES))
