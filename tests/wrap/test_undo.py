"""`unwrap` on files that somebody edited since."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_guard.errors import ConfigError
from mcp_guard.wrap.journal import FILE
from mcp_guard.wrap.locate import file_at
from mcp_guard.wrap.undo import carry_back, plan_unwrap
from tests.wrap.bench import COMMAND, Bench, entries
from tests.wrap.configs import CODEX, SECRETS

DESKTOP = ".config/Claude/claude_desktop_config.json"


def _wrapped(folder: Path, text: str = SECRETS, path: str = DESKTOP) -> tuple[Bench, Path]:
    bench = Bench(folder)
    file = bench.write(path, text)
    bench.wrap()
    return bench, file


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_servers_and_settings_that_came_since_stay(tmp_path: Path) -> None:
    """docs/hosts.md: only the wrapped entries are put back."""
    bench, path = _wrapped(tmp_path)
    _edit(path, '"github": {', '"later": {"command": "l"},\n    "github": {\n      "alwaysAllow": ["x"],')
    _edit(path, '"menuBarEnabled": false', '"menuBarEnabled": true')
    bench.unwrap()
    original = json.loads(SECRETS)["mcpServers"]
    original["github"]["alwaysAllow"] = ["x"]
    assert entries(path, "mcpServers") == {**original, "later": {"command": "l"}}
    assert entries(path, "preferences") == {"menuBarEnabled": True}


def test_an_entry_that_is_gone_or_no_longer_the_guard_stays_so(tmp_path: Path) -> None:
    """docs/hosts.md: other edits stay, and are told."""
    bench, path = _wrapped(tmp_path)
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["mcpServers"]["github"]
    data["mcpServers"]["search"] = {"command": "mine"}
    path.write_text(json.dumps(data), encoding="utf-8")
    plan = bench.unwrap()
    assert entries(path, "mcpServers") == {
        "postgres": json.loads(SECRETS)["mcpServers"]["postgres"],
        "search": {"command": "mine"},
    }
    assert plan.notes == [
        "Claude Desktop: github is gone since; it stays so",
        "Claude Desktop: search does not start the guard any more; it stays as it is",
    ]


def test_an_edit_inside_the_wrapped_part_is_told(tmp_path: Path) -> None:
    """docs/hosts.md: nothing vanishes in silence."""
    bench, path = _wrapped(tmp_path)
    _edit(path, COMMAND, "/usr/bin/mcp-guard")
    notes = bench.unwrap().notes
    assert len(notes) == 1
    assert "github was edited since it was wrapped" in notes[0]


def test_a_merged_file_keeps_its_old_content_in_the_private_folder(tmp_path: Path) -> None:
    """docs/hosts.md."""
    bench, path = _wrapped(tmp_path)
    path.write_bytes(path.read_bytes() + b"\n\n")
    bench.unwrap()
    assert [old.read_text(encoding="utf-8") for old in bench.journal.glob("*.bak")] == [SECRETS]


def test_wrapped_in_two_steps_it_is_unwrapped_in_one(tmp_path: Path) -> None:
    """docs/hosts.md: a server that was added later is wrapped by the next run."""
    bench, path = _wrapped(tmp_path)
    _edit(path, '"github": {', '"later": {"command": "l"},\n    "github": {')
    assert [found.names for found in bench.wrap().files] == [("later",)]
    bench.unwrap()
    assert entries(path, "mcpServers") == {**json.loads(SECRETS)["mcpServers"], "later": {"command": "l"}}
    assert bench.unwrap().files == []


def test_codex_gets_its_tables_back_beside_new_ones(tmp_path: Path) -> None:
    """docs/hosts.md: TOML keeps its comments."""
    bench, path = _wrapped(tmp_path, CODEX, ".codex/config.toml")
    path.write_text(path.read_text() + "\n[mcp_servers.later]\ncommand = 'l' # mine\n", encoding="utf-8")
    bench.unwrap()
    text = path.read_text(encoding="utf-8")
    assert "command = 'l' # mine" in text
    assert "DOCS_TOKEN = 'canary-codex-docs-1'" in text
    assert '"--verbose",   # more' in text
    assert entries(path, "mcp_servers")["remote api"]["bearer_token_env_var"] == "REMOTE_TOKEN"


def test_it_works_without_guard_yaml(tmp_path: Path) -> None:
    """docs/hosts.md: also when guard.yaml is gone or broken."""
    bench, path = _wrapped(tmp_path)
    bench.config.unlink()
    bench.unwrap()
    assert path.read_text(encoding="utf-8") == SECRETS


def test_a_file_that_is_gone_is_told_and_its_old_content_kept(tmp_path: Path) -> None:
    """docs/hosts.md: the copy may be the last one."""
    bench, path = _wrapped(tmp_path)
    path.unlink()
    plan = bench.unwrap()
    assert "is gone; its old content is in" in plan.notes[0]
    assert len(list(bench.journal.glob("*.bak"))) == 1


def test_old_content_that_was_changed_is_not_written_back(tmp_path: Path) -> None:
    """security.md S40: nobody brings servers in by that way."""
    bench, path = _wrapped(tmp_path)
    before = path.read_bytes()
    [old] = bench.journal.glob("*.bak")
    old.write_text('{"mcpServers": {"evil": {"command": "evil"}}}', encoding="utf-8")
    plan = bench.unwrap()
    assert plan.files == []
    assert "is gone or was changed" in plan.notes[0]
    assert path.read_bytes() == before


def test_a_broken_journal_is_an_error_that_says_where_the_old_files_are(tmp_path: Path) -> None:
    """Bad input."""
    bench, _ = _wrapped(tmp_path)
    (bench.journal / FILE).write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be read") as raised:
        bench.unwrap()
    assert ".bak" in raised.value.hint


def test_a_file_that_was_put_back_by_hand_is_settled(tmp_path: Path) -> None:
    """docs/hosts.md."""
    bench, path = _wrapped(tmp_path)
    path.write_text(SECRETS, encoding="utf-8")
    assert bench.unwrap().files == []
    assert json.loads((bench.journal / FILE).read_text())["files"] == []


def test_only_one_configuration_is_unwrapped_when_it_is_named(tmp_path: Path) -> None:
    """docs/cli.md."""
    bench, path = _wrapped(tmp_path)
    other = plan_unwrap(None, bench.journal, named=False, config="/other/guard.yaml")
    carry_back(other, bench.journal)
    assert other.files == []
    assert "mcp-guard" in path.read_text(encoding="utf-8")


def test_a_file_is_found_under_every_spelling_of_its_path(tmp_path: Path) -> None:
    """docs/hosts.md: --file."""
    bench = Bench(tmp_path)
    path = bench.write("f.json", SECRETS)
    (bench.home / "sub").mkdir()
    link = bench.home / "link.json"
    link.symlink_to(path)
    for spelled in (bench.home / "sub/../f.json", link, path):
        bench.wrap(file=path)
        assert path.read_text(encoding="utf-8") != SECRETS
        bench.unwrap([file_at(spelled, bench.machine)])
        assert path.read_text(encoding="utf-8") == SECRETS


def test_old_content_that_cannot_be_removed_does_not_undo_what_was_put_back(tmp_path: Path) -> None:
    """docs/hosts.md: the file is as before, and what is left is the owner's alone."""
    bench, path = _wrapped(tmp_path)
    path.write_text(SECRETS, encoding="utf-8")  # put back by other means
    (backup,) = bench.journal.glob("*.bak")
    backup.unlink()
    backup.mkdir()
    plan = bench.unwrap()
    assert plan.notes == []
    assert path.read_text(encoding="utf-8") == SECRETS
    assert plan_unwrap(None, bench.journal, named=False).journal.files == ()


@pytest.mark.parametrize("lost", ["gone", "changed"])
def test_without_the_old_content_nothing_is_put_back_and_the_note_says_so(tmp_path: Path, lost: str) -> None:
    """docs/hosts.md: half a restoration would be worse than none."""
    bench, path = _wrapped(tmp_path)
    wrapped = path.read_bytes()
    (backup,) = bench.journal.glob("*.bak")
    if lost == "gone":
        backup.unlink()
    else:
        backup.write_bytes(b"{}")
    (note,) = bench.unwrap().notes
    assert "is gone or was changed" in note
    assert path.read_bytes() == wrapped
