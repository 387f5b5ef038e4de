"""Reviewers with a token of their own (decisions.md D25). Tokens are shown once and stored hashed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, replace

from mcp_guard.approval.rows import ReviewerRow
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.canon import keyed_digest
from mcp_guard.errors import GuardError, NotEligibleError, UsageError
from mcp_guard.keystore import KeyStore

_PREFIX = "mgr_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_KEY = "reviewer"
_SET_UP = "first set-up"


@dataclass(frozen=True, slots=True)
class RegisteredReviewer:
    """A reviewer as listed."""

    name: str
    created_ns: int


class Reviewers:
    """Registered reviewers of one store. Rows that were not written with the key of this installation do not count."""

    def __init__(self, store: ApprovalStore, keys: KeyStore) -> None:
        self._store = store
        self._keys = keys

    async def add(self, name: str, *, by: str | None = None) -> str:
        """Register a reviewer and return the token, which nobody can show again: `mgr_` and 256 random bits.

        `by` is the person who adds; nobody in particular may only add the first, before anything was asked here.

        Raises:
            UsageError: the name is taken, or is no plain name.
            NotEligibleError: nobody in particular adds, and this is not the first set-up.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                "a reviewer's name is 1 to 64 letters, digits, dots, dashes, underscores or @",
                hint="for example: mcp-guard reviewer add dana",
            )
        token = _PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        refusal: GuardError | None = None
        async with self._store.write() as transaction:
            if by is None and not await transaction.untouched():
                refusal = NotEligibleError(
                    "adding a reviewer needs a terminal or a reviewer's token",
                    hint="run it in a terminal, or set MCP_GUARD_REVIEWER_TOKEN to the token of a reviewer",
                )
            elif not await transaction.add_reviewer(self._row(name, token, transaction.now_ns, by or _SET_UP)):
                refusal = UsageError(f"a reviewer {name!r} is registered already", hint="choose another name")
        if refusal:
            raise refusal
        return token

    async def list(self) -> list[RegisteredReviewer]:
        """All reviewers by name."""
        return [RegisteredReviewer(row.name, row.created_ns) for row in await self._store.reviewers() if self.own(row)]

    async def verify(self, token: str) -> str | None:
        """Name of the reviewer with this token. Compares every hash, in constant time."""
        wanted = _hash(token)
        match: str | None = None
        for row in await self._store.reviewers():
            if hmac.compare_digest(row.token_hash.encode(), wanted.encode()) and self.own(row):
                match = row.name
        return match

    async def any(self) -> bool:
        """Whether anybody is registered."""
        return bool(await self.list())

    def own(self, row: ReviewerRow) -> bool:
        """Whether this program wrote the row."""
        macs = (_mac(key, row) for key in self._keys.ring(_KEY))
        return any(hmac.compare_digest(mac.encode(), row.mac.encode()) for mac in macs)

    def _row(self, name: str, token: str, created_ns: int, by: str) -> ReviewerRow:
        row = ReviewerRow(name, _hash(token), created_ns, by, mac="")
        return replace(row, mac=_mac(self._keys.secret(_KEY), row))


def _mac(key: bytes, row: ReviewerRow) -> str:
    return keyed_digest(key, "reviewer", [row.name, row.token_hash, row.created_ns, row.added_by])


def _hash(token: str) -> str:
    # 256 random bits cannot be guessed, so one SHA-256 is enough; a slow hash protects what people choose.
    return hashlib.sha256(b"mcp-guard/reviewer-token\0" + token.encode()).hexdigest()
