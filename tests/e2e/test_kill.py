"""Guards that are killed, stopped or left alone at every stage of a call, over real processes."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from mcp_guard.approval.machine import State
from mcp_guard.errors import ConflictError
from tests.e2e.harness import Guard, RawGuard, basic, reviewing, text_of, until

SECRET_FREE = {"id": 7}


def guarded(folder: Path, **approvals: Any) -> Guard:
    return basic(folder, approvals={"hold_s": 0.2, **approvals})


async def pending(guard: Guard) -> str:
    """Id of the one request that waits."""
    async with reviewing(guard) as review:
        (request,) = await until(review.list_requests)
    return request.row.id


async def decide(guard: Guard, approval_id: str, verdict: Literal["approve", "deny"]) -> None:
    async with reviewing(guard) as review:
        token = await review.reviewers.add(f"rita-{approval_id[-6:]}", by="test")
        await review.decide(approval_id, verdict, await review.identify(user="", tty=False, token=token))


async def approve(guard: Guard, approval_id: str) -> None:
    await decide(guard, approval_id, "approve")


async def state_of(guard: Guard, approval_id: str) -> str:
    return await reaches(guard, approval_id, *State)


async def reaches(guard: Guard, approval_id: str, *states: str) -> str:
    """Wait until the request is in one of these states; returns it."""
    async with reviewing(guard) as review:

        async def there() -> str:
            found = (await review.show(approval_id)).request.row.state.value
            return found if found in states else ""

        return await until(there)


async def ticket_for(raw: RawGuard, arguments: dict[str, Any] | None = None) -> str:
    """Make the call that asks; returns the ticket."""
    reply = await raw.call("leaky_delete_thing", arguments or SECRET_FREE)
    return str(reply["result"]["_meta"]["io.mcp-guard/approval"]["ticket"])


def call_frame(tool: str, arguments: dict[str, Any], request_id: int = 900) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


def update(guard: Guard, statement: str, *values: object) -> None:
    """What somebody with a hand on the file does."""
    with closing(sqlite3.connect(guard.data / "approvals.db", timeout=10)) as db, db:
        db.execute(statement, values)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie has ended: only its parent has not looked yet.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def children(pid: int) -> list[int]:
    """All processes below this one."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, listed) for found in (child, *children(child))]


async def test_a_pending_call_survives_kill_and_executes_exactly_once_when_approved(tmp_path: Path) -> None:
    """F9: killed while the call is held; decided by another process with the command line."""
    guard = guarded(tmp_path, hold_s=60)
    async with RawGuard(guard) as raw:
        await raw.send(call_frame("leaky_delete_thing", SECRET_FREE))
        ticket = await pending(guard)
        await raw.kill()
    token = guard.reviewer()
    async with RawGuard(guard) as raw:
        assert await state_of(guard, ticket) == "pending"
        decided = guard.approve(ticket, token=token)
        assert decided.returncode == 0, decided.stderr
        reply = await raw.call("leaky_delete_thing", SECRET_FREE)
        assert text_of(reply["result"]) == "delete_thing 7 done"
        again = await raw.call("guard_approval_wait", {"ticket": ticket})
        assert text_of(again["result"]) == "delete_thing 7 done"
        assert await state_of(guard, ticket) == "completed"
    assert guard.effects() == [{"tool": "delete_thing", "arguments": SECRET_FREE}]
    assert guard.verified()


async def test_an_approval_given_while_no_guard_runs_executes_once_at_the_next_start(tmp_path: Path) -> None:
    """Attack 6: killed before the decision, approved, and killed again between the approval and the pick-up."""
    guard = guarded(tmp_path)
    async with RawGuard(guard) as raw:
        ticket = await ticket_for(raw)
        await raw.kill()
    await approve(guard, ticket)
    assert await state_of(guard, ticket) == "approved"
    async with RawGuard(guard) as raw:
        reply = await raw.call("guard_approval_wait", {"ticket": ticket})
        assert text_of(reply["result"]) == "delete_thing 7 done"
        await raw.kill()
    async with RawGuard(guard) as raw:
        reply = await raw.call("guard_approval_wait", {"ticket": ticket})
        assert text_of(reply["result"]) == "delete_thing 7 done"
    assert guard.count("delete_thing") == 1
    assert guard.verified()


async def test_an_approved_call_that_waits_for_pick_up_survives_kill(tmp_path: Path) -> None:
    """D35, `run: on_pickup`: killed between the approval and the pick-up; the repeated call brings it about once."""
    guard = guarded(tmp_path, run="on_pickup")
    async with RawGuard(guard) as raw:
        ticket = await ticket_for(raw)
        await approve(guard, ticket)
        await raw.kill()
    assert await state_of(guard, ticket) == "approved"
    async with RawGuard(guard) as raw:
        assert await state_of(guard, ticket) == "approved"
        await raw.call("leaky_delete_thing", SECRET_FREE)
        reply = await raw.call("guard_approval_wait", {"ticket": ticket})
        assert text_of(reply["result"]) == "delete_thing 7 done"
    assert guard.count("delete_thing") == 1
    assert guard.verified()


