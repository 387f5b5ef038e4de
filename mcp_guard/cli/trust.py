"""`mcp-guard trust`: what the tools of a server look like, and a person's word on them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast

import anyio
import typer

from mcp_guard import system
from mcp_guard.approval.prompt import visible
from mcp_guard.cli.exit import FINDING
from mcp_guard.cli.installation import check_installation
from mcp_guard.cli.options import ConfigOption, JsonOption, console, follow_up, keys_of, loaded, print_json
from mcp_guard.cli.trust_look import Seen, check_names, held_back, look, pins_for, without_held
from mcp_guard.cli.trust_table import Notes, print_notes, print_table, say, summary_text
from mcp_guard.cli.trust_table import as_json as rows_as_json
from mcp_guard.clock import SystemClock
from mcp_guard.config.load import LoadedConfig
from mcp_guard.downstream.definition import definition_digest
from mcp_guard.downstream.names import exposed_name
from mcp_guard.errors import GuardError, NotEligibleError, UsageError
from mcp_guard.manifest.find import Shelf
from mcp_guard.manifest.trust import Review, Row, decide, merged, plan
from mcp_guard.manifest.user import Reviewed, user_manifest_path, write_user_manifest
from mcp_guard.model import JsonDict
from mcp_guard.system import at_terminal

if TYPE_CHECKING:
    from mcp_guard.downstream.pins import Pins
    from mcp_guard.masking.masker import Masker

_NUMBER: Final = r"\d{1,4}(?:\s*-\s*\d{1,4})?"
_CHOICE: Final = re.compile(rf"(allow|ask)\s+({_NUMBER}(?:[\s,]+{_NUMBER})*)")
_SPAN: Final = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")
_HOW: Final = "y writes it, n writes nothing; `allow 3`, `ask 2,5` or `allow 3-5` changes single tools first."
_FIRST_SET_UP: Final = "first set-up"

YesOption = Annotated[bool, typer.Option("--yes", help="Take the cautious reading as it is, without a question.")]


def trust(
    server: Annotated[str | None, typer.Argument(metavar="SERVER", help="Its name in guard.yaml.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every server, one after the other.")] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Review the tools of a server once: what looks harmless runs, what changes things asks.

    Starts the server, reads its tools, and writes manifests/SERVER.yaml beside guard.yaml. What is quarantined is left
    out: `pins diff` shows it, `pins accept` releases it. Needs a terminal, or with --yes a reviewer's token in
    MCP_GUARD_REVIEWER_TOKEN; without both only before the guard served for the first time. With --json and without
    --yes it only says what it would write.
    """
    if (server is None) != every:
        raise UsageError("name one server, or pass --all", hint="for example: mcp-guard trust --all")
    found = loaded(config, resolve=True, about=server or "")
    done = (
        review_all(found, yes=yes, as_json=as_json)
        if server is None
        else review(found, server, yes=yes, as_json=as_json)
    )
    raise typer.Exit(0 if done else FINDING)


def review(found: LoadedConfig, server: str, *, yes: bool, as_json: bool = False) -> bool:
    """Review one server; False when the person said no.

    Raises:
        UsageError: there is no such server, or nobody can be asked.
        NotEligibleError: who runs this may not decide.
        DownstreamUnavailableError: the server does not list its tools.
        ConfigError: the manifest cannot be read or written.
    """
    check_names(found, server)
    session = _Session(found, yes=yes, as_json=as_json)
    seen = look(found, [server])[server]
    if isinstance(seen, GuardError):
        raise seen
    done = session.review(seen)
    if as_json:
        print_json(session.documents[0])
    return done


def review_all(found: LoadedConfig, *, yes: bool, as_json: bool = False, only: Sequence[str] | None = None) -> bool:
    """Review one server after the other, one question each; False when one of them was not reviewed.

    Args:
        found: The configuration.
        yes: Take the cautious reading of all.
        as_json: Print JSON.
        only: These; default: all that are not disabled.

    Raises:
        UsageError: nobody can be asked.
        NotEligibleError: who runs this may not decide.
        ConfigError: a manifest cannot be read.
    """
    session = _Session(found, yes=yes, as_json=as_json)
    servers = [name for name, server in found.config.servers.items() if not server.disabled] if only is None else only
    if not servers:
        say("no server is configured: nothing to review")
    all_done = True
    for name, seen in look(found, servers).items() if servers else ():
        try:
            check_names(found, name)
            if isinstance(seen, GuardError):
                raise seen
            all_done = session.review(seen, brief=True) and all_done
        except GuardError as error:
            all_done = False
            session.failed(name, error)
    if as_json:
        print_json([*session.documents])
    return all_done


