"""Nothing that was acknowledged is ever lost (docs/audit.md, "How a change shows", security.md F9 and F10)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from mcp_guard.audit.log import AuditLog
from mcp_guard.audit.query import population, tail
from mcp_guard.audit.slots import installed_vkeys
from mcp_guard.audit.verify import Outcome, verify
from mcp_guard.clock import RandomIds, SystemClock
from mcp_guard.keystore import KeyStore

WRITER = Path(__file__).with_name("writer.py")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and resource limits of POSIX")


def start(mode: str, root: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(WRITER), mode, str(root), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def stored_ids(folder: Path) -> dict[tuple[str, int], str]:
    return {(entry.file, entry.index): entry.call_id for entry in tail(folder, 1_000_000)}


def place(line: str) -> tuple[tuple[str, int], str]:
    origin, index, call_id = line.split(" ")
    return ("/".join(origin.split("/")[-2:]) + ".db", int(index)), call_id


def test_kill_9_at_any_moment_loses_no_acknowledged_record(tmp_path: Path) -> None:
    """security.md F9; docs/audit.md, "How a change shows": the journal of what was acknowledged is in this process."""
    journal: list[str] = []
    for run in range(15):
        with start("killed", tmp_path, str(run)) as writer:
            assert writer.stdout is not None
            journal += [writer.stdout.readline().decode() for _ in range(3 + 17 * run)]
            writer.kill()
            rest = writer.stdout.read().decode()
            journal += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    report = verify(tmp_path / "audit", installed_vkeys(tmp_path / "audit", KeyStore(tmp_path / "keys")))
    stored = stored_ids(tmp_path / "audit")
    acknowledged = dict(place(line.strip()) for line in journal)

    assert (report.outcome, report.problems) == (Outcome.OK, ())
    assert len(acknowledged) == len(journal) > 1000
    assert [key for key, call_id in acknowledged.items() if stored.get(key) != call_id] == []


async def test_after_a_kill_the_next_start_closes_every_open_call(tmp_path: Path) -> None:
    """security.md F9."""
    with start("killed", tmp_path, "x") as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
    log = await AuditLog.open(tmp_path / "audit", KeyStore(tmp_path / "keys"), SystemClock(), RandomIds())
    async with anyio.create_task_group() as tasks:
        await tasks.start(log.run)
        closed = await log.recover(lambda _: False)
        await log.close()
    calls = population(tmp_path / "audit")
    assert sorted(closed) == sorted(call.call_id for call in calls)
    assert {call.outcome for call in calls} == {"unknown"}


def test_a_full_disk_refuses_loses_nothing_and_is_over_when_space_returns(tmp_path: Path) -> None:
    """security.md F10; docs/audit.md, "How a change shows"."""
    with start("starved", tmp_path) as writer:
        assert writer.stdout is not None
        lines = writer.stdout.read().decode().splitlines()
    report = verify(tmp_path / "audit", installed_vkeys(tmp_path / "audit", KeyStore(tmp_path / "keys")))
    stored = stored_ids(tmp_path / "audit")
    at = lines.index("refused")
    acknowledged = dict(place(line) for line in lines if line.startswith("mcp-guard/"))

    assert writer.returncode == 0
    assert 0 < at < len(lines) - 1
    assert [key for key, call_id in acknowledged.items() if stored.get(key) != call_id] == []
    assert report.outcome is Outcome.OK
