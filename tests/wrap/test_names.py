"""The guard.yaml that wrap writes is one with which a guard starts, and thousands of servers are no trouble."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from mcp_guard.downstream.names import check_servers
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import ConfigError
from tests.wrap.bench import Bench, entries, shown

CURSOR = ".cursor/mcp.json"


def _servers(*names: str) -> str:
    return json.dumps({"mcpServers": {name: {"command": "npx", "args": [name]} for name in names}}, indent=2)


def _check(bench: Bench) -> set[str]:
    servers = bench.loaded().config.servers
    check_servers(
        {name: ResolvedServer(name=name, identity="x", names=server.names) for name, server in servers.items()}
    )
    return set(servers)


@pytest.mark.parametrize("combined", [False, True])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["my", "my_files"], {"my", "my-files"}),
        (["my_files", "my"], {"my_files", "my-cursor"}),
        (["a", "a_b", "a_b_c"], {"a", "a-b", "a-b-c"}),
        (["guard"], {"guard-cursor"}),
        (["guard_x", "guard"], {"guard-x", "guard-cursor"}),
    ],
)
def test_names_that_could_be_mixed_up_are_not_chosen(
    tmp_path: Path, names: list[str], expected: set[str], *, combined: bool
) -> None:
    """decisions.md D14: tools are called server_tool; `guard_` is the guard's own."""
    bench = Bench(tmp_path)
    path = bench.write(CURSOR, _servers(*names))
    plan = bench.wrap(combined=combined)
    assert _check(bench) == expected
    assert bench.loaded().warnings == ()
    assert all("in guard.yaml" in note for note in plan.notes)
    if not combined:
        assert list(entries(path, "mcpServers")) == names


def test_servers_that_are_there_count_as_well(tmp_path: Path) -> None:
    """decisions.md D14."""
    bench = Bench(tmp_path)
    bench.write(CURSOR, _servers("my"))
    bench.wrap()
    bench.write(".codeium/windsurf/mcp_config.json", _servers("my_files"))
    bench.wrap()
    assert _check(bench) == {"my", "my-files"}


def test_a_guard_yaml_with_ambiguous_names_is_told_of(tmp_path: Path) -> None:
    """decisions.md D14: `check` says what `serve` would refuse."""
    bench = Bench(tmp_path)
    bench.config.parent.mkdir(parents=True)
    servers = {name: {"command": "x"} for name in ("my", "my_files", "guard", "ok")}
    bench.config.write_text(json.dumps({"version": 1, "id": "x", "servers": servers}), encoding="utf-8")
    reserved, ambiguous = bench.loaded().warnings
    assert "guard_… is reserved" in reserved
    assert "my_files_x could be a tool of my_files or of my" in ambiguous
    assert bench.loaded(only="my").warnings == ()


@pytest.mark.parametrize(
    "bad",
    [
        {"command": "n\0px"},
        {"command": "npx", "args": ["a\0"]},
        {"command": "npx", "env": {"A": "b\0"}},
        {"command": "npx", "env": {"A=B": "x"}},
        {"command": "npx", "env": {"": "x"}},
        {"url": "https://x.example", "headers": {"A": "b\0"}},
    ],
    ids=range(6),
)
def test_an_entry_that_no_process_can_be_given_stays_and_the_others_are_wrapped(
    tmp_path: Path, bad: dict[str, Any]
) -> None:
    """Bad input: one entry must not make the whole guard.yaml invalid."""
    bench = Bench(tmp_path)
    path = bench.write(CURSOR, json.dumps({"mcpServers": {"bad": bad, "good": {"command": "x"}}}))
    plan = bench.wrap()
    assert list(bench.loaded().servers) == ["good"]
    assert entries(path, "mcpServers")["bad"] == bad
    assert "bad stays as it is: a program cannot be started like this" in plan.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        '{"mcpServers": {"a": {"command": "x", "command": "y"}}}',
        '{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}',
        '{"mcpServers": {"a": {"command": "x"}}, "mcpServers": {"b": {"command": "y"}}}',
        '{"mcpServers": {"a": {"command": "x", "env": {"A": "1", "A": "2"},}}} // twice',
    ],
    ids=range(4),
)
def test_a_file_that_says_something_twice_is_left_alone(tmp_path: Path, text: str) -> None:
    """Bad input: hosts differ in which of both they take."""
    bench = Bench(tmp_path)
    path = bench.write(CURSOR, text)
    plan = bench.wrap()
    assert path.read_text(encoding="utf-8") == text
    assert [note.partition(": ")[2] for note in plan.notes] == [
        "mcp.json says something twice, and hosts differ in which of both they take; it was left as it is"
    ]
    with pytest.raises(ConfigError, match="twice"):
        bench.plan(file=path)


def test_a_key_that_stands_twice_elsewhere_is_the_hosts_own_affair(tmp_path: Path) -> None:
    """docs/hosts.md."""
    bench = Bench(tmp_path)
    bench.write(CURSOR, '{"x": {"a": 1, "a": 2}, "mcpServers": {"a": {"command": "x"}}}')
    assert [found.names for found in bench.wrap().files] == [("a",)]


def test_two_hosts_whose_files_are_one_are_wrapped_once(tmp_path: Path) -> None:
    """docs/hosts.md: dotfiles are often links."""
    bench = Bench(tmp_path)
    path = bench.write(CURSOR, _servers("a"))
    link = bench.home / ".codeium/windsurf/mcp_config.json"
    link.parent.mkdir(parents=True)
    link.symlink_to(path)
    assert len(bench.wrap().files) == 1


def test_an_entry_whose_guard_yaml_is_gone_is_told_of(tmp_path: Path) -> None:
    """docs/hosts.md."""
    bench = Bench(tmp_path)
    bench.write(CURSOR, _servers("a"))
    bench.wrap()
    bench.config.unlink()
    assert bench.plan().notes == ["Cursor: a: the guard.yaml is gone; run mcp-guard unwrap, then wrap again"]


@pytest.mark.parametrize("indent", [2, None])
def test_many_servers_take_seconds(tmp_path: Path, indent: int | None) -> None:
    """Bad input: no step takes the square of the number of servers."""
    bench = Bench(tmp_path)
    names = [f"s{number}" for number in range(500)]
    bench.write(CURSOR, json.dumps({"mcpServers": {n: {"command": "x", "args": [n]} for n in names}}, indent=indent))
    start = time.process_time()
    plan = bench.plan()
    shown(plan)
    assert time.process_time() - start < 6
    assert len(plan.servers.new) == 500
