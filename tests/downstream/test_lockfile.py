"""`guard.lock` under several writers (docs/pins.md, the file)."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from mcp_guard.downstream.lockfile import Lock, LockFile, Quarantine, ServerPin, install_of

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
    writer = tmp_path / ".guard.lock.writer"
    writer.unlink()
    writer.mkdir()
    assert file.change(lambda lock: lock.with_install(file.install), missing=file.fresh()) == file.read()
    with pytest.raises(OSError):  # noqa: PT011 - whatever the system says
        file.change(lambda lock: lock.with_install("other"), missing=file.fresh())


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_what_writers_exclude_each_other_by_is_private_and_empty(tmp_path: Path) -> None:
    """docs/pins.md, the file."""
    file = LockFile(tmp_path / "guard.lock", install_of(b"a"))
    file.change(lambda lock: lock, missing=file.fresh())
    found = (tmp_path / ".guard.lock.writer").stat()
    assert (found.st_mode & 0o777, found.st_size) == (0o600, 0)
