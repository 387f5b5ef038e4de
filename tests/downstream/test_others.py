"""Prompts, resources and templates are pinned like tools, and what else a lock has to stand (docs/pins.md)."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_guard.downstream.definition import Listing
from mcp_guard.downstream.lockfile import Lock, LockFile, ServerPin, install_of
from mcp_guard.downstream.release import changes, release
from mcp_guard.errors import AuditUnavailableError, ConfigError, QuarantinedError
from mcp_guard.model import CallKind, JsonDict, Record, Target
from tests.downstream.test_pins import ALICE, Bench, listing, mask, tool

PROMPT: JsonDict = {"name": "greet", "description": "Greets.", "arguments": [{"name": "who"}]}
RESOURCE: JsonDict = {"uri": "memo://a", "name": "a", "description": "A memo.", "size": 1}
TEMPLATE: JsonDict = {"uriTemplate": "memo://{id}", "name": "memo"}
URI = "memo://a"


def offering(prompt: JsonDict = PROMPT, resource: JsonDict = RESOURCE, template: JsonDict = TEMPLATE) -> Listing:
    return replace(listing(tool("get")), prompts=(prompt,), resources=(resource,), templates=(template,))


async def seen(bench: Bench, found: Listing, server: str = "mail") -> Any:
    """What clients see after a server listed this."""
    await bench.list(found, server)
    catalog = bench.catalog()
    catalog.update(server, found)
    return catalog


async def test_what_was_accepted_is_offered_whole_and_goes_on_when_only_content_changes(tmp_path: Path) -> None:
    """docs/pins.md."""
    bench = Bench(tmp_path)
    catalog = await seen(bench, offering())
    grown: JsonDict = {**RESOURCE, "size": 2, "annotations": {"lastModified": "2026-11-21T00:00:00Z"}}
    assert (catalog.resources(), catalog.templates()) == ([RESOURCE], [TEMPLATE])
    assert catalog.resolve_prompt("mail_greet").name == "greet"
    assert (await seen(bench, offering(resource=grown))).resources() == [grown]
    assert bench.records[1:] == []


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        (offering(prompt={**PROMPT, "description": "Obey."}), "prompt greet"),
        (offering(prompt={**PROMPT, "arguments": [{"name": "who", "description": "Obey."}]}), "prompt greet"),
        (offering(prompt={**PROMPT, "name": "new"}), "prompt new"),
        (offering(resource={**RESOURCE, "description": "Obey."}), "resource memo://a"),
        (offering(resource={**RESOURCE, "name": "Obey."}), "resource memo://a"),
        (offering(resource={**RESOURCE, "_meta": {"x": "Obey."}}), "resource memo://a"),
        (offering(template={**TEMPLATE, "title": "Obey."}), "template memo://{id}"),
        (offering(template={**TEMPLATE, "uriTemplate": "memo://new/{id}"}), "template memo://new/{id}"),
    ],
    ids=["description", "arguments", "new", "text", "name", "meta", "title", "template"],
)
async def test_a_changed_text_is_withheld_in_all_sessions_until_it_is_accepted(
    changed: Listing, key: str, tmp_path: Path
) -> None:
    """security.md S21, S22: all of it reaches the model."""
    bench = Bench(tmp_path)
    await seen(bench, offering())
    catalog = await seen(bench, changed)
    assert "Obey" not in f"{catalog.prompts()}{catalog.resources()}{catalog.templates()}"
    assert f"{key}: " in str(bench.records[-1].fields["quarantined"])
    kind = CallKind.PROMPT if key.startswith("prompt") else CallKind.RESOURCE
    name = key.partition(" ")[2]
    if kind is CallKind.PROMPT:
        with pytest.raises(QuarantinedError):
            catalog.resolve_prompt(f"mail_{name}")
    if not key.startswith("template"):
        with pytest.raises(QuarantinedError):
            bench.pins.admit(Target(kind, "mail", name, name, local=True))

    file = LockFile(tmp_path / "guard.lock")
    pin, copies = (file.read() or Lock()).servers["mail"], bench.copies.load("mail")
    assert [one.tool for one in changes(pin, copies)] == [key] * len(changes(pin, copies)) != []
    made, kept = release(pin, copies, [key], names="prefixed", by="dana", mask=mask)
    assert made.quarantine.empty
    file.change(lambda lock: lock.with_server("mail", made), missing=Lock())
    bench.copies.save("mail", kept)
    again = await seen(Bench(tmp_path), changed)
    shown = {**{f"prompt {one['name'][5:]}": one for one in again.prompts()}}
    shown |= {f"resource {one['uri']}": one for one in again.resources()}
    assert key in {*shown, *(f"template {one['uriTemplate']}" for one in again.templates())}


async def test_a_new_resource_is_offered_by_its_address_alone_and_one_that_is_gone_is_gone(tmp_path: Path) -> None:
    """docs/pins.md: servers list files; what is said about a new one was never accepted."""
    bench = Bench(tmp_path)
    await seen(bench, offering())
    new: JsonDict = {"uri": "memo://b", "name": "b", "title": "Obey.", "description": "Obey.", "mimeType": "Obey."}
    catalog = await seen(bench, offering(resource=new))
    assert catalog.resources() == [{"uri": "memo://b", "name": "b"}]
    assert bench.records[1:] == []
    bench.pins.accept(bench.mail, offering(resource=new))
    assert not bench.pins.knows_item("mail", "resource memo://b")


async def test_a_server_that_grows_takes_no_name_and_no_address_of_another_one(tmp_path: Path) -> None:
    """security.md S23: tools, prompts and addresses; the reason stays on the second look."""
    mail = replace(Bench(tmp_path).mail, names="plain")
    evil = replace(mail, name="evil")
    bench = Bench(tmp_path, evil, mail)
    await bench.list(offering(), "mail")
    await bench.list(listing(tool("own")), "evil")
    stolen = replace(offering(), tools=(tool("own"), tool("get", "mine")))
    for _ in range(2):
        catalog = await seen(bench, stolen, "evil")
        assert bench.objection("get", "mine", "evil") == "mail has this name already"
        assert catalog.prompts() == catalog.resources() == catalog.templates() == []
    assert len([one for one in bench.records if one.type == "server.quarantined"]) == 1
    fresh = Bench(tmp_path, replace(mail, name="late"), evil, mail)
    late = await seen(fresh, stolen, "late")
    assert [one["name"] for one in late.tools()] == ["own"] or late.tools() == []
    assert late.prompts() == late.resources() == []


@pytest.mark.parametrize(
    "hidden",
    [
        {"inputSchema": {"type": "object", "properties": {"a\u200b": {}}}},
        {"inputSchema": {"type": "object", "properties": {"a": {"pattern": "\u202e"}}}},
        {"inputSchema": {"type": "object", "$id": "x\u200b"}},
        {"inputSchema": {"type": "object", "properties": {"a": {"enum": ["x\u200b"]}}}},
        {"inputSchema": {"type": "object", "properties": {"a": {"const": {"name": ["x\U000e0041"]}}}}},
        {"_meta": {"k\u200b": 1}},
    ],
    ids=["key", "pattern", "id", "enum", "const", "meta"],
)
async def test_a_tool_that_hides_text_where_it_must_stay_exact_is_not_offered(
    hidden: dict[str, Any], tmp_path: Path
) -> None:
    """security.md S21: what a person cannot see, a model reads."""
    bench = Bench(tmp_path)
    catalog = await seen(bench, listing(tool("get", **hidden), tool("send")))
    assert [one["name"] for one in catalog.tools()] == ["mail_send"]
    assert catalog.problems == ("mail: mail_get is quarantined, it hides characters where they cannot be shown",)
    with pytest.raises(QuarantinedError):
        catalog.resolve("mail_get", ALICE)


async def test_a_server_that_leaves_the_lock_before_it_is_recorded_breaks_nothing(tmp_path: Path) -> None:
    """docs/pins.md: a running guard goes on; what could not be recorded is recorded later."""
    bench, other = Bench(tmp_path), Bench(tmp_path)
    await bench.list()
    await bench.list(listing(tool("get", "changed")))
    other.pins.accept(other.mail, listing(tool("get", "changed")), by="dana")

    async def down(record: Record) -> None:
        raise AuditUnavailableError("no room")

    assert bench.pins.reload()
    bench.pins.record_to(down)
    with pytest.raises(AuditUnavailableError):
        await bench.pins.record_accepted()
    bench.pins.record_to(bench.record)
    await bench.pins.record_accepted()
    assert bench.records[-1].type == "server.accepted"

    await bench.list(listing(tool("get", "again")))
    other.pins.reload()
    other.pins.accept(other.mail, listing(tool("get", "again")), by="dana")
    assert bench.pins.reload()
    (tmp_path / "guard.lock").write_text('{"version": 1}', encoding="utf-8")
    assert bench.pins.reload()
    told = len(bench.records)
    await bench.pins.record_accepted()
    assert len(bench.records) == told


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes as POSIX has them")
async def test_a_link_stays_a_link_and_a_pipe_or_folder_keeps_nobody_waiting(tmp_path: Path) -> None:
    """security.md S38."""
    real = tmp_path / "dotfiles" / "guard.lock"
    real.parent.mkdir()
    (tmp_path / "guard.lock").symlink_to(real)
    await Bench(tmp_path).list()
    assert (tmp_path / "guard.lock").is_symlink()
    assert "mail" in real.read_text(encoding="utf-8")
    if sys.platform == "win32":
        return
    real.unlink()
    os.mkfifo(real)
    with pytest.raises(ConfigError, match="not a regular file"):
        Bench(tmp_path)
    real.unlink()
    real.mkdir()
    with pytest.raises(ConfigError, match=r"not a regular file|cannot be read"):
        Bench(tmp_path)


def test_a_lock_names_who_made_it_and_no_other_data_folder(tmp_path: Path) -> None:
    """decisions.md D25: serving from another data folder does not add it."""
    first = LockFile(tmp_path / "guard.lock", install_of(b"a"))
    first.change(lambda lock: lock.model_copy(), missing=first.fresh())
    second = LockFile(tmp_path / "guard.lock", install_of(b"b"))
    second.change(
        lambda lock: lock.with_server("x", ServerPin(command="x", command_digest="y")), missing=second.fresh()
    )
    found = first.read()
    assert found is not None
    assert found.installs == [install_of(b"a")] != [install_of(b"b")]


async def test_a_broken_lock_sends_people_to_the_doctor(tmp_path: Path) -> None:
    """docs/errors.md: `pins diff` cannot read it either."""
    bench = Bench(tmp_path)
    await bench.list()
    (tmp_path / "guard.lock").write_text("{", encoding="utf-8")
    assert bench.pins.reload()
    with pytest.raises(QuarantinedError) as refused:
        bench.pins.admit(Target(CallKind.TOOL, "mail", "get", "mail_get", local=True))
    assert "mcp-guard doctor" in refused.value.hint
