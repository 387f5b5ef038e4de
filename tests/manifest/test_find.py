"""Which manifest is for which server."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_guard.config.schema import GuardConfig, ServerConfig
from mcp_guard.errors import ConfigError
from mcp_guard.manifest.find import Manifests, Shelf, shipped_folder
from mcp_guard.model import UNREVIEWED, JsonDict, Risk

TEXT = """
manifest: 1
server: {id}
package: [{package}]
reviewed_version: "1.0"
tools:
  look: {{effects: [read], risk: low, why: "Reads."}}
  put: {{effects: [write], risk: low, why: "Writes."}}
  drop: {{effects: [delete], risk: {risk}, why: "Deletes."}}
"""


def write(folder: Path, name: str, *, package: str = "pkg:pypi/acme", risk: str = "high") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(TEXT.format(id=name, package=package, risk=risk))
    path.chmod(0o600)
    return path


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    write(shipped, "acme")
    write(shipped, "beta", package="pkg:npm/%40b/beta")
    return Shelf(shipped)


def bind(shelf: Shelf, folder: Path, server: ServerConfig, *manifests: str) -> Manifests:
    return shelf.bind(GuardConfig(version=1, id="x", servers={"a": server}, manifests=list(manifests)), folder)


def test_a_manifest_is_found_by_the_package_that_the_command_starts(tmp_path: Path, shelf: Shelf) -> None:
    """decisions.md D31."""
    assert bind(shelf, tmp_path, ServerConfig(command="uvx", args=["acme"])).by_server["a"].server == "acme"
    assert bind(shelf, tmp_path, ServerConfig(command="npx", args=["@b/beta"])).by_server["a"].server == "beta"


def test_a_manifest_is_never_found_by_the_servers_name(tmp_path: Path, shelf: Shelf) -> None:
    """decisions.md D31: never by the config key."""
    config = GuardConfig(version=1, id="x", servers={"acme": ServerConfig(command="./run.sh")})

    assert shelf.bind(config, tmp_path).facts_for("acme", "look") is UNREVIEWED


def test_a_server_can_name_a_shipped_id_an_own_id_or_a_path(tmp_path: Path, shelf: Shelf) -> None:
    """decisions.md D31: servers.X.manifest."""
    write(tmp_path, "mine")
    for name in ("beta", "mine", "./mine.yaml"):
        server = ServerConfig(command="./run.sh", manifest=name)

        assert bind(shelf, tmp_path, server, "mine.yaml").by_server["a"].server == name.strip("./").removesuffix(
            ".yaml"
        )


def test_the_operators_own_manifest_comes_before_the_shipped_one(tmp_path: Path, shelf: Shelf) -> None:
    """decisions.md D31: `manifests: [PATH]`."""
    write(tmp_path, "mine", risk="critical")
    found = bind(shelf, tmp_path, ServerConfig(command="uvx", args=["acme"]), "mine.yaml")

    assert found.facts_for("a", "drop").risk is Risk.CRITICAL


def test_a_manifest_that_is_missing_broken_or_doubled_is_a_problem_of_the_configuration(
    tmp_path: Path, shelf: Shelf
) -> None:
    """docs/config.md: invalid manifest."""
    write(tmp_path, "mine")
    write(tmp_path, "low", risk="canary")
    config = GuardConfig(
        version=1,
        id="x",
        servers={"a": ServerConfig(command="x", manifest="nope"), "b": ServerConfig(command="x", manifest="./no.yaml")},
        manifests=["mine.yaml", "mine.yaml", "low.yaml"],
    )
    findings = shelf.check(config, tmp_path)

    assert [f.place for f in findings] == [
        ("manifests", 1), ("manifests", 2), ("servers", "a", "manifest"), ("servers", "b", "manifest"),
    ]  # fmt: skip
    assert "low.yaml:9: tools.drop.risk: must be 'low', 'medium', 'high' or 'critical'" in findings[1].what
    assert "canary" not in findings[1].what
    with pytest.raises(ConfigError):
        shelf.bind(config, tmp_path)


def test_a_manifest_that_anybody_may_write_is_refused(tmp_path: Path) -> None:
    """Threat S38: its facts decide what asks."""
    path = write(tmp_path, "mine")
    path.chmod(0o606)
    with pytest.raises(ConfigError, match="everybody on this machine may write"):
        Shelf(tmp_path).shipped()


def test_a_tool_that_no_manifest_lists_is_high(tmp_path: Path, shelf: Shelf) -> None:
    """decisions.md D30: unlisted = high, not reviewed; whatever the server says of it."""
    found = bind(shelf, tmp_path, ServerConfig(command="uvx", args=["acme"]))

    assert found.facts_for("a", "other", {"readOnlyHint": True}) is UNREVIEWED
    assert found.facts_for("nobody", "look") is UNREVIEWED
    assert UNREVIEWED.risk is Risk.HIGH


@pytest.mark.parametrize(
    ("tool", "annotations", "risk"),
    [
        ("look", {}, Risk.LOW),
        ("look", {"destructiveHint": True}, Risk.HIGH),
        ("look", {"destructiveHint": True, "readOnlyHint": True}, Risk.LOW),
        ("look", {"readOnlyHint": False}, Risk.MEDIUM),
        ("look", {"destructiveHint": "true"}, Risk.LOW),
        ("put", {"destructiveHint": True}, Risk.MEDIUM),
        ("drop", {"readOnlyHint": True, "destructiveHint": False}, Risk.HIGH),
        ("drop", {"destructiveHint": True}, Risk.HIGH),
    ],
)
def test_what_the_server_says_raises_the_risk_and_never_lowers_it(
    tmp_path: Path, shelf: Shelf, tool: str, annotations: JsonDict, risk: Risk
) -> None:
    """decisions.md D31: annotations of an untrusted server may raise risk, never lower it."""
    facts = bind(shelf, tmp_path, ServerConfig(command="uvx", args=["acme"])).facts_for("a", tool, annotations)

    assert facts.risk is risk


def test_the_digest_changes_with_the_facts(tmp_path: Path, shelf: Shelf) -> None:
    """approvals.md S1."""
    write(tmp_path, "mine")
    server = ServerConfig(command="uvx", args=["acme"])

    assert bind(shelf, tmp_path, server).digest != bind(shelf, tmp_path, server, "mine.yaml").digest


def test_every_shipped_manifest_is_valid_and_named_after_its_server() -> None:
    """CONTRIBUTING.md, "Manifests": file stem == server."""
    for stem, manifest in Shelf(shipped_folder()).shipped().items():
        assert manifest.server == stem
