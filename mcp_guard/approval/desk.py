"""The approval desk: attaches calls to durable requests and hands out what became of them.

A human is never awaited inside the only copy of the state. The row is durable, the call attaches to it, and the
approved call runs in the desk's own task: clients time out and cancel their handlers (docs/approvals.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import anyio
import anyio.abc
import structlog
from anyio import to_thread

from mcp_guard.approval import outcome, statement
from mcp_guard.approval.asking import Asking, Question
from mcp_guard.approval.clients import Clients
from mcp_guard.approval.eligibility import Channels, Mode, require_reachable
from mcp_guard.approval.execution import Execution, Recheck
from mcp_guard.approval.grants import Fitting
from mcp_guard.approval.holders import Holders
from mcp_guard.approval.machine import OUTCOMES, Conflict, State, Void
from mcp_guard.approval.notices import PATIENCE_S, Notices, Tell
from mcp_guard.approval.outbox import Outbox
from mcp_guard.approval.review import ApprovalReview
from mcp_guard.approval.rows import Request
from mcp_guard.approval.runner import Runner
from mcp_guard.approval.sealed import intact, new_request, unseal
from mcp_guard.approval.statement import Stored
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.approval.transaction import Transaction
from mcp_guard.approval.used import Used
from mcp_guard.approval.waiting import Waiting
from mcp_guard.approval.wake import Wake
from mcp_guard.clock import Ids
from mcp_guard.errors import (
    GuardError,
    OverloadedError,
    RefusalError,
    StoreUnavailableError,
    UnknownApprovalError,
)
from mcp_guard.keystore import KeyStore
from mcp_guard.model import (
    Answer,
    Call,
    Decision,
    MaskedText,
    Principal,
    Suspended,
    Views,
)
from mcp_guard.ports import AuditTrail, Executor, Front
from mcp_guard.question import AskClient

_log = structlog.get_logger(__name__)

_NS = 1_000_000_000
_WITHDRAWN_S = 5.0
"""By then the form of a call that is held no longer is gone, also where its guard died."""
_MAX_OPEN_BYTES = 32 * 1024 * 1024
"""Arguments of all open requests of one requester, as they are kept."""
_DENIED_FOR_NS = 600 * _NS
"""An identical call is refused for this long after a denial (S16)."""


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """Configuration of the desk.

    `environment` gives the environment of a server; `adopts` says for (`Principal.key`, server) whether this guard
    may take over requests of a guard that died: only of the same principal and for servers that it serves. `page`
    gives the address of a request on the page for reviewers, where somebody serves that page.
    """

    mode: Mode
    max_open: int
    environment: Callable[[str], str]
    adopts: Callable[[str, str], bool]
    page: Callable[[str], str] | None = None


class ApprovalDesk:
    """Implements `ports.ApprovalPort`, the wait tool, and the background work."""

    def __init__(
        self,
        *,
        store: ApprovalStore,
        keys: KeyStore,
        ids: Ids,
        holders: Holders,
        audit: AuditTrail,
        recheck: Recheck,
        mask: Callable[[str], MaskedText],
        settings: DeskSettings,
        clients: Clients,
        tell: Tell,
    ) -> None:
        self._store = store
        self._keys = keys
        self._ids = ids
        self._holders = holders
        self._mask = mask
        self._settings = settings
        self._wake = Wake()
        self._review = ApprovalReview(store, keys, ids, mask=mask)
        self._grants = self._review.grants
        self._clients = clients
        self._asking = Asking(clients, settings.mode, settings.page)
        self._notices = Notices(store, tell)
        self._waiting = Waiting(
            store=store, keys=keys, holders=holders, wake=self._wake, review=self._review, clients=clients
        )
        self._used = Used(holders.folder.parent / "used")
        self._runner = self._make_runner(audit, recheck)

    def _make_runner(self, audit: AuditTrail, recheck: Recheck) -> Runner:
        store, keys, mask = self._store, self._keys, self._mask
        reviewers = self._review.reviewers
        outbox = Outbox(store, audit, self._holders.id, keys=keys, reviewers=reviewers, grants=self._grants, mask=mask)
        execution = Execution(
            store=store,
            keys=keys,
            ids=self._ids,
            outbox=outbox,
            wake=self._wake,
            recheck=recheck,
            mask=mask,
            used=self._used,
            grants=self._grants,
            mode=self._settings.mode,
        )
        return Runner(
            store=store,
            holders=self._holders,
            outbox=outbox,
            wake=self._wake,
            execution=execution,
            grants=self._grants,
            adopts=self._settings.adopts,
        )

    async def run(
        self, executor: Executor, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Work in the background until cancelled: `await group.start(desk.run, pipeline.run_approved)`.

        Started once what dead holders left behind is recovered. `holders.open()` comes before.
        """
        await to_thread.run_sync(self._used.sweep, self._store.now_ns())
        async with anyio.create_task_group() as group:
            group.start_soon(self._notices.run)
            await self._runner.run(executor, task_status=task_status)

    async def until_asked(self) -> None:
        """Return once a request waits for people, of whatever process of this data folder."""
        while True:
            signal = self._wake.signal
            # A store that cannot be read now is read again at the next signal; only the page waits for this.
            with contextlib.suppress(StoreUnavailableError):
                if await self._store.requests((State.PENDING,), limit=1):
                    return
            await signal.wait()

    async def live_call_ids(self) -> frozenset[str]:
        """Calls with a live request: for these no `call.interrupted` is written at start (D26)."""
        return await self._store.live_call_ids()

    async def round_of(self, call: Call, views: Views, front: Front) -> str | None:
        """See `ports.ApprovalPort.round_of`. The sealed state only names the request; owner and arguments must fit."""
        request = await self._resumed(call, statement.lookup(self._keys, call, views.for_downstream), front)
        return request.call_id if request is not None else None

    async def settle(
        self, call: Call, views: Views, decision: Decision, front: Front
    ) -> Suspended | AskClient | Answer:
        """See `ports.ApprovalPort.settle`."""
        key = statement.lookup(self._keys, call, views.for_downstream)
        channels = Channels(front.can_prompt, await self._review.reviewers.any())
        request = await self._resumed(call, key, front)
        fresh = request is None
        if request is None:
            environment = self._settings.environment(call.target.server)
            stored = await self._grants.seen(Stored(call, views, decision, environment, self._settings.mode))
            request = await self._attach_or_open(stored, key, channels)
        question = await self._asking.question(
            request,
            call.principal.client,
            front,
            decision.terms.hold_s,
            others=await self._store.others_waiting(request),
        )
        if fresh and request.row.state is State.PENDING:
            question = await self._once(request, question, front)
            if request.call_id == call.call_id:  # opened by this very call
                self._notices.expect(request.row.id, PATIENCE_S if question.prompt else 0.0)
            if question.prompt is not None and front.era == "modern":
                await self._clients.asked(call.principal.client, question.channel)
                return AskClient(question.prompt)
        again = await self._waiting.once_more(request, call.principal, front, question)
        if again is not None:
            return AskClient(again)
        return await self._waiting.attend(request, call.principal, front, question)

    async def _once(self, request: Request, question: Question, front: Front) -> Question:
        """The question, if nobody was asked it or is being asked it by an equal call, of whatever process.

        A form of an older client is open as long as its call is held. A newer one brings its answer when it likes, so
        there the question is asked once in the life of a request; so it is where it was dismissed.
        """
        if question.prompt is None:
            return question
        async with self._store.write() as transaction:
            held_ns = transaction.now_ns + int((question.hold_s + _WITHDRAWN_S) * _NS)
            until_ns = held_ns if front.era == "legacy" else request.row.expires_ns
            first = await transaction.ask_once(request.row.id, until_ns)
        return question if first else replace(question, prompt=None)

    async def wait(self, approval_id: str, principal: Principal, timeout_s: float) -> Suspended | Answer:
        """For `guard_approval_wait`: the requester's own requests only; an outcome is given as often as asked for.

        Raises:
            UnknownApprovalError: no such request of this principal.
            ApprovalDeniedError, ApprovalExpiredError, FaultError: see `settle`.
        """
        request = await self._store.get(approval_id)
        if request is None or request.row.owner != principal.key:
            raise UnknownApprovalError("you have no such approval request", hint="repeat the call itself")
        await self._waiting.pick_up(request, timeout_s)
        return await self._waiting.conclude(request)

    # -- attaching ---------------------------------------------------------------------------------------------

    async def _resumed(self, call: Call, key: str, front: Front) -> Request | None:
        """The request that a modern client comes back to. Another owner's, or of other arguments: not this one."""
        if front.resumed is None:
            return None
        request = await self._store.get(front.resumed[0])
        if request is None or (request.row.owner, request.row.lookup) != (call.principal.key, key):
            return None
        if isinstance(intact(self._keys, self._mask, request), Void):
            return None
        return None if request.row.state is State.INVALIDATED else request

    async def _attach_or_open(self, stored: Stored, key: str, channels: Channels) -> Request:
        fitting = await self._grants.fitting(stored)  # looks at the file system: not in the transaction
        async with self._store.write() as transaction:
            found = await self._attach_in(transaction, stored, key)
            if found is None:
                found = await self._open_in(transaction, stored, key, channels, fitting)
        self._wake.ring()
        if isinstance(found, GuardError):
            raise found
        return found

    async def _attach_in(self, transaction: Transaction, stored: Stored, key: str) -> Request | GuardError | None:
        owner = stored.call.principal.key
        live = await transaction.live(owner, key)
        why = self._outdated(live, stored) if live else None
        if live is not None and why is not None:
            live = live if isinstance(await transaction.void(live, why), Conflict) else None
        if live is not None:
            await transaction.count_call(live)
            return live if self._holders.alive(live.row.holder) else await self._adopt_in(transaction, live)
        last = await transaction.last(owner, key)
        if last is None or isinstance(unseal(self._keys, last), Void):
            return None
        if last.row.state in OUTCOMES and not last.delivered:
            await transaction.deliver(last.row.id)
            return last
        if last.row.state is State.DENIED and transaction.now_ns - (last.row.ended_ns or 0) < _DENIED_FOR_NS:
            return outcome.refusal(last)
        return None

    def _outdated(self, live: Request, stored: Stored) -> Void | None:
        """Why nobody may decide the live request any more."""
        then = intact(self._keys, self._mask, live)
        if isinstance(then, Void):
            return then
        if then.mode != stored.mode:
            return Void.SEPARATION
        # Whoever looks at it now would decide under another policy than the one that asks (S10).
        return Void.POLICY if then.decision.policy_digest != stored.decision.policy_digest else None

    async def _adopt_in(self, transaction: Transaction, live: Request) -> Request:
        if live.row.state is State.EXECUTING:
            return live  # recovery settles it: T15 or T17
        return await transaction.hold(live, self._holders.id) or live

    async def _open_in(
        self,
        transaction: Transaction,
        stored: Stored,
        key: str,
        channels: Channels,
        fitting: tuple[Fitting, ...],
    ) -> Request | GuardError:
        """T1, and at once T2 where a grant covers the call."""
        owner = stored.call.principal.key
        stored = replace(stored, created_ns=transaction.now_ns)
        lives = [await transaction.grant_lives(grant.id, uses_below=grant.max_uses) for grant in fitting]
        try:
            if not any(lives):
                require_reachable(stored.mode, stored.decision, channels)
            request = new_request(stored, key, keys=self._keys, ids=self._ids, holder=self._holders.id, mask=self._mask)
        except RefusalError as error:
            return error
        if await transaction.count_open(owner) >= self._settings.max_open:
            return OverloadedError(
                f"{self._settings.max_open} approval requests of this requester are open already",
                hint="decide or wait for the open ones: `mcp-guard approvals ls`",
            )
        if await transaction.open_bytes(owner) + len(request.payload) > _MAX_OPEN_BYTES:
            return OverloadedError(
                f"the open approval requests of this requester hold {_MAX_OPEN_BYTES >> 20} MiB of arguments already",
                hint="decide or wait for the open ones (`mcp-guard approvals ls`), or pass less in one call",
            )
        await transaction.insert(request, {})
        return await self._grants.use_in(transaction, request, fitting) or request
