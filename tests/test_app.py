"""The composition root: what it refuses to build, and that it takes everything down again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from mcp_guard.app import ServeOptions, _recheck, open_guard, serve
from mcp_guard.audit.query import tail
from mcp_guard.cli.loading import load
from mcp_guard.config.load import LoadedConfig
from mcp_guard.downstream.catalog import Catalog
from mcp_guard.downstream.definition import Listing
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import (
    ConfigError,
    DownstreamUnavailableError,
    GuardError,
    QuarantinedError,
    StoreUnavailableError,
    UnknownTargetError,
)
from mcp_guard.model import (
    UNREVIEWED,
    Call,
    CallContext,
    CallKind,
    Effect,
    JsonDict,
    MaskedJson,
    Principal,
    RawArguments,
    Target,
    Views,
)
from mcp_guard.parts import build_policy
from mcp_guard.policy.decide import Policy


def loaded(folder: Path, **more: object) -> LoadedConfig:
    config = {"version": 1, "id": "a", "data_dir": "./data", "servers": {"crm": {"command": "no-such-program"}}, **more}
    path = folder / "guard.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    path.chmod(0o600)
    return load(path)


async def test_a_guard_that_was_closed_leaves_its_folder_to_the_next_one(tmp_path: Path) -> None:
    """security.md F8: shutting down frees the slot, the locks and the log."""
    found = loaded(tmp_path)
    for _ in range(2):
        async with open_guard(found, ServeOptions(), mode="personal") as guard:
            assert guard.pool.state("crm").status == "idle"
    types = [entry.type for entry in tail(found.data_dir / "audit")]
    assert types == ["log.opened", "log.closed"] * 2
    assert [path.name for path in (found.data_dir / "audit").iterdir() if path.is_dir()] == ["00"]
    assert list((found.data_dir / "holders").iterdir()) == []


async def test_two_guards_on_one_folder_each_have_their_slot(tmp_path: Path) -> None:
    """decisions.md D7: one writer per log file."""
    found = loaded(tmp_path)
    async with (
        open_guard(found, ServeOptions(), mode="personal"),
        open_guard(found, ServeOptions(), mode="personal"),
    ):
        pass
    assert sorted(p.name for p in (found.data_dir / "audit").iterdir() if p.is_dir()) == ["00", "01"]


async def test_personal_mode_over_http_is_refused(tmp_path: Path) -> None:
    """decisions.md D25."""
    found = loaded(tmp_path, approvals={"mode": "personal"})
    with pytest.raises(ConfigError, match="does not go with --http"):
        await serve(found, ServeOptions(http="127.0.0.1:0"))


async def test_a_server_that_is_not_configured_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """Bad input: a clear error."""
    with pytest.raises(ConfigError, match="no server named other"):
        await serve(loaded(tmp_path), ServeOptions(only="other"))


async def test_a_store_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """security.md F12: refuse to start."""
    found = loaded(tmp_path)
    found.data_dir.mkdir()
    (found.data_dir / "approvals.db").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StoreUnavailableError):
        await serve(found, ServeOptions())


def catalogue(*tools: str, names: Literal["plain", "prefixed"] = "prefixed", identity: str = "one") -> Catalog:
    server = ResolvedServer("crm", identity, command=("x",), names=names)
    found = Catalog({"crm": server}, facts_of=lambda _server, _tool, _annotations, _definition: UNREVIEWED)
    if tools:
        listed: list[JsonDict] = [{"name": name, "inputSchema": {"type": "object"}} for name in tools]
        found.update("crm", Listing(tools=tuple(listed)))
    return found


def approved(target: Target) -> tuple[Call, Views]:
    call = Call("call_1", target, RawArguments({}), Principal("os", "alice"), CallContext("stdio", "2025-11-25", "s"))
    return call, Views(RawArguments({}), MaskedJson({}), MaskedJson({}))


def a_policy(folder: Path) -> Policy:
    return build_policy(loaded(folder), stdio=True)[0]


async def unconfirmed(_call: Call) -> None:
    """No list is old here."""


async def test_an_approved_tool_is_found_under_whatever_name_another_guard_offers_it(tmp_path: Path) -> None:
    """Restart and adoption lose nothing: `serve --server` offers plain names."""
    then = catalogue("get").resolve("crm_get", Principal("os", "alice"))
    recheck = _recheck(catalogue("get", names="plain"), a_policy(tmp_path), unconfirmed)
    assert (await recheck(*approved(then))).effect is Effect.REQUIRE_APPROVAL


@pytest.mark.parametrize(
    ("now", "error"),
    [
        (catalogue(), DownstreamUnavailableError),
        (catalogue("other"), UnknownTargetError),
        (catalogue("get", identity="two"), QuarantinedError),
    ],
    ids=["not listed yet", "tool gone", "another command"],
)
async def test_an_approved_call_does_not_run_against_something_else(
    tmp_path: Path, now: Catalog, error: type[GuardError]
) -> None:
    """approvals.md S10; security.md S14. A server that is not there yet is waited for, not given up."""
    then = catalogue("get").resolve("crm_get", Principal("os", "alice"))
    with pytest.raises(error):
        await _recheck(now, a_policy(tmp_path), unconfirmed)(*approved(then))


async def test_an_approved_risky_call_is_void_when_its_server_has_changed_since_the_last_list(tmp_path: Path) -> None:
    """security.md S22: an unreviewed tool counts as risky, and is looked at again."""

    async def refuse(_call: Call) -> None:
        raise QuarantinedError("its description changed")

    then = catalogue("get").resolve("crm_get", Principal("os", "alice"))
    with pytest.raises(QuarantinedError, match="its description changed"):
        await _recheck(catalogue("get"), a_policy(tmp_path), refuse)(*approved(then))


async def test_an_approved_resource_is_bound_to_its_server_as_well(tmp_path: Path) -> None:
    """security.md S14: the identity of the server counts for every kind of call."""
    then = Target(CallKind.RESOURCE, "crm", "thing://1", "thing://1", local=True, server_identity="one")
    policy = a_policy(tmp_path)
    assert (await _recheck(catalogue("get"), policy, unconfirmed)(*approved(then))).effect is Effect.ALLOW
    with pytest.raises(QuarantinedError):
        await _recheck(catalogue("get", identity="two"), policy, unconfirmed)(*approved(then))
