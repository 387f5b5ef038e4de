"""The composition root: builds the parts from the configuration and owns their lives. The only place that wires."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import anyio
import anyio.lowlevel
import structlog
from mcp.server.lowlevel import NotificationOptions

from mcp_guard import logs, system
from mcp_guard.approval.channels.console import console_url
from mcp_guard.approval.channels.notify import Notifier
from mcp_guard.approval.clients import Clients
from mcp_guard.approval.desk import ApprovalDesk, DeskSettings
from mcp_guard.approval.eligibility import Mode
from mcp_guard.approval.execution import Recheck
from mcp_guard.approval.holders import Holders
from mcp_guard.approval.notices import HeldBack
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.audit.log import AuditLog
from mcp_guard.clock import Clock, Ids, RandomIds, SystemClock
from mcp_guard.config.load import LoadedConfig
from mcp_guard.config.schema import GuardConfig
from mcp_guard.downstream.catalog import Catalog
from mcp_guard.downstream.pins import Pins
from mcp_guard.downstream.pool import Pool
from mcp_guard.downstream.remembered import Remembered
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import ConfigError
from mcp_guard.http.console.background import serve_when
from mcp_guard.http.console.parts import PageParts, page_parts
from mcp_guard.keystore import KeyStore
from mcp_guard.masking.masker import Masker
from mcp_guard.model import Call, Decision, JsonDict, Principal, RawArguments, Risk, Target, Views
from mcp_guard.parts import build_policy, environment_of, log_downstream, open_pins, prepare_data_dir, resolve_servers
from mcp_guard.pipeline import Pipeline
from mcp_guard.policy.decide import Policy
from mcp_guard.ports import CheckArguments, Confirm
from mcp_guard.server.answers import how_to_decide
from mcp_guard.server.changes import Changes
from mcp_guard.server.front import Context, stdio_principal, token_principal
from mcp_guard.server.handlers import Edge, build_server
from mcp_guard.server.offers import Offers, still_the_same
from mcp_guard.storage.sqlite import Database
from mcp_guard.vault.store import VaultStore

_log = structlog.get_logger(__name__)

STORE = "approvals.db"
DOMAINS = ("mcp_guard.approval", "mcp_guard.vault")
_COLLECT_EVERY = 10_000
"""Objects: a long list of a server is thousands of them, and no reason to look through all the others."""
_DRAIN_S = 5.0
"""How long running calls may still take after a signal; with what then has to be ended, it stays below 10 s (F8)."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How the guard is served."""

    only: str | None = None
    """Name of the one downstream server to offer, with its plain names."""
    http: str | None = None
    """HOST:PORT, or None for stdio."""
    token: bool = True
    """Whether HTTP asks for the bearer token."""

    @property
    def transport(self) -> Literal["stdio", "http"]:
        """The transport of the front."""
        return "stdio" if self.http is None else "http"


@dataclass(frozen=True, slots=True)
class Guard:
    """The running parts."""

    edge: Edge
    offers: Offers
    pool: Pool
    desk: ApprovalDesk
    changes: Changes
    page: PageParts
    held_back: HeldBack


async def serve(loaded: LoadedConfig, options: ServeOptions) -> None:
    """Run the guard until its client goes or a signal comes.

    Raises:
        ConfigError: something in the configuration cannot work.
        AuditUnavailableError, StoreUnavailableError: the data folder is not usable.
    """
    system.no_core_dumps()
    logs.watch_loop(asyncio.get_running_loop())
    mode = _mode(loaded.config, options)
    async with open_guard(loaded, options, mode=mode) as guard:
        # What is there now stays. Left to the collector, looking through all of it again stops every call for a while.
        gc.freeze()
        gc.set_threshold(_COLLECT_EVERY, 20, 20)
        if options.http is None:
            await _serve_stdio(guard)
        else:
            await _serve_http(guard, loaded, options)


@dataclass(frozen=True, slots=True)
class _Stores:
    """What lies in the data folder, open."""

    keys: KeyStore
    database: Database
    audit: AuditLog
    holders: Holders


@asynccontextmanager
async def _open_stores(loaded: LoadedConfig, ids: Ids, clock: Clock) -> AsyncIterator[_Stores]:
    prepare_data_dir(loaded.data_dir)
    keys = KeyStore(loaded.data_dir / "keys")
    async with AsyncExitStack() as stack:
        database = await Database.open(loaded.data_dir / STORE, *DOMAINS)
        stack.push_async_callback(database.close)
        timeout = loaded.config.audit.append_timeout_s
        audit = await AuditLog.open(loaded.data_dir / "audit", keys, clock, ids, append_timeout_s=timeout)
        stack.push_async_callback(audit.close)
        holders = Holders(loaded.data_dir / "holders", ids)
        holders.open()
        stack.callback(holders.close)
        yield _Stores(keys, database, audit, holders)


