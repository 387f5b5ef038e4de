"""Finding and loading guard.yaml."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_guard.config.load import (
    LoadedConfig,
    config_schema,
    find_config,
    load_config,
    user_config_file,
)
from mcp_guard.config.problems import Finding
from mcp_guard.config.schema import GuardConfig
from mcp_guard.errors import ConfigError

CANARY = "canary-5f2a91"
SET_IT = "set it where the host starts the guard"
HEAD = "version: 1\nid: laptop\n"
KEYS = ["a", "command", "env", "args", "match", "tool", "server", "id", "effect", "results", "secrets", "pii"]
LEAVES = st.sampled_from([None, True, 3, 1.5, CANARY])
SHAPES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner), max_leaves=12
)


def write(folder: Path, text: str, name: str = "guard.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def load(folder: Path, text: str, env: Mapping[str, str] | None = None) -> LoadedConfig:
    return load_config(write(folder, text), env or {})


def refusal(folder: Path, text: str, env: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, env)
    return str(caught.value)


BROKEN = [
    ("unknown top key", "ruels: [canary-5f2a91]\n", "guard.yaml:3: ruels: unknown key (did you mean rules?)"),
    ("unknown key without a neighbour", "zzzqqq: 1\n", "guard.yaml:3: zzzqqq: unknown key"),
    ("key twice", "rules: []\nrules: []\n", "guard.yaml:4: rules: the key stands twice"),
    ("nested key twice", "servers:\n  a:\n    command: x\n    command: y\n", "guard.yaml:6: servers.a.command: the k"),
    ("key that is a number", "servers:\n  1: {command: x}\n", "guard.yaml:4: servers: a key is not text"),
    ("rules is a block", "rules: {a: 1}\n", "guard.yaml:3: rules: must be a list"),
    ("rule is text", "rules: [canary-5f2a91]\n", "guard.yaml:3: rules[0]: must be a block of keys"),
    ("servers is a list", "servers: []\n", "guard.yaml:3: servers: must be a block of keys"),
    ("server without transport", "servers: {a: {}}\n", "servers.a: give exactly one of command and url"),
    ("server with both", "servers: {a: {command: x, url: 'http://x'}}\n", "servers.a: give exactly one of command and"),
    ("url of another scheme", "servers: {a: {url: 'ftp://canary-5f2a91'}}\n", "servers.a: url must start with http://"),
    ("args without command", "servers: {a: {url: 'http://x', args: [canary-5f2a91]}}\n", "args, env and cwd need a"),
    ("headers without url", "servers: {a: {command: x, headers: {A: canary-5f2a91}}}\n", "headers need a url"),
    ("type against transport", "servers: {a: {command: x, type: http}}\n", "type does not agree with command or url"),
    ("host key", "servers: {a: {command: x, alwaysAllow: [y]}}\n", "servers.a.alwaysAllow: unknown key (a host's own"),
    ("server name with a space", "servers: {'my server': {command: x}}\n", "a name may hold letters, digits"),
    ("env value is a number", "servers: {a: {command: x, env: {A: 3}}}\n", "servers.a.env.A: must be text"),
    ("timeout too long", "servers: {a: {command: x, call_timeout_s: 1000000}}\n", "must be at most 86400"),
    ("timeout of zero", "servers: {a: {command: x, start_timeout_s: 0}}\n", "must be greater than 0"),
    ("timeout not a number", "servers: {a: {command: x, start_timeout_s: .nan}}\n", "servers.a.start_timeout_s: must"),
    ("timeout as text", "servers: {a: {command: x, start_timeout_s: canary-5f2a91}}\n", "must be a number"),
    ("rule without effect", "rules:\n  - id: a\n", "guard.yaml:4: rules[0].effect: this key is required"),
    ("rule without id", "rules:\n  - effect: deny\n", "guard.yaml:4: rules[0].id: this key is required"),
    ("unknown effect", "rules: [{id: a, effect: canary-5f2a91}]\n", "rules[0].effect: must be 'allow', 'require_app"),
    ("misspelt match key", "rules: [{id: a, effect: deny, match: {tol: x}}]\n", "match.tol: unknown key (did you mea"),
    ("match of a wrong type", "rules: [{id: a, effect: deny, match: {tool: 3}}]\n", "must be text or a list of texts"),
    ("match list of a wrong type", "rules: [{id: a, effect: deny, match: {tool: [3]}}]\n", "match.tool[0]: must be t"),
    ("reserved rule id", "rules: [{id: builtin-x, effect: deny}]\n", "rules[0].id: rule ids that start with default"),
    ("two rules of one id", "rules: [{id: a, effect: deny}, {id: a, effect: deny}]\n", "two rules have the id a"),
    ("unknown server in a rule", "servers: {crm: {command: x}}\nrules: [{id: a, effect: deny, match: {server: crn}}]\n",
     "guard.yaml:4: rules[0].match.server: names a server that is not configured (did you mean crm?)"),
    ("loosened high default", "defaults: {high: allow}\n", "defaults.high: must be 'require_approval' or 'deny'"),
    ("self approval", "approvals: {allow_self_approval: true}\n", "approvals.allow_self_approval: must be false"),
    ("hold too long", "approvals: {hold_s: 301}\n", "approvals.hold_s: must be at most 300"),
    ("assurance unknown", "rules: [{id: a, effect: deny, approval: {min_assurance: A9}}]\n", "must be 'A1', 'A2', 'A"),
    ("masking key unknown", "masking: {result: {}}\n", "masking.result: unknown key (did you mean results?)"),
    ("masking choice unknown", "masking: {results: {secrets: off}}\n", "masking.results.secrets: must be"),
    ("python tag", "data_dir: !!python/object/apply:os.system [canary-5f2a91]\n", "guard.yaml:3: YAML tags are not"),
    ("own tag", "data_dir: !secret canary-5f2a91\n", "guard.yaml:3: YAML tags are not accepted"),
    ("not YAML", "servers: {canary-5f2a91\n", "not valid YAML"),
    ("tab as indent", "servers:\n\ta: canary-5f2a91\n", "guard.yaml:4: not valid YAML"),
    ("unknown alias", "data_dir: *canary-5f2a91\n", "guard.yaml:3: not valid YAML"),
    ("two documents", "---\nversion: 1\n", "more than one document"),
    ("lone surrogate", 'data_dir: "\\ud800"\n', "guard.yaml:3: not valid YAML"),
    ("NUL", 'data_dir: "a\\0b"\n', "guard.yaml:3: data_dir: text with a NUL"),
    ("deep nesting", "rules: " + "[" * 60 + "]" * 60 + "\n", "nested deeper than 40 levels"),
    ("missing variable", "servers: {a: {command: x, env: {K: '${env:NOT_SET}'}}}\n",
     "guard.yaml:3: servers.a.env.K: the environment variable NOT_SET is not set"),
    ("input of a host", "servers: {a: {command: x, args: ['${input:canary-5f2a91}']}}\n", "${input:…} belongs to a h"),
    ("folder of a host", "servers: {a: {command: x, cwd: '${workspaceFolder}'}}\n", "${workspaceFolder} belongs to a"),
    ("unknown kind of reference", "servers: {a: {command: x, args: ['${vault:canary-5f2a91}']}}\n", "of an unknown k"),
    ("reference not closed", "servers: {a: {command: x, args: ['${env:canary-5f2a91']}}\n", "a ${ is not closed"),
    ("huge number", "approvals: {hold_s: " + "9" * 5000 + "}\n", "approvals.hold_s: not a value that is understood"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_a_broken_file_is_refused_with_line_and_path_and_without_its_values(
    tmp_path: Path, text: str, expected: str
) -> None:
    """docs/config.md; threat S38: no value of the file is echoed."""
    message = refusal(tmp_path, HEAD + text)

    assert expected in message
    assert CANARY not in message
    assert "hint: " in message


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """decisions.md D32: one run, all problems, also of later checks and of references."""
    text = (
        "version: 2\nid: laptop\nservers:\n  a: {command: x, args: ['${env:NOT_SET}']}\n  b: {comand: y}\n"
        "rules:\n  - {id: r1, effect: deny, match: {server: c}}\n  - {id: r2, efect: deny}\n"
    )
    path = write(tmp_path, text)

    def check(config: GuardConfig, folder: Path) -> list[Finding]:
        assert folder == tmp_path
        return [Finding(("rules", rule.id, "match"), "found by a check") for rule in config.rules]

    with pytest.raises(ConfigError) as caught:
        load_config(path, {}, checks=(check,))

    assert caught.value.message.splitlines() == [
        "7 problems:",
        "guard.yaml:1: version: must be 1",
        f"guard.yaml:4: servers.a.args[0]: the environment variable NOT_SET is not set ({SET_IT})",
        "guard.yaml:5: servers.b.comand: unknown key (did you mean command?)",
        "guard.yaml:7: rules[0].match: found by a check",
        "guard.yaml:7: rules[0].match.server: names a server that is not configured",
        "guard.yaml:8: rules[1].efect: unknown key (did you mean effect?)",
        "guard.yaml:8: rules[1].effect: this key is required",
    ]


def test_a_doubled_rule_id_is_told_also_where_other_parts_are_broken(tmp_path: Path) -> None:
    """decisions.md D32: all problems in one run."""
    message = refusal(tmp_path, HEAD + "rules: [{id: a, effect: deny}, {id: a, effect: deny}]\nservers: {b: {}}\n")

    assert "two rules have the id a" in message
    assert "servers.b: give exactly one" in message


@given(SHAPES)
def test_no_shape_of_file_is_accepted_by_accident_or_breaks_the_loader_or_is_echoed(shape: object) -> None:
    """Threat S38: strict schema; whatever the file holds, the answer is a configuration or a list of problems."""
    text = json.dumps({"version": 1, "id": "a", "servers": shape, "rules": shape, "masking": shape})
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), text)
        message = ""
        try:
            load_config(path, {})
        except ConfigError as error:
            message = str(error)

    assert CANARY not in message


def test_an_alias_bomb_is_refused_before_it_is_built(tmp_path: Path) -> None:
    """Threat S38: billion laughs; nine levels of nine."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, 9)]

    assert "aliases blow the file up" in refusal(tmp_path, "\n".join(levels))


