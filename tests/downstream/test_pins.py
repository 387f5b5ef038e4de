"""Trust on first use, and quarantine from then on (docs/pins.md; security.md S21 to S23)."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from mcp_guard.downstream.catalog import Catalog
from mcp_guard.downstream.copies import CopyStore
from mcp_guard.downstream.definition import Listing, definition_digest
from mcp_guard.downstream.lockfile import LockFile, writer_files
from mcp_guard.downstream.pins import Pins
from mcp_guard.downstream.remembered import Remembered
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import ConfigError, QuarantinedError
from mcp_guard.keystore import KeyStore
from mcp_guard.model import UNREVIEWED, CallKind, JsonDict, MaskedText, Principal, Record, Target

ALICE = Principal("os", "alice")
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"


def tool(name: str, text: str = "as ever", **more: Any) -> JsonDict:
    return {"name": name, "description": text, "inputSchema": {"type": "object"}, **more}


def listing(*tools: JsonDict, instructions: str = "", server_info: str = "mail 1") -> Listing:
    return Listing(
        tools=tools, instructions=instructions, capabilities=("tools", "resources", "prompts"), server_info=server_info
    )


FIRST = listing(tool("get"), tool("send"))


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def mask(text: str) -> MaskedText:
    return MaskedText(text.replace(TOKEN, "[SECRET]"))


class Bench:
    """The pins of one guard process, and what it told."""

    def __init__(self, folder: Path, *servers: ResolvedServer, alone: bool = False) -> None:
        self.folder, self.log, self.records = folder, list[str](), list[Record]()
        self.script = folder / "server.py"
        if not self.script.exists():
            self.script.write_text("one", encoding="utf-8")
        self.keys = KeyStore(folder / "keys")
        self.mail = ResolvedServer("mail", "id", (sys.executable, str(self.script)), written=("py", "server.py"))
        named = {server.name: server for server in servers or (self.mail,)}
        self.copies = CopyStore(folder / "pins", self.keys)
        self.pins = Pins(
            LockFile(folder / "guard.lock"),
            self.copies,
            named,
            mask=mask,
            log=self.log.append,
            alone=alone,
        )
        self.pins.record_to(self.record)

    async def record(self, record: Record) -> None:
        self.records.append(record)

    async def list(self, found: Listing = FIRST, server: str = "mail") -> None:
        resolved = self.pins.servers[server]
        await self.pins.before_start(resolved)
        await self.pins.listed(resolved, found, first=True)

    def objection(self, name: str, text: str = "as ever", server: str = "mail") -> str | None:
        return self.pins.tool_objection(server, name, definition_digest(tool(name, text)))

    def catalog(self) -> Catalog:
        remembered = Remembered(self.folder / "catalogue", self.keys)
        return Catalog(self.pins.servers, facts_of=lambda *_: UNREVIEWED, remembered=remembered, pins=self.pins)


async def test_a_server_is_accepted_on_first_use_and_that_is_said_and_recorded(tmp_path: Path) -> None:
    """docs/pins.md, first contact."""
    bench = Bench(tmp_path)
    assert bench.objection("get") == "it was not accepted yet"
    await bench.list()
    assert bench.objection("get") is None
    assert bench.log == ["mail: accepted on first use, 2 tools pinned"]
    assert [(one.type, one.outcome) for one in bench.records] == [("server.pinned", "ok")]
    assert Bench(tmp_path).objection("send") is None


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (tool("send", "and to me"), "its description changed since it was accepted"),
        (tool("send", title="Send"), "its title changed since it was accepted"),
        (tool("send", inputSchema={"type": "object", "x": 1}), "its inputSchema changed since it was accepted"),
        (tool("send", outputSchema={"type": "object"}), "its outputSchema changed since it was accepted"),
        (tool("send", annotations={"readOnlyHint": True}), "its annotations changed since it was accepted"),
        (tool("send", _meta={"ui": "page"}), "its _meta changed since it was accepted"),
        (tool("send", icons=[{"src": "data:x"}]), "its icons changed since it was accepted"),
        (tool("send", execution={"taskSupport": "optional"}), "its execution changed since it was accepted"),
        (tool("send", vendor="obey"), "its other members changed since it was accepted"),
    ],
    ids=["description", "title", "in", "out", "annotations", "_meta", "icons", "execution", "others"],
)
async def test_a_change_of_any_field_is_held_back_and_stays_so_when_it_flips_back(
    changed: JsonDict, why: str, tmp_path: Path
) -> None:
    """security.md S22: in this process, in another one, and after a restart."""
    bench, other = Bench(tmp_path), Bench(tmp_path)
    await bench.list()
    assert other.pins.reload()
    await bench.list(listing(tool("get"), changed))
    assert bench.objection("send") == why
    await bench.list()
    assert other.pins.reload()
    assert not other.pins.reload()
    assert bench.objection("send") == other.objection("send") == Bench(tmp_path).objection("send") == why
    assert bench.objection("get") is None
    assert [one.type for one in bench.records] == ["server.pinned", "server.quarantined"]


async def test_a_new_tool_is_held_back_and_one_that_is_gone_holds_back_nothing(tmp_path: Path) -> None:
    """docs/pins.md."""
    bench = Bench(tmp_path)
    await bench.list()
    await bench.list(listing(tool("get")))
    assert len(bench.records) == 1
    await bench.list(listing(tool("get"), tool("send"), tool("wipe")))
    assert bench.objection("wipe") == "it is new since its server was accepted"
    assert bench.objection("send") is None


async def test_a_host_with_fewer_abilities_than_the_review_meets_no_quarantine(tmp_path: Path) -> None:
    """docs/pins.md: a server may show some tools only to clients with roots; with and without them all goes on."""
    bench = Bench(tmp_path)
    bench.pins.accept(bench.mail, listing(tool("get"), tool("with_roots")))
    for found in (listing(tool("get")), listing(tool("get"), tool("with_roots")), listing(tool("get"))):
        await bench.list(found)
        assert bench.objection("get") is None
        assert bench.objection("with_roots") is None
    assert [one.type for one in bench.records if one.type == "server.quarantined"] == []
    assert Bench(tmp_path).pins.held_tools("mail") == {}


async def test_changed_instructions_are_withheld_and_the_tools_go_on(tmp_path: Path) -> None:
    """security.md S21."""
    bench = Bench(tmp_path)
    await bench.list(listing(tool("get"), instructions="be kind"))
    assert bench.pins.instructions_shown("mail", "be kind")
    assert not bench.pins.instructions_shown("mail", "be evil")
    await bench.list(listing(tool("get"), instructions="be evil"))
    assert not bench.pins.instructions_shown("mail", "be kind")
    assert bench.objection("get") is None


@pytest.mark.parametrize("how", ["file", "command", "program", "version"])
async def test_another_program_or_version_holds_back_the_whole_server(how: str, tmp_path: Path) -> None:
    """security.md S22; a changed program is not started."""
    bench = Bench(tmp_path)
    await bench.list()
    later, found = bench.mail, FIRST
    if how == "file":
        bench.script.write_text("two", encoding="utf-8")
    elif how == "command":
        later = replace(later, written=("py", "server.py", "--all"))
    elif how == "program":
        copy = tmp_path / "python3"
        copy.symlink_to(sys.executable)
        later = replace(later, command=(str(copy), *later.command[1:]))
    else:
        found = listing(*FIRST.tools, server_info="mail 2")
    bench = Bench(tmp_path, later)
    if how == "version":
        await bench.list(found)
    else:
        with pytest.raises(QuarantinedError, match="not started"):
            await bench.list(found)
    target = Target(CallKind.RESOURCE, "mail", "x://1", "x://1", local=True)
    assert bench.objection("get") is not None
    with pytest.raises(QuarantinedError):
        bench.pins.admit(target)
    relaxed = Bench(tmp_path, replace(later, pins="definitions"))
    await relaxed.list(found)
    assert relaxed.objection("get") is None
    relaxed.pins.admit(target)


async def test_a_server_that_is_held_to_nothing_is_not_in_the_lock(tmp_path: Path) -> None:
    """docs/config.md, `pins: off`."""
    bench = Bench(tmp_path, replace(Bench(tmp_path).mail, pins="off"))
    await bench.list()
    await bench.list(listing(tool("get", "changed")))
    assert bench.objection("get", "changed") is None
    assert bench.pins.instructions_shown("mail", "anything")
    assert not (tmp_path / "guard.lock").exists()


async def test_a_lock_that_cannot_be_written_accepts_nothing(tmp_path: Path) -> None:
    """CONTRIBUTING.md, habit 3: fail closed, on first contact and later."""
    own, in_the_way = writer_files(tmp_path / "guard.lock")
    own.mkdir(parents=True)
    in_the_way.mkdir()
    bench = Bench(tmp_path)
    await bench.list()
    assert bench.objection("get") == "it was not accepted yet"
    assert "guard.lock cannot be written" in bench.log[0]
    in_the_way.rmdir()
    await bench.list()
    assert bench.objection("get") is None
    in_the_way.unlink()
    in_the_way.mkdir()
    await bench.list(listing(tool("get", "changed"), tool("send")))
    await bench.list()
    assert bench.objection("get") is not None
    assert bench.objection("send") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2}',
        '{"servers": {"a": {"extra": 1}}}',
        '{"servers": 7}',
        '{"servers": {}, "servers": {}}',
    ],
    ids=range(7),
)
async def test_a_broken_lock_is_an_error_at_start_and_holds_back_everything_later(text: str, tmp_path: Path) -> None:
    """docs/errors.md, config; nothing of the file is in the message."""
    running = Bench(tmp_path)
    await running.list()
    good = (tmp_path / "guard.lock").read_text(encoding="utf-8")
    (tmp_path / "guard.lock").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"guard.lock is not usable: .* not as the guard wrote it"):
        Bench(tmp_path)
    assert running.pins.reload()
    assert running.objection("get") == "guard.lock is not usable"
    (tmp_path / "guard.lock").write_text(good, encoding="utf-8")
    assert running.pins.reload()
    assert running.objection("get") is None


async def test_a_lock_that_vanishes_while_the_guard_runs_changes_nothing(tmp_path: Path) -> None:
    """docs/pins.md: taking the file away is no way to be accepted anew."""
    bench = Bench(tmp_path)
    await bench.list()
    (tmp_path / "guard.lock").unlink()
    assert not bench.pins.reload()
    await bench.list(listing(tool("get", "changed")))
    assert bench.objection("get") is not None
    assert Bench(tmp_path).objection("get") is not None


@pytest.mark.skipif(sys.platform == "win32", reason="modes")
def test_a_lock_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    """As guard.yaml itself."""
    (tmp_path / "guard.lock").write_text('{"version": 1}', encoding="utf-8")
    (tmp_path / "guard.lock").chmod(0o666)
    with pytest.raises(ConfigError, match="may write to"):
        Bench(tmp_path)


@pytest.mark.parametrize("written", ["plain", "prefixed"])
async def test_names_stay_as_they_were_whatever_the_configuration_says_later(
    written: Literal["plain", "prefixed"], tmp_path: Path
) -> None:
    """decisions.md D14: hosts' allow-lists key on them. One server served alone freezes nothing."""
    mail = replace(Bench(tmp_path).mail, names=written)
    alone = Bench(tmp_path, replace(mail, names="plain"), alone=True)
    await alone.list()
    await Bench(tmp_path, mail).list()
    later = Bench(tmp_path, replace(mail, names="prefixed" if written == "plain" else "plain"))
    assert later.pins.servers["mail"].names == written
    assert f"guard.lock froze {written}" in later.log[0]


