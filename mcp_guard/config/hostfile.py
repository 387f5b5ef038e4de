"""Read the servers out of a host's configuration file: JSON with comments, or Codex' TOML.

Hosts differ in spelling only; what comes out has the keys of `ServerConfig`. Text of the file never gets into a
message, since it may hold secrets.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mcp_guard.errors import ConfigError

MAX_BYTES = 64 * 1024 * 1024
"""Claude Code keeps its history in the same file."""

_HINT = "give a file with `mcpServers`, VS Code's `servers` or Codex' `mcp_servers`"
# Nothing here may be tried twice: what is not closed reaches to the end, and no part gives back what it took.
COMMENT = r"//[^\n]*+\n?|/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)"
STRING = r'"(?:[^"\\\n]++|\\.)*+"?'
_JSONC = re.compile(rf"{STRING}|{COMMENT}|,(?=(?:\s++|{COMMENT})*+[}}\]])")
_PLACE = re.compile(r"\(at (line \d+, column \d+|end of document)\)$")
_HTTP_TYPES = frozenset({"http", "streamable-http", "streamableHttp", "streamable_http"})
_OWN_PROGRAMS = frozenset({"mcp-guard", "mcp_guard", "mcp_guard.cli.main"})
_SECONDS = {"startup_timeout_sec": "start_timeout_s", "tool_timeout_sec": "call_timeout_s"}
_KEPT = ("type", "command", "args", "env", "cwd", "url", "headers", "disabled")
_OTHER_SPELLINGS = ("serverUrl", "http_headers", "env_http_headers", "bearer_token_env_var")
_UNDERSTOOD = frozenset({*_KEPT, *_SECONDS, *_OTHER_SPELLINGS, "name", "description", "enabled"})
_BLOCKS = (("mcpServers",), ("servers",), ("mcp_servers",), ("mcp", "servers"))
_VERSION = re.compile(r"[@=:\[].*", re.DOTALL)
_LONGEST_S = 86_400.0


@dataclass(frozen=True, slots=True, repr=False)
class HostServer:
    """One entry of a host's file, in our spelling and not yet validated. May hold secrets: shows nothing."""

    name: str
    fields: Mapping[str, Any]
    left_out: tuple[str, ...]
    """Keys of the host that have no meaning here."""

    def __repr__(self) -> str:
        return "HostServer(…)"


def read_host_file(path: Path) -> dict[str, Any]:
    """Parse a host's file: TOML by the suffix `.toml`, else JSON with comments and trailing commas.

    Raises:
        ConfigError: it cannot be read or parsed.
    """
    return parse_host_file(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """The content of a host's file.

    Raises:
        ConfigError: it is not a file, too large, or cannot be read.
    """
    try:
        if not path.is_file():
            raise ConfigError(f"{path.name} is not a file", hint=_HINT)
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror}", hint=_HINT) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path.name} is larger than 64 MiB", hint=_HINT)
    return raw


def parse_host_file(raw: bytes, path: Path) -> dict[str, Any]:
    """Parse the content of a host's file; see `read_host_file`.

    Raises:
        ConfigError: it cannot be parsed.
    """
    try:
        text = raw.decode("utf-8-sig")
        data = tomllib.loads(text) if path.suffix == ".toml" else _json(text)
        json.dumps(data, ensure_ascii=False, default=str).encode()  # half a character would break the file we write
    except (ValueError, RecursionError) as error:
        # The cause is dropped: it quotes the file. Only the place is told.
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise ConfigError(f"{path.name} is not {kind} that can be read{_place_of(error)}", hint=_HINT) from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path.name} has no servers in it", hint=_HINT)
    return data


def _place_of(error: Exception) -> str:
    """`: line 3, column 7`, where the parser says it."""
    if isinstance(error, json.JSONDecodeError):
        return f": line {error.lineno}, column {error.colno}"
    found = _PLACE.search(str(error)) if isinstance(error, tomllib.TOMLDecodeError) else None
    return f": {found[1]}" if found else ""


