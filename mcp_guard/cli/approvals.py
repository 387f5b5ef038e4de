"""`mcp-guard approvals …` and `mcp-guard reviewer …`: the control plane at a terminal."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import anyio
import typer
from pydantic import JsonValue

from mcp_guard import system
from mcp_guard.approval.eligibility import Reviewer
from mcp_guard.approval.grants import Grant
from mcp_guard.approval.machine import State
from mcp_guard.approval.prompt import visible
from mcp_guard.approval.review import ApprovalReview, Shown
from mcp_guard.approval.rows import Request
from mcp_guard.approval.statement import Statement
from mcp_guard.approval.store import DOMAIN, ApprovalStore
from mcp_guard.canon import fingerprint
from mcp_guard.cli.approvals_text import actor, card_of, listed, needs_fingerprint, way
from mcp_guard.cli.confirming import confirmed
from mcp_guard.cli.options import ConfigOption, JsonOption, console, keys_of, loaded, print_json
from mcp_guard.clock import RandomIds, SystemClock, iso
from mcp_guard.config.load import LoadedConfig
from mcp_guard.errors import NotEligibleError
from mcp_guard.masking.masker import Masker
from mcp_guard.model import Assurance, JsonDict, Principal
from mcp_guard.storage.sqlite import Database
from mcp_guard.system import at_terminal

app = typer.Typer(no_args_is_help=True, help="List, show and decide suspended calls.")
reviewers = typer.Typer(no_args_is_help=True, help="People who may decide outside a terminal.")

TOKEN_VARIABLE = "MCP_GUARD_REVIEWER_TOKEN"  # noqa: S105 - the name of a variable

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The approval request: apr_…")]
FullOption = Annotated[bool, typer.Option("--full", help="Show long arguments whole.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Recorded, and shown to the agent.")]

_T = TypeVar("_T")


class Outcome(StrEnum):
    """What a person may find out about a call with unknown outcome."""

    completed = "completed"
    failed = "failed"


@app.command()
def ls(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    everything: Annotated[bool, typer.Option("--all", help="Closed requests as well.")] = False,
) -> None:
    """List the requests that wait for a decision."""
    states = None if everything else (State.PENDING,)

    async def read(review: ApprovalReview, _: Principal) -> list[tuple[Request, Statement | None]]:
        found = await review.list_requests(states)
        return [(request, await review.decision_of(request) if everything else None) for request in found]

    found = _run(config, read)
    if as_json:
        print_json(
            [{**_as_json(request), "decided_how": None if said is None else way(said)} for request, said in found]
        )
        return
    if not found:
        console().print("no requests" if everything else "no request waits")
    for request, said in found:
        lines = listed(request, said, SystemClock().now_ns(), console().width)
        console().print("\n".join(lines) + ("" if request is found[-1][0] else "\n"))


@app.command()
def show(
    approval_id: IdArgument, config: ConfigOption = None, as_json: JsonOption = False, full: FullOption = False
) -> None:
    """Show one request: who asks for what, why it was suspended, and its history."""
    found = _run(config, lambda review, _: review.show(approval_id))
    if as_json:
        by_fingerprint = bool(needs_fingerprint(found.request, card_of(found, SystemClock().now_ns())))
        events: list[JsonValue] = [_event(event) for event in found.events]
        print_json({**_as_json(found.request), "needs_fingerprint": by_fingerprint, "events": events})
    else:
        _print_card(found, full=full)


@app.command()
def approve(
    approval_id: IdArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    reason: ReasonOption = "",
    grant: Annotated[
        int | None, typer.Option("--grant", metavar="N", min=1, help="Also give grant N of those that `show` lists.")
    ] = None,
    mark: Annotated[
        str, typer.Option("--fingerprint", metavar="XXXX-XXXX", help="As `show` prints it: asks nothing more.")
    ] = "",
    full: FullOption = False,
) -> None:
    """Approve a request, after a look at it. Needs a terminal, or a reviewer's token in MCP_GUARD_REVIEWER_TOKEN.

    Asks first. Calls of high risk, and what is not shown whole or hides characters, are approved by the fingerprint.
    """
    found, index = loaded(config), None if grant is None else grant - 1
    seen, reviewer = _opened(found, lambda review, person: _looked_at(review, person, approval_id, index))
    if seen.request.row.state is State.PENDING:
        asks = at_terminal() and not as_json
        reviewer = replace(reviewer, how=confirmed(seen, mark, asks=asks, full=full, grant=grant))
    digest = seen.request.row.action_digest

    async def decide(review: ApprovalReview, _: Principal) -> Request:
        return await review.decide(approval_id, "approve", reviewer, reason, shown=digest, grant=index)

    _print_step(_opened(found, decide), as_json=as_json)
    if grant is not None and not as_json:
        console().print("a grant was given with it; list and end grants: mcp-guard approvals grants, … revoke GRANT_ID")


@app.command()
def deny(
    approval_id: IdArgument, config: ConfigOption = None, as_json: JsonOption = False, reason: ReasonOption = ""
) -> None:
    """Deny a request. Needs a terminal, or a reviewer's token in MCP_GUARD_REVIEWER_TOKEN."""

    async def decide(review: ApprovalReview, person: Principal) -> Request:
        return await review.decide(approval_id, "deny", await _identified(review, person), reason)

    _print_step(_run(config, decide), as_json=as_json)


