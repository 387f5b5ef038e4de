"""Every call that differs between POSIX and Windows, in one place."""

from __future__ import annotations

import contextlib
import getpass
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

if sys.platform != "win32":
    import fcntl
    import termios
    import tty
else:
    import msvcrt

PRIVATE_FILE = 0o600
PRIVATE_DIR = 0o700


class FileLock:
    """An exclusive lock on a file, held by this process; the system releases it when the process ends.

    Not re-entrant, and two objects on one path exclude each other also within a process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock without waiting; False when somebody holds it.

        Raises:
            OSError: the file cannot be opened or made.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), PRIVATE_FILE)
        try:
            if sys.platform != "win32":
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None


def make_private_dir(path: Path) -> None:
    """Create a folder (and its parents) that only its owner can read.

    Raises:
        OSError: it cannot be made.
    """
    path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_DIR)
    if sys.platform != "win32" and path.stat().st_uid == os.getuid():
        path.chmod(PRIVATE_DIR)


def write_new_private(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, 0600, and sync it to disk.

    Raises:
        FileExistsError: somebody else made it first.
        OSError: it cannot be written.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), PRIVATE_FILE)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_private(path: Path, data: bytes) -> None:
    """Replace a file in one step, 0600: readers see the old content or the new one. A link stays a link.

    Raises:
        OSError: it cannot be written; the old content stays, and nothing is left beside it.
    """
    target = Path(os.path.realpath(path))
    aside = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        write_new_private(aside, data)
        aside.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def sync_dir(path: Path) -> None:
    """Make the names in a folder durable, where a folder can be synced.

    Raises:
        OSError: it cannot be opened or synced.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def user_name() -> str:
    """Name of the OS user, or `uid:<n>` where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        if sys.platform != "win32":
            return f"uid:{os.getuid()}"
        return "unknown"


def at_terminal() -> bool:
    """Whether a person can be asked here, and sees the question."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def kill_group(pid: int, *, force: bool) -> None:
    """Send TERM (or KILL) to the process group that `pid` leads; silent when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform != "win32":
            os.killpg(pid, signal.SIGKILL if force else signal.SIGTERM)
        else:
            os.kill(pid, signal.SIGTERM)


def death_wrapper() -> list[str]:
    """Command prefix that makes a child die with the guard, where the system offers one cheaply."""
    if sys.platform == "linux":
        setpriv = shutil.which("setpriv")
        if setpriv:
            return [setpriv, "--pdeathsig", "KILL", "--"]
    return []


def is_regular_file(fd: int) -> bool:
    """Whether `fd` is a plain file, which an event loop cannot poll."""
    import stat

    return stat.S_ISREG(os.fstat(fd).st_mode)


def no_core_dumps() -> None:
    """Forbid core dumps: they would hold secrets."""
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def writers_of(target: Path | int) -> Literal["owner", "group", "anyone"]:
    """Who besides root may write to a path or open file (always `owner` on Windows, where modes do not tell)."""
    mode = 0 if sys.platform == "win32" else os.stat(target).st_mode  # noqa: PTH116 - also an open file
    return "anyone" if mode & 0o002 else "group" if mode & 0o020 else "owner"


@contextlib.contextmanager
def single_keys() -> Iterator[Callable[[float], str]]:
    """Read keys from the terminal at stdin without waiting for the Enter key; Ctrl-C stays an interrupt.

    Yields:
        A function that waits at most so many seconds and returns the key, or an empty string when none was pressed.
    """
    if sys.platform != "win32":
        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
        try:
            tty.setcbreak(fd, termios.TCSAFLUSH)
            yield lambda seconds: os.read(fd, 1).decode(errors="replace") if _readable(fd, seconds) else ""
        finally:
            termios.tcsetattr(fd, termios.TCSANOW, before)
    else:
        yield _windows_key


if sys.platform != "win32":

    def _readable(fd: int, seconds: float) -> bool:
        return bool(select.select([fd], [], [], seconds)[0])

else:

    def _windows_key(seconds: float) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if msvcrt.kbhit():
                return msvcrt.getwch()
            time.sleep(0.02)
        return ""