async def test_a_name_of_an_accepted_server_cannot_be_taken_by_a_new_one(tmp_path: Path) -> None:
    """security.md S23: plain against plain, and against a prefixed name."""
    mail = replace(Bench(tmp_path).mail, names="plain")
    crm = replace(mail, name="crm", names="prefixed")
    first = Bench(tmp_path, mail, crm)
    await first.list()
    await first.list(listing(tool("put")), "crm")
    evil = replace(mail, name="evil")
    bench = Bench(tmp_path, evil, mail, crm)
    await bench.list(listing(tool("get", "mine"), tool("crm_put"), tool("own")), "evil")
    assert bench.objection("get", "mine", "evil") == "mail has this name already"
    assert bench.objection("crm_put", server="evil") == "crm has this name already"
    assert bench.objection("own", server="evil") is None


async def test_the_catalogue_offers_nothing_that_is_held_back_also_from_the_last_run(tmp_path: Path) -> None:
    """decisions.md D27; security.md S22."""
    bench = Bench(tmp_path)
    await bench.list()
    bench.catalog().update("mail", FIRST)
    assert len(Bench(tmp_path).catalog().tools()) == 2
    changed = listing(tool("get"), tool("send", "and to me"))
    await bench.list(changed)
    bench.catalog().update("mail", changed)
    restarted = Bench(tmp_path).catalog()
    assert [one["name"] for one in restarted.tools()] == ["mail_get"]
    with pytest.raises(QuarantinedError, match="its description changed"):
        restarted.resolve("mail_send", ALICE)
    with pytest.raises(QuarantinedError):
        restarted.current(Target(CallKind.TOOL, "mail", "send", "mail_send", local=True))
    bench.script.write_text("two", encoding="utf-8")
    with pytest.raises(QuarantinedError):
        await bench.list()
    whole = Bench(tmp_path).catalog()
    assert whole.tools() == []
    with pytest.raises(QuarantinedError, match="program files"):
        whole.resolve("mail_get", ALICE)
    with pytest.raises(QuarantinedError):
        whole.current(Target(CallKind.PROMPT, "mail", "p", "mail_p", local=True))


