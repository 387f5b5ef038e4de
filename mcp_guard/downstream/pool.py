"""Links to all downstream servers: started side by side, kept alive, found again after a crash.

A link is owned by its supervisor task. Links are kept by (server, principal); whether roots are offered is the same
for all of them (decisions.md D15). One server that fails or is slow never delays another (faults F1, F2).
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from mcp_guard.downstream.accepted import Anything, Gate
from mcp_guard.downstream.announced import ALL, CONCERNED, Announced, ListKind
from mcp_guard.downstream.definition import Listing, Program
from mcp_guard.downstream.link import Link, LinkOptions, ListRoots, open_link
from mcp_guard.downstream.listing import fetch_listing
from mcp_guard.downstream.pace import Pace
from mcp_guard.downstream.process import Log
from mcp_guard.downstream.requests import build_request
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import DownstreamUnavailableError, FaultError, GuardError, OverloadedError, QuarantinedError
from mcp_guard.model import Call, CallKind, RawArguments, RawResult
from mcp_guard.permit import Permit
from mcp_guard.ports import ProgressSink

LIST_WAIT_S: Final = 8.0
FIRST_LIST_WAIT_S: Final = 20.0
"""How long `tools/list` waits for servers that are starting; the longer one while nothing is known of them (D27)."""

MAX_PRINCIPALS: Final = 32
"""Principals that may have links at the same time."""

IDLE_S: Final = 1800.0
"""After so long without a request, the links of a principal are closed; those of the first one stay."""

_FIRST_MODERN: Final = "2026-07-28"
_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 30.0
_BREAKER_FAILURES: Final = 5
_BREAKER_WINDOW_S: Final = 60.0
"""So many failures in so many seconds, and only the longest delay is used (fault F1)."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """How a server is doing. `reason` is constant text plus names from the configuration."""

    status: Literal["idle", "starting", "ready", "failed"]
    reason: str = ""
    protocol: str = ""
    tools: int = 0
    held: str = ""
    """Where its program is quarantined, so that it was not started or was ended: what to do about it."""


class _Entry:
    """One (server, principal): its state, and its link while there is one."""

    def __init__(self, server: ResolvedServer, *, legacy: bool) -> None:
        self.server = server
        self.legacy = legacy
        self.state = ServerState("starting")
        self.link: Link | None = None
        self.changed = anyio.Event()
        self.refresh = anyio.Event()
        self.again = anyio.Event()
        """Set when it may be started once more, without waiting for the delay."""
        self.blocked: QuarantinedError | None = None
        """Why its program is quarantined: it is not started until the lock changes."""
        self.announced = Announced()
        self.known: Listing | None = None
        """What it listed last; None: none of it is to be taken as it was."""
        self.pace = Pace()
        self.program: Program | None = None
        """Its files as they were just before the start."""
        self.listing = anyio.Lock()
        self.scope = anyio.CancelScope()
        self.failures: deque[float] = deque(maxlen=_BREAKER_FAILURES)

    def become(self, state: ServerState, link: Link | None = None) -> None:
        self.state, self.link = state, link
        self.changed.set()
        self.changed = anyio.Event()


class Pool:
    """Implements `ports.Downstreams`.

    Args:
        servers: By name, in the order of the configuration.
        mask_text: Masks text irreversibly, for stderr of children.
        log: The guard's log; gets masked or constant text only.
        on_listing: Told what a server offers when it is ready and whenever that changed.
        protocols: Protocol revisions of the last run by server name; spares older servers a probe.
        gate: Judges programs before they start, lists before they are offered, and calls before they are sent.
        prepare: Does beforehand what `on_listing` would take long for; on a worker thread.
    """

    def __init__(
        self,
        servers: Mapping[str, ResolvedServer],
        *,
        mask_text: Callable[[str], str],
        log: Log,
        on_listing: Callable[[str, Listing], None],
        protocols: Mapping[str, str] | None = None,
        gate: Gate | None = None,
        prepare: Callable[[str, Listing], None] | None = None,
        first_delay_s: float = _FIRST_DELAY_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._servers = dict(servers)
        self._mask_text = mask_text
        self._log = log
        self._on_listing = on_listing
        self._protocols = dict(protocols or {})
        self._gate: Gate = gate if gate is not None else Anything()
        self._prepare = prepare
        self._first_delay_s = first_delay_s
        self._idle_s = idle_s
        self._used: dict[str, float] = {}
        self._calls: Counter[str] = Counter()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._roots: ListRoots | None = None
        self._tasks: TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The life of the pool. Leaving the block stops every child."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._end_idle)
            try:
                yield
            finally:
                self._tasks = None
                tasks.cancel_scope.cancel()

    def start(self, principal_key: str, roots: ListRoots | None = None) -> None:
        """Start the links of this principal, all at once and without waiting. Does nothing the second time.

        Args:
            principal_key: `Principal.key`.
            roots: Answers `roots/list` of local servers; None where the client declared no roots.

        Raises:
            OverloadedError: too many principals have links.
        """
        if self._tasks is None:
            raise DownstreamUnavailableError("the guard is shutting down")
        if roots is not None:
            self._roots = roots
        known = {key for _, key in self._entries}
        if principal_key not in known and len(known) >= MAX_PRINCIPALS:
            raise OverloadedError("too many principals have links to downstream servers")
        self._used[principal_key] = anyio.current_time()
        for name, server in self._servers.items():
            if (name, principal_key) not in self._entries:
                legacy = bool(self._protocols.get(name)) and self._protocols[name] < _FIRST_MODERN
                entry = self._entries[name, principal_key] = _Entry(server, legacy=legacy)
                self._tasks.start_soon(self._supervise, entry)

    def state(self, server: str) -> ServerState:
        """State of a server: the best one among its links."""
        states = [entry.state for (name, _), entry in self._entries.items() if name == server]
        order = ("ready", "starting", "failed", "idle")
        return min(states, key=lambda state: order.index(state.status), default=ServerState("idle"))

    async def settled(self, timeout_s: float) -> None:
        """Return when no server is starting any more, at the latest after `timeout_s` seconds."""
        with anyio.move_on_after(timeout_s):
            for entry in list(self._entries.values()):
                while entry.state.status == "starting":
                    await entry.changed.wait()

    async def forward(
        self, call: Call, permit: Permit, arguments: RawArguments, *, execution_id: str, progress: ProgressSink | None
    ) -> RawResult:
        """See `ports.Downstreams`. May be cancelled: see `link` for what happens then.

        A caller that is cancelled after the first byte was written gets a result, or OutcomeUnknownError, instead of
        the cancellation; what it awaits next must be shielded.
        """
        request = build_request(call, arguments, execution_id)
        key = call.principal.key
        self._calls[key] += 1
        try:
            link = await self._ready_link(call.target.server, key)
            await self.refresh(call.target.server, key, kind=call.target.kind)
            # The server may have come up, or listed again, after the call was resolved.
            self._gate.admit(call.target)
            permit.use(call.call_id)
            return await link.request(request, timeout_s=link.server.call_timeout_s, progress=progress)
        finally:
            self._calls[key] -= 1
            self._used[key] = anyio.current_time()

    async def refresh(
        self, server: str, principal_key: str, *, kind: CallKind | None = None, older_than_s: float | None = None
    ) -> None:
        """Read the lists of one link again where it said that they changed, or they are too old.

        At once, however often it says so; a call waits for the lists that concern it, and for nothing else.

        Args:
            server: Name in the configuration.
            principal_key: Whose link.
            kind: What is called; None reads all lists.
            older_than_s: Age that is still good enough; None: any, as long as the server announced no change.

        Raises:
            DownstreamUnavailableError: they cannot be read; nothing else was sent.
        """
        entry = self._entries.get((server, principal_key))
        if entry is None or entry.link is None:
            return
        link, kinds = entry.link, ALL if kind is None else CONCERNED[kind]
        before = float("-inf") if older_than_s is None else anyio.current_time() - older_than_s
        mark = entry.announced.so_far()
        if not entry.announced.unread(kinds, until=mark, before=before):
            return
        async with entry.listing:
            # Calls that came together read once: what is announced while they wait is for the next one.
            kinds = entry.announced.unread(kinds, until=mark, before=before)
            if not kinds:
                return
            try:
                await self._list(entry, link, kinds)
            except FaultError as error:
                self._log(f"{server}: its lists could not be read again: {error.message}")
                raise DownstreamUnavailableError(f"{server} does not list its tools; nothing was sent") from error

    async def refresh_all(self, principal_key: str, *, older_than_s: float, timeout_s: float) -> None:
        """`refresh` for every server of a principal, side by side; one that fails keeps what is known of it."""

        async def one(server: str) -> None:
            entry = self._entries.get((server, principal_key))
            if entry is not None and entry.pace.wait_s(anyio.current_time()) > 0:
                return  # listed a moment ago, and announces changes all the time: that keeps nobody waiting
            with contextlib.suppress(DownstreamUnavailableError):
                await self.refresh(server, principal_key, older_than_s=older_than_s)

        with anyio.move_on_after(timeout_s):
            async with anyio.create_task_group() as tasks:
                for server in self._servers:
                    tasks.start_soon(one, server)

    def start_again(self) -> None:
        """Try to start servers again that were quarantined before their start: the lock changed."""
        for entry in self._entries.values():
            entry.known = None  # what was accepted since is not to be judged by an older look
            if entry.blocked is not None:
                entry.blocked = None
                entry.become(ServerState("starting"))
                entry.again.set()

    async def _ready_link(self, server: str, principal_key: str) -> Link:
        if server not in self._servers:
            raise DownstreamUnavailableError(f"no server named {server} is configured")
        self.start(principal_key)
        entry = self._entries[server, principal_key]
        with anyio.move_on_after(entry.server.start_timeout_s):
            while entry.state.status == "starting":
                await entry.changed.wait()
        if entry.blocked is not None:
            raise QuarantinedError(f"{server} is {entry.state.reason}", hint=entry.blocked.hint)
        if entry.link is None:
            reason = entry.state.reason or "it is still starting"
            raise DownstreamUnavailableError(f"{server} is not available: {reason}")
        return entry.link

    async def _supervise(self, entry: _Entry) -> None:
        with entry.scope:
            await self._keep_alive(entry)

    async def _keep_alive(self, entry: _Entry) -> None:
        attempt = 0
        while True:
            started = anyio.current_time()
            reason = await self._live(entry)
            self._log(f"{entry.server.name}: {reason}")
            entry.become(ServerState("failed", reason, held=entry.blocked.hint if entry.blocked is not None else ""))
            attempt = 0 if anyio.current_time() - started > _BREAKER_WINDOW_S else attempt
            entry.again = anyio.Event()
            with anyio.move_on_after(None if entry.blocked is not None else self._delay(entry, attempt)):
                await entry.again.wait()
            attempt += 1
            entry.become(ServerState("starting", reason))

    async def _end_idle(self) -> None:
        """Close what nobody uses any more: each person of a shared guard has a child of each server."""
        while True:
            await anyio.sleep(self._idle_s / 10)
            since = anyio.current_time() - self._idle_s
            for key in [key for key, used in list(self._used.items())[1:] if used < since and not self._calls[key]]:
                del self._used[key], self._calls[key]
                for at in [at for at in self._entries if at[1] == key]:
                    entry = self._entries.pop(at)
                    entry.become(ServerState("idle"))
                    entry.scope.cancel()

    async def _live(self, entry: _Entry) -> str:
        """One life of a link; returns why it ended."""
        entry.refresh = anyio.Event()
        options = LinkOptions(
            mask_text=self._mask_text,
            log=self._log,
            on_changed=partial(_set, entry),
            roots=self._roots,
            legacy=entry.legacy,
        )
        try:
            entry.program = await self._gate.before_start(entry.server)
            async with open_link(entry.server, options) as link:
                entry.legacy = not link.modern
                await self._list(entry, link, first=True)
                await self._until_ended(entry, link)
        except QuarantinedError as error:
            entry.blocked = error
            return error.message
        except GuardError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - boundary: whatever one server provokes must not end the others
            return f"failed unexpectedly ({type(error).__name__})"
        return "its session ended"

    async def _until_ended(self, entry: _Entry, link: Link) -> None:
        async with anyio.create_task_group() as tasks:

            async def refresh() -> None:
                while True:
                    await entry.refresh.wait()
                    entry.refresh = anyio.Event()
                    # Nobody waits meanwhile: a call that such a change concerns reads the list itself.
                    await anyio.sleep(entry.pace.wait_s(anyio.current_time()))
                    async with entry.listing:
                        try:
                            if kinds := entry.announced.unread():
                                await self._list_paced(entry, link, kinds)
                        except FaultError as error:
                            self._log(f"{entry.server.name}: its lists could not be read again: {error.message}")

            tasks.start_soon(refresh)
            await link.ended.wait()
            # At once: stopping what is left of the child takes seconds, in which no call should try it.
            entry.become(ServerState("failed", "its session ended"))
            tasks.cancel_scope.cancel()

    async def _list_paced(self, entry: _Entry, link: Link, kinds: tuple[ListKind, ...]) -> None:
        began = anyio.current_time()
        try:
            await self._list(entry, link, kinds)
        finally:
            entry.pace.listed(began, anyio.current_time())

    async def _list(self, entry: _Entry, link: Link, kinds: tuple[ListKind, ...] = ALL, *, first: bool = False) -> None:
        # A change that is announced from here on is a reason to list once more.
        mark = entry.announced.so_far()
        known, kinds = (Listing(), ALL) if first or entry.known is None else (entry.known, kinds)
        try:
            listing = await fetch_listing(link, kinds, known=known)
            await self._gate.listed(entry.server, listing, first=first, program=entry.program)
            if self._prepare is not None:
                await to_thread.run_sync(self._prepare, entry.server.name, listing)
        except BaseException:
            entry.announced.add(kinds)
            raise
        entry.announced.took(kinds, mark, anyio.current_time())
        entry.known = listing
        if link.dispatcher.dropped:
            self._log(
                f"{entry.server.name}: {link.dispatcher.dropped} list items dropped: invalid, or beyond the limits"
            )
            link.dispatcher.dropped = 0
        self._on_listing(entry.server.name, listing)
        if link.ended.is_set() and not first:
            return  # whoever watches the link has said so already
        entry.become(ServerState("ready", protocol=listing.protocol, tools=len(listing.tools)), link)

    def _delay(self, entry: _Entry, attempt: int) -> float:
        now = anyio.current_time()
        entry.failures.append(now)
        often = len(entry.failures) == _BREAKER_FAILURES and now - entry.failures[0] <= _BREAKER_WINDOW_S
        base = _LONGEST_DELAY_S if often else min(self._first_delay_s * 2 ** min(attempt, 10), _LONGEST_DELAY_S)
        return base * (0.75 + random.random() / 2)  # noqa: S311 - spreads restarts; nothing secret depends on it


async def _set(entry: _Entry, kind: ListKind) -> None:
    entry.announced.add([kind])
    entry.refresh.set()
