"""Parts built from the configuration alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mcp_guard.cli.loading import load
from mcp_guard.config.load import LoadedConfig
from mcp_guard.errors import ConfigError
from mcp_guard.parts import build_policy, environment_of, prepare_data_dir, probe_servers, resolve_servers

CANARY = "hunter2-canary-value"


def loaded(folder: Path, **servers: object) -> LoadedConfig:
    config = {"version": 1, "id": "a", "environment": "dev", "data_dir": "./data", "servers": servers}
    path = folder / "guard.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    path.chmod(0o600)
    return load(path)


def test_the_data_folder_is_private_and_kept_out_of_version_control(tmp_path: Path) -> None:
    """decisions.md D32."""
    prepare_data_dir(tmp_path / "data")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / ".gitignore").read_text() == "*\n"


def test_a_data_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """Bad input: read-only data folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        prepare_data_dir(tmp_path / "file" / "data")


def test_one_server_alone_has_plain_names_and_an_unknown_one_is_an_error(tmp_path: Path) -> None:
    """decisions.md D14: `serve --server NAME`."""
    found = loaded(tmp_path, a={"command": "x"}, b={"command": "y"})
    assert [server.names for server in resolve_servers(found, "a").values()] == ["plain"]
    assert [server.names for server in resolve_servers(found).values()] == ["prefixed", "prefixed"]
    with pytest.raises(ConfigError, match="no server named c"):
        resolve_servers(found, "c")


def test_the_identity_of_a_server_changes_with_its_command_and_never_with_a_secret(tmp_path: Path) -> None:
    """security.md S14, S37: identities are shown."""
    (tmp_path / "key").write_text(CANARY)
    one = resolve_servers(loaded(tmp_path, a={"command": "x", "env": {"K": "${file:key}"}}))["a"]
    (tmp_path / "key").write_text(CANARY + "2")
    two = resolve_servers(loaded(tmp_path, a={"command": "x", "env": {"K": "${file:key}"}}))["a"]
    other = resolve_servers(loaded(tmp_path, a={"command": "y"}))["a"]
    assert one.identity == two.identity != other.identity
    assert one.env == {"K": CANARY}
    assert CANARY not in repr(one)


def test_the_identity_of_a_server_covers_all_that_decides_which_one_answers(tmp_path: Path) -> None:
    """security.md S14: an approval for staging does not run in production."""
    base = {"command": "x", "args": ["a"], "env": {"DB": "staging"}}
    changes: list[dict[str, object]] = [
        {}, {"args": ["b"]}, {"env": {"DB": "production"}}, {"env": {"DB": "${env:HOME}"}}, {"cwd": "/"},
    ]  # fmt: skip
    remote: dict[str, object] = {"url": "http://127.0.0.1:9/mcp", "headers": {"X-Tenant": "one"}}
    servers: list[dict[str, object]] = [{**base, **change} for change in changes]
    servers += [remote, {**remote, "headers": {"X-Tenant": "two"}}]
    found = [resolve_servers(loaded(tmp_path, a=server))["a"].identity for server in servers]
    assert len(set(found)) == len(servers)
    assert resolve_servers(loaded(tmp_path, a=base))["a"].identity == found[0]


def test_the_identity_of_a_server_is_keyed_by_its_data_folder(tmp_path: Path) -> None:
    """A plain password in `env` cannot be guessed from a digest that is shown."""
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(resolve_servers(loaded(tmp_path / name, a={"command": "x", "env": {"PASSWORD": "a"}}))["a"])
    assert found[0].identity != found[1].identity


def test_a_variable_that_one_server_refers_to_is_withheld_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """security.md S4, decisions.md D29."""
    monkeypatch.setenv("CRM_KEY", CANARY)
    servers = {"a": {"command": "x", "env": {"K": "${env:CRM_KEY}", "P": "${env:PATH}"}}, "b": {"command": "y"}}
    found = resolve_servers(loaded(tmp_path, **servers), inherit=False)
    assert [found[name].withheld for name in ("a", "b")] == [frozenset(), {"CRM_KEY"}]
    assert not found["a"].inherit
    assert resolve_servers(loaded(tmp_path, **servers))["a"].inherit


def test_the_environment_of_a_server_is_its_own_or_the_configurations(tmp_path: Path) -> None:
    """decisions.md D30: top level with per-server override."""
    found = loaded(tmp_path, a={"command": "x", "environment": "prod"}, b={"command": "y"})
    assert [environment_of(found.config, name) for name in ("a", "b", "missing")] == ["prod", "dev", "dev"]


def test_the_policy_protects_the_guards_own_files(tmp_path: Path) -> None:
    """decisions.md D32, the built-in rule."""
    from mcp_guard.policy.explain import explain_call

    found = loaded(tmp_path, fs={"command": "x"})
    policy, facts_of = build_policy(found, stdio=True)
    args = {"path": str(found.data_dir / "keys" / "decision.1.key")}
    explanation = explain_call(policy, server="fs", tool="read", args=args, facts=facts_of("fs", "read", {}))  # type: ignore[arg-type]
    assert explanation.data["rule"] == "builtin:own-files"


async def test_probing_tells_of_each_server_how_it_is_doing(tmp_path: Path) -> None:
    """security.md F2: `check --connect` states why."""
    found = loaded(
        tmp_path,
        good={"command": sys.executable, "args": ["-m", "mcp_guard.demo.crm", "--db", str(tmp_path / "crm.db")]},
        bad={"command": "no-such-program-anywhere"},
    )
    states = {state["server"]: state for state in await probe_servers(found, timeout_s=30)}
    assert states["good"]["status"] == "ready"
    assert states["good"]["tools"] == 6
    assert states["bad"]["status"] == "failed"
    assert states["bad"]["reason"]
