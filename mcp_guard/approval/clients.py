"""Which ways of asking work at a client: what it declares, what is known of it, and what was seen (decisions.md D6).

Some clients declare forms and never draw them. What is remembered is kept by the name and version that the client
gives itself, so it may only skip a prompt and shorten a wait; nobody gains by a false name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import structlog

from mcp_guard.approval.transaction import fetch
from mcp_guard.clock import Clock
from mcp_guard.model import ClientInfo
from mcp_guard.ports import Front
from mcp_guard.storage.sqlite import Database

Channel: TypeAlias = Literal["form", "url"]

SILENT_HOLD_S = 5.0
"""How long a call is held for a client whose prompts nobody answers: its user is to hear of the ticket soon."""

_log = structlog.get_logger(__name__)

_SILENT_AFTER = 2
"""Prompts that nobody answered, before a channel that never worked is skipped."""
_AGAIN_NS = 86_400 * 1_000_000_000
"""A skipped channel is tried again once a day."""
_SEEN_NS = 30 * 1_000_000_000
"""So long a form must be open before it counts that nobody answered it."""
_OPEN_NS = 45 * 1_000_000_000
"""Newer clients just stay away: a question is unanswered when the next one comes, and it was open for so long."""
_MAX_ROWS = 500
"""Names are free to choose, so the oldest rows go."""

_SEEN = "SELECT * FROM asked_client WHERE name = ? AND version = ? AND channel = ?"
_PUT = """
INSERT INTO asked_client(name, version, channel, unanswered, asked_ns, open, answered_ns)
VALUES (:name, :version, :channel, :unanswered, :asked_ns, :open, :answered_ns)
ON CONFLICT(name, version, channel) DO UPDATE SET
    unanswered = :unanswered, asked_ns = :asked_ns, open = :open, answered_ns = :answered_ns
"""
_TRIM = """
DELETE FROM asked_client WHERE rowid NOT IN (SELECT rowid FROM asked_client ORDER BY asked_ns DESC LIMIT ?)
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one channel of one client."""

    client: ClientInfo
    channel: Channel
    unanswered: int
    """Questions in a row that nobody answered."""
    asked_ns: int
    """Wall nanoseconds of the last question."""
    open: bool = False
    """Newer clients: that question is still open."""
    answered_ns: int | None = None
    """Wall nanoseconds of the last answer, None when there never was one."""

    def silent(self) -> bool:
        """Whether questions at this channel seem to reach nobody."""
        return self.answered_ns is None and self.unanswered >= _SILENT_AFTER


@dataclass(frozen=True, slots=True)
class Abilities:
    """How the person at a client can be asked now."""

    form: bool
    url: bool
    hold_s: float
    """At most this long the call may be held, in seconds."""
    swallows: bool = False
    """A channel that is declared was left out, because nobody ever answers there."""


class Clients:
    """The known hosts and the memory of this data folder."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def able(self, client: ClientInfo | None, front: Front, hold_s: float) -> Abilities:
        """How the person at this client can be asked, and for how long the call may wait.

        Args:
            client: Who it says it is.
            front: What it declares.
            hold_s: Seconds as configured; never exceeded.
        """
        from mcp_guard.manifest.hosts import known_hosts  # only a guard that asks pays for the table

        entry = known_hosts().find(client.name, client.version) if client else None
        declared: dict[Channel, bool] = {"form": front.can_prompt, "url": front.can_open}
        shown = {channel: here and (entry is None or entry.shows(channel)) for channel, here in declared.items()}
        silent = {channel for channel, here in shown.items() if here and await self._silent(client, channel)}
        return Abilities(
            form=shown["form"] and "form" not in silent,
            url=shown["url"] and "url" not in silent,
            hold_s=hold_s if entry is None or entry.hold_s is None else min(hold_s, entry.hold_s),
            swallows=bool(silent),
        )

    async def asked(self, client: ClientInfo | None, channel: Channel) -> None:
        """A newer client was given a question; whether it is answered, its return will tell."""
        await self._note(client, channel, answered=False, opens=True)

    async def unanswered(self, client: ClientInfo | None, channel: Channel, opened_ns: int) -> None:
        """An older client was asked at this moment, and nobody answered as long as the call was held.

        That says something only where a person had the time, and of forms that were open together only once.
        """
        if self.now_ns() - opened_ns >= _SEEN_NS:
            await self._note(client, channel, answered=False, opens=False, opened_ns=opened_ns)

    def now_ns(self) -> int:
        """Wall nanoseconds."""
        return self._clock.now_ns()

    async def answered(self, client: ClientInfo | None, channel: Channel) -> None:
        """Somebody, or something, answered: the channel works."""
        await self._note(client, channel, answered=True, opens=False)

    async def _silent(self, client: ClientInfo | None, channel: Channel) -> bool:
        if client is None:
            return False
        try:
            async with self._db.read() as db:
                found = await fetch(db, _SEEN, (client.name, client.version, channel))
            seen = seen_of(found[0]) if found else None
            return seen is not None and seen.silent() and 0 <= self._clock.now_ns() - seen.asked_ns < _AGAIN_NS
        except Exception as error:  # noqa: BLE001 - the boundary: a hint never fails a call
            _log.warning("client_not_remembered", error=type(error).__name__)
            return False

    async def _note(
        self, client: ClientInfo | None, channel: Channel, *, answered: bool, opens: bool, opened_ns: int | None = None
    ) -> None:
        if client is None:
            return
        try:
            async with self._db.read() as reader:
                before = await fetch(reader, _SEEN, (client.name, client.version, channel))
            seen = seen_of(before[0]) if before else None
            if seen is not None and seen.answered_ns is not None:
                return  # it is known to work; nothing that follows would change what is done
            if opened_ns is not None and seen is not None and opened_ns < seen.asked_ns:
                return  # it was open together with one that was counted
            async with self._db.write() as db:
                await db.execute(_PUT, self._after(seen, client, channel, answered=answered, opens=opens))
                await db.execute(_TRIM, (_MAX_ROWS,))
        except Exception as error:  # noqa: BLE001 - the boundary: a hint never fails a call
            _log.warning("client_not_remembered", error=type(error).__name__)

    def _after(
        self, before: Seen | None, client: ClientInfo, channel: Channel, *, answered: bool, opens: bool
    ) -> dict[str, str | int | None]:
        now = self._clock.now_ns()
        seen = before or Seen(client, channel, 0, now)
        missed = (seen.open and now - seen.asked_ns > _OPEN_NS) if opens else not answered
        return {
            "name": client.name,
            "version": client.version,
            "channel": channel,
            "unanswered": 0 if answered else seen.unanswered + missed,
            "asked_ns": now,
            "open": int(opens),
            "answered_ns": now if answered else None,
        }


def seen_of(row: dict[str, Any]) -> Seen:
    """A row of `asked_client`."""
    return Seen(
        client=ClientInfo(row["name"], row["version"]),
        channel=row["channel"],
        unanswered=row["unanswered"],
        asked_ns=row["asked_ns"],
        open=bool(row["open"]),
        answered_ns=row["answered_ns"],
    )