async def test_what_a_person_reviewed_is_accepted_exactly(tmp_path: Path) -> None:
    """docs/pins.md: `trust` pins what it showed."""
    bench = Bench(tmp_path)
    await bench.list()
    changed = listing(tool("get", "changed"))
    await bench.list(changed)
    bench.pins.accept(bench.mail, changed)
    assert bench.objection("get", "changed") is None
    assert bench.objection("send") == "it is new since its server was accepted"
    assert bench.copies.load("mail").offered is None


async def test_no_text_of_a_server_is_in_the_lock_and_none_in_the_clear_beside_it(tmp_path: Path) -> None:
    """decisions.md D11; security.md S25: descriptions may hold secrets."""
    bench = Bench(tmp_path, replace(Bench(tmp_path).mail, written=("py", TOKEN)))
    await bench.list(listing(tool("get", f"uses {TOKEN}"), tool(TOKEN), instructions=TOKEN, server_info=TOKEN))
    await bench.list(listing(tool("get", f"now {TOKEN}"), tool(TOKEN, "x"), instructions=f"{TOKEN}!", server_info="x"))
    everything = written(tmp_path)
    assert TOKEN.encode() not in everything
    assert TOKEN not in f"{bench.log}{bench.records}"
    assert "now" in str(bench.copies.load("mail").offered)
