"""The five scenes. Each does something for real, then says what happened and checks that it is so."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from mcp_guard.approval.review import Verdict
from mcp_guard.demo.agent import Agent, Answer
from mcp_guard.demo.card import card
from mcp_guard.demo.claims import INDENT, WIDTH, Claims, cut, say, three_columns
from mcp_guard.demo.seed import CUSTOMERS
from mcp_guard.demo.tamper import flip_one_byte
from mcp_guard.demo.workspace import Workspace

Decide = Callable[[str], Awaitable[Verdict | None]]
"""Decide an approval request by its id, as a person or as a second process; None when that failed."""

MAYA = dict(
    zip(("id", "name", "email", "phone", "card", "iban", "ssn", "plan", "segment", "token"), CUSTOMERS[0], strict=True)
)
PRIVATE = [MAYA[name] for name in ("email", "phone", "card", "iban", "ssn", "token")]
_SHOWN = (("email", "email"), ("card", "card"), ("iban", "iban"), ("ssn", "ssn"), ("api_token", "token"))
_PLACEHOLDER = re.compile(r"\[([A-Z][A-Z0-9_]*)_[a-z2-7]{10}\]")
DELETE = "delete_production_db"
EXPORT = "export_customer_data"
_PACE_S = 2.5


@dataclass(frozen=True, slots=True)
class Stage:
    """What all scenes use."""

    console: Console
    claims: Claims
    work: Workspace
    decide: Decide
    auto: bool

    async def scene(self, number: int, title: str) -> None:
        """Print a heading, and leave a reader time before it."""
        if not self.auto and number > 1:
            await anyio.sleep(_PACE_S)
        self.console.print()
        self.console.print(Rule(Text(f" {number}  {title} ", style="bold"), align="left", style="dim"), width=WIDTH)

    def say(self, text: str) -> None:
        """Print plain text under the heading."""
        say(self.console, text)


async def masking(stage: Stage, agent: Agent) -> None:
    """A read and a reply: the agent works with placeholders, the server with the real values."""
    await stage.scene(1, "The agent works with placeholders")
    seen = await agent.call("get_customer", customer_id="C-1001")
    address = str(seen.structured.get("email", ""))
    sent = await agent.call("send_reply", to=address, subject="Your order", body="It is on its way.")
    got = next((e.arguments for e in stage.work.received(effects=True) if e.tool == "send_reply"), {})
    rows = [("get_customer", "allowed", "customer_id: C-1001")]
    rows += [(f"  {_short(seen, key)}", _did(seen, key), f"  {key}: {MAYA[name]}") for key, name in _SHOWN]
    rows += [
        ("", "", ""),
        ("send_reply", "allowed", ""),
        (f"  to: {address}", "put back", f"  to: {got.get('to', '')}"),
    ]
    three_columns(stage.console, rows)
    stage.console.print()
    leaked = [value for value in PRIVATE if value in seen.everything or value in sent.everything]
    claims = stage.claims
    claims.claim("The agent got no e-mail, phone, card, bank account, SSN or token", not leaked and not seen.error)
    claims.claim(
        "Text and structured content are both masked", bool(_PLACEHOLDER.search(address)) and address in seen.text
    )
    claims.claim("The server sent the mail to the real address", not sent.error and got.get("to") == MAYA["email"])


def _short(answer: Answer, key: str) -> str:
    return str(answer.structured.get(key, "")) or "(nothing)"


def _did(answer: Answer, key: str) -> str:
    found = _PLACEHOLDER.search(str(answer.structured.get(key, "")))
    return f"masked {found[1]}" if found else "left as it is"


async def deletion(stage: Stage, agent: Agent) -> None:
    """A call that waits for a person, while others go on and the agent tries to approve itself."""
    await stage.scene(2, "A dangerous call waits for a person")
    stage.say(f'The agent calls {DELETE} with name "crm-production".')
    first = await agent.call(DELETE, name="crm-production")
    ticket = str((first.ticket or {}).get("ticket", ""))
    claims = stage.claims
    claims.claim("It did not run; the agent holds a ticket", bool(ticket) and stage.work.count(DELETE) == 0)
    if not ticket:
        return
    outcome: list[Answer] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_collect, agent, ticket, outcome)
        await _others(stage, agent, ticket)
        await _self_approval(stage, agent, ticket)
        stage.console.print()
        stage.console.print(Padding(card(await stage.work.request(ticket), agent="demo-agent"), (0, 0, 0, INDENT)))
        verdict = await stage.decide(ticket)
        if verdict is None:
            tasks.cancel_scope.cancel()
    _settled(stage, verdict, outcome[0] if outcome else None)


async def _collect(agent: Agent, ticket: str, outcome: list[Answer]) -> None:
    outcome.append(await agent.wait_for(ticket))


async def _others(stage: Stage, agent: Agent, ticket: str) -> None:
    times: list[str] = []
    good = True
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("search_customers", {"query": "business"}),
        ("list_orders", {"customer_id": "C-1001"}),
        ("get_customer", {"customer_id": "C-1002"}),
    )
    for tool, arguments in calls:
        start = time.perf_counter()
        answer = await agent.call(tool, **arguments)
        times.append(f"{tool} {(time.perf_counter() - start) * 1000:.0f} ms")
        good = good and not answer.error
    stage.claims.claim("Meanwhile three other calls are answered:", good and await stage.work.is_pending(ticket))
    stage.say("  " + ", ".join(times))


async def _self_approval(stage: Stage, agent: Agent, ticket: str) -> None:
    asked = await agent.call("guard_approval_approve", ticket=ticket)
    shell = await stage.work.guard("approvals", "approve", ticket)
    no_tool = not any("approve" in name for name in await agent.tool_names())
    claims = stage.claims
    claims.claim("The agent has no tool that approves", no_tool and asked.error)
    claims.claim("The agent's own `mcp-guard approvals approve` is refused", shell.code != 0)
    claims.claim("The request still waits", await stage.work.is_pending(ticket))


def _settled(stage: Stage, verdict: Verdict | None, answer: Answer | None) -> None:
    effects = stage.work.count(DELETE)
    claims = stage.claims
    if verdict is None or answer is None:
        claims.claim("The decision was taken", ok=False)
    elif verdict == "approve":
        claims.claim(f"Approved: it ran at once. Effects at the server: {effects}", effects == 1)
        claims.claim("The agent got the outcome by its ticket", not answer.error and "crm-production" in answer.text)
    else:
        claims.claim(f"Denied: it never ran. Effects at the server: {effects}", effects == 0)
        claims.claim(
            "The agent was told so, and not to try again", answer.error and "approval_denied" in answer.everything
        )


async def export_then_kill(stage: Stage, agent: Agent) -> str:
    """An export waits for approval when the guard is killed. Returns the ticket."""
    await stage.scene(3, "The guard is killed while a call waits")
    waiting = await agent.call(EXPORT, segment="eu", destination="share://partners/eu")
    ticket = str((waiting.ticket or {}).get("ticket", ""))
    stage.claims.claim(f"{EXPORT} waits for approval", bool(ticket) and stage.work.count(EXPORT) == 0)
    await agent.kill_guard()
    stage.say("kill -9 of the guard, then a new guard on the same folder.")
    return ticket


async def after_restart(stage: Stage, agent: Agent, ticket: str) -> None:
    """The request outlived the process; it runs once, when approved."""
    claims = stage.claims
    await agent.call("list_orders", customer_id="C-1003")
    pending = await stage.work.is_pending(ticket)
    claims.claim("The request still waits, and nothing ran by itself", pending and stage.work.count(EXPORT) == 0)
    approved = await stage.work.approve(ticket)
    answer = await agent.wait_for(ticket)
    done = approved.code == 0 and not answer.error
    effects = stage.work.count(EXPORT)
    claims.claim(f"A reviewer with a token approves; effects at the server: +{effects}", done and effects == 1)
    runs = [effect.execution_id for effect in stage.work.received(effects=True)]
    claims.claim(
        "Every effect at the server has its own execution id", None not in runs and len(set(runs)) == len(runs)
    )


async def audit(stage: Stage) -> None:
    """The log proves itself, and a copy with one changed byte does not."""
    await stage.scene(4, "The record cannot be changed unnoticed")
    intact = await stage.work.guard("audit", "verify")
    _quote(stage, "mcp-guard audit verify", intact.out)
    claims = stage.claims
    claims.claim("The log verifies", intact.code == 0)
    secrets = stage.work.holding(PRIVATE)
    claims.claim("No personal value stands in the clear in any file of the guard", not secrets)
    copy = stage.work.copy()
    damage = flip_one_byte(copy.data_dir / "audit", "call.result")
    if damage is None:
        claims.claim("One byte of a copy is changed", ok=False)
        return
    stage.say(f"In a copy of the log, one byte of record {damage.index} changes:")
    stage.say(f"  {damage.before} -> {damage.after}")
    broken = await copy.guard("audit", "verify")
    _quote(stage, "mcp-guard audit verify", broken.out)
    named = "TAMPERED" in broken.out and re.search(rf"\b{damage.index}\b", broken.out) is not None
    claims.claim(f"TAMPERED, at record {damage.index}", broken.code == 1 and named)


def _quote(stage: Stage, command: str, output: str) -> None:
    stage.say(f"$ {command}")
    for line in output.strip().splitlines()[:3]:
        stage.say(f"  {cut(line, WIDTH - 6)}")


async def ending(stage: Stage) -> None:
    """The count of claims, the configuration that did it, and where to go from here."""
    await stage.scene(5, stage.claims.summary)
    stage.say("The configuration that did all this:")
    stage.console.print()
    for line in stage.work.config.read_text(encoding="utf-8").splitlines():
        stage.console.print(Text(" " * (INDENT + 2) + cut(line, WIDTH - INDENT - 3), style="cyan"))
    stage.console.print()
    stage.say("Next, for your own servers:")
    stage.say("  mcp-guard wrap --dry-run      what would change in the files of your hosts")
    stage.say("  mcp-guard wrap                puts the guard before them; unwrap restores")
    stage.say("  mcp-guard doctor              what is still wrong, and what mends it")
