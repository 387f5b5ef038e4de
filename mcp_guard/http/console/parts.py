"""What the page works with. Light to import: the web modules are loaded only when the page is served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mcp_guard.approval.inbox import Inbox
from mcp_guard.approval.review import ApprovalReview
from mcp_guard.approval.signin import SignIn
from mcp_guard.approval.store import DOMAIN, ApprovalStore
from mcp_guard.clock import Clock, Ids, RandomIds, SystemClock
from mcp_guard.config.load import LoadedConfig
from mcp_guard.http.console.held import HeldBack
from mcp_guard.keystore import KeyStore
from mcp_guard.masking.masker import Masker
from mcp_guard.model import MaskedText
from mcp_guard.storage.sqlite import Database


@dataclass(frozen=True, slots=True)
class PageParts:
    """The control plane of one data folder, as the page uses it."""

    port: int
    keys: KeyStore
    store: ApprovalStore
    review: ApprovalReview
    inbox: Inbox
    signin: SignIn
    mask: Callable[[str], MaskedText]
    audit: Path
    """Folder of the audit log; the page only reads it."""
    held: HeldBack
    """What is in quarantine."""


def page_parts(
    loaded: LoadedConfig,
    database: Database,
    keys: KeyStore,
    mask: Callable[[str], MaskedText],
    *,
    clock: Clock,
    ids: Ids,
) -> PageParts:
    """The parts over an open database."""
    store = ApprovalStore(database, clock)
    return PageParts(
        port=loaded.config.console.port,
        keys=keys,
        store=store,
        review=ApprovalReview(store, keys, ids, mask=mask),
        inbox=Inbox(database),
        signin=SignIn(database, store, keys),
        mask=mask,
        audit=loaded.data_dir / "audit",
        held=HeldBack(loaded, mask),
    )


@asynccontextmanager
async def open_parts(loaded: LoadedConfig) -> AsyncIterator[PageParts]:
    """The parts without a guard process.

    Raises:
        StoreUnavailableError: the data folder is not usable.
    """
    keys = KeyStore(loaded.data_dir / "keys")
    masker = Masker(loaded.config.masking, keys.secret("vault"), secrets=loaded.secrets)
    database = await Database.open(loaded.data_dir / "approvals.db", DOMAIN)
    try:
        yield page_parts(loaded, database, keys, masker.text, clock=SystemClock(), ids=RandomIds())
    finally:
        await database.close()
