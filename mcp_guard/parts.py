"""Parts that need no running guard: the data folder, the servers to run, the policy. Used by `app` and the CLI."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from mcp_guard import logs, system
from mcp_guard.canon import keyed_digest
from mcp_guard.config.hosts import host_config_files
from mcp_guard.config.load import LoadedConfig
from mcp_guard.config.references import variables_in, variables_of
from mcp_guard.config.schema import GuardConfig, ServerConfig
from mcp_guard.downstream.copies import CopyStore
from mcp_guard.downstream.definition import Listing
from mcp_guard.downstream.index import FactsOf
from mcp_guard.downstream.lockfile import LOCK_NAME, LockFile, install_of
from mcp_guard.downstream.looking import OnlyLooking
from mcp_guard.downstream.pins import Pins
from mcp_guard.downstream.pool import Pool, ServerState
from mcp_guard.downstream.process import ESSENTIAL
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import ConfigError
from mcp_guard.keystore import KeyStore
from mcp_guard.manifest.find import Shelf
from mcp_guard.manifest.gitfolder import GitFolders
from mcp_guard.manifest.leads import Leads
from mcp_guard.manifest.protect import OwnFiles, guard_files
from mcp_guard.manifest.spelling import Spellings
from mcp_guard.manifest.starts import Roots, folders_named, is_elsewhere
from mcp_guard.masking.masker import Masker
from mcp_guard.model import JsonDict
from mcp_guard.policy.decide import Policy

_log = structlog.get_logger(__name__)


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


def resolve_servers(
    loaded: LoadedConfig, only: str | None = None, *, inherit: bool = True
) -> dict[str, ResolvedServer]:
    """The downstream servers to run, with references resolved. The data folder must be there: identities are keyed.

    Args:
        loaded: The configuration.
        only: Name of the one server to run, under plain names.
        inherit: Whether children get the guard's environment: in personal mode, not for `serve --http` (D29).

    Raises:
        ConfigError: `only` names a server that is not there, or is disabled; or the data folder cannot be used.
    """
    servers = dict(loaded.servers)
    if only is not None:
        if only not in servers:
            raise ConfigError(
                f"no server named {only} in {loaded.path.name}", hint=f"it has: {', '.join(loaded.config.servers)}"
            )
        servers = {only: servers[only]}
    key = KeyStore(loaded.data_dir / "keys").secret("identity")
    told_by = variables_in(loaded.config.approvals.notify)
    read_by = {name: variables_of(server) for name, server in loaded.config.servers.items()}
    return {
        name: replace(
            _resolved(name, server, loaded, key),
            names="plain" if only is not None else server.names,
            inherit=inherit,
            withheld=told_by.union(*read_by.values()) - read_by[name] - ESSENTIAL,
        )
        for name, server in servers.items()
    }


def _resolved(name: str, server: ServerConfig, loaded: LoadedConfig, key: bytes) -> ResolvedServer:
    written = loaded.config.servers[name]
    return ResolvedServer(
        name=name,
        identity=_identity(written, key),
        command=(server.command, *server.args) if server.command is not None else (),
        url=server.url,
        env=server.env,
        headers=server.headers,
        cwd=None if server.cwd is None else (loaded.folder / Path(server.cwd).expanduser()),
        start_timeout_s=server.start_timeout_s,
        call_timeout_s=server.call_timeout_s,
        pins=written.pins,
        written=(written.command, *written.args) if written.command is not None else (written.url or "",),
    )


def _identity(written: ServerConfig, key: bytes) -> str:
    """All that decides which server answers, as written: a new value behind a reference is the same server.

    Keyed, because the digest is shown and a plain password in `env` could be guessed from it.
    """
    said = written.model_dump(mode="json", include={"command", "args", "url", "env", "cwd", "headers"})
    return keyed_digest(key, "server", said)


def open_pins(
    loaded: LoadedConfig, servers: Mapping[str, ResolvedServer], keys: KeyStore, masker: Masker, *, alone: bool = False
) -> Pins:
    """What `guard.lock` beside the configuration holds these servers to.

    Args:
        loaded: The configuration.
        servers: As `resolve_servers` gave them.
        keys: Of the data folder.
        masker: For what is written into the lock and the log.
        alone: Whether one server is served under plain names.

    Raises:
        ConfigError: the lock is not usable.
    """
    file, copies = lock_and_copies(loaded, keys)
    return Pins(file, copies, servers, mask=masker.text, log=log_downstream, alone=alone)


def lock_and_copies(loaded: LoadedConfig, keys: KeyStore) -> tuple[LockFile, CopyStore]:
    """The lock beside the configuration, and the texts behind it in the data folder."""
    folder = loaded.data_dir / "pins"
    file = LockFile(loaded.folder / LOCK_NAME, install_of(keys.secret("identity")))
    return file, CopyStore(folder, keys)


def build_policy(loaded: LoadedConfig, *, stdio: bool) -> tuple[Policy, FactsOf, Roots]:
    """Compile the policy, and find the facts about tools.

    Args:
        loaded: The configuration.
        stdio: Whether the front is stdio.

    Returns:
        The policy, the facts, and what has to be told of the client's roots.

    Raises:
        ConfigError: a manifest or a condition is not usable.
    """
    manifests = Shelf().bind(loaded.config, loaded.folder)
    roots = Roots()
    leads = _leads(loaded, roots)
    policy = Policy(loaded.config, leads=leads, manifest_digest=manifests.digest, stdio=stdio)
    return policy, manifests.facts_for, roots


def _leads(loaded: LoadedConfig, roots: Roots) -> Leads:
    home, env = Path.home(), dict(os.environ)
    servers = {**loaded.config.servers, **loaded.servers}  # commands that start none have them as they are written
    cwds = {
        name: loaded.folder / Path(server.cwd).expanduser() if server.cwd else Path.cwd()
        for name, server in servers.items()
    }
    spellings = Spellings(home, env)
    given = {
        name: folders_named([*server.args, *server.env.values()], cwds[name], spellings)
        for name, server in servers.items()
    }

    def named(server: str) -> Sequence[str]:
        return (*given.get(server, ()), *roots.folders)

    protected = [*guard_files(loaded), *host_config_files(home, sys.platform, env)]
    own = OwnFiles(protected, cwds=cwds, home=home, env=env, project=Path.cwd(), named=named)
    git = GitFolders(cwds=cwds, home=home, env=env, named=named)
    elsewhere = [name for name, server in servers.items() if server.url and is_elsewhere(server.url)]
    return Leads(own, git, elsewhere=elsewhere)


async def _no_roots() -> list[JsonDict]:
    """Some servers offer tools only to clients with roots, as most hosts of programmers are: those are reviewed too."""
    return []


async def probe_listings(
    loaded: LoadedConfig, only: str | None = None, *, timeout_s: float, level: logs.Level = "info"
) -> dict[str, tuple[ServerState, Listing | None]]:
    """Start servers side by side, list what they offer, stop them. Logs nothing but masked text.

    What is not the program that guard.lock has accepted is not started (`ServerState.held`).

    Args:
        loaded: The configuration.
        only: Name of the one server to start; None starts all.
        timeout_s: How long to wait for the slowest one; who is not ready by then stays `starting`.
        level: Least level that is logged; what servers write to stderr is `info`.

    Returns:
        By server name: how it is doing, and its raw listing, None where it gave none.

    Raises:
        ConfigError: `only` names a server that is not there, or the data folder cannot be used.
    """
    prepare_data_dir(loaded.data_dir)
    masker = Masker(loaded.config.masking, KeyStore(loaded.data_dir / "keys").secret("vault"), secrets=loaded.secrets)
    logs.configure(masker.text, level)
    servers = from_own_folder(resolve_servers(loaded, only), loaded)
    listings: dict[str, Listing] = {}
    gate = OnlyLooking(LockFile(loaded.folder / LOCK_NAME))
    pool = Pool(servers, mask_text=masker.text, log=log_downstream, on_listing=listings.__setitem__, gate=gate)
    async with pool.running():
        pool.start("probe", _no_roots)
        await pool.settled(timeout_s)
        return {name: (pool.state(name), listings.get(name)) for name in servers}


def from_own_folder(servers: Mapping[str, ResolvedServer], loaded: LoadedConfig) -> dict[str, ResolvedServer]:
    """The same servers, those without a `cwd` in the folder of guard.yaml.

    For commands that only look: they run wherever a person stands, and what lies there must not be what is started.
    """
    return {
        name: server if server.cwd is not None else replace(server, cwd=loaded.folder)
        for name, server in servers.items()
    }


async def probe_servers(loaded: LoadedConfig, *, timeout_s: float) -> list[JsonDict]:
    """How every server is doing, for `check --connect`.

    Returns:
        One dict a server: server, status (ready, starting, failed, quarantined), reason, hint, protocol, tools.
    """
    return [
        {
            "server": name,
            "status": "quarantined" if state.held else state.status,
            "reason": state.reason,
            "hint": state.held,
            "protocol": state.protocol,
            "tools": state.tools,
        }
        for name, (state, _) in (await probe_listings(loaded, timeout_s=timeout_s)).items()
    ]


def log_downstream(text: str) -> None:
    """The log line about a downstream server; `text` is masked or constant."""
    _log.info("downstream", text=text)


def environment_of(config: GuardConfig, server: str) -> str:
    """The environment of a server: its own, else that of the configuration."""
    found = config.servers.get(server)
    return found.environment if found and found.environment else config.environment