async def test_calls_that_wait_or_were_denied_are_not_called_unknown_after_a_restart(tmp_path: Path) -> None:
    """D26: nothing was sent, and the record does not pretend that something may have been."""
    guard = guarded(tmp_path)
    async with RawGuard(guard) as raw:
        denied, waiting = [await ticket_for(raw, {"id": number}) for number in (1, 2)]
        assert await ticket_for(raw, {"id": 2}) == waiting
        await decide(guard, denied, "deny")
        await raw.kill()
    async with RawGuard(guard) as raw:
        await raw.call("leaky_echo", {"value": "again"})
    assert [entry for entry in guard.records() if entry.type == "call.interrupted"] == []
    assert await state_of(guard, waiting) == "pending"
    assert guard.count("delete_thing") == 0


async def test_a_call_that_was_forwarded_when_the_guard_was_killed_is_interrupted_and_never_sent_again(
    tmp_path: Path,
) -> None:
    """F9: an allowed call has no approval row, so the log alone closes it at the next start."""
    guard = guarded(tmp_path)
    async with RawGuard(guard) as raw:
        await raw.send(call_frame("leaky_slow", {"id": 1}))
        await until(lambda: guard.count("slow"))
        await raw.kill()
    async with RawGuard(guard) as raw:
        assert text_of((await raw.call("leaky_echo", {"value": "again"}))["result"]) == "again"
    closed = [entry for entry in guard.records() if entry.type == "call.interrupted"]
    assert [(entry.tool, entry.outcome) for entry in closed] == [("leaky/slow", "unknown")]
    assert guard.count("slow") == 1
    assert guard.verified()


async def test_an_approved_call_that_was_forwarded_when_the_guard_was_killed_is_unknown_and_never_sent_again(
    tmp_path: Path,
) -> None:
    """T17: sent=1 is durable, so recovery does not guess."""
    guard = guarded(tmp_path)
    guard.config["rules"].append({"id": "ask-slow", "match": {"tool": "slow"}, "effect": "require_approval"})
    guard.write()
    async with RawGuard(guard) as raw:
        reply = await raw.call("leaky_slow", {"id": 1})
        ticket = reply["result"]["_meta"]["io.mcp-guard/approval"]["ticket"]
        await approve(guard, ticket)
        await until(lambda: guard.count("slow"))
        await raw.kill()
    async with RawGuard(guard) as raw:
        await reaches(guard, ticket, "unknown")
        reply = await raw.call("leaky_slow", {"id": 1})
        assert "[outcome_unknown]" in text_of(reply["result"])
    assert guard.count("slow") == 1
    assert guard.verified()


async def test_a_row_set_to_approved_by_hand_executes_nothing(tmp_path: Path) -> None:
    """Attack 12, S3, I1: a state is no approval, neither is a denial with other words, nor one that was used."""
    guard = guarded(tmp_path)
    by_hand = (
        "UPDATE approval SET state = 'approved', version = version + 1, use_by_ns = ?, decided_by = 'rita', sent = 0,"
        " exec_id = NULL, ended_ns = NULL, result = NULL, delivered = 0 WHERE id = ?"
    )
    async with RawGuard(guard) as raw:
        pending_one, denied, used = [await ticket_for(raw, {"id": number}) for number in (1, 2, 3)]
        await decide(guard, denied, "deny")
        update(guard, "UPDATE decision SET statement = replace(statement, 'deny', 'approve')")
        await approve(guard, used)
        await reaches(guard, used, "completed")
        for ticket in (pending_one, denied, used):
            update(guard, by_hand, time.time_ns() + 10**12, ticket)
            assert await reaches(guard, ticket, "invalidated", "expired", "completed") == "invalidated"
            reply = await raw.call("guard_approval_wait", {"ticket": ticket})
            assert reply["result"]["isError"] is True
    assert guard.effects() == [{"tool": "delete_thing", "arguments": {"id": 3}}]
    assert guard.verified()


async def test_rows_whose_content_was_changed_execute_nothing_when_approved(tmp_path: Path) -> None:
    """S1, S3: what is signed is the digest of exactly what is stored and was shown."""
    changes = {
        "action_digest": "'" + "0" * 64 + "'",
        "payload": "x'00112233'",
        "view": "replace(view, '2', '3')",
        "owner": '\'["os","mallory",""]\'',
        "nonce": "'nonce_other'",
    }
    guard = guarded(tmp_path)
    async with RawGuard(guard) as raw:
        for number, (column, value) in enumerate(changes.items(), 20):
            ticket = await ticket_for(raw, {"id": number})
            update(guard, f"UPDATE approval SET {column} = {value} WHERE id = ?", ticket)  # noqa: S608 - a test's words
            with pytest.raises(ConflictError, match="void"):
                await approve(guard, ticket)
            assert await state_of(guard, ticket) == "invalidated"
        swapped, other = [await ticket_for(raw, {"id": number}) for number in (30, 31)]
        update(
            guard,
            "UPDATE approval SET payload = (SELECT payload FROM approval WHERE id = ?) WHERE id = ?",
            other,
            swapped,
        )
        with pytest.raises(ConflictError, match="void"):
            await approve(guard, swapped)
        assert await state_of(guard, swapped) == "invalidated"
    assert guard.effects() == []
    assert guard.verified()