class _Members(dict[str, Any]):
    """An object of a file that remembers whether a key stood in it twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice = len(pairs) > len(self)


def says_something_twice(raw: bytes, path: Path, places: Iterable[tuple[str, ...]]) -> bool:
    """Whether a key stands twice in an object around the blocks of servers, or anywhere in them: hosts differ then.

    Args:
        raw: A file that `parse_host_file` can read.
        path: Its name says what it is; TOML has no such files.
        places: From `server_blocks`.
    """
    if path.suffix == ".toml":
        return False
    data = _json(raw.decode("utf-8-sig"), _Members)
    around = [at(data, place[:depth]) for place in places for depth in range(len(place))]
    pending = [at(data, place) for place in places]
    while pending:
        item = pending.pop()
        around.append(item)
        inner = item.values() if isinstance(item, dict) else item
        pending += [value for value in inner if isinstance(value, (dict, list))]
    return any(isinstance(item, _Members) and item.twice for item in around)


def is_blank(raw: bytes, path: Path) -> bool:
    """Whether a file holds nothing but space and comments, as a new one of a host does."""
    comment = r"#[^\n]*" if path.suffix == ".toml" else COMMENT
    return not re.sub(comment, "", raw.decode("utf-8-sig", errors="replace")).strip()


def _json(text: str, hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> object:
    try:
        return json.loads(text, object_pairs_hook=hook)
    except ValueError:
        return json.loads(_JSONC.sub(_without_comment, text), object_pairs_hook=hook)


def _without_comment(match: re.Match[str]) -> str:
    found = match[0]
    # As long as before, so that the place of a mistake is that in the file.
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)


def host_servers(source: Mapping[str, Any]) -> list[HostServer]:
    """The servers of a parsed host file, in its order.

    Raises:
        ConfigError: it has no block of servers.
    """
    return [host_server(str(name), entry) for name, entry in _block(source).items()]


def server_blocks(source: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Where the blocks of servers stand in a parsed host file, also those of Claude Code's single projects."""
    places = list(_BLOCKS)
    projects = source.get("projects")
    places += [("projects", str(name), "mcpServers") for name in projects] if isinstance(projects, dict) else []
    return [place for place in places if isinstance(at(source, place), dict)]


def at(source: Any, place: tuple[str, ...]) -> Any:
    """The value at a place of a parsed file, None where there is none."""
    for step in place:
        source = source.get(step) if isinstance(source, dict) else None
    return source


def projects_with_servers(source: Mapping[str, Any]) -> int:
    """How many projects inside a Claude Code file have servers of their own."""
    projects = source.get("projects")
    values = projects.values() if isinstance(projects, dict) else ()
    return sum(1 for project in values if isinstance(project, dict) and project.get("mcpServers"))


def starts_the_guard(fields: Mapping[str, Any]) -> bool:
    """Whether an entry already is a guard: wrapping it again would never end."""
    args = fields.get("args")
    words = [fields.get("command"), *(args if isinstance(args, list) else [])]
    programs = [_program(part) for word in words if isinstance(word, str) for part in (word, *word.split())]
    return programs[:1] == ["mcp-guard"] or ("serve" in programs and bool(_OWN_PROGRAMS & set(programs)))


def _block(source: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = source.get("mcp")
    places = [source.get(key) for key in ("mcpServers", "servers", "mcp_servers")]
    places += [inner.get("servers")] if isinstance(inner, dict) else []
    for found in places:
        if isinstance(found, dict):
            return found
    if projects_with_servers(source):
        return {}
    if source and all(isinstance(entry, dict) and {"command", "url"} & set(entry) for entry in source.values()):
        return source
    raise ConfigError("the file has no servers in it", hint=_HINT)


def host_server(name: str, entry: object) -> HostServer:
    """One entry in our spelling."""
    given: dict[str, Any] = dict(entry) if isinstance(entry, dict) else {}
    fields = {key: given[key] for key in _KEPT if given.get(key) is not None}
    fields |= {"url": given["serverUrl"]} if "serverUrl" in given and "url" not in fields else {}
    fields |= _headers(given)
    if given.get("enabled") is False:
        fields["disabled"] = True
    if fields.get("type") in _HTTP_TYPES:
        fields["type"] = "http"
    fields.update(_timeouts(given))
    for block in ("env", "headers"):
        if isinstance(fields.get(block), dict):
            fields[block] = {str(k): _as_text(v) for k, v in fields[block].items()}
    left_out = [key for key in given if key not in _UNDERSTOOD]
    return HostServer(name, fields, tuple(left_out))


def _headers(given: Mapping[str, Any]) -> dict[str, Any]:
    """The headers of Codex, which may come from its environment."""
    plain = given.get("http_headers", given.get("headers"))
    named, bearer = given.get("env_http_headers"), given.get("bearer_token_env_var")
    if not isinstance(named, dict) and not isinstance(bearer, str):
        return {} if plain is None else {"headers": plain}
    found = dict(plain) if isinstance(plain, dict) else {}
    found |= {key: f"${{env:{variable}}}" for key, variable in named.items()} if isinstance(named, dict) else {}
    return {"headers": found | ({"Authorization": f"Bearer ${{env:{bearer}}}"} if isinstance(bearer, str) else {})}


def _timeouts(given: Mapping[str, Any]) -> dict[str, float]:
    found = {ours: given[theirs] for theirs, ours in _SECONDS.items() if isinstance(given.get(theirs), (int, float))}
    return {key: min(float(seconds), _LONGEST_S) for key, seconds in found.items() if seconds > 0}


def _as_text(value: object) -> object:
    """Hosts accept numbers and booleans in `env`; a process gets text."""
    return json.dumps(value) if isinstance(value, (bool, int, float)) else value


def _program(word: str) -> str:
    """Name of a program or package, without folder, version and ending."""
    name = PurePosixPath(word.replace("\\", "/")).name.lower()
    return re.sub(r"\.(exe|cmd|bat)$", "", _VERSION.sub("", name))
