"""Parts that need no running guard: the data folder, the servers to run, the policy. Used by `app` and the CLI."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import structlog

from mcp_guard import logs, system
from mcp_guard.canon import keyed_digest
from mcp_guard.config.hosts import host_config_files
from mcp_guard.config.load import LoadedConfig
from mcp_guard.config.references import variables_of
from mcp_guard.config.schema import GuardConfig, ServerConfig
from mcp_guard.downstream.catalog import FactsOf
from mcp_guard.downstream.pool import Pool
from mcp_guard.downstream.process import ESSENTIAL
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import ConfigError
from mcp_guard.keystore import KeyStore
from mcp_guard.manifest.find import Shelf
from mcp_guard.manifest.protect import OwnFiles, guard_files
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
            raise ConfigError(f"no server named {only} in {loaded.path.name}", hint=f"it has: {', '.join(servers)}")
        servers = {only: servers[only]}
    key = KeyStore(loaded.data_dir / "keys").secret("identity")
    read_by = {name: variables_of(server) for name, server in loaded.config.servers.items()}
    return {
        name: replace(
            _resolved(name, server, loaded, key),
            names="plain" if only is not None else server.names,
            inherit=inherit,
            withheld=frozenset().union(*read_by.values()) - read_by[name] - ESSENTIAL,
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
    )


def _identity(written: ServerConfig, key: bytes) -> str:
    """All that decides which server answers, as written: a new value behind a reference is the same server.

    Keyed, because the digest is shown and a plain password in `env` could be guessed from it.
    """
    said = written.model_dump(mode="json", include={"command", "args", "url", "env", "cwd", "headers"})
    return keyed_digest(key, "server", said)


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
    pool = Pool(servers, mask_text=masker.text, log=log_downstream, on_listing=lambda _server, _listing: None)
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


def log_downstream(text: str) -> None:
    """The log line about a downstream server; `text` is masked or constant."""
    _log.info("downstream", text=text)


def environment_of(config: GuardConfig, server: str) -> str:
    """The environment of a server: its own, else that of the configuration."""
    found = config.servers.get(server)
    return found.environment if found and found.environment else config.environment
