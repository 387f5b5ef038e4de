"""A whole approval desk on real files, with a small real executor that counts its effects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import anyio
from pydantic import JsonValue

from mcp_guard.approval.clients import Clients
from mcp_guard.approval.desk import ApprovalDesk, DeskSettings
from mcp_guard.approval.eligibility import Mode, Reviewer
from mcp_guard.approval.holders import Holders
from mcp_guard.approval.review import ApprovalReview
from mcp_guard.approval.store import DOMAIN, ApprovalStore
from mcp_guard.clock import Clock, RandomIds
from mcp_guard.keystore import KeyStore
from mcp_guard.model import (
    Answer,
    ApprovalTerms,
    Assurance,
    Call,
    CallContext,
    CallKind,
    Decision,
    Effect,
    JsonDict,
    MaskedJson,
    MaskedText,
    Principal,
    RawArguments,
    Receipt,
    Record,
    Risk,
    Target,
    Views,
)
from mcp_guard.permit import Permit
from mcp_guard.ports import ApprovedRun
from mcp_guard.question import Prompt, PromptAnswer
from mcp_guard.storage.sqlite import Database
from tests.fakes import FakeClock

ALICE = Principal("os", "alice")
BOB = Reviewer("bob", Assurance.A2, "cli")
LOCAL_ALICE = Reviewer("alice", Assurance.A1, "cli", ALICE.key)
SECRET = "hunter2-canary"
RECEIPT = Receipt("mcp-guard/test", 0, 1, "")


def call_of(arguments: JsonDict | None = None, *, principal: Principal = ALICE, server: str = "db") -> Call:
    target = Target(CallKind.TOOL, server, "drop_table", f"{server}_drop_table", local=True, definition_digest="d1")
    raw = RawArguments(arguments if arguments is not None else {"table": "users", "token": SECRET})
    return Call(RandomIds().new("call"), target, raw, principal, CallContext("stdio", "2025-11-25", "ses_1"))


def views_of(call: Call) -> Views:
    masked: JsonValue = {k: "[SECRET]" if v == SECRET else v for k, v in call.arguments.value.items()}
    return Views(call.arguments, MaskedJson(masked), MaskedJson(masked))


def decision_of(**terms: object) -> Decision:
    settled = replace(ApprovalTerms(hold_s=0.05), **terms)  # type: ignore[arg-type]  # names are given by the tests
    return Decision(Effect.REQUIRE_APPROVAL, "prod-destructive", Risk.MEDIUM, ("destructive",), "p1", settled)


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `check` holds; at most 5 s. For what other tasks and processes commit."""
    with anyio.fail_after(5):
        while not await check():  # noqa: ASYNC110 - what is waited for happens in a file, not in an event
            await anyio.sleep(0.005)


@dataclass
class TestFront:
    """A client. `answers` is what its user says, once asked."""

    __test__ = False

    era: Literal["legacy", "modern"] = "legacy"
    can_prompt: bool = False
    can_open: bool = False
    resumed: tuple[str, PromptAnswer | None] | None = None
    answer: Callable[[Prompt], PromptAnswer | None] | None = None
    asked: list[Prompt] = field(default_factory=list)
    shown: anyio.Event = field(default_factory=anyio.Event)
    withdrawn: int = 0
    messages: list[str | None] = field(default_factory=list)
    over_ids: list[str] = field(default_factory=list)
    """Requests of which the client was told that they are decided."""

    async def ask(self, prompt: Prompt) -> PromptAnswer | None:
        self.asked.append(prompt)
        self.shown.set()
        if self.answer is None:
            try:
                await anyio.sleep_forever()
            finally:
                self.withdrawn += 1
        assert self.answer is not None
        return self.answer(prompt)

    async def over(self, prompt: Prompt) -> None:
        self.over_ids.append(prompt.approval_id)

    async def progress(self, done: float, total: float | None, message: MaskedText | None) -> None:
        self.messages.append(message)


@dataclass
class Audit:
    """An audit trail in memory; `broken` makes appends of these types fail."""

    records: list[Record] = field(default_factory=list)
    broken: dict[str, Exception] = field(default_factory=dict)

    async def append(self, record: Record) -> Receipt:
        if record.type in self.broken:
            raise self.broken[record.type]
        self.records.append(record)
        return RECEIPT

    async def has_forwarded(self, call_id: str) -> bool:
        return any(record.type == "call.forwarded" and record.call_id == call_id for record in self.records)

    def types(self) -> list[str]:
        return [record.type for record in self.records]


