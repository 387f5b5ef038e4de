"""Reviewers with a token of their own (decisions.md D25). Tokens are shown once and stored hashed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from mcp_guard.approval.store import ApprovalStore
from mcp_guard.errors import UsageError

_PREFIX = "mgr_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


@dataclass(frozen=True, slots=True)
class RegisteredReviewer:
    """A reviewer as listed."""

    name: str
    created_ns: int


class Reviewers:
    """Registered reviewers of one store."""

    def __init__(self, store: ApprovalStore) -> None:
        self._store = store

    async def add(self, name: str) -> str:
        """Register a reviewer and return the token, which nobody can show again: `mgr_` and 256 random bits.

        Raises:
            UsageError: the name is taken, or is no plain name.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                "a reviewer's name is 1 to 64 letters, digits, dots, dashes, underscores or @",
                hint="for example: mcp-guard reviewer add dana",
            )
        token = _PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        async with self._store.write() as transaction:
            added = await transaction.add_reviewer(name, _hash(token))
        if not added:
            raise UsageError(f"a reviewer {name!r} is registered already", hint="choose another name")
        return token

    async def list(self) -> list[RegisteredReviewer]:
        """All reviewers by name."""
        return [RegisteredReviewer(name, created) for name, (_, created) in (await self._store.reviewers()).items()]

    async def verify(self, token: str) -> str | None:
        """Name of the reviewer with this token. Compares every hash, in constant time."""
        wanted = _hash(token)
        match: str | None = None
        for name, (stored, _) in (await self._store.reviewers()).items():
            if hmac.compare_digest(stored, wanted):
                match = name
        return match

    async def any(self) -> bool:
        """Whether anybody is registered."""
        return bool(await self._store.reviewers())


def _hash(token: str) -> str:
    # 256 random bits cannot be guessed, so one SHA-256 is enough; a slow hash protects what people choose.
    return hashlib.sha256(b"mcp-guard/reviewer-token\0" + token.encode()).hexdigest()
