"""The real page on a real port over a real store, with requests as the desk makes them."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2

from mcp_guard.approval.channels.console import console_url
from mcp_guard.approval.eligibility import Mode, Reviewer
from mcp_guard.approval.rows import Request
from mcp_guard.approval.sealed import new_request
from mcp_guard.approval.signin import Session
from mcp_guard.approval.statement import Stored, lookup
from mcp_guard.clock import RandomIds, SystemClock
from mcp_guard.config.load import load_config
from mcp_guard.http.console.access import COOKIE
from mcp_guard.http.console.parts import PageParts, page_parts
from mcp_guard.http.console.serving import bind, serve_page
from mcp_guard.keystore import KeyStore
from mcp_guard.model import (
    ApprovalTerms,
    ArgumentFact,
    Assurance,
    Call,
    CallContext,
    CallKind,
    ClientInfo,
    Decision,
    Effect,
    GrantOffer,
    JsonDict,
    MaskedJson,
    MaskedText,
    Principal,
    RawArguments,
    Risk,
    Target,
    ToolFacts,
    Views,
)
from mcp_guard.storage.sqlite import Database

ALICE = Principal("os", "alice", client=ClientInfo("desk-host", "1.2"))
LOCAL_ALICE = Reviewer("alice", Assurance.A1, "console", ALICE.key)
_TLS = ssl.create_default_context()
"""Made once: nothing here speaks TLS, and a client would read all certificates anew."""
OFFER = GrantOffer(for_s=900.0, max_uses=5)


def free_port() -> int:
    """A port of loopback that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Page:
    """One page with its store."""

    parts: PageParts
    database: Database
    asked: int = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.parts.port}"

    @property
    def url(self) -> str:
        return console_url(self.parts.port, self.parts.keys)

    @property
    def root(self) -> str:
        return self.url.removeprefix(self.origin)

    def stored(
        self,
        arguments: JsonDict,
        *,
        tool: str = "drop_table",
        server: str = "db",
        risk: Risk = Risk.MEDIUM,
        reasons: tuple[str, ...] = ("rule prod-destructive asks",),
        mode: Mode = "personal",
        grants: tuple[GrantOffer, ...] = (),
        expires_s: float = 900.0,
        why: str = "Drops a table with all its rows.",
    ) -> Stored:
        facts = ToolFacts(
            listed=True,
            effects=("delete",),
            risk=risk,
            resource="/table",
            arguments={"/query": ArgumentFact(role="query")},
            why=why,
        )
        target = Target(CallKind.TOOL, server, tool, tool, local=True, definition_digest="d1", facts=facts)
        call = Call(
            RandomIds().new("call"),
            target,
            RawArguments(arguments),
            ALICE,
            CallContext("stdio", "2025-11-25", "ses_1"),
        )
        views = Views(RawArguments(arguments), MaskedJson(arguments), MaskedJson(arguments))
        terms = ApprovalTerms(grants=grants, expires_after_s=expires_s)
        decision = Decision(Effect.REQUIRE_APPROVAL, "prod-destructive", risk, reasons, "p1", terms)
        return Stored(call, views, decision, "prod", mode, self.parts.store.now_ns())

    async def ask(self, arguments: JsonDict | None = None, **more: Any) -> str:
        """A pending request; returns its id."""
        self.asked += 1
        stored = self.stored({"table": f"users_{self.asked}"} if arguments is None else arguments, **more)
        request = self.sealed(stored)
        async with self.parts.store.write() as transaction:
            await transaction.insert(request, {})
        return request.row.id

    async def ask_many(self, count: int) -> None:
        """Many pending requests in one transaction."""
        requests = [self.sealed(self.stored({"table": f"bulk_{number}"})) for number in range(count)]
        async with self.parts.store.write() as transaction:
            for request in requests:
                await transaction.insert(request, {})

    def sealed(self, stored: Stored) -> Request:
        key = lookup(self.parts.keys, stored.call, stored.views.for_downstream)
        return new_request(stored, key, keys=self.parts.keys, ids=RandomIds(), holder="hld_test", mask=MaskedText)

    async def state(self, approval_id: str) -> str:
        request = await self.parts.store.get(approval_id)
        assert request is not None
        return request.row.state.value

    async def sql(self, statement: str, *parameters: str | int) -> None:
        """What somebody with a shell can do to the file."""
        async with self.database.write() as db:
            await db.execute(statement, parameters)

    def client(self, **more: Any) -> httpx2.AsyncClient:
        """A browser without a session that sends what browsers send."""
        headers = {"origin": self.origin, "sec-fetch-site": "same-origin", **more.pop("headers", {})}
        return httpx2.AsyncClient(base_url=self.origin, headers=headers, verify=_TLS, **more)

    async def session_in(self, visitor: Visitor) -> Session:
        """The session of this visitor."""
        session = await self.parts.signin.session(visitor.http.cookies[COOKIE])
        assert session is not None
        return session

    @asynccontextmanager
    async def signed_in(self, reviewer: Reviewer = LOCAL_ALICE) -> AsyncIterator[Visitor]:
        """A browser in which this person is signed in."""
        async with self.client() as http:
            code = await self.parts.signin.link(reviewer)
            answer = await http.post(f"{self.root}login/{code}", data={})
            assert answer.status_code == 303, answer.text
            yield Visitor(self, http)


