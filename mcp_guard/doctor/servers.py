"""Starting every server for real, side by side, on a data folder that is thrown away: nothing of the user's changes."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import anyio

from mcp_guard import logs
from mcp_guard.approval.prompt import clip
from mcp_guard.config.load import LoadedConfig
from mcp_guard.doctor.finding import Finding, count, find, fine
from mcp_guard.downstream.definition import Listing
from mcp_guard.downstream.lockfile import LOCK_NAME, LockFile
from mcp_guard.downstream.looking import OnlyLooking
from mcp_guard.downstream.pool import Pool, ServerState
from mcp_guard.masking.masker import Masker
from mcp_guard.parts import from_own_folder, resolve_servers

STDERR_LINES: Final = 5
STDERR_CHARACTERS: Final = 200
_NO_RESTART_S: Final = 3600.0
"""A server that fails is looked at once."""


@dataclass(frozen=True, slots=True)
class Probe:
    """How one server did."""

    state: ServerState
    listed: tuple[Listing, float] | None
    """What it offers, and the seconds from its start to it."""
    stderr: tuple[str, ...]
    """The masked end of what it wrote there."""

    @property
    def listing(self) -> Listing | None:
        """What it offers."""
        return None if self.listed is None else self.listed[0]

    @property
    def ready_s(self) -> float | None:
        """Seconds from its start to its lists."""
        return None if self.listed is None else self.listed[1]


async def probe(loaded: LoadedConfig, names: Collection[str], *, timeout_s: float) -> dict[str, Probe]:
    """Start servers, list what they offer, stop them. What guard.lock holds back is not started.

    Args:
        loaded: The configuration, with the references of `names` resolved.
        names: Servers to start.
        timeout_s: How long to wait for the slowest one; stopping takes up to 5 s more.

    Raises:
        ConfigError: no temporary folder can be made.
    """
    masker = Masker(loaded.config.masking, os.urandom(32), secrets=loaded.secrets)
    logs.configure(masker.text, "error")
    with tempfile.TemporaryDirectory(prefix="mcp-guard-doctor-") as folder:
        aside = replace(loaded, data_dir=Path(folder), servers={name: loaded.servers[name] for name in names})
        return await _probe(aside, masker, timeout_s)


async def _probe(loaded: LoadedConfig, masker: Masker, timeout_s: float) -> dict[str, Probe]:
    servers = from_own_folder(resolve_servers(loaded), loaded)
    tails = {name: deque[str](maxlen=STDERR_LINES) for name in servers}
    listings: dict[str, tuple[Listing, float]] = {}

    def log(text: str) -> None:
        name, _, rest = text.partition(": stderr: ")
        if rest and name in tails:
            tails[name].append(clip(rest, STDERR_CHARACTERS))

    def note(name: str, listing: Listing) -> None:
        listings.setdefault(name, (listing, anyio.current_time() - started))

    started = anyio.current_time()
    gate = OnlyLooking(LockFile(loaded.folder / LOCK_NAME))
    pool = Pool(servers, mask_text=masker.text, log=log, on_listing=note, gate=gate, first_delay_s=_NO_RESTART_S)
    async with pool.running():
        pool.start("doctor")
        await pool.settled(timeout_s)
        states = {name: pool.state(name) for name in servers}
    # Read after the servers have ended: what one wrote last may arrive after its end was seen.
    return {name: Probe(state, listings.get(name), tuple(tails[name])) for name, state in states.items()}


def judge(probes: Mapping[str, Probe]) -> list[Finding]:
    """Servers that do not start, or not in time, or are held back."""
    findings = []
    for name, probed in probes.items():
        reason = probed.state.reason.removeprefix(f"{name} ")
        if probed.state.held:
            findings.append(find("server-quarantined", f"Server {name} is {reason}.", how=probed.state.held))
        elif probed.state.status == "failed" or (probed.state.status == "starting" and reason):
            text = f"Server {name} does not start: {reason}."
            findings.append(find("server-failed", text, detail=_stderr(probed)))
        elif probed.state.status != "ready":
            findings.append(find("server-slow", f"Server {name} was not ready in time.", detail=_stderr(probed)))
    ready = [p for p in probes.values() if p.listing is not None and p.state.status == "ready"]
    if ready:
        tools = sum(len(p.listing.tools) for p in ready if p.listing)
        findings.append(fine(f"{count(len(ready), 'server')} started, with {count(tools, 'tool')}"))
    return findings


def _stderr(probed: Probe) -> tuple[str, ...]:
    return tuple(f"stderr: {line}" for line in probed.stderr)
