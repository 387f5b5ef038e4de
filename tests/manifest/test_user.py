"""User manifests: strict, for one definition of each tool, over the shipped ones (docs/manifests.md)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_guard.config.schema import GuardConfig, ServerConfig
from mcp_guard.errors import ConfigError
from mcp_guard.manifest.find import Manifests, Shelf
from mcp_guard.manifest.user import (
    UserManifest,
    read_user_manifest,
    user_manifest_path,
    user_manifest_schema,
    write_user_manifest,
)
from mcp_guard.model import UNREVIEWED, Risk

ONE, OTHER = "1" * 64, "2" * 64
REVIEWED = {"by": "dana", "on": "2026-11-21"}
CONFIG = GuardConfig(
    version=1,
    id="x",
    servers={"a": ServerConfig(command="./run.sh"), "g": ServerConfig(command="uvx", args=["mcp-server-git"])},
)


def entry(**more: Any) -> dict[str, Any]:
    return {"effects": ["read"], "risk": "low", "why": "Reads.", "definition": ONE, **more}


def manifest(server: str = "a", tools: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"manifest": 1, "server": server, "reviewed": REVIEWED, "tools": tools or {"look": entry()}, **more}


def put(folder: Path, data: Any, server: str = "a") -> Path:
    path = user_manifest_path(folder, server)
    path.parent.mkdir(exist_ok=True)
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    path.chmod(0o600)
    return path


def bound(folder: Path, config: GuardConfig = CONFIG) -> Manifests:
    return Shelf().bind(config, folder)


def test_a_user_manifest_is_found_by_the_name_of_the_server_and_counts_for_its_definition_alone(tmp_path: Path) -> None:
    """security.md S21, S22: a tool that says something else than when it was reviewed is not reviewed."""
    put(tmp_path, manifest())
    found = bound(tmp_path)
    facts = found.facts_for("a", "look", {}, ONE)
    assert (facts.listed, facts.risk, facts.manifest) == (True, Risk.LOW, "a")
    changed = found.facts_for("a", "look", {}, OTHER)
    assert (changed.listed, changed.risk) == (False, Risk.HIGH)
    assert found.facts_for("a", "other", {}, ONE) is UNREVIEWED
    assert found.facts_for("g", "look", {}, ONE) is UNREVIEWED


def test_a_reviewed_definition_is_not_raised_by_the_annotations_that_are_part_of_it(tmp_path: Path) -> None:
    """decisions.md D31: who reviewed the definition saw its annotations."""
    put(tmp_path, manifest())
    assert bound(tmp_path).facts_for("a", "look", {"destructiveHint": True}, ONE).risk is Risk.LOW


def test_an_entry_comes_before_the_shipped_one_as_long_as_the_definition_is_the_same(tmp_path: Path) -> None:
    """docs/manifests.md: layered over the shipped manifest, tool by tool."""
    put(tmp_path, manifest("g", {"git_status": entry(risk="high"), "git_commit": entry()}), "g")
    found = bound(tmp_path)
    assert found.facts_for("g", "git_status", {}, ONE).risk is Risk.HIGH
    assert found.facts_for("g", "git_commit", {}, ONE).risk is Risk.LOW
    assert found.facts_for("g", "git_log", {}, ONE).manifest == "git"


def test_a_changed_tool_is_never_laxer_than_any_earlier_review(tmp_path: Path) -> None:
    """Fail closed: the shipped facts stand again, but not below what its owner said."""
    strict = entry(effects=["execute"], risk="critical")
    put(tmp_path, manifest("g", {"git_status": strict, "git_commit": entry()}), "g")
    put(tmp_path, manifest("a", {"look": strict}))
    found = bound(tmp_path)
    assert found.facts_for("g", "git_status", {}, OTHER).risk is Risk.CRITICAL
    assert found.facts_for("g", "git_commit", {}, OTHER).risk is Risk.MEDIUM  # as shipped, not as trusted
    assert found.facts_for("a", "look", {}, OTHER).risk is Risk.CRITICAL


def test_the_facts_are_part_of_the_policy_digest_and_the_day_is_not(tmp_path: Path) -> None:
    """approvals.md: what was approved under other facts does not run."""
    none = bound(tmp_path).digest
    put(tmp_path, manifest())
    one = bound(tmp_path).digest
    put(tmp_path, manifest(reviewed={"by": "dana", "on": "2026-11-22"}))
    assert bound(tmp_path).digest == one
    put(tmp_path, manifest(tools={"look": entry(risk="medium")}))
    assert len({none, one, bound(tmp_path).digest}) == 3


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("", "the file is empty"),
        ("tools: [", "not valid YAML"),
        (manifest(approval="x"), "approval: unknown key"),
        (manifest("b"), "server: is not the server after which the file is named"),
        (manifest(tools={"look": entry(definition="x")}), "tools.look.definition"),
        (manifest(tools={"look": {**entry(), "risk": "none"}}), "tools.look.risk"),
        (manifest(tools={"run": entry(effects=["execute"])}), "at least high"),
        (manifest(reviewed={"by": "dana", "on": "2026-13-41"}), "reviewed.on: must be a day"),
        (manifest(reviewed={"by": "da\x07na", "on": "2026-11-21"}), "reviewed.by"),
        ({key: value for key, value in manifest().items() if key != "reviewed"}, "reviewed: this key is required"),
    ],
)
def test_a_user_manifest_that_is_not_valid_is_an_error_and_never_silence(tmp_path: Path, data: Any, told: str) -> None:
    """security.md S38: strict, and the file is named with its line."""
    put(tmp_path, data)
    with pytest.raises(ConfigError, match=r"manifests/a\.yaml") as caught:
        bound(tmp_path)
    assert told in str(caught.value)
    assert "2026-13-41" not in str(caught.value)
    assert any(told in finding.what for finding in Shelf().check(CONFIG, tmp_path))


def test_all_problems_of_all_user_manifests_are_told_at_once(tmp_path: Path) -> None:
    """security.md S38."""
    put(tmp_path, manifest(tools={"look": {**entry(), "risk": "x", "effects": []}}))
    put(tmp_path, manifest("x"), "g")
    with pytest.raises(ConfigError, match="3 problems"):
        bound(tmp_path)


def test_a_file_that_anybody_may_write_or_that_is_no_file_does_not_count(tmp_path: Path) -> None:
    """security.md S38: owner and mode, links to nowhere."""
    put(tmp_path, manifest()).chmod(0o666)
    with pytest.raises(ConfigError, match="everybody on this machine may write"):
        bound(tmp_path)
    path = user_manifest_path(tmp_path, "a")
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="cannot be read"):
        bound(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="not a regular file"):
        bound(tmp_path)


def test_a_file_that_the_configuration_names_as_another_kind_is_left_alone(tmp_path: Path) -> None:
    """decisions.md D31: `manifests: [PATH]` holds facts for everybody, without digests."""
    put(tmp_path, {"manifest": 1, "server": "a", "package": "pkg:pypi/x", "reviewed_version": "1",
                   "tools": {"look": {"effects": ["read"], "risk": "low", "why": "Reads."}}})  # fmt: skip
    server = ServerConfig(command="./run.sh", manifest="a")
    config = GuardConfig(version=1, id="x", servers={"a": server}, manifests=["manifests/a.yaml"])
    found = bound(tmp_path, config)
    assert found.users == {}
    assert found.facts_for("a", "look", {}, ONE).listed


def test_what_is_written_is_read_again_unchanged_and_private(tmp_path: Path) -> None:
    """CONTRIBUTING.md, habit 10: a round trip for each format that is both written and read."""
    names = ["look", "yes", "1", "null", "a: b", "- x", '"', "\u0441", "a'b", "#", "tool.with-dots", "x" * 128]
    tools = {name: entry(arguments={"/a: b": {"role": "content"}}, resource="/a: b") for name in names}
    written = UserManifest.model_validate(manifest(tools=tools, package="pkg:npm/x"))
    path = user_manifest_path(tmp_path, "a")
    write_user_manifest(path, written)
    write_user_manifest(path, written)
    assert read_user_manifest(path, "a") == written
    assert path.read_text(encoding="utf-8").isascii()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["a.yaml"]


@pytest.mark.skipif(sys.platform == "win32", reason="links as POSIX has them")
def test_a_manifest_that_is_a_link_stays_one(tmp_path: Path) -> None:
    """docs/manifests.md: a folder of dotfiles keeps what is written."""
    real, path = tmp_path / "dotfiles" / "a.yaml", user_manifest_path(tmp_path, "a")
    for folder in (real.parent, path.parent):
        folder.mkdir()
    path.symlink_to(real)
    written = UserManifest.model_validate(manifest())
    write_user_manifest(path, written)
    assert path.is_symlink()
    assert read_user_manifest(real, "a") == written


def test_a_manifest_that_cannot_be_written_is_a_clear_error_and_leaves_the_old_one(tmp_path: Path) -> None:
    """Fail closed: nothing half written."""
    written = UserManifest.model_validate(manifest())
    (tmp_path / "manifests").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_user_manifest(user_manifest_path(tmp_path, "a"), written)
    huge = UserManifest.model_validate(manifest(tools={f"t{n}": entry(why="x" * 500) for n in range(2000)}))
    path = user_manifest_path(tmp_path / "b", "a")
    path.parent.mkdir(parents=True)
    with pytest.raises(ConfigError, match="could not be read again"):
        write_user_manifest(path, huge)
    assert not path.exists()


def test_the_schema_is_published_for_editors() -> None:
    """docs/manifests.md."""
    schema = user_manifest_schema()
    assert json.dumps(schema)
    assert set(schema["required"]) == {"manifest", "server", "reviewed", "tools"}  # type: ignore[arg-type]