async def test_a_signed_decision_moved_to_another_request_executes_nothing(tmp_path: Path) -> None:
    """security.md S11: an old approval under a new id, with and without its text adapted to it."""
    guard = guarded(tmp_path)
    async with RawGuard(guard) as raw:
        first = await ticket_for(raw, {"id": 1})
        await approve(guard, first)
        await reaches(guard, first, "completed")
        for number, rewrite in ((2, "statement"), (3, f"replace(statement, '{first}', '@')")):
            ticket = await ticket_for(raw, {"id": number})
            copied = rewrite.replace("@", ticket)
            update(
                guard,
                f"INSERT INTO decision(approval, round, statement, signature) "  # noqa: S608 - a test's own words
                f"SELECT ?, 1, {copied}, signature FROM decision WHERE approval = ?",
                ticket,
                first,
            )
            update(
                guard,
                "UPDATE approval SET state = 'approved', version = version + 1, use_by_ns = ? WHERE id = ?",
                time.time_ns() + 10**12,
                ticket,
            )
            assert await reaches(guard, ticket, "invalidated", "expired", "completed") == "invalidated"
    assert guard.effects() == [{"tool": "delete_thing", "arguments": {"id": 1}}]
    assert guard.verified()


async def test_a_client_that_goes_away_while_its_call_is_held_finds_the_outcome_later(tmp_path: Path) -> None:
    """F7: the row stays, is approved, runs at the next start, and the same call gets what came of it."""
    guard = guarded(tmp_path, hold_s=60)
    async with RawGuard(guard) as raw:
        await raw.send(call_frame("leaky_delete_thing", SECRET_FREE))
        ticket = await pending(guard)
        began = time.monotonic()
        await ended_after_eof(raw)
        assert time.monotonic() - began < 20
    assert await state_of(guard, ticket) == "pending"
    async with RawGuard(guard) as raw:
        await approve(guard, ticket)
        await reaches(guard, ticket, "completed")
        reply = await raw.call("leaky_delete_thing", SECRET_FREE)
        assert text_of(reply["result"]) == "delete_thing 7 done"
    assert guard.count("delete_thing") == 1
    left = [entry for entry in guard.records() if entry.outcome == "client_gone"]
    assert len(left) == 1
    assert guard.verified()


async def test_a_call_that_its_client_cancelled_while_held_is_carried_out_once_approved(tmp_path: Path) -> None:
    """Approvals 0.3: client timeouts cancel the handler, and only the handler."""
    guard = guarded(tmp_path, hold_s=60)
    async with RawGuard(guard) as raw:
        await raw.send(call_frame("leaky_delete_thing", SECRET_FREE))
        ticket = await pending(guard)
        await raw.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 900}})
        await approve(guard, ticket)
        await reaches(guard, ticket, "completed")
        reply = await raw.call("leaky_delete_thing", SECRET_FREE)
        assert text_of(reply["result"]) == "delete_thing 7 done"
    assert guard.count("delete_thing") == 1
    assert guard.verified()


async def ended_after_eof(raw: RawGuard) -> None:
    assert raw.process.stdin
    await raw.process.stdin.aclose()
    with anyio.fail_after(20):
        await raw.process.wait()


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "end of input"])
async def test_a_guard_that_is_stopped_leaves_no_process_and_closes_its_log(how: str, tmp_path: Path) -> None:
    """F7, F8: exit 0 in time, with a call pending and another one running."""
    guard = guarded(tmp_path, hold_s=60)
    started = time.monotonic()
    async with RawGuard(guard) as raw:
        await raw.call("leaky_echo", {"value": "warm"})
        # The bounds are for a machine that starts a guard and its server in 3 s; one that is busy gets more.
        busy = max(1.0, (time.monotonic() - started) / 3)
        await raw.send(call_frame("leaky_delete_thing", SECRET_FREE, 900))
        await raw.send(call_frame("leaky_slow", {"id": 1}, 901))
        ticket = await pending(guard)
        await until(lambda: guard.count("slow"))
        below = children(raw.process.pid)
        assert below
        began = time.monotonic()
        if how == "end of input":
            await ended_after_eof(raw)
        else:
            raw.process.send_signal(getattr(signal, how))
            with anyio.fail_after(20):
                await raw.process.wait()
        took = time.monotonic() - began
        assert raw.process.returncode == 0
    assert took <= (5 if how == "end of input" else 10) * busy
    assert not [pid for pid in below if alive(pid)]
    assert guard.records()[-1].type == "log.closed"
    assert await state_of(guard, ticket) == "pending"
    assert guard.count("slow") == 1
    assert guard.verified()


async def test_a_killed_guard_leaves_no_server_behind(tmp_path: Path) -> None:
    """F6: nobody else ends the children of a guard that was killed."""
    guard = guarded(tmp_path)
    async with RawGuard(guard) as raw:
        await raw.call("leaky_echo", {"value": "warm"})
        below = children(raw.process.pid)
        assert below
        await raw.kill()
    await until(lambda: not [pid for pid in below if alive(pid)])
