"""The composition root: builds the parts from the configuration and owns their lives. The only place that wires."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio
import structlog
from mcp.server.lowlevel import NotificationOptions

from mcp_guard import logs, system
from mcp_guard.approval.desk import ApprovalDesk, DeskSettings
from mcp_guard.approval.execution import Recheck
from mcp_guard.approval.holders import Holders
from mcp_guard.approval.store import ApprovalStore
from mcp_guard.audit.log import AuditLog
from mcp_guard.canon import digest
from mcp_guard.clock import RandomIds, SystemClock
from mcp_guard.config.hosts import host_config_files
from mcp_guard.config.load import LoadedConfig
from mcp_guard.config.schema import GuardConfig, ServerConfig
from mcp_guard.downstream.catalog import Catalog, FactsOf
from mcp_guard.downstream.pool import Pool
from mcp_guard.downstream.remembered import Remembered
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import ConfigError, QuarantinedError
from mcp_guard.keystore import KeyStore
from mcp_guard.manifest.find import Shelf
from mcp_guard.manifest.protect import OwnFiles, guard_files
from mcp_guard.masking.masker import Masker
from mcp_guard.model import Call, CallKind, Decision, JsonDict, Principal, RawArguments, Target, Views
from mcp_guard.pipeline import Pipeline
from mcp_guard.policy.decide import Policy
from mcp_guard.ports import CheckArguments
from mcp_guard.server.front import Context, stdio_principal, token_principal
from mcp_guard.server.handlers import Edge, announce_changes, build_server
from mcp_guard.server.offers import Offers
from mcp_guard.storage.sqlite import Database
from mcp_guard.vault.store import VaultStore

_log = structlog.get_logger(__name__)

STORE = "approvals.db"
DOMAINS = ("mcp_guard.approval", "mcp_guard.vault")
_DRAIN_S = 10.0
"""How long running calls may still take after a signal to stop (fault F8)."""


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

    config: GuardConfig
    edge: Edge
    offers: Offers
    pool: Pool
    catalog: Catalog
    audit: AuditLog


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
        if options.http is None:
            await _serve_stdio(guard)
        else:
            await _serve_http(guard, loaded, options)


@asynccontextmanager
async def open_guard(
    loaded: LoadedConfig, options: ServeOptions, *, mode: Literal["personal", "team"]
) -> AsyncIterator[Guard]:
    """Build all parts, start the background work, and take it down in reverse order at the end."""
    config, clock, ids = loaded.config, SystemClock(), RandomIds()
    prepare_data_dir(loaded.data_dir)
    keys = KeyStore(loaded.data_dir / "keys")
    masker = Masker(config.masking, keys.secret("vault"), secrets=loaded.secrets)
    logs.configure(masker.text)
    servers = resolve_servers(loaded, options.only)
    policy, facts_of = build_policy(loaded, stdio=options.http is None)
    identify, owner = _identities(options)
    async with AsyncExitStack() as stack:
        database = await Database.open(loaded.data_dir / STORE, *DOMAINS)
        stack.push_async_callback(database.close)
        audit = await AuditLog.open(
            loaded.data_dir / "audit", keys, clock, ids, append_timeout_s=config.audit.append_timeout_s
        )
        stack.push_async_callback(audit.close)
        holders = Holders(loaded.data_dir / "holders", ids)
        holders.open()
        stack.callback(holders.close)
        remembered = Remembered(loaded.data_dir / "catalogue", keys)
        catalog = Catalog(servers, facts_of=facts_of, remembered=remembered)
        changes = _Changes()
        pool = Pool(
            servers,
            mask_text=masker.text,
            log=_log_downstream,
            on_listing=lambda server, listing: offers.update(server, listing),  # noqa: PLW0108 - offers is made below
            protocols=catalog.protocols(),
        )
        offers = Offers(catalog, pool, masker, on_change=changes.ring)
        desk = ApprovalDesk(
            store=ApprovalStore(database, clock),
            keys=keys,
            ids=ids,
            holders=holders,
            audit=audit,
            recheck=_recheck(catalog, policy),
            mask=masker.text,
            settings=DeskSettings(
                mode=mode,
                max_open=config.approvals.max_open,
                environment=lambda server: environment_of(config, server),
                adopts=lambda key, server: key == owner.key and server in servers,
            ),
        )
        pipeline = Pipeline(
            masking=masker,
            vault=VaultStore(database, keys),
            check_arguments=_checker(catalog),
            policy=policy,
            approvals=desk,
            audit=audit,
            downstreams=pool,
        )
        edge = Edge(
            name=config.id,
            pipeline=pipeline,
            catalog=offers,
            desk=desk,
            masking=masker,
            ids=ids,
            principal=identify,
            owner_key=owner.key,
            transport=options.transport,
            state_keys=keys.ring("state"),
            host=options.only or "",
            prompts=config.approvals.elicitation,
            announce=config.masking.announce,
        )
        background = await stack.enter_async_context(anyio.create_task_group())
        await background.start(audit.run)
        stack.push_async_callback(audit.close)
        live = await desk.live_call_ids()
        await audit.recover(lambda call_id: call_id in live)
        await stack.enter_async_context(pool.running())
        working = await stack.enter_async_context(anyio.create_task_group())
        await working.start(desk.run, pipeline.run_approved)
        working.start_soon(changes.spread, edge)
        yield Guard(config, edge, offers, pool, catalog, audit)
        working.cancel_scope.cancel()


class _Changes:
    """Carries "the lists changed" from the pool's callbacks to the clients."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def ring(self) -> None:
        """Note a change."""
        self._event.set()

    async def spread(self, edge: Edge) -> None:
        """Tell the clients of every change, for ever."""
        while True:
            await self._event.wait()
            self._event = anyio.Event()
            await announce_changes(edge)


