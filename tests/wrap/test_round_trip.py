"""Wrapped and unwrapped, a host's file is what it was, byte for byte."""

from __future__ import annotations

import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_guard.config.hostfile import at, is_blank, parse_host_file
from mcp_guard.wrap.command import is_guard
from mcp_guard.wrap.locate import HostFile, find_files
from tests.wrap.bench import Bench, shown
from tests.wrap.configs import CONFIGS, Config

CANARY = re.compile(rb"canary[A-Za-z0-9-]*")
EACH = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def _bench(folder: Path, config: Config) -> tuple[Bench, Path]:
    bench = Bench(folder, config.platform)
    return bench, bench.write(config.path, config.text)


def _parsed(path: Path, raw: bytes) -> dict[str, Any]:
    return {} if is_blank(raw, path) else parse_host_file(raw, path)


def _kind(bench: Bench, path: Path) -> HostFile:
    return next(file for file in find_files(bench.machine, project=False) if file.path == path)


def test_there_are_at_least_thirty_shapes() -> None:
    """docs/hosts.md."""
    assert len(CONFIGS) >= 30
    assert {config.platform for config in CONFIGS.values()} == {"linux", "darwin", "win32"}


@EACH
def test_unwrapped_the_file_is_byte_for_byte_what_it_was(tmp_path: Path, config: Config) -> None:
    """docs/hosts.md: "byte for byte"."""
    bench, path = _bench(tmp_path, config)

    plan = bench.wrap()
    assert sum(len(found.names) for found in plan.files) == config.wrapped
    assert (path.read_bytes() == config.text) is (config.wrapped == 0)
    undone = bench.unwrap()

    assert path.read_bytes() == config.text
    assert all(found.exact for found in undone.files)
    assert list(bench.journal.glob("*.bak")) == []


@EACH
def test_a_second_run_has_nothing_to_do(tmp_path: Path, config: Config) -> None:
    """docs/hosts.md: the guard never wraps itself."""
    bench, _ = _bench(tmp_path, config)
    bench.wrap()
    before = bench.files()

    again = bench.wrap()

    assert again.files == []
    assert again.servers.new == {}
    assert bench.files() == before


@EACH
def test_wrapped_each_entry_starts_the_guard_and_keeps_what_is_its_hosts(tmp_path: Path, config: Config) -> None:
    """decisions.md D14; docs/hosts.md: the host's own keys, and everything else in the file, stay."""
    bench, path = _bench(tmp_path, config)
    bench.wrap()
    before, after = _parsed(path, config.text), _parsed(path, path.read_bytes())

    wrapped = 0
    for place in _kind(bench, path).blocks(before):
        old, new = at(before, place), at(after, place)
        assert list(old) == list(new)
        for name, entry in new.items():
            if entry != old[name]:
                wrapped += 1
                assert is_guard(entry)
                assert "url" not in entry
                assert entry.get("type", "stdio") == "stdio"
                for key in {"cwd", "envFile", "alwaysAllow", "disabled", "timeout", "enabled"} & set(old[name]):
                    assert entry[key] == old[name][key]
            new[name] = old[name]
    assert wrapped == config.wrapped
    assert after == before


@EACH
def test_the_wrapped_servers_are_the_ones_that_the_host_started(tmp_path: Path, config: Config) -> None:
    """docs/hosts.md: what the host resolves reaches the server as the host resolves it."""
    bench, path = _bench(tmp_path, config)
    bench.wrap()
    before, after = _parsed(path, config.text), _parsed(path, path.read_bytes())

    for place in _kind(bench, path).blocks(before):
        for name, old in at(before, place).items():
            new = at(after, place)[name]
            if new == old:
                continue
            server = new["args"][new["args"].index("--server") + 1]
            env = {**dict.fromkeys(new.get("env_vars", ()), "token"), **new.get("env", {})}
            [(found, started)] = bench.loaded(env, only=server).servers.items()
            assert found == server
            if "command" in old:
                assert [started.command, *started.args] == [old["command"], *old.get("args", [])]
                assert set(started.env) == set(old.get("env", {}))
                assert all(started.env[key] == _text(value) for key, value in old.get("env", {}).items())
            else:
                assert started.url == old.get("url", old.get("serverUrl"))
                assert started.headers == old.get("headers", started.headers)


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value).lower()


@EACH
def test_no_secret_gets_into_a_plain_file_or_onto_the_screen(tmp_path: Path, config: Config) -> None:
    """docs/hosts.md: secrets stay where they were, or go into private files."""
    bench, path = _bench(tmp_path, config)
    before = {match[0]: config.text.count(match[0]) for match in CANARY.finditer(config.text)}

    text = shown(bench.wrap())

    assert "canary" not in text
    private = {bench.journal, bench.config.parent / "secrets"}
    for file, raw in bench.files().items():
        found = CANARY.findall(raw)
        if file.parent in private:
            assert sys.platform == "win32" or stat.S_IMODE(file.stat().st_mode) == 0o600
            assert sys.platform == "win32" or stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        elif file == path:
            assert all(raw.count(secret) <= before[secret] for secret in found)
        else:
            assert found == [], file.name
    moved = {secret for secret in before if path.read_bytes().count(secret) < before[secret]}
    kept = {f.read_bytes() for f in (bench.config.parent / "secrets").glob("*")} if moved else set()
    assert {secret for secret in moved if not any(secret in text for text in kept)} == set()


@EACH
def test_what_others_wrote_since_stays_when_the_entries_are_put_back(tmp_path: Path, config: Config) -> None:
    """docs/hosts.md: "else merges and says so"."""
    bench, path = _bench(tmp_path, config)
    bench.wrap()
    if config.wrapped == 0:
        return
    mark = b"\n# edited\n" if path.suffix == ".toml" else b"\n// edited\n"
    path.write_bytes(path.read_bytes() + mark)

    undone = bench.unwrap()

    assert [found.exact for found in undone.files] == [False]
    assert path.read_bytes().endswith(mark)
    assert _parsed(path, path.read_bytes()) == _parsed(path, config.text)