@asynccontextmanager
async def open_guard(loaded: LoadedConfig, options: ServeOptions, *, mode: Mode) -> AsyncIterator[Guard]:
    """Build all parts, start the background work, and take it down in reverse order at the end."""
    ids, clock = RandomIds(), SystemClock()
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(_open_stores(loaded, ids, clock))
        guard = _assemble(loaded, options, stores, ids, clock, mode=mode)
        # The writer of the log outlives everybody who writes to it.
        writing = await stack.enter_async_context(anyio.create_task_group())
        await writing.start(stores.audit.run)
        stack.push_async_callback(stores.audit.close)
        live = await guard.desk.live_call_ids()
        await stores.audit.recover(lambda call_id: call_id in live)
        await stack.enter_async_context(guard.pool.running())
        working = await stack.enter_async_context(anyio.create_task_group())
        await working.start(guard.desk.run, guard.edge.pipeline.run_approved)
        working.start_soon(guard.changes.spread, guard.edge)
        working.start_soon(guard.offers.watch)
        working.start_soon(guard.held_back.run)
        if loaded.config.console.serve:
            asked = guard.desk.until_asked if options.http is None else anyio.lowlevel.checkpoint
            working.start_soon(serve_when, asked, guard.page)
        yield guard
        working.cancel_scope.cancel()


def _assemble(
    loaded: LoadedConfig, options: ServeOptions, stores: _Stores, ids: Ids, clock: Clock, *, mode: Mode
) -> Guard:
    config, keys = loaded.config, stores.keys
    masker = Masker(config.masking, keys.secret("vault"), secrets=loaded.secrets)
    logs.configure(masker.text)
    notifier = Notifier(loaded.notify)
    held_back = HeldBack(notifier.tell_held_back)
    pins = _pins(loaded, options, stores, masker, held_back)
    servers = pins.servers
    policy, facts_of, roots = build_policy(loaded, stdio=options.http is None)
    catalog = Catalog(servers, facts_of=facts_of, remembered=Remembered(loaded.data_dir / "catalogue", keys), pins=pins)
    changes = Changes()
    pool, offers = _lists(servers, catalog, masker, changes, pins)
    identify, owner = _identities(options)
    settings = _settings(config, options, keys, owner, servers, mode)
    desk = _desk(stores, ids, clock, _recheck(catalog, policy, offers.confirm), masker, settings, notifier)
    edge = Edge(
        name=config.id,
        pipeline=_pipeline(masker, stores, catalog, policy, offers, desk, pool),
        catalog=offers,
        desk=desk,
        masking=masker,
        ids=ids,
        principal=identify,
        owner_key=owner.key,
        transport=options.transport,
        state_keys=keys.ring("state"),
        deciding=how_to_decide(loaded.path if options.http is None else None, team=mode == "team"),
        host=options.only or "",
        prompts=config.approvals.elicitation,
        roots=roots,
    )
    page = page_parts(loaded, stores.database, keys, masker.text, clock=clock, ids=ids)
    return Guard(edge, offers, pool, desk, changes, page, held_back)


def _pins(loaded: LoadedConfig, options: ServeOptions, stores: _Stores, masker: Masker, held_back: HeldBack) -> Pins:
    found = resolve_servers(loaded, options.only, inherit=options.http is None)
    pins = open_pins(loaded, found, stores.keys, masker, alone=options.only is not None)
    pins.record_to(held_back.noticing(stores.audit.append))
    return pins


def _pipeline(
    masker: Masker, stores: _Stores, catalog: Catalog, policy: Policy, offers: Offers, desk: ApprovalDesk, pool: Pool
) -> Pipeline:
    return Pipeline(
        masking=masker,
        vault=VaultStore(stores.database, stores.keys),
        check_arguments=_checker(catalog),
        fits_schema=lambda target, result: catalog.result_fits(target, result, relax=masker.relax_schema),
        policy=policy,
        confirm=offers.confirm,
        approvals=desk,
        audit=stores.audit,
        downstreams=pool,
    )


def _lists(
    servers: Mapping[str, ResolvedServer], catalog: Catalog, masker: Masker, changes: Changes, pins: Pins
) -> tuple[Pool, Offers]:
    """The links, and what they offer. Each tells the other: a new listing changes the offer."""
    pool = Pool(
        servers,
        mask_text=masker.text,
        log=log_downstream,
        on_listing=lambda server, listing: offers.update(server, listing),  # noqa: PLW0108 - offers is made below
        protocols=catalog.protocols(),
        gate=pins,
        prepare=catalog.prepare,
    )
    offers = Offers(catalog, pool, masker, on_change=changes.ring, pins=pins)
    return pool, offers


