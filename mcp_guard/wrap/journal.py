"""What `wrap` did, so that `unwrap` can put it back: names and digests, and beside them the files' old content.

The old content may hold secrets that were in the hosts' files before, so the folder is its owner's alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcp_guard.errors import ConfigError

FILE = "journal.json"
_MAX_BYTES = 16 * 1024 * 1024


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ChangeRecord(_Model):
    """One object of a file that was changed."""

    place: tuple[str, ...]
    changed: tuple[str, ...]
    """Members that were given a new value, or added."""
    removed: tuple[str, ...]
    digest: str
    """Over the new values, to see whether somebody changed them since."""


class FileRecord(_Model):
    """One file that was changed."""

    path: str
    host: str
    backup: Annotated[str, Field(pattern=r"^[a-z0-9-]+\.bak$")]
    """Name of the file with its old content, in the same folder."""
    before: str
    after: str
    """SHA-256 of the content."""
    config: str
    changes: tuple[ChangeRecord, ...]


class Journal(_Model):
    """All that is wrapped at present, oldest first."""

    version: Literal[1] = 1
    files: tuple[FileRecord, ...] = ()

    def of(self, path: Path) -> list[FileRecord]:
        """What was done to a file, oldest first."""
        return [record for record in self.files if record.path == str(path)]

    def without(self, records: Sequence[FileRecord]) -> Journal:
        """This one without some records."""
        return Journal(files=tuple(record for record in self.files if record not in records))

    def to_bytes(self) -> bytes:
        """As it is written to the disk."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def read_journal(folder: Path) -> tuple[Journal, bytes | None]:
    """The journal and its content on the disk; empty and None where nothing was ever wrapped.

    Raises:
        ConfigError: it cannot be read.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES)
        return Journal.model_validate_json(raw), raw
    except FileNotFoundError:
        return Journal(), None
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"the record of what was wrapped cannot be read: {path}",
            hint="the old files lie beside it with the ending .bak; put them back by hand, then move the folder away",
        ) from error


def digest_of(raw: bytes) -> str:
    """SHA-256 of a file's content."""
    return sha256(raw).hexdigest()


def digest_of_values(values: object) -> str:
    """SHA-256 of members of a host's file."""
    return digest_of(json.dumps(values, sort_keys=True, default=str).encode())
