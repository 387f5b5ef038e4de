"""Write several files, or none: what was written is taken back when one of them fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp_guard.errors import HostFileError
from mcp_guard.system import FileLock, make_private_dir, sync_dir, write_new_private


@dataclass(frozen=True, slots=True, repr=False)
class Write:
    """One file to write or to remove. May hold secrets: shows its path only."""

    path: Path
    before: bytes | None
    """What it must hold at that moment; None: it must not exist."""
    after: bytes | None
    """What it will hold; None: it is removed."""

    def __repr__(self) -> str:
        return f"Write({self.path})"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock under which hosts' files are changed; makes the folder, for its owner alone.

    A folder that was made is taken away again when what is done under the lock fails.

    Raises:
        HostFileError: somebody else holds it, or the folder cannot be made.
    """
    made = _missing(folder)
    try:
        make_private_dir(folder)
        lock = FileLock(folder / "lock")
        taken = lock.try_acquire()
    except OSError as error:
        raise HostFileError(
            f"the folder {folder} cannot be used: {error.strerror}",
            hint="make it writable for you; nothing was changed",
        ) from error
    if not taken:
        raise HostFileError("another wrap or unwrap is running", hint="wait until it is done; nothing was changed")
    try:
        yield
    except BaseException:
        lock.release()
        if made:
            with contextlib.suppress(OSError):
                (folder / "lock").unlink(missing_ok=True)
            _take_away(made)
        raise
    lock.release()


def write_all(writes: Sequence[Write]) -> None:
    """Write files in order; new ones are their owner's alone, others keep their mode.

    However it ends, by an error or by Ctrl-C, either all are written or all are as before.

    Raises:
        HostFileError: one of them changed meanwhile, or cannot be written. All are as before then.
    """
    done: list[Write] = []
    made: list[Path] = []
    try:
        for write in writes:
            done.append(write)
            _write(write, made)
    except OSError as error:
        failed = done[-1]
        _undo(done, made, error)
        what = "was changed meanwhile" if isinstance(error, _ChangedError) else f"cannot be written: {error.strerror}"
        raise HostFileError(
            f"{failed.path} {what}", hint="nothing was changed; close the program that uses it, then try again"
        ) from error
    except BaseException as error:
        _undo(done, made, error)
        raise


def _undo(done: Sequence[Write], made: Sequence[Path], error: BaseException) -> None:
    """Put back what was written.

    Raises:
        HostFileError: something cannot be put back.
    """
    with _undisturbed():
        *before, last = done
        # Whether the last one was written is not known: it may have failed at any step.
        written = [*before, last] if _content(Path(os.path.realpath(last.path))) == last.after else before
        broken = [write.path for write in reversed(written) if not _undone(write)]
        _take_away(made)
    if broken:
        listed = ", ".join(str(path) for path in broken)
        raise HostFileError(
            f"{last.path} cannot be written, and these could not be put back: {listed}",
            hint="`mcp-guard unwrap` puts back what was changed",
        ) from error


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep a second Ctrl-C from stopping half-way what the first one began."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that are not there, outermost first."""
    missing = []
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    return missing[::-1]


def _take_away(made: Sequence[Path]) -> None:
    for folder in reversed(made):
        with contextlib.suppress(OSError):  # something else is in it by now
            folder.rmdir()


class _ChangedError(OSError):
    pass


def _write(write: Write, made: list[Path]) -> None:
    # A link stays a link: what it leads to is replaced.
    target = Path(os.path.realpath(write.path))
    if _content(target) != write.before:
        raise _ChangedError
    if write.after is None:
        target.unlink(missing_ok=True)
    elif write.before is None:
        missing = _missing(target.parent)
        made += missing
        if missing:
            make_private_dir(target.parent)
        _make(target, write.after)
    else:
        _replace(target, write.before, write.after)
    sync_dir(target.parent)


def _make(target: Path, data: bytes) -> None:
    try:
        write_new_private(target, data)
    except FileExistsError:
        raise
    except BaseException:
        target.unlink(missing_ok=True)  # half of it
        raise


def _replace(target: Path, before: bytes, after: bytes) -> None:
    # One name, under the lock: what a run leaves behind that was killed, the next one takes away.
    temporary = target.with_name(f".{target.name}.mcp-guard.tmp")
    try:
        temporary.unlink(missing_ok=True)
        write_new_private(temporary, after)
        shutil.copymode(target, temporary)
        if _content(target) != before:
            raise _ChangedError
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _undone(write: Write) -> bool:
    try:
        _write(Write(write.path, write.after, write.before), [])
    except OSError:
        return False
    return True


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
