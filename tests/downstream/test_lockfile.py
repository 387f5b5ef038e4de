"""`guard.lock` under several writers (docs/pins.md, the file)."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from mcp_guard.downstream.lockfile import Lock, LockFile, Quarantine, ServerPin, install_of, writer_files

_ROUNDS = 40


def _hold(file: LockFile, server: str) -> None:
    held = {"quarantine": Quarantine(server=["files"])}
    file.change(lambda lock: lock.with_server(server, lock.servers[server].model_copy(update=held)), missing=Lock())


def test_two_guards_with_other_data_folders_lose_no_quarantine_of_each_other(tmp_path: Path) -> None:
    """docs/pins.md: one guard.yaml, safe for several guards; also through a link to the file."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "guard.lock").symlink_to(tmp_path / "guard.lock")
    first = LockFile(tmp_path / "guard.lock", install_of(b"a"))
    second = LockFile(tmp_path / "other" / "guard.lock", install_of(b"b"))
    fresh = Lock(servers={name: ServerPin(command="c", command_digest="d") for name in "ab"})
    for _ in range(_ROUNDS):
        first.change(lambda _: fresh, missing=Lock())
        writers = [threading.Thread(target=_hold, args=one) for one in ((first, "a"), (second, "b"))]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        found = first.read()
        assert found is not None
        assert not any(found.servers[name].quarantine.empty for name in "ab")


def test_a_step_that_changes_nothing_needs_no_folder_that_can_be_written(tmp_path: Path) -> None:
    """docs/pins.md: a configuration that is read-only goes on with the lock that it has."""
    file = LockFile(tmp_path / "guard.lock", install_of(b"a"))
    file.change(lambda lock: lock, missing=file.fresh())
    own, beside = writer_files(file.path)
    own.unlink()
    own.mkdir()
    beside.mkdir()
    assert file.change(lambda lock: lock.with_install(file.install), missing=file.fresh()) == file.read()
    with pytest.raises(OSError):  # noqa: PT011 - whatever the system says
        file.change(lambda lock: lock.with_install("other"), missing=file.fresh())


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_what_writers_exclude_each_other_by_is_private_and_empty_and_not_beside_the_lock(
    tmp_path: Path, data_home: Path
) -> None:
    """docs/pins.md, the file: its folder may be under version control."""
    file = LockFile(tmp_path / "guard.lock", install_of(b"a"))
    file.change(lambda lock: lock, missing=file.fresh())
    [made] = (data_home / ".locks").iterdir()
    assert (made.stat().st_mode & 0o777, made.stat().st_size) == (0o600, 0)
    assert (data_home / ".locks").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in tmp_path.iterdir()] == ["guard.lock"]


def test_locks_of_two_configurations_keep_no_writers_of_each_other_waiting(tmp_path: Path) -> None:
    """docs/pins.md, the file: one for each lock, whatever link leads to it."""
    (tmp_path / "link").symlink_to(tmp_path / "guard.lock")
    own = [writer_files(tmp_path / name)[0] for name in ("guard.lock", "link", "other.lock")]
    assert own[0] == own[1] != own[2]


def test_without_a_folder_of_the_user_writers_exclude_each_other_beside_the_lock(
    tmp_path: Path, data_home: Path
) -> None:
    """docs/pins.md, the file: a home that is read-only keeps nobody from accepting."""
    data_home.write_text("no folder", encoding="utf-8")
    file = LockFile(tmp_path / "guard.lock", install_of(b"a"))
    file.change(lambda lock: lock, missing=file.fresh())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".guard.lock.writer", "guard.lock"]