async def _serve_stdio(guard: Guard) -> None:
    from mcp_guard.wire.stdio import stdio_front

    server = build_server(guard.edge, guard.offers.instructions())
    initial = server.create_initialization_options(NotificationOptions(True, True, True))

    def on_first(message: JsonDict) -> None:
        # The first message tells what the client can do, so the servers start with it and not before.
        wants_roots = "roots" in _capabilities(message) and message.get("method") == "initialize"
        guard.pool.start(guard.edge.owner_key, guard.edge.list_roots if wants_roots else None)

    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, group.cancel_scope)
        async with stdio_front(on_first) as (read, write):
            await server.run(read, write, initial)
        group.cancel_scope.cancel()


async def _serve_http(guard: Guard, loaded: LoadedConfig, options: ServeOptions) -> None:
    from mcp_guard.http.front import bearer_token, parse_address, protected, serve_app
    from mcp_guard.server.streamable import MCP_PATH, streamable_app

    host, port = parse_address(options.http or "")
    token_file = loaded.data_dir / "http.token"
    server = build_server(guard.edge, guard.offers.instructions())
    app = protected(
        streamable_app(server, host=host, port=port), token=bearer_token(token_file) if options.token else None
    )
    guard.pool.start(guard.edge.owner_key)
    needs = f"bearer token in {token_file}" if options.token else "no token: any local program can call"
    sys.stderr.write(f"mcp-guard listens on http://{host}:{port}{MCP_PATH} ({needs})\n")
    await serve_app(app, host=host, port=port)


async def _stop_on_signal(scope: anyio.CancelScope) -> None:
    if sys.platform == "win32":
        return
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return


def _capabilities(message: JsonDict) -> JsonDict:
    params = message.get("params")
    found = params.get("capabilities") if isinstance(params, dict) else None
    return found if isinstance(found, dict) else {}


def _mode(config: GuardConfig, options: ServeOptions) -> Literal["personal", "team"]:
    if options.http is None:
        return config.approvals.mode or "personal"
    if config.approvals.mode == "personal":
        raise ConfigError(
            "approvals.mode: personal does not go with --http, where the requester is not the person at the keyboard",
            hint="remove approvals.mode, and add reviewers with `mcp-guard reviewer add NAME`",
        )
    return "team"


def prepare_data_dir(folder: Path) -> None:
    """Make the data folder, for its owner alone, and keep it out of version control.

    Raises:
        ConfigError: it cannot be made or written.
    """
    try:
        system.make_private_dir(folder)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="ascii")
    except OSError as error:
        raise ConfigError(
            f"the data folder {folder} cannot be used: {error.strerror}",
            hint="make it writable for you, or set data_dir to another folder",
        ) from error