@dataclass
class Visitor:
    """Somebody who is signed in, with the forms that the page gave."""

    page: Page
    http: httpx2.AsyncClient

    async def get(self, path: str = "") -> httpx2.Response:
        return await self.http.get(self.page.root + path)

    async def form(self, path: str, fields: dict[str, str] | None = None, *, of: str | None = None) -> httpx2.Response:
        """Post a form of the page at `of` with its hidden fields, as a browser does."""
        shown = await self.get(path.rsplit("/", 1)[0] if of is None else of)
        hidden = hidden_fields(shown.text, self.page.root + path)
        return await self.http.post(self.page.root + path, data={**hidden, **(fields or {})})

    async def look(self, approval_id: str, grant: str = "once", *, ago_s: float = 1.0) -> dict[str, str]:
        """The hidden fields of the second look, as if it had been opened so many seconds ago."""
        path = f"requests/{approval_id}"
        request = await self.page.parts.store.get(approval_id)
        assert request is not None
        digest = request.row.action_digest
        shown = await self.get(f"{path}/confirm?digest={digest}&grant={grant}")
        fields = hidden_fields(shown.text, f"{self.page.root}{path}/approve")
        at = str(int(fields["at"]) - int(ago_s * 1_000_000_000))
        chosen = "None" if grant == "once" else grant
        stamp = self.page.parts.signin.stamp(
            await self.page.session_in(self), "confirm", approval_id, digest, chosen, at
        )
        return {**fields, "at": at, "confirm": stamp}


def hidden_fields(html: str, action: str) -> dict[str, str]:
    """The hidden fields of the form with this action."""
    from html.parser import HTMLParser

    found: dict[str, str] = {}

    class Reader(HTMLParser):
        inside = False

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            values = dict(attrs)
            if tag == "form":
                self.inside = values.get("action") == action
            elif tag == "input" and self.inside and values.get("type") == "hidden":
                found[str(values["name"])] = values.get("value") or ""

        def handle_endtag(self, tag: str) -> None:
            if tag == "form":
                self.inside = False

    Reader().feed(html)
    return found


@asynccontextmanager
async def page_at(folder: Path, *, port: int | None = None) -> AsyncIterator[Page]:
    """Serve the page over a new store in this folder."""
    number = port or free_port()
    config = {"version": 1, "id": "page", "data_dir": "./data", "console": {"port": number}}
    path = folder / "guard.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    path.chmod(0o600)
    loaded = load_config(path, env={})
    keys = KeyStore(loaded.data_dir / "keys")
    database = await Database.open(loaded.data_dir / "approvals.db", "mcp_guard.approval")
    try:
        parts = page_parts(loaded, database, keys, MaskedText, clock=SystemClock(), ids=RandomIds())
        listener = bind(number)
        assert listener is not None
        async with anyio.create_task_group() as group:
            await group.start(serve_page, parts, listener)
            yield Page(parts, database)
            group.cancel_scope.cancel()
    finally:
        await database.close()


def plain(html: str) -> str:
    """The words of a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())