def test_more_aliases_than_anybody_writes_are_refused(tmp_path: Path) -> None:
    """Threat S38."""
    assert "more than 100 aliases" in refusal(tmp_path, "a: &a x\nb: [" + ", ".join(["*a"] * 101) + "]")


def test_a_file_above_one_mebibyte_is_refused(tmp_path: Path) -> None:
    """Threat S38: size cap."""
    assert "larger than 1 MiB" in refusal(tmp_path, "#" * (1024 * 1024 + 1))


def test_bytes_that_are_not_utf_8_are_refused_with_their_line(tmp_path: Path) -> None:
    """Threat S38."""
    path = tmp_path / "guard.yaml"
    path.write_bytes(b"version: 1\nid: \xff\n")
    with pytest.raises(ConfigError, match=r"guard\.yaml:2: not UTF-8 text"):
        load_config(path, {})


@pytest.mark.parametrize("text", ["", "# nothing\n", "null\n"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    """docs/config.md: an empty policy is not a policy."""
    assert "problem" in refusal(tmp_path, text)


def test_a_file_that_anybody_may_write_is_refused_and_one_of_a_group_is_warned_of(tmp_path: Path) -> None:
    """Threat S38: whoever writes the file starts commands as the user."""
    path = write(tmp_path, HEAD)
    path.chmod(0o606)
    with pytest.raises(ConfigError, match="everybody on this machine may write"):
        load_config(path, {})
    path.chmod(0o660)

    assert "the group may write to this file" in load_config(path, {}).warnings[0]


def test_a_folder_or_a_missing_file_in_its_place_is_refused(tmp_path: Path) -> None:
    """docs/config.md."""
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(ConfigError):
            load_config(path, {})


def test_the_example_of_the_contract_loads(tmp_path: Path) -> None:
    """docs/config.md: the example of README.md."""
    loaded = load(
        tmp_path,
        """
version: 1
id: laptop
environment: dev
data_dir: ./guard-data
servers:
  crm: {command: python, args: ["${config_dir}/crm.py"], env: {CRM_KEY: "${env:CRM_KEY}"}}
  notes: {url: "http://127.0.0.1:9000/mcp"}
rules:
  - id: never-drop
    match: {tool: "drop_*", where: 'args.table != "scratch"'}
    effect: deny
""",
        {"CRM_KEY": "k-123456"},
    )

    assert loaded.data_dir == tmp_path / "guard-data"
    assert loaded.servers["crm"].args == [f"{tmp_path}/crm.py"]
    assert loaded.servers["crm"].env == {"CRM_KEY": "k-123456"}
    assert loaded.config.servers["crm"].env == {"CRM_KEY": "${env:CRM_KEY}"}
    assert loaded.secrets == ("k-123456",)
    assert "k-123456" not in repr(loaded)
    assert loaded.warnings == ()


def test_a_command_that_starts_no_server_needs_none_of_the_hosts_variables(tmp_path: Path) -> None:
    """docs/cli.md: `approvals approve` in a terminal, where the variables of the host are not set."""
    path = write(tmp_path, HEAD + "servers: {a: {command: x, env: {K: '${env:NOT_SET}'}}}\n")
    loaded = load_config(path, {}, resolve=False)

    assert (dict(loaded.servers), loaded.secrets) == ({}, ())
    assert list(loaded.config.servers) == ["a"]


def test_a_pasted_mcp_servers_object_is_accepted_in_yaml_and_in_json_with_tabs(tmp_path: Path) -> None:
    """docs/config.md: accepts a pasted mcpServers object."""
    pasted = '{\n\t"version": 1,\n\t"id": "a",\n\t"mcpServers": {"x": {"type": "streamable-http", "url": "http://h/"}}}'
    for name in ("guard.yaml", "guard.json"):
        path = write(tmp_path, pasted if name.endswith("json") else pasted.replace("\t", "  "), name)

        assert load_config(path, {}).servers["x"].type == "http"


def test_a_character_that_json_escapes_as_two_halves_is_one_character_and_an_escaped_backslash_stays(
    tmp_path: Path,
) -> None:
    """RFC 8259 §7: characters outside the BMP are escaped as a surrogate pair."""
    text = r'{"version": 1, "id": "a", "mcpServers": {"x": {"command": "\ud83d\ude00 \\ud83d\\ude00"}}}'

    assert load_config(write(tmp_path, text, "g.json"), {}).servers["x"].command == "\U0001f600 \\ud83d\\ude00"


def test_problems_in_a_pasted_block_have_their_lines(tmp_path: Path) -> None:
    """docs/config.md."""
    message = refusal(tmp_path, HEAD + "mcpServers:\n  x:\n    comand: y\n")

    assert "guard.yaml:5: servers.x.comand: unknown key (did you mean command?)" in message


def test_servers_and_mcp_servers_together_are_refused(tmp_path: Path) -> None:
    """docs/config.md: which of them would count?"""
    assert "not both" in refusal(tmp_path, HEAD + "servers: {}\nmcpServers: {}\n")


def test_the_data_folder_is_named_after_the_id_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """decisions.md D32."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    assert load(tmp_path, HEAD).data_dir.name == "laptop"
    assert not (tmp_path / "data").exists()


def test_the_digest_follows_the_content_and_not_the_layout(tmp_path: Path) -> None:
    """approvals.md S1: what was approved under other rules is void."""
    one = load(tmp_path, HEAD + "environment: dev\n").digest

    assert load(tmp_path, "# x\n" + HEAD + "environment:   dev\n").digest == one
    assert load(tmp_path, HEAD + "environment: prod\n").digest != one


def test_the_option_wins_over_the_variable_and_the_variable_over_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """decisions.md D32."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    mine = user_config_file()
    mine.parent.mkdir(parents=True)
    mine.write_text(HEAD)
    a, b = write(tmp_path, HEAD, "a.yaml"), write(tmp_path, HEAD, "b.yaml")

    assert find_config(a, {"MCP_GUARD_CONFIG": str(b)}) == a
    assert find_config(None, {"MCP_GUARD_CONFIG": str(b)}) == b
    assert find_config(None, {}) == mine


def test_a_guard_yaml_of_the_current_folder_is_not_used_and_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """decisions.md D32: a repository with its own guard.yaml."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with pytest.raises(ConfigError, match="no configuration found"):
        find_config(None, {}, cwd=tmp_path)
    write(tmp_path, HEAD)
    with pytest.raises(ConfigError, match="is not used by itself") as caught:
        find_config(None, {}, cwd=tmp_path)

    assert "--config ./guard.yaml" in caught.value.hint


def test_a_named_file_that_does_not_exist_is_an_error_and_nothing_else_is_tried(tmp_path: Path) -> None:
    """decisions.md D32: no falling back to another policy."""
    for explicit, env in ((tmp_path / "no", {}), (None, {"MCP_GUARD_CONFIG": str(tmp_path / "no")})):
        with pytest.raises(ConfigError, match="does not exist"):
            find_config(explicit, env)


def test_the_schema_of_the_file_is_closed() -> None:
    """docs/config.md: generated and published; unknown keys are errors for editors too."""
    schema = config_schema()

    assert schema["additionalProperties"] is False
    assert schema["required"] == ["version", "id"]