def resolve_servers(loaded: LoadedConfig, only: str | None = None) -> dict[str, ResolvedServer]:
    """The downstream servers to run, with references resolved.

    Raises:
        ConfigError: `only` names a server that is not there, or is disabled.
    """
    servers = dict(loaded.servers)
    if only is not None:
        if only not in servers:
            raise ConfigError(f"no server named {only} in {loaded.path.name}", hint=f"it has: {', '.join(servers)}")
        servers = {only: servers[only]}
    return {name: _resolved(name, server, loaded, plain=only is not None) for name, server in servers.items()}


def _resolved(name: str, server: ServerConfig, loaded: LoadedConfig, *, plain: bool) -> ResolvedServer:
    written = loaded.config.servers[name]
    # The identity is over the configuration as written: no secret goes into a digest that is shown.
    identity = digest("server", {"command": written.command, "args": list(written.args), "url": written.url})
    return ResolvedServer(
        name=name,
        identity=identity,
        command=(server.command, *server.args) if server.command is not None else (),
        url=server.url,
        env=server.env,
        headers=server.headers,
        cwd=None if server.cwd is None else (loaded.folder / Path(server.cwd).expanduser()),
        names="plain" if plain else server.names,
        start_timeout_s=server.start_timeout_s,
        call_timeout_s=server.call_timeout_s,
    )


def build_policy(loaded: LoadedConfig, *, stdio: bool) -> tuple[Policy, FactsOf]:
    """Compile the policy, and find the facts about tools.

    Raises:
        ConfigError: a manifest or a condition is not usable.
    """
    manifests = Shelf().bind(loaded.config, loaded.folder)
    home = Path.home()
    own = OwnFiles(
        [*guard_files(loaded), *host_config_files(home, sys.platform, Path.cwd(), os.environ)],
        cwds={
            name: loaded.folder / Path(server.cwd).expanduser() if server.cwd else Path.cwd()
            for name, server in loaded.servers.items()
        },
        home=home,
        env=dict(os.environ),
    )
    policy = Policy(loaded.config, touches_own_files=own.touched_by, manifest_digest=manifests.digest, stdio=stdio)
    return policy, manifests.facts_for


async def probe_servers(loaded: LoadedConfig, *, timeout_s: float) -> list[JsonDict]:
    """Start every server, list what it offers, stop it: for `check --connect`.

    Returns:
        One dict a server: server, status (ready, starting, failed), reason, protocol, tools.
    """
    prepare_data_dir(loaded.data_dir)
    masker = Masker(loaded.config.masking, KeyStore(loaded.data_dir / "keys").secret("vault"), secrets=loaded.secrets)
    logs.configure(masker.text)
    servers = resolve_servers(loaded)
    pool = Pool(servers, mask_text=masker.text, log=_log_downstream, on_listing=lambda _server, _listing: None)
    async with pool.running():
        pool.start("check")
        await pool.settled(timeout_s)
        states = {name: pool.state(name) for name in servers}
    return [
        {
            "server": name,
            "status": state.status,
            "reason": state.reason,
            "protocol": state.protocol,
            "tools": state.tools,
        }
        for name, state in states.items()
    ]


def _log_downstream(text: str) -> None:
    _log.info("downstream", text=text)


def environment_of(config: GuardConfig, server: str) -> str:
    """The environment of a server: its own, else that of the configuration."""
    found = config.servers.get(server)
    return found.environment if found and found.environment else config.environment


def _recheck(catalog: Catalog, policy: Policy) -> Recheck:
    """Judge a stored call again before it runs: same tool, same server, today's policy (approvals.md S10)."""

    def recheck(call: Call, views: Views) -> Decision:
        if call.target.kind is CallKind.TOOL:
            now = catalog.resolve(call.target.exposed, call.principal)
            seen, then = (now.definition_digest, now.server_identity), call.target
            if seen != (then.definition_digest, then.server_identity):
                raise QuarantinedError("the tool is not the one that was approved")
        return policy.decide(call, views)

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
