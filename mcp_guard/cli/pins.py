"""`mcp-guard pins …`: what each server was accepted as, what changed since, and accepting it."""

from __future__ import annotations

import os
from typing import Annotated

import anyio
import typer
from pydantic import JsonValue

from mcp_guard import system
from mcp_guard.cli.approvals import TOKEN_VARIABLE, open_review
from mcp_guard.cli.exit import FINDING
from mcp_guard.cli.installation import check_installation
from mcp_guard.cli.options import ConfigOption, JsonOption, console, follow_up, keys_of, loaded, print_json
from mcp_guard.cli.pindiff import Masks, as_json, print_changes, print_row
from mcp_guard.config.load import LoadedConfig
from mcp_guard.downstream import report
from mcp_guard.downstream.copies import Copies, CopyStore
from mcp_guard.downstream.lockfile import Lock, LockFile, ServerPin
from mcp_guard.downstream.release import release
from mcp_guard.errors import ConflictError, UsageError
from mcp_guard.masking.masker import Masker
from mcp_guard.system import at_terminal

app = typer.Typer(no_args_is_help=True, help="Show and accept what guard.lock holds servers to.")

ServerArgument = Annotated[str, typer.Argument(metavar="SERVER")]

_WHAT_IT_MEANS = (
    "Quarantined tools are hidden from the agent, and calls of them are refused. That stays so until you accept.\n"
    "Accept only what you expected, such as an update that you made."
)


class _Desk:
    """The files of one configuration, and how to show what is in them."""

    def __init__(self, found: LoadedConfig) -> None:
        from mcp_guard.parts import lock_and_copies  # loads the SDK

        keys = keys_of(found)
        self.config, self.path = found.config, found.path
        self.file: LockFile
        self.copies: CopyStore
        self.file, self.copies = lock_and_copies(found, keys)
        masker = Masker(found.config.masking, keys.secret("vault"), secrets=found.secrets)
        self.masks = Masks(masker.text)
        self.lock = self.file.read() or self.file.fresh()

    def say(self, words: str) -> str:
        """A command that a person may run next."""
        return follow_up(f"pins {words}", self.path)

    def held(self, only: str | None = None) -> dict[str, tuple[ServerPin, Copies]]:
        """Servers with something in quarantine."""
        if only is not None and only not in self.config.servers:
            raise UsageError(f"no server named {only}", hint=f"it is one of: {', '.join(self.config.servers)}")
        return {
            name: (pin, self.copies.load(name))
            for name in self.config.servers
            if (only in (None, name) and (pin := self.lock.servers.get(name)) is not None)
            and not pin.quarantine.empty
            and self.config.servers[name].pins != "off"
        }


@app.command()
def ls(config: ConfigOption = None, json_output: JsonOption = False) -> None:
    """List the servers and what is quarantined. Exit 1 when something is."""
    desk = _Desk(loaded(config))
    rows = {name: desk.lock.servers.get(name) for name in desk.config.servers}
    if json_output:
        print_json([_row(name, desk, pin) for name, pin in rows.items()])
    else:
        width = max((len(name) for name in rows), default=0)
        for name, pin in rows.items():
            print_row(name.ljust(width), desk.config.servers[name].pins, pin, desk.masks)
        if desk.held():
            console().print(f"\nsee what changed: {desk.say('diff')}")
    raise typer.Exit(FINDING if desk.held() else 0)


@app.command()
def diff(
    server: Annotated[str | None, typer.Argument(metavar="[SERVER]")] = None,
    config: ConfigOption = None,
    json_output: JsonOption = False,
    everything: Annotated[bool, typer.Option("--all", help="Show every line, however many.")] = False,
) -> None:
    """Show what changed since a server was accepted. Starts nothing. Exit 1 when something is quarantined."""
    desk = _Desk(loaded(config))
    held = desk.held(server)
    if json_output:
        print_json([as_json(name, pin, copies, desk.masks) for name, (pin, copies) in held.items()])
    elif not held:
        console().print("nothing is quarantined")
    else:
        shown = [print_changes(name, pin, copies, desk.masks, whole=everything) for name, (pin, copies) in held.items()]
        if sum(shown):
            console().print(f"{report.count(sum(shown), 'line')} left out: --all shows them, --json has them too.\n")
        console().print(_WHAT_IT_MEANS)
        for name in held:
            console().print(f"  {desk.say(f'accept {name}')}")
    raise typer.Exit(FINDING if held else 0)


