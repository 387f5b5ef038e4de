"""`mcp-guard trust SERVER`: what the tools of a server look like, and a person's word on it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast

import anyio
import typer

from mcp_guard import system
from mcp_guard.cli.exit import FINDING
from mcp_guard.cli.installation import check_installation
from mcp_guard.cli.options import ConfigOption, JsonOption, console, keys_of, loaded, print_json
from mcp_guard.cli.trust_table import as_json as rows_as_json
from mcp_guard.cli.trust_table import print_table, summary_text
from mcp_guard.clock import SystemClock
from mcp_guard.config.load import LoadedConfig
from mcp_guard.downstream.definition import Listing, Program, definition_digest
from mcp_guard.downstream.names import exposed_name
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import DownstreamUnavailableError, NotEligibleError, UsageError
from mcp_guard.manifest.find import Manifests, Shelf, named_manifests
from mcp_guard.manifest.trust import Review, Row, decide, merged, plan
from mcp_guard.manifest.user import Reviewed, user_manifest_path, write_user_manifest
from mcp_guard.system import at_terminal

if TYPE_CHECKING:
    from mcp_guard.masking.masker import Masker

_START_S: Final = 60.0
_CHOICE: Final = re.compile(r"(allow|ask)\s+(\d{1,4}(?:[\s,]+\d{1,4})*)")
_FIRST_SET_UP: Final = "first set-up"

YesOption = Annotated[bool, typer.Option("--yes", help="Take the cautious reading as it is, without a question.")]


def trust(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="Its name in guard.yaml.")],
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Review the tools of a server once: what looks harmless runs, what changes things asks.

    Starts the server, reads its tools, and writes manifests/SERVER.yaml beside guard.yaml. Needs a terminal, or with
    --yes a reviewer's token in MCP_GUARD_REVIEWER_TOKEN; without both only before the guard served for the first time.
    With --json and without --yes it only says what it would write.
    """
    found = loaded(config, resolve=True)
    done = review(found, server, yes=yes, as_json=as_json)
    raise typer.Exit(0 if done else FINDING)


def review(found: LoadedConfig, server: str, *, yes: bool, as_json: bool = False) -> bool:
    """Review one server; False when the person said no.

    Raises:
        UsageError: there is no such server, or nobody can be asked.
        NotEligibleError: who runs this may not decide.
        DownstreamUnavailableError: the server does not list its tools.
        ConfigError: the manifest cannot be read or written.
    """
    _check_names(found, server)
    only_show = as_json and not yes
    tty = at_terminal()
    if not (yes or only_show or tty):
        raise UsageError("there is no terminal to ask at", hint="a person runs this in a terminal")
    by = "" if only_show else anyio.run(_reviewer, found, tty)
    manifests = Shelf().bind(found.config, found.folder)
    seen = _look(found, server)
    exposed = partial(exposed_name, seen.server)
    rows = plan(Review(server, manifests, definition_digest, exposed, _masker(found).text), seen.listing.tools)
    if as_json:
        pinned = yes and _take(found, seen, manifests, rows, by)
        print_json(rows_as_json(server, rows, found.config, written=yes, pinned=pinned))
        return True
    print_table(server, rows, found.config)
    agreed = rows if yes or not _proposed(rows) else _asked(server, rows, found)
    if agreed is None:
        console().print("nothing was written; tools that nobody reviewed ask each time")
        return False
    pinned = _take(found, seen, manifests, agreed, by)
    _print_done(found, server, written=_proposed(rows), pinned=pinned)
    return True


def _proposed(rows: list[Row]) -> bool:
    return any(row.proposed for row in rows)


def _print_done(found: LoadedConfig, server: str, *, written: bool, pinned: bool) -> None:
    out = console()
    if written:
        out.print(f"\nwrote {user_manifest_path(found.folder, server)}")
        out.print("It counts from the next start of the guard: restart your host.")
    else:
        out.print("\nnothing is left to review")
    if not pinned:
        out.print(
            f"But {server} is not what was accepted before, and what changed is held back.\n"
            f"Look at it: mcp-guard pins diff {server}"
        )


def _check_names(found: LoadedConfig, server: str) -> None:
    if server not in found.servers:
        what = "is disabled" if server in found.config.servers else "is not in guard.yaml"
        raise UsageError(f"this server {what}", hint=f"it has: {', '.join(found.servers) or 'no server'}")
    if user_manifest_path(found.folder, server) in named_manifests(found.config, found.folder):
        raise UsageError(
            "guard.yaml names the file manifests/… of this server as a manifest of its own",
            hint="edit that file, or move it to another name",
        )


