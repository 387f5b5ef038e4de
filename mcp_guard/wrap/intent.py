"""What a run of `wrap` is about to make, written down first: the next run takes away what a killed one left."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mcp_guard.config.secretfiles import FOLDER
from mcp_guard.wrap.apply import Write
from mcp_guard.wrap.journal import digest_of, read_journal

FILE = "pending.json"


class _Made(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    path: str
    digest: str
    """SHA-256 of its content."""


class _Intent(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    config: str
    """The guard.yaml that refers to the secrets."""
    made: list[_Made]


def with_intent(writes: Sequence[Write], config: Path, folder: Path) -> list[Write]:
    """The same writes, between those that make the note and take it away.

    Args:
        writes: All that is going to be written.
        config: guard.yaml.
        folder: Where the journal is.
    """
    kept = {folder, config.parent / FOLDER}
    made = [
        _Made(path=str(write.path), digest=digest_of(write.after))
        for write in writes
        if write.before is None and write.after is not None and write.path.parent in kept
    ]
    note = (_Intent(config=str(config), made=made).model_dump_json() + "\n").encode()
    return [Write(folder / FILE, None, note), *writes, Write(folder / FILE, note, None)]


def clear_leftovers(folder: Path) -> None:
    """Take away what a killed run made and nothing refers to. To be called under the lock.

    Raises:
        ConfigError: the journal cannot be read.
    """
    try:
        intent = _Intent.model_validate_json((folder / FILE).read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValidationError):
        intent = _Intent(config="", made=[])  # killed while it was written: nothing was made yet
    journal, _ = read_journal(folder)
    needed = {record.backup for record in journal.files}
    with contextlib.suppress(OSError):
        text = Path(intent.config).read_bytes()
        needed |= {made.path for made in intent.made if f"{{file:{FOLDER}/{Path(made.path).name}}}".encode() in text}
    for made in intent.made:
        path = Path(made.path)
        own = path.name.endswith(".bak") if path.parent == folder else path.parent.name == FOLDER
        if own and path.name[:1] != "." and not {path.name, made.path} & needed:
            _remove(path, made.digest)
    with contextlib.suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def _remove(path: Path, digest: str) -> None:
    with contextlib.suppress(OSError):  # gone, or not ours to touch
        if digest_of(path.read_bytes()) == digest:
            path.unlink()
