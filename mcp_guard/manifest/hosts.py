"""What is known of hosts: which prompts they show and how long they wait (docs/known-hosts.md).

A client names itself, and anybody can give any name. So an entry may only shorten a wait or skip a prompt; no
decision ever counts for more because of it. The JSON Schema in `tool_manifests/schema/hosts.v1.json` is generated
from `KnownHosts`.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import cache
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from mcp_guard.config.document import read_document
from mcp_guard.config.problems import fail
from mcp_guard.config.schema import Model, Name
from mcp_guard.errors import ConfigError
from mcp_guard.manifest.find import shipped_folder
from mcp_guard.manifest.model import Line

FILE = "hosts.yaml"
_MARGIN_S = 5.0
"""What is held has to come back before the client gives up."""

_Version = Annotated[str, Field(pattern=r"^\d+(\.\d+){0,3}$")]
_Duration = Annotated[float, Field(ge=1, le=86_400)]


class HostEntry(Model):
    """One host, in a range of versions."""

    id: Name
    title: Line
    names: Annotated[list[Line], Field(min_length=1)]
    """Globs for `clientInfo.name`; case counts."""
    since: _Version | None = None
    """First version that it is about."""
    before: _Version | None = None
    """First version that it is no longer about."""
    form: bool | None = None
    """Whether a form is shown; null: as the client declares."""
    url: bool | None = None
    """Whether it offers to open an address; null: as the client declares."""
    tool_timeout_s: _Duration | None = None
    """How long it waits for a tool; null: not known, or as good as for ever."""
    hold_s: _Duration | None = None
    """At most this long a call is held for people; null: as configured."""
    note: Line
    source: Line
    """Where this is said in public."""

    @model_validator(mode="after")
    def _holds_shorter_than_the_host_waits(self) -> Self:
        if self.tool_timeout_s is not None and (self.hold_s or 0) > self.tool_timeout_s - _MARGIN_S:
            raise ValueError(f"hold_s must stay {_MARGIN_S:g} s below tool_timeout_s")
        if self.tool_timeout_s is not None and self.hold_s is None:
            raise ValueError("a host that gives up needs hold_s")
        return self

    def fits(self, name: str, version: str) -> bool:
        """Whether a client of this name and version is meant. A version that is not numbers fits no range."""
        return any(fnmatchcase(name, pattern) for pattern in self.names) and _within(version, self.since, self.before)

    def shows(self, channel: Literal["form", "url"]) -> bool:
        """Whether a question over this channel may be seen; what is not known is taken as declared."""
        return (self.form if channel == "form" else self.url) is not False


class KnownHosts(Model):
    """The whole of hosts.yaml."""

    version: Literal[1]
    hosts: list[HostEntry]

    @model_validator(mode="after")
    def _unique_ids(self) -> Self:
        if len({entry.id for entry in self.hosts}) != len(self.hosts):
            raise ValueError("two hosts have the same id")
        return self

    def find(self, name: str, version: str) -> HostEntry | None:
        """The first entry that fits; None for a client that nothing is known of."""
        return next((entry for entry in self.hosts if entry.fits(name, version)), None)


@cache
def known_hosts() -> KnownHosts:
    """The shipped table, read once.

    Raises:
        ConfigError: the file is missing or not valid.
    """
    document = read_document(shipped_folder().parent / FILE)
    fail(document.problems)
    try:
        return KnownHosts.model_validate(document.data)
    except ValidationError as error:
        raise ConfigError(
            f"{FILE} is not valid: {error.error_count()} problems", hint="install the guard again"
        ) from None


def hosts_schema() -> dict[str, JsonValue]:
    """JSON Schema of hosts.yaml."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **KnownHosts.model_json_schema(),
        "title": "mcp-guard known hosts, version 1",
    }


def _within(version: str, since: str | None, before: str | None) -> bool:
    match = re.match(r"v?(\d{1,9}(?:\.\d{1,9}){0,3})", version)
    if match is None:
        return since is None and before is None
    found = _numbers(match[1])
    return (since is None or found >= _numbers(since)) and (before is None or found < _numbers(before))


def _numbers(version: str) -> tuple[int, ...]:
    parts = [int(part) for part in version.split(".")]
    return (*parts, *(0 for _ in range(4 - len(parts))))