async def _reviewer(found: LoadedConfig, tty: bool) -> str:
    """Who decides here (decisions.md D25): a person at a terminal, a reviewer's token, or whoever sets up first.

    An agent may hold a shell, so without a terminal nobody in particular may loosen what agents can do, unless no
    agent was ever served from this data folder, and nothing was accepted or reviewed with another one.
    """
    from mcp_guard.cli.approvals import TOKEN_VARIABLE, open_review
    from mcp_guard.parts import prepare_data_dir

    prepare_data_dir(found.data_dir)
    token = os.environ.get(TOKEN_VARIABLE)
    async with open_review(found) as approvals:
        if tty or token:
            person = await approvals.identify(user=system.user_name(), tty=tty, token=token)
            if not tty:
                check_installation(found)
            return person.name
        untouched = not await approvals.list_requests(None) and not await approvals.reviewers.any()
    if untouched and not (found.data_dir / "audit").exists():
        check_installation(found)
        return _FIRST_SET_UP
    raise NotEligibleError(
        "trusting a server needs a terminal or a reviewer's token, once a guard has served from this data folder",
        hint="a person runs it in a terminal, or sets MCP_GUARD_REVIEWER_TOKEN to the token of a reviewer",
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a person is asked about."""

    server: ResolvedServer
    listing: Listing
    program: Program
    """Its files before it was started: it could change them while the person thinks."""


def _look(found: LoadedConfig, server: str) -> _Seen:
    from mcp_guard.downstream.program import observe
    from mcp_guard.parts import from_own_folder, prepare_data_dir, probe_listings, resolve_servers

    prepare_data_dir(found.data_dir)
    resolved = from_own_folder(resolve_servers(found), found)[server]
    program = observe(resolved) if resolved.pins == "program" else Program()

    async def probe() -> Listing:
        state, listing = (await probe_listings(found, server, timeout_s=_START_S, level="warning"))[server]
        if listing is None:
            raise DownstreamUnavailableError(
                f"{server} does not list its tools: {state.reason or 'it is still starting'}",
                hint="`mcp-guard check --connect` shows what it writes to stderr",
            )
        return listing

    return _Seen(resolved, anyio.run(probe), program)


def _asked(server: str, rows: list[Row], found: LoadedConfig) -> list[Row] | None:
    """The rows as the person wants them; None when they say no."""
    out = console()
    out.print("\nTo change single tools first: allow 3,5 or ask 7.")
    while True:
        try:
            answer = input("Write it so? [y/N] ").strip().lower()
        except EOFError:
            return None
        choice = _CHOICE.fullmatch(answer)
        if choice is None:
            return rows if answer in ("y", "yes") else None
        try:
            rows = decide(rows, cast("Literal['allow', 'ask']", choice[1]), map(int, re.findall(r"\d+", choice[2])))
        except UsageError as error:
            out.print(f"{error.message}; {error.hint}")
        else:
            out.print(summary_text(server, rows, found.config))


def _take(found: LoadedConfig, seen: _Seen, manifests: Manifests, rows: list[Row], by: str) -> bool:
    """Write what was agreed, and pin what was listed; False where something else than that is held back."""
    server = seen.server.name
    if _proposed(rows):
        today = datetime.fromtimestamp(SystemClock().now_ns() / 1e9, UTC).date().isoformat()
        new = merged(server, manifests.users.get(server), rows, Reviewed(by=by, on=today))
        write_user_manifest(user_manifest_path(found.folder, server), new)
    return anyio.run(_pin, found, seen, frozenset(row.tool for row in rows if row.proposed), by)


async def _pin(found: LoadedConfig, seen: _Seen, reviewed: frozenset[str], by: str) -> bool:
    from mcp_guard.parts import open_pins, resolve_servers

    pins = open_pins(found, resolve_servers(found), keys_of(found), _masker(found))
    pins.name_this_install()
    resolved, listing = pins.servers[seen.server.name], seen.listing
    if resolved.pins == "off":
        return True
    known = pins.knows(resolved.name)
    await pins.listed(resolved, listing, first=True, program=seen.program)
    objections = pins.objections(resolved.name, listing)
    tools = {name for kind, name in objections if kind == "tool"}
    # The person looked at the tools in the table as they are now, and at nothing else that may have changed.
    if len(tools) < len(objections) or not (tools <= reviewed if known else not tools):
        return False
    pins.accept(resolved, listing, by=by, program=seen.program)
    return True


def _masker(found: LoadedConfig) -> Masker:
    from mcp_guard.masking.masker import Masker

    return Masker(found.config.masking, keys_of(found).secret("vault"), secrets=found.secrets)