@app.command()
def accept(
    server: ServerArgument,
    tools: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOOL…]", help="These alone, by their own names, or as `pins diff` writes others."),
    ] = None,
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask once more.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Accept a server, or some of its tools, as it is now. Needs a terminal, or a reviewer's token.

    Shows every line of what it accepts first; with --json, the changes are part of what it prints.
    """
    found = loaded(config)
    by = anyio.run(_identified, found)
    desk = _Desk(found)
    pin, copies = _chosen(desk, server, tools or [])
    if not json_output:
        # All of it: nobody can accept what was left out.
        print_changes(server, pin, copies, desk.masks, only=tools, whole=True)
    if not (yes or json_output or os.environ.get(TOKEN_VARIABLE)) and not typer.confirm(f"Accept this for {server}?"):
        raise typer.Exit(FINDING)
    names = desk.config.servers[server].names
    made, kept = release(pin, copies, tools or [], names=names, by=by, mask=desk.masks.mask)
    _write(desk, server, pin, made)
    desk.copies.save(server, kept)
    if json_output:
        taken = as_json(server, pin, copies, desk.masks, only=tools)["changes"]
        print_json({**_row(server, desk, made), "changes": taken})
    else:
        left = "" if made.quarantine.empty else "; the rest stays quarantined"
        console().print(f"accepted by {by}{left}. A running guard takes it up by itself.")


def _write(desk: _Desk, server: str, shown: ServerPin, made: ServerPin) -> None:
    def step(lock: Lock) -> Lock:
        if lock.servers.get(server) != shown:
            raise ConflictError(f"{server} changed again meanwhile", hint=f"look again: {desk.say(f'diff {server}')}")
        return lock.with_server(server, made).with_install(desk.file.install)

    try:
        desk.file.change(step, missing=desk.lock)
    except OSError as error:
        raise report.not_written(desk.file.path, error) from error


def _chosen(desk: _Desk, server: str, tools: list[str]) -> tuple[ServerPin, Copies]:
    held = desk.held(server).get(server)
    pin = desk.lock.servers.get(server)
    if held is None and pin is not None and pin.names not in (None, desk.config.servers[server].names) and not tools:
        return pin, desk.copies.load(server)  # only the way of naming changed
    if held is None:
        raise ConflictError(f"nothing of {server} is quarantined", hint=f"`{desk.say('ls')}` shows every server")
    quarantine = held[0].quarantine
    unknown = [name for name in tools if name not in quarantine.tools and name not in quarantine.others]
    if unknown:
        raise UsageError(
            f"not quarantined: {', '.join(report.plain(name) for name in unknown)}",
            hint=f"`{desk.say(f'diff {server}')}` names the tools",
        )
    return held


def _row(name: str, desk: _Desk, pin: ServerPin | None) -> dict[str, JsonValue]:
    row: dict[str, JsonValue] = {"server": name, "pins": desk.config.servers[name].pins, "accepted": pin is not None}
    if pin is not None:
        held = pin.quarantine
        row |= {
            "accepted_by": pin.accepted_by,
            "names": pin.names,
            "tools": len(pin.tools),
            "quarantined": {
                "server": list[JsonValue](held.server),
                "instructions": held.instructions,
                "tools": {desk.masks.line(tool): list[JsonValue](why) for tool, why in held.tools.items()},
                "others": {desk.masks.line(key): list[JsonValue](why) for key, why in held.others.items()},
            },
        }
    return row


async def _identified(found: LoadedConfig) -> str:
    """Who accepts. Agents hold shells, so without a terminal only a reviewer's token counts (decisions.md D25)."""
    tty = at_terminal()
    async with open_review(found) as review:
        token = os.environ.get(TOKEN_VARIABLE)
        person = await review.identify(user=system.user_name(), tty=tty, token=token)
    if not tty:
        check_installation(found)
    return person.name
