"""The first guard.yaml."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_guard.config.initfile import InitPlan, config_id_for, plan_init, write_init
from mcp_guard.config.load import LoadedConfig, load_config, user_config_file
from mcp_guard.config.schema import ApprovalsConfig, DefaultsConfig, MaskingConfig
from mcp_guard.errors import ConfigError, UsageError

SECRET = "canary0123456789abcdef"
DESKTOP: dict[str, Any] = {
    "globalShortcut": "Ctrl+Space",
    "mcpServers": {
        "files": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv/é"]},
        "My CRM!": {"command": "python", "args": ["crm.py"], "env": {"CRM_TOKEN": SECRET, "MODE": "on"}},
        "web": {"type": "streamable-http", "url": "https://example.com/mcp", "alwaysAllow": ["search"]},
        "old": {"type": "sse", "url": "https://example.com/sse"},
        "guard": {"command": "/opt/bin/mcp-guard", "args": ["serve"]},
        "broken": {"command": "x", "args": SECRET},
        "ide": {"command": "x", "args": ["${workspaceFolder}"], "env": {"K": "${input:key}"}},
    },
}


def _written(plan: InitPlan, folder: Path) -> LoadedConfig:
    write_init(plan, folder / "guard.yaml")
    return load_config(folder / "guard.yaml", {})


def test_what_init_writes_loads_and_starts_the_same_servers(tmp_path: Path) -> None:
    """Contract of `init`: `init --from FILE`; the servers work as before."""
    plan = plan_init(DESKTOP, config_id="laptop", environment="dev")
    loaded = _written(plan, tmp_path)
    assert (loaded.config.id, loaded.config.environment) == ("laptop", "dev")
    assert tuple(loaded.config.servers) == plan.servers == ("files", "My-CRM", "web", "ide")
    assert loaded.servers["files"].args == ["-y", "@modelcontextprotocol/server-filesystem", "/srv/é"]
    assert loaded.servers["My-CRM"].env == {"CRM_TOKEN": SECRET, "MODE": "on"}
    assert loaded.servers["web"].url == "https://example.com/mcp"
    assert loaded.warnings == ()


def test_a_plain_secret_is_in_its_file_only_and_is_masked_from_then_on(tmp_path: Path) -> None:
    """Configuration contract: secrets are references."""
    plan = plan_init(DESKTOP, config_id="laptop")
    loaded = _written(plan, tmp_path)
    assert SECRET in loaded.secrets
    for shown in (plan.text, repr(plan), *plan.notes):
        assert SECRET not in shown
    assert (tmp_path / "secrets" / "My-CRM.CRM_TOKEN").read_text(encoding="utf-8") == SECRET
    assert (tmp_path / "secrets" / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_the_user_is_told_what_was_changed_or_left_out() -> None:
    """Contract of `init`: `init` reports; nothing vanishes silently."""
    notes = "\n".join(plan_init(DESKTOP, config_id="laptop").notes)
    for said in (
        "My CRM! is called My-CRM",
        "My-CRM: plain secrets were moved to secrets/My-CRM.CRM_TOKEN",
        "web: without a meaning here, left out: alwaysAllow",
        "old was left out: the old SSE transport",
        "guard was left out: it is the guard itself",
        "broken was left out, it is not valid: args",
        "ide is disabled: only its host knows input, workspaceFolder",
    ):
        assert said in notes


def test_servers_that_need_their_host_are_kept_but_disabled(tmp_path: Path) -> None:
    """Configuration contract: a host's own references are resolved or refused by name; the other servers must start."""
    loaded = _written(plan_init(DESKTOP, config_id="laptop"), tmp_path)
    assert loaded.config.servers["ide"].disabled
    assert "ide" not in loaded.servers


@pytest.mark.parametrize(("count", "names"), [(1, {"plain"}), (2, {"prefixed"})])
def test_how_tools_are_named_is_written_down(tmp_path: Path, count: int, names: set[str]) -> None:
    """Decision D14: a later server never renames the tools of an earlier one."""
    source = {"mcpServers": {f"s{i}": {"command": "x"} for i in range(count)}}
    loaded = _written(plan_init(source, config_id="laptop"), tmp_path)
    assert {server.names for server in loaded.config.servers.values()} == names
    assert loaded.path.read_text(encoding="utf-8").count("\n    names: ") == count


def test_an_empty_start_shows_all_defaults_as_they_are(tmp_path: Path) -> None:
    """Configuration contract: everything that the guard does by default stands in visible blocks."""
    config = _written(plan_init(None, config_id="1"), tmp_path).config
    assert config.id == "1"
    assert config.servers == {}
    assert config.defaults == DefaultsConfig()
    assert config.masking == MaskingConfig()
    assert config.approvals == ApprovalsConfig(mode="personal")
    text = (tmp_path / "guard.yaml").read_text(encoding="utf-8")
    for block in (DefaultsConfig, MaskingConfig):
        assert all(f"  {key}:" in text for key in block.model_fields if key not in ("allow", "detectors"))


