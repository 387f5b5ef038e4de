"""What a person is shown of a change: every line of it, and no secret in any spelling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_guard.wrap.diff import diff_lines
from tests.wrap.bench import Bench

DESKTOP = ".config/Claude/claude_desktop_config.json"


def _lines(bench: Bench, width: int = 80, seen: set[str] | None = None) -> list[str]:
    [found] = bench.plan().files
    return [*diff_lines(found.file, found.before, found.after, width, seen)]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".codex/config.toml", '[mcp_servers.a]\ncommand = "x"\nenv.K = """\ncanary-one\ncanary-two\n"""\n'),
        (".codex/config.toml", '[mcp_servers.a]\ncommand = "x"\nenv.K = """canary-\\\n   one1x"""\n'),
        (".codex/config.toml", '[mcp_servers.a]\ncommand = "x"\nenv.U = "\\u0063anary-U7k"\n'),
        (DESKTOP, '{"mcpServers": {"a": {"command": "x",\n"env": {"TOKEN": "\\u0063anary-U7k"}}}}'),
        (DESKTOP, '{"mcpServers": {"a": {"command": "x",\n"env": {"TOKEN": "canary\\/U7k"}}}}'),
        (DESKTOP, '{"mcpServers": {"a": {"command": "x",\n"args": ["--smtp-pass", "canarypw"]}}}'),
        (DESKTOP, '{"mcpServers": {"a": {"command": "x",\n"env": {"MODE": "canary"}}}}'),
        (DESKTOP, '{"mcpServers": {"a": {"command": "x",\n"env": {"K": "canary-ü\\u00fc-\\"q\\""}}}}'),
    ],
    ids=range(8),
)
def test_no_spelling_of_a_secret_is_shown(tmp_path: Path, path: str, text: str) -> None:
    """docs/hosts.md: the diff is shown in a terminal, which others may see and log."""
    bench = Bench(tmp_path)
    bench.write(path, text)
    shown = "\n".join(_lines(bench))
    for part in ("canary", "anary", "U7k", "one1x", "one", "two"):
        assert part not in shown
    assert "•••" in shown


def test_nothing_that_a_person_agrees_to_is_cut(tmp_path: Path) -> None:
    """docs/hosts.md: shows what changes."""
    bench = Bench(tmp_path)
    words = [f"word-{number}" for number in range(40)]
    entry: dict[str, Any] = {"command": "/" + "long/" * 30 + "end", "args": words}
    for indent in (None, 2):
        bench.write(DESKTOP, json.dumps({"mcpServers": {"a": entry}}, indent=indent))
        lines = _lines(bench)
        assert max(map(len, lines)) <= 80
        removed = "".join(line[1:].strip() for line in lines if line.startswith("-"))
        assert all(word in removed for word in [*words, entry["command"]])


def test_a_search_path_is_shown_once(tmp_path: Path) -> None:
    """docs/hosts.md."""
    bench = Bench(tmp_path)
    bench.write(DESKTOP, json.dumps({"mcpServers": {n: {"command": "x"} for n in "abc"}}, indent=2))
    plan = bench.plan()
    plan.options = type(plan.options)(plan.options.config, plan.options.command, "/a" * 40)
    from mcp_guard.wrap.locate import find_files
    from mcp_guard.wrap.plan import plan_wrap

    [found] = plan_wrap(find_files(bench.machine, project=False), plan.options, named=False).files
    shown = "".join(diff_lines(found.file, found.before, found.after, 200, set()))
    assert shown.count("/a" * 40) == 1
    assert shown.count("… as above") == 2
