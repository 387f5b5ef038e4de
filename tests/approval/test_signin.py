"""Links and sessions of the page (decisions.md D17, D25)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import anyio
import pytest

from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.approval.reviewers import Reviewers
from mcp_guard.approval.signin import LINK_S, SESSION_S, SignIn
from mcp_guard.approval.store import DOMAIN, ApprovalStore
from mcp_guard.errors import NotEligibleError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Assurance
from mcp_guard.storage.sqlite import Database
from tests.fakes import FakeClock

ALICE = Reviewer("alice", Assurance.A1, "console", '["os","alice",""]')
RITA = Reviewer("rita", Assurance.A2, "console")


@dataclass
class Door:
    signin: SignIn
    reviewers: Reviewers
    keys: KeyStore
    database: Database

    async def sql(self, statement: str, *parameters: str | int) -> None:
        async with self.database.write() as db:
            await db.execute(statement, parameters)


@asynccontextmanager
async def door(folder: Path, clock: FakeClock) -> AsyncIterator[Door]:
    database = await Database.open(folder / "approvals.db", DOMAIN)
    keys = KeyStore(folder / "keys")
    store = ApprovalStore(database, clock)
    try:
        yield Door(SignIn(database, store, keys), Reviewers(store, keys), keys, database)
    finally:
        await database.close()


async def test_a_link_is_used_once_and_gives_a_session_of_the_same_person(tmp_path: Path, clock: FakeClock) -> None:
    """docs/console.md."""
    async with door(tmp_path, clock) as here:
        code = await here.signin.link(ALICE)
        secret = await here.signin.use(code)
        again = await here.signin.use(code)
        session = await here.signin.session(secret or "")

    assert again is None
    assert session is not None
    assert session.reviewer == ALICE


async def test_a_link_lasts_five_minutes_and_a_session_twelve_hours(tmp_path: Path, clock: FakeClock) -> None:
    """Whatever the wall clock does: time in the store never runs backwards."""
    async with door(tmp_path, clock) as here:
        old, code = await here.signin.link(ALICE), await here.signin.link(ALICE)
        secret = await here.signin.use(code) or ""
        clock.advance(LINK_S)
        assert await here.signin.use(old) is None
        clock.advance(SESSION_S - LINK_S - 1)
        assert await here.signin.session(secret) is not None
        clock.advance(1)
        assert await here.signin.session(secret) is None
        clock.jump(-3600)
        assert await here.signin.session(secret) is None


async def test_a_code_is_no_session_and_a_session_no_code(tmp_path: Path, clock: FakeClock) -> None:
    """Each secret is for one thing."""
    async with door(tmp_path, clock) as here:
        code, secret = await here.signin.link(ALICE), await here.signin.open(ALICE)

        assert await here.signin.session(code) is None
        assert await here.signin.use(secret) is None


@pytest.mark.parametrize(
    "change",
    [
        "name = 'root'",
        "assurance = 2",
        "principal_key = '[]'",
        "expires_ns = expires_ns + 1",
        "created_ns = 0",
        "kind = 'session'",
        "credential = 'x'",
        "mac = ''",
        "hash = '{other}'",
    ],
)
async def test_a_row_that_was_changed_or_written_by_hand_lets_nobody_in(
    tmp_path: Path, clock: FakeClock, change: str
) -> None:
    """SECURITY.md: who writes the database decides nothing."""
    from mcp_guard.approval.signin import _hash

    async with door(tmp_path, clock) as here:
        code = await here.signin.link(ALICE)
        await here.sql(f"UPDATE console_pass SET {change.format(other=_hash('link', 'mine'))}")  # noqa: S608 - the test's own

        assert await here.signin.use(code) is None
        assert await here.signin.session(code) is None
        assert await here.signin.use("mine") is None


async def test_the_database_holds_no_secret_of_a_link_or_session(tmp_path: Path, clock: FakeClock) -> None:
    """Hashed: a copy of the file opens nothing."""
    async with door(tmp_path, clock) as here:
        secrets = [await here.signin.link(ALICE), await here.signin.open(ALICE)]
        written = b"".join([await path.read_bytes() async for path in anyio.Path(tmp_path).glob("approvals.db*")])

    assert not [secret for secret in secrets if secret.encode() in written]


async def test_only_a_registered_reviewer_gets_in_and_only_as_long_as_registered(
    tmp_path: Path, clock: FakeClock
) -> None:
    """decisions.md D25."""
    async with door(tmp_path, clock) as here:
        with pytest.raises(NotEligibleError):
            await here.signin.link(RITA)
        await here.reviewers.add("rita")
        code, secret = await here.signin.link(RITA), await here.signin.open(RITA)
        await here.sql("DELETE FROM reviewer")

        assert await here.signin.session(secret) is None
        assert await here.signin.use(code) is None
        await here.reviewers.add("rita", by="alice")
        assert await here.signin.session(secret) is None


async def test_sessions_outlive_a_new_key(tmp_path: Path, clock: FakeClock) -> None:
    """Keys rotate."""
    async with door(tmp_path, clock) as here:
        secret = await here.signin.open(ALICE)
        here.keys.rotate("console")

        assert await here.signin.session(secret) is not None


async def test_a_stamp_is_for_one_session_and_one_thing(tmp_path: Path, clock: FakeClock) -> None:
    """docs/console.md: form tokens and second looks."""
    async with door(tmp_path, clock) as here:
        one, other = [await here.signin.session(await here.signin.open(ALICE)) for _ in range(2)]
        assert one is not None
        assert other is not None
        mark = here.signin.stamp(one, "confirm", "apr_1")

        assert here.signin.stamped(one, mark, "confirm", "apr_1")
        assert not here.signin.stamped(other, mark, "confirm", "apr_1")
        assert not here.signin.stamped(one, mark, "confirm", "apr_2")
        assert not here.signin.stamped(one, "ä", "confirm", "apr_1")


def test_no_two_migrations_of_a_domain_share_a_number() -> None:
    """Numbers are recorded one by one, so gaps and order do no harm; a twin would never run."""
    for domain in ("mcp_guard.approval", "mcp_guard.vault"):
        names = [
            file.name for file in (files(domain) / "migrations" / "sqlite").iterdir() if file.name.endswith(".sql")
        ]
        numbers = [int(name.split("_", 1)[0]) for name in names]

        assert len(numbers) == len(set(numbers)), domain