def offer_reviews(found: LoadedConfig, servers: Sequence[str], *, yes: bool) -> bool:
    """Ask whether to review now, as `init` and `wrap` do at their end; False when one could not be reviewed."""
    if not servers:
        return True
    number = "this server" if len(servers) == 1 else f"these {len(servers)} servers"
    if not yes and not _wants(f"\nReview the tools of {number} now? Started for it: {', '.join(servers)}. [Y/n] "):
        console().print(f"later: {follow_up('trust --all', found.path)}")
        return True
    console().print()
    return review_all(found, yes=yes, only=servers)


def _wants(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("", "y", "yes")
    except EOFError:
        return False


@dataclass(frozen=True, slots=True)
class _Who:
    """Whose word it is."""

    name: str
    reviewers: bool
    """Whether somebody is registered who may decide critical calls."""


class _Session:
    """One person at the tables of one or more servers.

    Raises:
        UsageError: nobody can be asked.
        NotEligibleError: who runs this may not decide.
        ConfigError: a manifest cannot be read.
    """

    def __init__(self, found: LoadedConfig, *, yes: bool, as_json: bool) -> None:
        self._found, self._yes, self._as_json = found, yes, as_json
        self._only_show = as_json and not yes
        tty = at_terminal()
        if not (yes or self._only_show or tty):
            raise UsageError("there is no terminal to ask at", hint="a person runs this in a terminal")
        self._who = _Who("", reviewers=True) if self._only_show else anyio.run(_reviewer, found, tty)
        self._manifests = Shelf().bind(found.config, found.folder)
        self._masker = _masker(found)
        self.documents: list[JsonDict] = []
        """What `--json` prints."""

    def review(self, seen: Seen, *, brief: bool = False) -> bool:
        """Show one server, ask, write; False when the person said no.

        Args:
            seen: The server.
            brief: Whether there is no table where nothing is to be decided or looked at.
        """
        server, config = seen.server.name, self._found.config
        pins = pins_for(self._found, seen, self._masker)
        if not self._only_show and not seen.on and pins.knows(server):
            # What changed is held back from here on, whatever the answer is, so that `pins diff` can show it.
            anyio.run(partial(pins.listed, first=False, program=seen.program), pins.servers[server], seen.listing)
        held = held_back(pins, seen)
        exposed = partial(exposed_name, seen.server)
        told = Review(server, self._manifests, definition_digest, exposed, self._masker.text)
        rows = without_held(plan(told, seen.listing.tools), held)
        if self._as_json:
            pinned = self._yes and self._take(pins, seen, rows)
            self.documents.append(rows_as_json(server, rows, config, written=self._yes, pinned=pinned))
            return True
        if not brief or held or _proposed(rows):
            console().print()
            print_table(server, rows, config)
            print_notes(server, rows, config, self._notes(seen))
            if not _proposed(rows):
                console().print()
        agreed = rows if self._yes or not _proposed(rows) else _asked(server, rows, self._found)
        if agreed is None:
            say(f"{server}: nothing was written; tools that nobody reviewed ask each time")
            return False
        pinned = self._take(pins, seen, agreed)
        self._say_done(server, written=_proposed(rows), held=not pinned and not held)
        return True

    def failed(self, server: str, error: GuardError) -> None:
        """Say that a server was not reviewed."""
        if self._as_json:
            self.documents.append({"server": server, "error": error.code, "message": visible(error.message)})
            return
        say(f"{server}: {visible(error.message)}")
        say(visible(error.hint))
        console().print(f"later: {follow_up(f'trust {server}', self._found.path)}\n")

    def _notes(self, seen: Seen) -> Notes:
        server = seen.server.name
        reviewed = user_manifest_path(self._found.folder, server)
        return Notes(
            seen_on=seen.on,
            look_at=follow_up(f"pins diff {server}", self._found.path),
            accept=follow_up(f"pins accept {server}", self._found.path),
            reviewed_in=str(reviewed) if server in self._manifests.users else "",
            add_reviewer="" if self._who.reviewers else follow_up("reviewer add NAME", self._found.path),
        )

    def _say_done(self, server: str, *, written: bool, held: bool) -> None:
        if written:
            console().print(f"\nwrote {user_manifest_path(self._found.folder, server)}")
            say("It counts from the next start of the guard: restart your host.")
        else:
            say(f"{server}: nothing is left to review")
        if held:
            say(f"But something of {server} is held back. Look at it:")
            console().print(f"  {follow_up(f'pins diff {server}', self._found.path)}")

    def _take(self, pins: Pins, seen: Seen, rows: Sequence[Row]) -> bool:
        """Write what was agreed, and pin what was listed; False where something is held back."""
        server = seen.server.name
        if _proposed(rows):
            today = datetime.fromtimestamp(SystemClock().now_ns() / 1e9, UTC).date().isoformat()
            new = merged(server, self._manifests.users.get(server), rows, Reviewed(by=self._who.name, on=today))
            write_user_manifest(user_manifest_path(self._found.folder, server), new)
        return anyio.run(_pin, pins, seen, self._who.name)


def _proposed(rows: Sequence[Row]) -> bool:
    return any(row.proposed for row in rows)


async def _pin(pins: Pins, seen: Seen, by: str) -> bool:
    """Accept a server that is new, or exactly as it was accepted. What is held back only `pins accept` releases."""
    pins.name_this_install()
    pins.reload()
    resolved, listing = pins.servers[seen.server.name], seen.listing
    if resolved.pins == "off":
        return True
    if not pins.knows(resolved.name):
        await pins.listed(resolved, listing, first=False, program=seen.program)
    if pins.objections(resolved.name, listing):
        return False
    if not seen.on:
        pins.accept(resolved, listing, by=by, program=seen.program)
    return True


async def _reviewer(found: LoadedConfig, tty: bool) -> _Who:
    """Who decides here (decisions.md D25): a person at a terminal, a reviewer's token, or whoever sets up first.

    An agent may hold a shell, so without a terminal nobody in particular may loosen what agents can do, unless no
    agent was ever served from this data folder, and nothing was accepted or reviewed with another one.
    """
    from mcp_guard.cli.approvals import TOKEN_VARIABLE, open_review
    from mcp_guard.parts import prepare_data_dir

    prepare_data_dir(found.data_dir)
    token = os.environ.get(TOKEN_VARIABLE)
    async with open_review(found) as approvals:
        reviewers = await approvals.reviewers.any()
        if tty or token:
            person = await approvals.identify(user=system.user_name(), tty=tty, token=token)
            if not tty:
                check_installation(found)
            return _Who(person.name, reviewers)
        untouched = not await approvals.list_requests(None) and not reviewers
    if untouched and not (found.data_dir / "audit").exists():
        check_installation(found)
        return _Who(_FIRST_SET_UP, reviewers)
    raise NotEligibleError(
        "trusting a server needs a terminal or a reviewer's token, once a guard has served from this data folder",
        hint="a person runs it in a terminal, or sets MCP_GUARD_REVIEWER_TOKEN to the token of a reviewer",
    )


def _asked(server: str, rows: Sequence[Row], found: LoadedConfig) -> Sequence[Row] | None:
    """The rows as the person wants them; None when they say no."""
    say(f"\n{_HOW}")
    while True:
        try:
            answer = input("Write it so? [y/N] ").strip().lower()
        except EOFError:
            return None
        if answer in ("y", "yes"):
            return rows
        if answer in ("", "n", "no"):
            return None
        choice = _CHOICE.fullmatch(answer)
        if choice is None:
            say(f"That is not understood, and nothing is lost: {_HOW}")
            continue
        try:
            rows = decide(rows, cast("Literal['allow', 'ask']", choice[1]), _numbers(choice[2]))
        except UsageError as error:
            say(f"{error.message}; {error.hint}")
        else:
            console().print(summary_text(server, rows, found.config))


def _numbers(text: str) -> Iterator[int]:
    """`2,5 7-9` as numbers."""
    for first, last in _SPAN.findall(text):
        ends = sorted((int(first), int(last or first)))
        yield from range(ends[0], ends[1] + 1)


def _masker(found: LoadedConfig) -> Masker:
    from mcp_guard.masking.masker import Masker

    return Masker(found.config.masking, keys_of(found).secret("vault"), secrets=found.secrets)
