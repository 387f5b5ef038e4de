"""All files are written, or none."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_guard.errors import ConfigError
from mcp_guard.system import sync_dir, write_new_private
from mcp_guard.wrap import apply
from mcp_guard.wrap.apply import Write, locked, write_all
from mcp_guard.wrap.carry_out import carry_out
from tests.full_disk import no_file_above
from tests.wrap.bench import Bench
from tests.wrap.configs import CURSOR, SECRETS

DESKTOP = ".config/Claude/claude_desktop_config.json"


def _two_hosts(folder: Path) -> Bench:
    bench = Bench(folder)
    bench.write(DESKTOP, SECRETS)
    bench.write(".cursor/mcp.json", CURSOR)
    return bench


@pytest.mark.parametrize("nth", range(1, 13))
def test_when_a_write_fails_everything_is_as_before(tmp_path: Path, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/hosts.md; the disk is full at the nth file."""
    bench = _two_hosts(tmp_path)
    before = bench.files()
    plan = bench.plan()
    real, calls = write_new_private, [0]

    def fails(path: Path, data: bytes) -> None:
        calls[0] += 1
        if calls[0] == nth:
            path.write_bytes(data[:3])
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(apply, "write_new_private", fails)
    with pytest.raises(ConfigError, match="No space left on device"):
        carry_out(plan, bench.journal)

    assert {p: raw for p, raw in bench.files().items() if p.name != "lock"} == before


def test_all_files_that_wrap_writes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above fails each of them once."""
    bench = _two_hosts(tmp_path)
    written: list[Path] = []

    def counts(path: Path, data: bytes) -> None:
        written.append(path)
        write_new_private(path, data)

    monkeypatch.setattr(apply, "write_new_private", counts)
    bench.wrap()
    assert len(written) == 12


def test_a_file_that_its_host_changed_meanwhile_is_left(tmp_path: Path) -> None:
    """docs/hosts.md: hosts write these files while they run."""
    bench = _two_hosts(tmp_path)
    plan = bench.plan()
    path = bench.write(".cursor/mcp.json", CURSOR + "\n")
    before = bench.files()
    with pytest.raises(ConfigError, match=r"mcp\.json was changed meanwhile") as raised:
        carry_out(plan, bench.journal)
    assert "close the program that uses it" in raised.value.hint
    assert {p: raw for p, raw in bench.files().items() if p.name != "lock"} == before
    assert path.read_text(encoding="utf-8") == CURSOR + "\n"


def test_what_cannot_be_put_back_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail visibly."""
    first, second = tmp_path / "first", tmp_path / "second"
    second.write_bytes(b"other")
    monkeypatch.setattr(apply, "_undone", lambda _write: False)
    with pytest.raises(ConfigError, match=r"could not be put back: .*first"):
        write_all([Write(first, None, b"x"), Write(second, b"y", b"z")])


@pytest.mark.skipif(sys.platform == "win32", reason="modes and links do not tell on Windows")
def test_modes_and_links_stay(tmp_path: Path) -> None:
    """docs/hosts.md: dotfiles are often links."""
    bench = Bench(tmp_path)
    real = bench.write("dotfiles/claude.json", SECRETS)
    real.chmod(0o640)
    link = bench.home / DESKTOP
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    bench.wrap()
    assert link.is_symlink()
    assert b"mcp-guard" in real.read_bytes()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    bench.unwrap()
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == SECRETS
    assert sorted(p.name for p in real.parent.iterdir()) == ["claude.json"]


def test_two_at_once_exclude_each_other(tmp_path: Path) -> None:
    """docs/hosts.md."""
    with locked(tmp_path / "w"), pytest.raises(ConfigError, match="another wrap"), locked(tmp_path / "w"):
        pass


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """Bad input."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be used"), locked(tmp_path / "file" / "w"):
        pass


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_is_not_writable_is_left(tmp_path: Path) -> None:
    """docs/hosts.md: refuses politely."""
    bench = _two_hosts(tmp_path)
    (bench.home / DESKTOP).chmod(0o400)
    plan = bench.wrap()
    assert any("is not writable for you" in note for note in plan.notes)


@pytest.mark.parametrize("nth", [1, 3, 8, 11])
def test_interrupted_everything_is_as_before(tmp_path: Path, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/hosts.md: Ctrl-C between two files, and just after one was replaced."""
    bench = _two_hosts(tmp_path)
    before = sorted(bench.folder.rglob("*")), bench.files()
    plan = bench.plan()
    real, calls = sync_dir, [0]

    def stops(path: Path) -> None:
        real(path)
        calls[0] += 1
        if calls[0] == nth:
            raise KeyboardInterrupt

    monkeypatch.setattr(apply, "sync_dir", stops)
    with pytest.raises(KeyboardInterrupt):
        carry_out(plan, bench.journal)

    assert (sorted(bench.folder.rglob("*")), bench.files()) == before


KILLED = """
import os, sys
from pathlib import Path
from mcp_guard.wrap import apply
from tests.wrap.bench import Bench
left, real = int(sys.argv[2]), apply.sync_dir
def dies(path):
    global left
    left -= 1
    real(path)
    if not left:
        os._exit(9)
apply.sync_dir = dies
Bench(Path(sys.argv[1])).wrap()
"""


@pytest.mark.parametrize("nth", [5, 8, 10])
def test_what_a_killed_run_left_is_taken_away_by_the_next(tmp_path: Path, nth: int) -> None:
    """docs/hosts.md: after the secrets, before the journal; after the journal; between two hosts."""
    bench = _two_hosts(tmp_path)
    before = bench.files()
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(nth)], check=False, timeout=60)
    assert run.returncode == 9

    bench.wrap()

    text = bench.config.read_text(encoding="utf-8")
    assert all(f"secrets/{file.name}}}" in text for file in (bench.config.parent / "secrets").glob("[!.]*"))
    assert not (bench.journal / "pending.json").exists()
    assert len([*(bench.config.parent / "secrets").glob("[!.]*")]) == 4
    bench.unwrap()
    assert {path: bench.files()[path] for path in before} == before
    assert [*bench.journal.glob("*.bak")] == []


def test_a_note_that_was_cut_short_by_a_kill_is_taken_away(tmp_path: Path) -> None:
    """docs/hosts.md: it is written first, so nothing else was made yet."""
    bench = _two_hosts(tmp_path)
    before = bench.files()
    bench.journal.mkdir(parents=True)
    (bench.journal / "pending.json").write_bytes(b'{"config": "/x", "made": [{"pa')
    bench.wrap()
    assert not (bench.journal / "pending.json").exists()
    bench.unwrap()
    assert {path: bench.files()[path] for path in before} == before


def test_on_a_full_disk_all_is_as_before(tmp_path: Path) -> None:
    """security.md F10: also what cannot be put back is named, and its old content is kept."""
    first, second, gone = tmp_path / "first", tmp_path / "second", tmp_path / "gone"
    for path in (first, second, gone):
        path.write_bytes(b"old")
    with no_file_above(4), pytest.raises(ConfigError, match="cannot be written: File too large"):
        write_all([Write(first, b"old", b"new"), Write(second, b"old", b"longer")])
    assert (first.read_bytes(), second.read_bytes()) == (b"old", b"old")
    with no_file_above(2), pytest.raises(ConfigError, match=r"could not be put back: .*gone"):
        write_all([Write(gone, b"old", None), Write(second, b"old", b"longer")])
    assert second.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]
