"""What verification must see (docs/audit.md, "How a change shows")."""

from __future__ import annotations

import base64
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import JsonValue

from mcp_guard.audit.checkpoint import Head, Signer, parse
from mcp_guard.audit.schema import STATEMENTS
from mcp_guard.audit.tree import Tree, leaf_hash
from mcp_guard.audit.verify import Outcome, verify
from mcp_guard.model import MaskedJson, Record

from .conftest import OpenLog, Sample

TABLES = ("rec", "payload", "tile", "ckpt")


def columns_of_the_schema() -> list[tuple[str, str]]:
    db = sqlite3.connect(":memory:")
    for statement in STATEMENTS:
        db.execute(statement)
    found = [(table, row[1]) for table in TABLES for row in db.execute(f"PRAGMA table_info({table})")]
    db.close()
    return found


def bent(value: object) -> object:
    if isinstance(value, int):
        return value + 100_000
    if isinstance(value, str):
        return value + "x"
    assert isinstance(value, bytes)
    return bytes([value[0] ^ 1]) + value[1:]


def test_an_untouched_log_is_ok_and_says_what_it_holds(finished: Sample) -> None:
    """docs/audit.md, "How a change shows": every number an auditor asks for."""
    report = finished.verify()
    assert (report.outcome, report.exit_code, report.problems) == (Outcome.OK, 0, ())
    assert (report.files, report.records, report.calls) == (2, 305, 151)
    assert (report.dropped, report.erased) == (0, 0)
    assert [head.size for head in report.heads] == [301, 4]


@pytest.mark.parametrize(("table", "column"), columns_of_the_schema())
def test_a_change_of_any_column_of_any_table_is_found(sample: Sample, table: str, column: str) -> None:
    """docs/audit.md, "How a change shows": the matrix comes from the schema."""
    key = {"rec": "idx", "payload": "rowid", "tile": "level", "ckpt": "size"}[table]
    at, value = sample.rows(f"SELECT {key}, {column} FROM {table} ORDER BY {key} LIMIT 1")[0]  # noqa: S608 - names
    sample.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", bent(value), at)  # noqa: S608 - names
    report = sample.verify()
    assert report.outcome is Outcome.TAMPERED
    assert report.problems[0].file == "00/2026-09.db"


def body_fields(sample: Sample) -> list[str]:
    return list(orjson.loads(sample.rows("SELECT body FROM rec WHERE type = 'call.result'")[0][0]))


@pytest.mark.parametrize("recompute", [False, True], ids=["body", "body-and-leaf"])
def test_a_change_of_any_field_of_a_body_is_found_and_the_record_is_named(sample: Sample, *, recompute: bool) -> None:
    """docs/audit.md, "How a change shows": the fields come from a stored body."""
    idx, body, leaf = sample.rows(
        "SELECT idx, body, leaf FROM rec WHERE call_id = 'call_145' AND type = 'call.result'"
    )[0]
    fields = body_fields(sample)
    assert len(fields) == 13
    for name in fields:
        value = orjson.loads(body)
        value[name] = {"changed": True} if isinstance(value[name], dict) else bent(value[name])
        changed = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        new_leaf = leaf_hash(changed) if recompute else leaf
        sample.execute("UPDATE rec SET body = ?, leaf = ? WHERE idx = ?", changed, new_leaf, idx)
        report = sample.verify()
        assert report.outcome is Outcome.TAMPERED, name
        assert any(problem.record == idx for problem in report.problems), name
    sample.execute("UPDATE rec SET body = ?, leaf = ? WHERE idx = ?", body, leaf, idx)
    assert sample.verify().outcome is Outcome.OK


