"""The composition root: what it refuses to build, and that it takes everything down again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_guard.app import ServeOptions, open_guard, serve
from mcp_guard.audit.query import tail
from mcp_guard.cli.loading import load
from mcp_guard.config.load import LoadedConfig
from mcp_guard.errors import ConfigError, StoreUnavailableError


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