@app.command()
def cancel(
    approval_id: IdArgument, config: ConfigOption = None, as_json: JsonOption = False, reason: ReasonOption = ""
) -> None:
    """Withdraw a request that has not run. For the requester in a terminal, or a reviewer with a token."""

    async def work(review: ApprovalReview, person: Principal) -> Request:
        return await review.cancel(approval_id, await _identified(review, person), reason)

    _print_step(_run(config, work), as_json=as_json)


@app.command()
def reconcile(
    approval_id: IdArgument,
    outcome: Annotated[Outcome, typer.Argument(help="What became of it, as you found out at the server.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="How you know; recorded.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record what became of a call with unknown outcome. Needs a reviewer's token. Changes nothing at the server."""

    async def work(review: ApprovalReview, person: Principal) -> Request:
        return await review.reconcile(approval_id, outcome.value, await _identified(review, person), reason)

    _print_step(_run(config, work), as_json=as_json)


@app.command()
def grants(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    everything: Annotated[bool, typer.Option("--all", help="Grants that are over as well.")] = False,
) -> None:
    """List the standing grants that let calls through."""
    found = _run(config, lambda review, _: review.list_grants(active_only=not everything))
    if as_json:
        print_json([_grant_json(grant) for grant in found])
        return
    if not found:
        console().print("no grants" if everything else "no grant is active")
    for grant in found:
        _print_grant(grant)


@app.command()
def revoke(
    grant_id: Annotated[str, typer.Argument(metavar="GRANT_ID", help="The grant: grt_…")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a standing grant at once. It only tightens, so it needs neither a terminal nor a token."""

    async def work(review: ApprovalReview, person: Principal) -> Grant:
        try:
            reviewer = await _identified(review, person)
        except NotEligibleError:
            # It may be anybody, also a program: the record says so.
            reviewer = Reviewer(person.subject, Assurance.A0, "cli", person.key)
        return await review.revoke_grant(grant_id, reviewer)

    grant = _run(config, work)
    if as_json:
        print_json(_grant_json(grant))
    else:
        console().print(f"{visible(grant.id)} {grant.state}; it was used {_times(grant.uses)}")


@reviewers.command("add")
def add_reviewer(
    name: Annotated[str, typer.Argument(metavar="NAME")], config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Register a reviewer and print the token, once. Keep it from agents: it approves.

    Needs a terminal, or another reviewer's token in MCP_GUARD_REVIEWER_TOKEN; the first one may be added without,
    before anything was asked.
    """
    token = _run(
        config,
        lambda review, person: review.add_reviewer(
            name, user=person.subject, tty=at_terminal(), token=os.environ.get(TOKEN_VARIABLE)
        ),
    )
    if as_json:
        print_json({"name": name, "token": token})
        return
    console().print(f"{token}\n")
    console().print(f"This token is shown once. {name} decides with it: {TOKEN_VARIABLE}=… mcp-guard approvals ls")


@reviewers.command("ls")
def list_reviewers(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the registered reviewers."""
    found = _run(config, lambda review, _: review.reviewers.list())
    if as_json:
        print_json([{"name": reviewer.name, "created_at": iso(reviewer.created_ns)} for reviewer in found])
        return
    for reviewer in found:
        console().print(f"{visible(reviewer.name)}  since {iso(reviewer.created_ns)}")


async def _looked_at(
    review: ApprovalReview, person: Principal, approval_id: str, grant: int | None
) -> tuple[Shown, Reviewer]:
    """The request and who is about to approve it; raises what would stand in the way, before anything is asked."""
    reviewer = await _identified(review, person)
    found = await review.show(approval_id)
    if found.request.row.state is State.PENDING:
        review.require_eligible(found.request, reviewer)
        if grant is not None:
            await review.grants.choose(approval_id, grant)
    return found, reviewer


async def _identified(review: ApprovalReview, person: Principal) -> Reviewer:
    token = os.environ.get(TOKEN_VARIABLE)
    return await review.identify(user=person.subject, tty=at_terminal(), token=token, principal_key=person.key)


def _print_step(found: Request, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(found))
    else:
        console().print(f"{found.row.id} {found.row.state} by {visible(found.row.decided_by or '')}")


def _run(config: Path | None, work: Callable[[ApprovalReview, Principal], Awaitable[_T]]) -> _T:
    return _opened(loaded(config), work)


def _opened(found: LoadedConfig, work: Callable[[ApprovalReview, Principal], Awaitable[_T]]) -> _T:
    async def main() -> _T:
        async with open_review(found) as review:
            return await work(review, Principal("os", system.user_name(), os.environ.get("MCP_GUARD_PRINCIPAL", "")))

    return anyio.run(main)


@asynccontextmanager
async def open_review(config: LoadedConfig) -> AsyncIterator[ApprovalReview]:
    """The control plane of one data folder, without a guard process."""
    keys = keys_of(config)
    masker = Masker(config.config.masking, keys.secret("vault"), secrets=config.secrets)
    database = await Database.open(config.data_dir / "approvals.db", DOMAIN)
    try:
        store = ApprovalStore(database, SystemClock())
        yield ApprovalReview(store, keys, RandomIds(), mask=masker.text)
    finally:
        await database.close()


def _as_json(request: Request) -> JsonDict:
    row = request.row
    return {
        "id": row.id,
        "state": row.state.value,
        "server": request.server,
        "tool": request.tool,
        "risk": request.risk.value,
        "rule": request.rule,
        "needs": request.min_assurance.name,
        "fingerprint": fingerprint(row.action_digest),
        "created_at": iso(request.created_ns),
        "expires_at": iso(row.expires_ns),
        "ended_at": None if row.ended_ns is None else iso(row.ended_ns),
        "decided_by": row.decided_by,
        "reason": row.reason,
        "call_id": request.call_id,
        "calls": request.calls,
        "view": request.view,
    }


def _grant_json(grant: Grant) -> JsonDict:
    return {
        "id": grant.id,
        "state": grant.state,
        "label": grant.label,
        "keep": list(grant.keep),
        "server": grant.server,
        "tool": grant.tool,
        "owner": grant.owner,
        "by": grant.by,
        "created_at": iso(grant.created_ns),
        "expires_at": iso(grant.expires_ns),
        "revoked_at": None if grant.revoked_ns is None else iso(grant.revoked_ns),
        "uses": grant.uses,
        "max_uses": grant.max_uses,
    }


def _print_grant(grant: Grant) -> None:
    used = f"used {grant.uses} of {grant.max_uses}"
    parts = (grant.id, grant.state, f"{grant.server}/{grant.tool}", used, f"until {iso(grant.expires_ns)}")
    console().print("  ".join(visible(part) for part in parts))
    who = f"given by {grant.by} for {actor(grant.owner)}"
    for line in (who, *grant.keep):
        console().print(f"    {visible(line)}")


def _times(number: int) -> str:
    return {0: "never", 1: "once"}.get(number, f"{number} times")


def _event(event: object) -> JsonValue:
    return {name: getattr(event, name) for name in ("at_ns", "transition", "old", "new", "actor")}


def _print_card(found: Shown, *, full: bool) -> None:
    out = console()
    out.print(card_of(found, SystemClock().now_ns(), full=full).text(out.width if out.is_terminal else None))