@dataclass
class Bench:
    """One guard process."""

    folder: Path
    clock: Clock = field(default_factory=FakeClock)
    mode: Mode = "personal"
    max_open: int = 20
    adopts: Callable[[str, str], bool] = lambda _owner, _server: True
    audit: Audit = field(default_factory=Audit)
    today: Callable[[Decision], Decision] = lambda decision: decision
    """What the policy says when an approved call is checked again."""
    effects: list[JsonDict] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    """Approval ids, one for each effect."""
    page: Callable[[str], str] | None = None
    told: list[int] = field(default_factory=list)
    """Notices: how many calls waited."""
    fail: Exception | None = None
    use_permit: bool = True
    gate: anyio.Event | None = None
    slow: tuple[anyio.Event, anyio.Event] | None = None
    """Checking again sets the first and waits for the second."""
    before_send: Callable[[], None] = lambda: None
    started: anyio.Event = field(default_factory=anyio.Event)
    """Set when the executor is entered."""
    sent: anyio.Event = field(default_factory=anyio.Event)
    """Set by the first effect."""

    @asynccontextmanager
    async def guard(self, *, background: bool = True) -> AsyncIterator[Bench]:
        """Open the store and the desk; `background` also starts the runner."""
        async with self.parts(), anyio.create_task_group() as group:
            if background:
                await group.start(self.desk.run, self.execute)
            yield self
            group.cancel_scope.cancel()

    async def _recheck(self, _call: Call, _views: Views) -> Decision:
        if self.slow is not None:
            self.slow[0].set()
            await self.slow[1].wait()
        return self.today(decision_of())

    @asynccontextmanager
    async def parts(self) -> AsyncIterator[None]:
        self.db = await Database.open(self.folder / "approvals.db", DOMAIN)
        self.keys = KeyStore(self.folder / "keys")
        self.store = ApprovalStore(self.db, self.clock)
        ids = RandomIds()
        self.holders = Holders(self.folder / "holders", ids)
        self.holders.open()
        settings = DeskSettings(self.mode, self.max_open, lambda _server: "prod", self.adopts, self.page)
        self.desk = ApprovalDesk(
            store=self.store,
            keys=self.keys,
            ids=ids,
            holders=self.holders,
            audit=self.audit,
            recheck=self._recheck,
            mask=MaskedText,
            settings=settings,
            clients=Clients(self.db, self.clock),
            tell=self.tell,
        )
        self.review = ApprovalReview(self.store, self.keys, ids, mask=MaskedText)
        try:
            yield
        finally:
            self.holders.close()
            await self.db.close()

    async def tell(self, waiting: int) -> None:
        self.told.append(waiting)

    async def execute(self, run: ApprovedRun, permit: Permit) -> Answer:
        self.started.set()
        self.before_send()
        if not await run.mark_sent():
            raise RuntimeError
        if self.use_permit:
            permit.use(run.call.call_id)
        self.ran.append(run.approval_id)
        self.sent.set()
        self.effects.append(run.views.for_downstream.value)
        if self.gate is not None:
            await self.gate.wait()
        if self.fail is not None:
            raise self.fail
        return Answer(result=MaskedJson({"content": [{"type": "text", "text": "done"}]}))

    async def ask(self, call: Call, front: TestFront | None = None, decision: Decision | None = None) -> object:
        return await self.desk.settle(call, views_of(call), decision or decision_of(), front or TestFront())

    async def state(self, approval_id: str) -> str:
        request = await self.store.get(approval_id)
        assert request is not None
        return request.row.state.value

    async def until(self, approval_id: str, *states: str) -> str:
        """Wait until the request is in one of these states; at most 5 s."""

        async def there() -> bool:
            return await self.state(approval_id) in states

        await eventually(there)
        return await self.state(approval_id)

    async def sql(self, statement: str, *parameters: str | int) -> None:
        """What somebody with a shell can do to the file."""
        async with self.db.write() as db:
            await db.execute(statement, parameters)