def test_names_that_become_equal_stay_apart() -> None:
    """Decision D14: ambiguity is not possible."""
    source = {"mcpServers": {"a b": {"command": "x"}, "a/b": {"command": "x"}, "§": {"command": "x"}}}
    assert plan_init(source, config_id="laptop").servers == ("a-b", "a-b-2", "server")


def test_servers_of_single_projects_are_mentioned() -> None:
    """Host formats: Claude Code."""
    source = {"mcpServers": {}, "projects": {"/a": {"mcpServers": {"x": {"command": "y"}}}}}
    assert "servers that belong to single projects (1 projects) were not read" in plan_init(source, config_id="a").notes


def test_nothing_is_overwritten_and_nothing_is_left_behind(tmp_path: Path) -> None:
    """Contract of `init`: `init` changes no file that exists."""
    plan = plan_init(DESKTOP, config_id="laptop")
    path = tmp_path / "guard.yaml"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"guard\.yaml exists"):
        write_init(plan, path)
    assert path.read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "secrets").exists()


def test_an_earlier_secret_file_stops_init_and_stays(tmp_path: Path) -> None:
    """Contract of `init`: loses nothing."""
    earlier = tmp_path / "secrets" / "My-CRM.CRM_TOKEN"
    earlier.parent.mkdir()
    earlier.write_text("earlier", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"My-CRM.CRM_TOKEN exists already"):
        write_init(plan_init(DESKTOP, config_id="laptop"), tmp_path / "guard.yaml")
    assert earlier.read_text(encoding="utf-8") == "earlier"
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["My-CRM.CRM_TOKEN"]


def test_a_folder_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    """Contract of `init`: bad input."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="file exists already"):
        write_init(plan_init(None, config_id="laptop"), tmp_path / "file" / "guard.yaml")


@pytest.mark.skipif(sys.platform == "win32", reason="modes do not tell on Windows")
def test_all_files_are_private(tmp_path: Path) -> None:
    """Decision D32."""
    write_init(plan_init(DESKTOP, config_id="laptop"), tmp_path / "new" / "guard.yaml")
    files = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "new" / "secrets").stat().st_mode) == 0o700


def test_each_path_has_its_own_id() -> None:
    """Decision D32: the data folder is named after the id, so two configurations must not share one."""
    assert config_id_for(user_config_file()) == "personal"
    one, two = config_id_for(Path("/srv/a/guard.yaml")), config_id_for(Path("/opt/a/guard.yaml"))
    assert one != two
    assert one.startswith("a-")


def test_an_id_that_is_no_name_is_refused() -> None:
    """Contract of `init`: bad input."""
    with pytest.raises(UsageError):
        plan_init(None, config_id="a\nb: c")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("v1 ${file:FOLDER/credentials}", "${file:…}"),
        ("$${file:FOLDER/credentials}", "${file:…}"),
        ("${file:~/.aws/credentials}", "${file:…}"),
        ("${keyring:bank/alice}", "${keyring:…}"),
        ("--root=${config_dir}/x", "${config_dir}"),
        ("${env:HOME}${file:FOLDER/credentials}", "${file:…}"),
    ],
)
@pytest.mark.parametrize("member", ["headers", "env", "args", "url", "command", "cwd"])
def test_what_only_guard_yaml_understands_is_not_resolved_for_a_server_that_was_pasted(
    tmp_path: Path, text: str, named: str, member: str
) -> None:
    """security.md S38: no host reads a file for `${file:…}`; a block from a web page may not have the guard do so."""
    (tmp_path / "credentials").write_text(SECRET, encoding="utf-8")
    text = text.replace("FOLDER", tmp_path.as_posix())
    remote = {"url": "https://example.com/mcp", "headers": {"X-Client": text}}
    local: dict[str, Any] = {"command": "x", "env": {"K": text}, "args": [text], "cwd": f"/{text}"}
    one = {"url": {"url": f"https://example.com/{text}"}, "headers": remote, "command": {"command": text}}
    pasted = one.get(member) or {"command": "x", member: local[member]}
    plan = plan_init({"mcpServers": {"weather": pasted, "other": {"command": "y"}}}, config_id="laptop")
    loaded = _written(plan, tmp_path)

    assert loaded.config.servers["weather"].disabled or "weather" not in loaded.config.servers
    assert list(loaded.servers) == ["other"]
    assert SECRET not in str(loaded.servers)
    assert any(f"weather is disabled: here {named}" in note for note in plan.notes), plan.notes


def test_a_reference_that_nobody_understands_disables_its_server_and_not_the_guard(tmp_path: Path) -> None:
    """Configuration contract: the other servers must start."""
    servers = {"a": {"command": "x", "args": ["${command:pick}"]}, "b": {"command": "x", "args": ["${"]}}
    plan = plan_init({"mcpServers": {**servers, "c": {"command": "y", "args": ["${HOST:-me}"]}}}, config_id="laptop")

    assert list(_written(plan, tmp_path).servers) == ["c"]
    assert "a is disabled: only its host knows command; write the value, then enable it" in plan.notes
    assert "b is disabled: only its host knows a ${ that is not closed; write the value, then enable it" in plan.notes