ATTACKS = {
    "record deleted": "DELETE FROM rec WHERE idx = 100",
    "last record deleted": "DELETE FROM rec WHERE idx = (SELECT max(idx) FROM rec)",
    "deleted and renumbered": "DELETE FROM rec WHERE idx = 299; UPDATE rec SET idx = 299 WHERE idx = 300",
    "swapped": "UPDATE rec SET idx = -1 WHERE idx = 5; UPDATE rec SET idx = 5 WHERE idx = 6; "
    "UPDATE rec SET idx = 6 WHERE idx = -1",
    "hidden before the first": "INSERT INTO rec SELECT -1, ts, type, call_id, session, actor, tool, outcome, body, "
    "leaf FROM rec WHERE idx = 1",
    "forged append": "INSERT INTO rec SELECT idx + 1, ts, type, call_id, session, actor, tool, outcome, body, leaf "
    "FROM rec ORDER BY idx DESC LIMIT 1",
    "truncated under its checkpoints": "DELETE FROM rec WHERE idx > 290",
    "payload replaced": "UPDATE payload SET data = (SELECT data FROM payload ORDER BY idx DESC LIMIT 1) WHERE idx = 1",
    "payload removed": "DELETE FROM payload WHERE idx = 1",
    "payload added": "INSERT INTO payload VALUES (0, 'args', X'00', X'00')",
    "payload of no record": "INSERT INTO payload VALUES (9999, 'args', X'00', X'00')",
    "tile removed": "DELETE FROM tile",
    "tile added": "INSERT INTO tile VALUES (0, 0, X'00')",
    "middle checkpoint": "UPDATE ckpt SET note = (SELECT note FROM ckpt ORDER BY size DESC LIMIT 1) WHERE size = 1",
    "checkpoint of nothing": "INSERT INTO ckpt SELECT 0, note FROM ckpt LIMIT 1",
    "trigger": "CREATE TRIGGER t AFTER INSERT ON rec BEGIN DELETE FROM payload; END",
    "view": "CREATE VIEW v AS SELECT 1",
    "index removed": "DROP INDEX rec_call",
    "index made partial": "DROP INDEX rec_call; CREATE INDEX rec_call ON rec(call_id, type) WHERE idx > 9",
    "constraint removed": "UPDATE sqlite_schema SET sql = replace(sql, 'outcome TEXT NOT NULL', 'outcome TEXT') "
    "WHERE name = 'rec'",
    "schema gone": "DELETE FROM sqlite_schema WHERE name = 'ckpt'",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_known_attack_on_the_file_is_found(sample: Sample, attack: str) -> None:
    """docs/audit.md, "How a change shows"."""
    for statement in ATTACKS[attack].split("; " if "TRIGGER" not in ATTACKS[attack] else "\0"):
        sample.execute(statement)
    expected = Outcome.UNVERIFIABLE if attack == "forged append" else Outcome.TAMPERED
    assert sample.verify().outcome is expected


def test_a_record_hidden_from_search_by_editing_only_the_index_is_found(sample: Sample) -> None:
    """docs/audit.md, "How a change shows": the tree verifies, `integrity_check` sees it."""
    root = sample.rows("SELECT rootpage FROM sqlite_schema WHERE name = 'rec_call'")[0][0]
    sql = sample.rows("SELECT sql FROM sqlite_schema WHERE name = 'rec_call'")[0][0]
    # A partial index of the same name is built in the same pages, and then said to be a full one.
    sample.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'rec_call'", sql + " WHERE idx <> 17")
    sample.execute("REINDEX rec_call")
    sample.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'rec_call'", sql)
    assert sample.rows("SELECT rootpage FROM sqlite_schema WHERE name = 'rec_call'")[0][0] == root
    report = sample.verify()
    assert report.outcome is Outcome.TAMPERED
    assert "searches may miss records" in report.problems[0].text


async def test_an_erased_payload_is_ok_once_the_erasure_is_recorded(open_log: OpenLog, folder: Path) -> None:
    """docs/audit.md, "When it fails": erasure keeps the tree valid; gone without a record it is tampering."""
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1", payloads={"args": MaskedJson({"a": 1})}))
    with closing(sqlite3.connect(folder / "00" / "2026-09.db", isolation_level=None)) as db:
        db.execute("DELETE FROM payload")
    before = verify(folder, log.vkeys)
    assert (before.outcome, before.problems[0].record) == (Outcome.TAMPERED, 1)
    async with open_log() as log:
        erased: list[JsonValue] = [{"slot": "00", "file": "2026-09.db", "index": 1, "part": "args"}]
        await log.append(Record("payload.erased", fields={"erased": erased}))
    after = verify(folder, log.vkeys)
    assert (after.outcome, after.erased) == (Outcome.OK, 1)


async def test_an_older_copy_put_back_is_found_with_a_head_seen_outside(open_log: OpenLog, folder: Path) -> None:
    """security.md S36, docs/audit.md, "How a change shows": rollback and truncation with the checkpoints."""
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1"))
    shutil.copytree(folder, folder.with_name("old"))
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_2"))
        head = log.head
    old = folder.with_name("old")
    assert verify(old, log.vkeys).outcome is Outcome.OK
    report = verify(old, log.vkeys, trusted=[head])
    assert (report.outcome, report.problems[0].text.split(":")[0]) == (Outcome.TAMPERED, "truncated or rolled back")
    assert verify(folder, log.vkeys, trusted=[head]).outcome is Outcome.OK


async def test_a_fork_signed_with_the_stolen_key_is_found_with_a_head_seen_outside(
    open_log: OpenLog, folder: Path
) -> None:
    """docs/audit.md, "How a change shows": both branches verify alone."""
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_1"))
    fork = folder.with_name("fork")
    shutil.copytree(folder, fork)
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_2"))
    head = verify(folder, log.vkeys).heads[0]
    shutil.rmtree(folder)
    shutil.copytree(fork, folder)
    async with open_log() as log:
        await log.append(Record("call.intent", call_id="call_other"))
        await log.append(Record("call.intent", call_id="call_more"))
    assert verify(folder, log.vkeys).outcome is Outcome.OK
    report = verify(folder, log.vkeys, trusted=[head])
    assert report.outcome is Outcome.TAMPERED
    assert "forked or rewritten" in report.problems[0].text


def test_a_log_rebuilt_with_another_key_is_found(sample: Sample) -> None:
    """docs/audit.md, "How a change shows"."""
    signer = Signer("mcp-guard/x", [Ed25519PrivateKey.generate()])
    tree = Tree()
    for (leaf,) in sample.rows("SELECT leaf FROM rec ORDER BY idx"):
        tree.append(leaf)
    origin = parse(sample.rows("SELECT note FROM ckpt LIMIT 1")[0][0]).origin
    sample.execute("DELETE FROM ckpt")
    sample.execute("INSERT INTO ckpt VALUES (?, ?)", tree.size, signer.sign(Head(origin, tree.size, tree.root())))
    assert sample.verify().outcome is Outcome.TAMPERED


def test_files_and_slots_that_are_missing_or_exchanged_are_found(sample: Sample) -> None:
    """docs/audit.md, "How a change shows": each file names its predecessor's final head."""
    trusted = sample.verify().heads
    later = sample.file.with_name("2026-10.db")
    shutil.copy(sample.file, sample.folder / "aside")
    sample.file.unlink()
    assert "missing" in sample.verify().problems[0].text
    shutil.copy(later, sample.file)
    assert sample.verify().outcome is Outcome.TAMPERED
    shutil.copy(sample.folder / "aside", sample.file)
    later.unlink()
    assert sample.verify().outcome is Outcome.OK
    assert sample.verify(trusted).outcome is Outcome.TAMPERED
    (sample.folder / "00").rename(sample.folder / "01")
    assert "slot is missing" in str(sample.verify().problems)


def test_what_cannot_be_read_and_what_is_not_known_are_told_apart(sample: Sample, tmp_path: Path) -> None:
    """docs/audit.md, "How a change shows": distinct outcomes, distinct exit codes."""
    assert verify(tmp_path / "nowhere", sample.vkeys).exit_code == 3
    (tmp_path / "empty").mkdir()
    assert verify(tmp_path / "empty", sample.vkeys).exit_code == 3
    sample.file.write_bytes(b"")
    later = sample.verify()
    assert later.exit_code == 1
    sample.file.with_name("2026-10.db").unlink()
    assert sample.verify().exit_code == 2
    sample.file.unlink()
    sample.file.mkdir()
    assert sample.verify().exit_code == 3


def test_no_flipped_bit_of_a_record_goes_unseen(sample: Sample) -> None:
    """docs/audit.md, "How a change shows": flips in pages that hold something show; verification never breaks."""
    original = sample.file.read_bytes()
    chance = random.Random(6962)  # noqa: S311 - a reproducible choice of positions
    anchors = [original.index(body) for (body,) in sample.rows("SELECT body FROM rec ORDER BY idx LIMIT 30")]
    seen = 0
    for number in range(60):
        spot = anchors[number % 30] + chance.randrange(100) if number < 40 else chance.randrange(len(original))
        data = bytearray(original)
        data[spot] ^= 1 << chance.randrange(8)
        sample.file.write_bytes(data)
        outcome = sample.verify().outcome
        if number < 40:
            assert outcome is not Outcome.OK
        seen += outcome is not Outcome.OK
    assert seen >= 40


async def test_verification_works_while_a_guard_writes(open_log: OpenLog, folder: Path) -> None:
    """docs/audit.md, "How a change shows": pages, never a long snapshot."""
    async with open_log() as log, anyio.create_task_group() as calls:
        for number in range(300):
            calls.start_soon(log.append, Record("call.intent", call_id=f"call_{number}"))
        for _ in range(5):
            report = await anyio.to_thread.run_sync(verify, folder, log.vkeys)
            assert report.problems == ()


def test_a_problem_names_file_and_record(sample: Sample) -> None:
    """The demo shows this line."""
    sample.execute("UPDATE rec SET body = ? WHERE idx = 12", base64.b64decode("e30="))
    report = sample.verify()
    assert str(report.problems[0]) == "TAMPERED 00/2026-09.db: record 12: the body is not the one that was hashed"
    assert report.exit_code == 1
