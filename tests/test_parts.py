"""Parts built from the configuration alone."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mcp_guard.cli.loading import load
from mcp_guard.config.load import LoadedConfig
from mcp_guard.config.schema import Rule
from mcp_guard.errors import ConfigError
from mcp_guard.manifest.find import Shelf
from mcp_guard.model import UNREVIEWED, JsonDict
from mcp_guard.parts import (
    build_policy,
    environment_of,
    prepare_data_dir,
    probe_listings,
    probe_servers,
    resolve_servers,
)
from mcp_guard.policy.explain import explain_call

CANARY = "hunter2-canary-value"
PICKY = """
import json, sys
tools = [{"name": "always", "inputSchema": {"type": "object"}}]
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        if "roots" in message["params"]["capabilities"]:
            tools.append({"name": "with_roots", "inputSchema": {"type": "object"}})
        told = {"serverInfo": {"name": "picky", "version": "1"}, "capabilities": {"tools": {}}}
        answer = {"result": {"protocolVersion": "2025-11-25", **told}}
    elif message.get("method") == "tools/list":
        answer = {"result": {"tools": tools}}
    else:
        answer = {"error": {"code": -32601, "message": "unknown"}}
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
"""
"""Has a tool for clients with roots alone."""


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


def test_a_variable_of_a_notice_is_withheld_from_every_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/decisions.md D29: children do not get the guard's own secrets."""
    monkeypatch.setenv("TOPIC", CANARY)
    written = {"servers": {"a": {"command": "x"}}, "approvals": {"notify": ["ntfys://ntfy.example/${env:TOPIC}"]}}
    path = tmp_path / "guard.yaml"
    path.write_text(json.dumps({"version": 1, "id": "a", "data_dir": "./data", **written}), encoding="utf-8")
    path.chmod(0o600)

    assert resolve_servers(load(path))["a"].withheld == {"TOPIC"}


def test_the_environment_of_a_server_is_its_own_or_the_configurations(tmp_path: Path) -> None:
    """decisions.md D30: top level with per-server override."""
    found = loaded(tmp_path, a={"command": "x", "environment": "prod"}, b={"command": "y"})
    assert [environment_of(found.config, name) for name in ("a", "b", "missing")] == ["prod", "dev", "dev"]


def test_the_policy_protects_the_guards_own_files(tmp_path: Path) -> None:
    """decisions.md D32, the built-in rule."""
    found = loaded(tmp_path, fs={"command": "x"})
    policy, facts_of, _ = build_policy(found, stdio=True)
    args = {"path": str(found.data_dir / "keys" / "decision.1.key")}
    explanation = explain_call(policy, server="fs", tool="read", args=args, facts=facts_of("fs", "read", {}, None))  # type: ignore[arg-type]
    assert explanation.data["rule"] == "builtin:own-files"


def test_relative_paths_are_judged_from_the_folders_a_server_is_started_for_and_the_roots(tmp_path: Path) -> None:
    """docs/limits.md, "The guard's own files": server-filesystem reads them against its arguments or the roots."""
    for name in ("named", "variable", "root", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "link").symlink_to(tmp_path / "data")
    found = loaded(
        tmp_path,
        fs={"command": "x", "args": [f"--dir={tmp_path}/named"], "env": {"DIR": str(tmp_path / "variable")}},
        other={"command": "x"},
    )
    policy, _, roots = build_policy(found, stdio=True)

    def rule(server: str, path: str) -> object:
        return explain_call(policy, server=server, tool="t", args={"path": path}, facts=UNREVIEWED).data["rule"]

    assert rule("fs", "link/keys") == "builtin:own-files"
    assert rule("other", "link/keys") == "default:high"
    roots.note([(tmp_path / "root").as_uri()])
    assert rule("other", "link/keys") == "builtin:own-files"


def test_arguments_of_a_server_on_another_machine_name_nothing_on_this_one(tmp_path: Path) -> None:
    """docs/limits.md, "The guard's own files": no alarm for a path that it reads on its own disk."""
    found = loaded(tmp_path, far={"url": "https://db.example.com/mcp"}, near={"url": "http://127.0.0.1:8000/mcp"})
    policy, _, _ = build_policy(found, stdio=True)
    rules = [
        explain_call(policy, server=name, tool="t", args={"path": str(path)}, facts=UNREVIEWED).data["rule"]
        for name in ("far", "near")
        for path in (found.path, found.path.parent)
    ]
    assert rules == ["default:high", "default:high", "builtin:own-files", "builtin:above-own-files"]


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


async def test_probing_sees_the_tools_that_a_server_offers_only_where_there_are_roots(tmp_path: Path) -> None:
    """docs/pins.md: what a host with roots will be offered was reviewed and accepted with the rest."""
    listings = await probe_listings(
        loaded(tmp_path, a={"command": sys.executable, "args": ["-c", PICKY]}), timeout_s=30
    )
    state, listing = listings["a"]
    assert state.status == "ready"
    assert listing is not None
    assert [tool["name"] for tool in listing.tools] == ["always", "with_roots"]


@pytest.mark.parametrize("effect", ["allow", "require_approval", "deny"])
def test_the_policy_asks_for_a_path_into_a_folder_of_git(effect: str, tmp_path: Path) -> None:
    """docs/limits.md, "Git's own files", with the manifests that the guard brings."""
    found = loaded(tmp_path, fs={"command": "x"})
    reviewed = Shelf().shipped()["filesystem"].facts("edit_file")
    assert reviewed is not None
    rule = {"id": "r", "match": {}, "effect": effect, "reason": "a test"}
    config = found.config.model_copy(update={"rules": [Rule.model_validate(rule)]})
    policy, _, _ = build_policy(replace(found, config=config), stdio=True)
    args: JsonDict = {"path": str(tmp_path / "repo" / ".git" / "config"), "edits": []}
    explanation = explain_call(policy, server="fs", tool="edit_file", args=args, facts=reviewed)
    denied = effect == "deny"
    assert explanation.data["effect"] == ("deny" if denied else "require_approval")
    assert explanation.data["rule"] == ("r" if denied else "builtin:git-folder")
    assert explanation.data["place"] == "builtin:git-folder"
