"""What differs between operating systems."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcp_guard.system import (
    FileLock,
    death_wrapper,
    is_regular_file,
    kill_group,
    make_private_dir,
    no_core_dumps,
    replace_private,
    user_name,
    write_new_private,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes and signals")
HOLD = (
    "import sys; from pathlib import Path; from mcp_guard.system import FileLock; lock = FileLock(Path(sys.argv[1])); \
print(lock.try_acquire(), flush=True); sys.stdin.read()"
)


def holder(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_two_locks_on_one_file_exclude_each_other(tmp_path: Path) -> None:
    """decisions.md D26: one writer per slot, also within a process."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.try_acquire()
    assert not second.try_acquire()
    assert (first.held, second.held) == (True, False)
    first.release()
    assert second.try_acquire()
    second.release()
    second.release()
    assert not second.held


def test_a_lock_of_a_process_that_is_killed_is_free(tmp_path: Path) -> None:
    """security.md F9: a crash leaves no lock behind."""
    with holder(tmp_path / "lock") as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"True"
        lock = FileLock(tmp_path / "lock")
        assert not lock.try_acquire()
        process.kill()
        process.wait()
    assert lock.try_acquire()
    lock.release()


@posix
def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    """A downstream that outlives the guard must not keep its slot."""
    lock = FileLock(tmp_path / "lock")
    assert lock.try_acquire()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        again = FileLock(tmp_path / "lock")
        # The parent may run again a moment before exec has closed what the child inherited.
        deadline = time.monotonic() + 5
        while not again.try_acquire():
            assert time.monotonic() < deadline
        again.release()
        child.kill()


def test_a_lock_in_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """Not being able to lock is not the same as somebody else holding it."""
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "nowhere" / "lock").try_acquire()


@posix
def test_folders_and_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    """decisions.md D32: 0700 and 0600, also where the folder was open before."""
    (tmp_path / "data").mkdir(mode=0o777)
    make_private_dir(tmp_path / "data" / "keys")
    make_private_dir(tmp_path / "data")
    write_new_private(tmp_path / "data" / "file", b"x")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "file").stat().st_mode & 0o777 == 0o600


def test_a_private_file_never_replaces_another(tmp_path: Path) -> None:
    """decisions.md D32: O_EXCL, and no following of a planted link."""
    (tmp_path / "file").write_bytes(b"first")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            write_new_private(tmp_path / name, b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert not (tmp_path / "target").exists()


@posix
@pytest.mark.parametrize("force", [True, False])
def test_killing_a_group_ends_its_leader_and_is_silent_when_it_is_gone(*, force: bool) -> None:
    """A downstream started by a wrapper must not survive it."""
    command = [sys.executable, "-c", "print(1, flush=True); input()"]
    with subprocess.Popen(command, start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        kill_group(process.pid, force=force)
        assert process.wait(10) == -(9 if force else signal.SIGTERM)
    kill_group(process.pid, force=force)


def test_the_death_wrapper_runs_its_command() -> None:
    """It must not change what is run."""
    done = subprocess.run([*death_wrapper(), sys.executable, "-c", "print(7)"], capture_output=True, check=True)
    assert done.stdout.strip() == b"7"


def test_plain_files_and_pipes_are_told_apart(tmp_path: Path) -> None:
    """decisions.md D20: an event loop cannot poll a plain file."""
    (tmp_path / "file").write_text("")
    with (tmp_path / "file").open() as file:
        assert is_regular_file(file.fileno())
    read, write = os.pipe()
    assert not is_regular_file(read)
    os.close(read)
    os.close(write)


def test_there_is_always_a_user_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """decisions.md D36: the requester on stdio is the OS user."""
    import getpass

    def nameless() -> str:
        raise KeyError

    assert user_name()
    monkeypatch.setattr(getpass, "getuser", nameless)
    if sys.platform != "win32":
        assert user_name() == f"uid:{os.getuid()}"


@posix
def test_core_dumps_are_forbidden() -> None:
    """A core dump would hold secrets. In a process of its own, since it cannot be undone."""
    script = "from mcp_guard.system import no_core_dumps; no_core_dumps(); import resource; \
print(resource.getrlimit(resource.RLIMIT_CORE))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"(0, 0)"
    assert callable(no_core_dumps)


def test_a_file_is_replaced_whole_and_a_link_stays_one(tmp_path: Path) -> None:
    """docs/pins.md: readers see the old content or the new one, also in a folder of dotfiles."""
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    try:
        link.symlink_to(real)
    except OSError:
        pytest.skip("no symbolic links here")
    replace_private(link, b"new")
    assert (real.read_bytes(), link.is_symlink()) == (b"new", True)


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """security.md F10: what was there stays."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError if sys.platform != "win32" else PermissionError):
        replace_private(tmp_path / "taken", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
