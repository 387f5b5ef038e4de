"""`mcp-guard init`, `check` and `explain`: everything before the first call."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import anyio
import typer
from pydantic import JsonValue

from mcp_guard import system
from mcp_guard.approval.prompt import visible
from mcp_guard.cli.exit import FINDING, OK
from mcp_guard.cli.loading import load
from mcp_guard.cli.options import MODULE, ConfigOption, JsonOption, console, follow_up, loaded, print_json
from mcp_guard.cli.trust import YesOption, offer_reviews
from mcp_guard.config.hostfile import read_host_file
from mcp_guard.config.hosts import host_blocks, host_entries
from mcp_guard.config.initfile import config_id_for, plan_init, write_init
from mcp_guard.config.load import LoadedConfig, user_config_file
from mcp_guard.errors import UsageError
from mcp_guard.model import JsonDict, Principal
from mcp_guard.system import at_terminal

_CONNECT_S = 60.0


def init(
    config: Annotated[Path | None, typer.Option("--config", metavar="PATH", help="Where to write guard.yaml.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A host's file with mcpServers (or servers).")
    ] = None,
    yes: YesOption = False,
) -> None:
    """Write guard.yaml, from a host's own file or empty, and print blocks for hosts. Changes no host file.

    In between reviews the tools of each server, as `trust` does: asked for in a terminal, or with --yes.
    """
    path = (config or user_config_file()).expanduser().absolute()
    plan = plan_init(None if source is None else read_host_file(source), config_id=config_id_for(path))
    write_init(plan, path)
    out = console()
    out.print(f"wrote {path}")
    for note in plan.notes:
        out.print(f"note: {visible(note)}")
    found = loaded(path)  # says now what is wrong with it
    servers = [name for name, server in found.config.servers.items() if not server.disabled]
    asks = yes or at_terminal()
    agreed = not asks or offer_reviews(load(path), servers, yes=yes)
    # After the tables and the question, so that these stand at the end, where they are copied from.
    entries = host_entries(command_line(), path)
    for block in host_blocks(entries, Path.home(), sys.platform, os.environ):
        out.print(f"\n== {block.host}: {block.where}\n{block.text}")
    out.print()
    if servers and not asks:
        out.print(f"next: {follow_up('trust --all', path)}")
    out.print(f"next: {follow_up('check --connect', path)}")
    if not agreed:
        raise typer.Exit(FINDING)


def check(
    config: ConfigOption = None,
    connect: Annotated[bool, typer.Option("--connect", help="Start every server and list its tools.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check the configuration; with --connect also every downstream server. Exit 1 when one does not answer.

    A server whose program is not the accepted one is quarantined, and not started.
    """
    from mcp_guard.parts import build_policy

    found = loaded(config, resolve=True)
    build_policy(found, stdio=True)
    states = anyio.run(_connect, found) if connect else []
    if as_json:
        print_json({"config": str(found.path), "data_dir": str(found.data_dir), "servers": [*states]})
    else:
        _print_check(found, states)
    raise typer.Exit(FINDING if any(state["status"] != "ready" for state in states) else OK)


def explain(
    server: Annotated[str, typer.Argument(metavar="SERVER")],
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="The downstream server's own tool name.")],
    args: Annotated[str, typer.Option("--args", metavar="JSON", help="The arguments, as a JSON object.")] = "{}",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what would happen to a call, and why. Nothing is sent or recorded."""
    from mcp_guard.parts import build_policy
    from mcp_guard.policy.explain import explain_call

    found = loaded(config)
    if server not in found.config.servers:
        raise UsageError(f"no server named {server}", hint=f"it is one of: {', '.join(found.config.servers)}")
    policy, facts_of, _ = build_policy(found, stdio=True)
    explanation = explain_call(
        policy,
        server=server,
        tool=tool,
        args=_object(args),
        facts=facts_of(server, tool, {}, None),
        principal=Principal("os", system.user_name(), os.environ.get("MCP_GUARD_PRINCIPAL", "")),
    )
    if as_json:
        print_json(explanation.data)
    else:
        console().print(visible_lines(explanation.text))


def command_line() -> list[str]:
    """How a host starts this very installation: absolute, since hosts have a minimal PATH."""
    script = Path(sys.argv[0])
    if script.name.startswith("mcp-guard") and script.exists():
        return [str(script.absolute())]
    beside = shutil.which("mcp-guard", path=str(Path(sys.executable).parent))
    return [beside] if beside else [*MODULE, "mcp_guard.cli.main"]


def visible_lines(text: str) -> str:
    """Make hidden characters visible, line by line."""
    return "\n".join(visible(line) for line in text.splitlines())


def _object(text: str) -> dict[str, JsonValue]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UsageError("--args takes a JSON object", hint="""for example --args '{"id": 7}'""")
    return value


async def _connect(found: LoadedConfig) -> list[JsonDict]:
    from mcp_guard.parts import probe_servers

    return await probe_servers(found, timeout_s=_CONNECT_S)


def _print_check(found: LoadedConfig, states: list[JsonDict]) -> None:
    out = console()
    servers, rules = len(found.config.servers), len(found.config.rules)
    counts = f"{servers} server{'s' * (servers != 1)}, {rules} rule{'s' * (rules != 1)}"
    out.print(f"ok: {found.path} ({counts})")
    out.print(f"data folder: {found.data_dir}")
    for state in states:
        more = state["reason"] if state["status"] != "ready" else f"{state['tools']} tools, {state['protocol']}"
        out.print(f"{state['server']!s:20} {state['status']!s:8} {visible(str(more))}")
        if state["hint"]:
            out.print(f"{'':20} → {visible(str(state['hint']))}")