def _settings(
    config: GuardConfig,
    options: ServeOptions,
    keys: KeyStore,
    owner: Principal,
    servers: Mapping[str, ResolvedServer],
    mode: Mode,
) -> DeskSettings:
    # Only a guard on stdio serves the page as long as requests wait, and only there clients are sent to it.
    paged = config.console.serve and options.http is None
    return DeskSettings(
        mode=mode,
        max_open=config.approvals.max_open,
        environment=lambda server: environment_of(config, server),
        adopts=lambda key, server: key == owner.key and server in servers,
        page=(lambda approval_id: console_url(config.console.port, keys, approval_id)) if paged else None,
    )


def _desk(
    stores: _Stores,
    ids: Ids,
    clock: Clock,
    recheck: Recheck,
    masker: Masker,
    settings: DeskSettings,
    notifier: Notifier,
) -> ApprovalDesk:
    return ApprovalDesk(
        store=ApprovalStore(stores.database, clock),
        keys=stores.keys,
        ids=ids,
        holders=stores.holders,
        audit=stores.audit,
        recheck=recheck,
        mask=masker.text,
        settings=settings,
        clients=Clients(stores.database, clock),
        tell=notifier.tell,
    )


async def _serve_stdio(guard: Guard) -> None:
    from mcp_guard.wire.stdio import stdio_front

    server = build_server(guard.edge, guard.offers.instructions(), guard.offers.declares)
    initial = server.create_initialization_options(NotificationOptions(True, True, True))

    def on_first(message: JsonDict) -> None:
        # The first message tells what the client can do, so the servers start with it and not before.
        wants_roots = "roots" in _capabilities(message) and message.get("method") == "initialize"
        guard.pool.start(guard.edge.owner_key, guard.edge.list_roots if wants_roots else None)

    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, group.cancel_scope, guard.edge.pipeline)
        async with stdio_front(on_first) as (read, write):
            await server.run(read, write, initial)
        group.cancel_scope.cancel()


async def _serve_http(guard: Guard, loaded: LoadedConfig, options: ServeOptions) -> None:
    from mcp_guard.http.front import bearer_token, listen, parse_address, protected, serve_app
    from mcp_guard.server.streamable import MCP_PATH, streamable_app

    host, port = parse_address(options.http or "")
    token_file = loaded.data_dir / "http.token"
    server = build_server(guard.edge, guard.offers.instructions(), guard.offers.declares)
    app = protected(
        streamable_app(server, host=host, port=port), token=bearer_token(token_file) if options.token else None
    )
    listener = listen(host, port)
    guard.pool.start(guard.edge.owner_key)
    needs = f"bearer token in {token_file}" if options.token else "no token: any local program can call"
    sys.stderr.write(f"mcp-guard listens on http://{host}:{port}{MCP_PATH} ({needs})\n")
    with listener:
        await serve_app(app, listener)


async def _stop_on_signal(scope: anyio.CancelScope, pipeline: Pipeline) -> None:
    """The first signal lets running calls end, for 5 s at the most; the second one does not wait."""
    if sys.platform == "win32":
        return
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as group:

            async def drain() -> None:
                with anyio.move_on_after(_DRAIN_S):
                    await pipeline.drained()
                scope.cancel()

            first = True
            async for _ in signals:
                if not first:
                    scope.cancel()
                first = False
                group.start_soon(drain)


def _capabilities(message: JsonDict) -> JsonDict:
    params = message.get("params")
    found = params.get("capabilities") if isinstance(params, dict) else None
    return found if isinstance(found, dict) else {}


def _mode(config: GuardConfig, options: ServeOptions) -> Mode:
    if options.http is None:
        return config.approvals.mode or "personal"
    if config.approvals.mode == "personal":
        raise ConfigError(
            "approvals.mode: personal does not go with --http, where the requester is not the person at the keyboard",
            hint="remove approvals.mode, and add reviewers with `mcp-guard reviewer add NAME`",
        )
    return "team"


def _recheck(catalog: Catalog, policy: Policy, confirm: Confirm) -> Recheck:
    """Judge a stored call again before it runs: same tool, same server, today's policy (approvals.md S10).

    Args:
        catalog: What the servers offer.
        policy: Today's.
        confirm: Lists again before a risky call where the last list is old.
    """

    async def recheck(call: Call, views: Views) -> Decision:
        still_the_same(catalog, call.target)
        decision = policy.decide(call, views)
        if decision.risk.rank >= Risk.HIGH.rank:
            await confirm(call)
        return decision

    return recheck


def _checker(catalog: Catalog) -> CheckArguments:
    async def check(target: Target, arguments: RawArguments) -> None:
        catalog.validate_arguments(target, arguments.value)

    return check


def _identities(options: ServeOptions) -> tuple[Callable[[Context], Principal], Principal]:
    """Who calls over this front, and the same person without a client."""
    user, label = system.user_name(), os.environ.get("MCP_GUARD_PRINCIPAL", "")
    if options.http is None:
        return (lambda ctx: stdio_principal(user, label, ctx)), Principal("os", user, label)
    return (lambda ctx: token_principal(user, label, ctx)), Principal("local-token", user, label, verified=True)
