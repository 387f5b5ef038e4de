"""What becomes of one entry of a host: its definition for guard.yaml, and what its host is left with.

What the host resolves (`${input:key}`, `${workspaceFolder}`, `${VAR:-default}`) stays with the host: it goes into the
environment of the host's new entry, and guard.yaml refers to that variable. The text is the host's, so also a host
that resolves nothing gets what it had.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import JsonValue, ValidationError

from mcp_guard.config.hostfile import host_server, starts_the_guard
from mcp_guard.config.references import HOST_VARIABLE
from mcp_guard.config.schema import ServerConfig
from mcp_guard.model import JsonDict

_OURS = frozenset(
    {
        *("type", "command", "args", "env", "url", "serverUrl", "headers"),
        *("http_headers", "env_http_headers", "bearer_token_env_var"),
    }
)
"""Members that say how a server is reached. All others are the host's own and stay."""
_LOGIN = frozenset({"oauth", "auth", "scopes", "headersHelper", "authProviderType", "oauth_resource"})
_OWN_SANDBOX = frozenset({"sandboxEnabled", "sandbox"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_REFERENCE = re.compile(r"\$\{[^{}]*\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHORTEST_S = {"start_timeout_s": 30.0, "call_timeout_s": 300.0}
"""Times of the host count where they are longer than the guard's own; shorter ones the host keeps by itself."""


@dataclass(frozen=True, slots=True)
class Left:
    """An entry that stays as it is."""

    why: str
    """Constant text, and names of keys."""
    wrapped: bool = False
    """It already starts the guard."""


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """An entry that can go behind the guard. May hold secrets: shows nothing."""

    fields: Mapping[str, Any]
    """As in guard.yaml, and before secrets are moved and the host's references are named."""
    passed_on: tuple[str, ...] = ()
    """Variables that the host must pass on to the guard (Codex passes none by itself)."""

    def __repr__(self) -> str:
        return "Found(…)"


@dataclass(slots=True, repr=False)
class HostVariables:
    """Names the texts that the host has to resolve. May hold secrets: shows nothing."""

    server: str
    passed_on: tuple[str, ...] = ()
    """Variables that the guard has under their own names: references to them are its to resolve."""
    values: dict[str, str] = field(default_factory=dict)
    """Variable → the host's text."""

    def named(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Copy of the fields with references to variables in place of the host's references."""
        made: dict[str, Any] = {}
        for key, value in fields.items():
            if isinstance(value, dict):
                made[key] = {name: self._text(name, text) for name, text in value.items()}
            elif isinstance(value, list):
                made[key] = [self._text(f"ARG_{number}", text) for number, text in enumerate(value, start=1)]
            else:
                made[key] = self._url(value) if key == "url" else self._text(key, value)
        return made

    def _text(self, key: str, text: Any) -> Any:
        if not isinstance(text, str) or "${" not in text:
            return text
        rest = text
        for name in self.passed_on:
            rest = rest.replace(f"${{env:{name}}}", "")
        return self._variable(key, text) if "${" in rest else text

    def _url(self, url: str) -> str:
        # Only the references: what is left must still be an address.
        return _REFERENCE.sub(lambda match: self._variable("URL", match[0]), url)

    def _variable(self, key: str, text: str) -> str:
        stem = re.sub(r"[^A-Z0-9_]", "_", f"{HOST_VARIABLE}{self.server}_{key}".upper())
        name, number = stem, 2
        while self.values.get(name, text) != text:
            name, number = f"{stem}_{number}", number + 1
        self.values[name] = text
        return f"${{env:{name}}}"


def read_entry(name: str, entry: Any, *, remote: bool) -> Found | Left:
    """Look at an entry of a host.

    Args:
        name: Its key.
        entry: Its value.
        remote: Whether remote servers without a credential are taken as well: the host may log in to them by itself.
    """
    if not isinstance(entry, dict):
        return Left("it is not an object")
    server = host_server(name, entry)
    fields = dict(server.fields)
    if starts_the_guard(fields):
        return Left("it starts the guard already", wrapped=True)
    reason = _not_ours(entry, fields, remote=remote)
    if reason:
        return Left(reason)
    if not _can_be_started(fields):
        return Left("a program cannot be started like this: a NUL in a word, or a variable without a proper name")
    passed_on = _passed_on(entry)
    kept = {
        key: fields[key] for key in ("command", "args", "env", "url", "headers") if fields.get(key) not in (None, {})
    }
    kept |= {key: fields[key] for key, least in _SHORTEST_S.items() if fields.get(key, 0) > least}
    try:
        ServerConfig.model_validate(kept)
    except ValidationError as error:
        reasons = {".".join(str(step) for step in item["loc"][:1]) or item["msg"] for item in error.errors()}
        told = sorted(reason.removeprefix("Value error, ") for reason in reasons)
        return Left(f"it is not valid: {'; '.join(told)}")
    return Found(kept, passed_on)


def _can_be_started(fields: Mapping[str, Any]) -> bool:
    """Whether its words and names are what a process, or a header, can be given."""
    blocks = [fields.get(key) for key in ("env", "headers")]
    keyed = [pair for block in blocks if isinstance(block, dict) for pair in block.items()]
    args = fields.get("args")
    words = [fields.get("command"), fields.get("url"), *(args if isinstance(args, list) else ())]
    named = all(name and not {"=", "\0", "\n"} & set(name) for name, _ in keyed)
    return named and not any("\0" in text for text in (*words, *(v for _, v in keyed)) if isinstance(text, str))


def _not_ours(entry: Mapping[str, Any], fields: Mapping[str, Any], *, remote: bool) -> str:
    """Why the guard would break this server; empty when it would not."""
    if fields.get("type") not in (None, "stdio", "http"):
        kind = "the old SSE transport" if fields["type"] == "sse" else "a transport that the guard does not have"
        return f"it uses {kind}"
    if any(entry.get(key) for key in _OWN_SANDBOX):
        return "its host runs it in a sandbox, in which the guard could not work"
    url = fields.get("url")
    return _remote_not_ours(url, entry, fields, remote=remote) if isinstance(url, str) else ""


def _remote_not_ours(url: str, entry: Mapping[str, Any], fields: Mapping[str, Any], *, remote: bool) -> str:
    why = ""
    if "${" in _REFERENCE.sub("", url) or not url.startswith(("http://", "https://")):
        why = "only its host knows the address" if "$" in url else "its address is not http:// or https://"
    elif "type" not in fields and _path(url).endswith("/sse"):
        why = "it uses the old SSE transport"
    elif _LOGIN & set(entry):
        why = "its host logs in to it, which the guard cannot do"
    elif not remote and not fields.get("headers") and not _has_credential(url):
        why = "its host may have to log in to it, which the guard cannot do; --remote takes it all the same"
    return why


def _path(url: str) -> str:
    return _REFERENCE.sub("x", url).partition("?")[0].rstrip("/")


def _has_credential(url: str) -> bool:
    try:
        parts = urlsplit(_REFERENCE.sub("x", url))
        return parts.hostname in _LOOPBACK or bool(parts.query) or bool(parts.password)
    except ValueError:
        return False


def _passed_on(entry: Mapping[str, Any]) -> tuple[str, ...]:
    named = entry.get("env_http_headers")
    found = [*named.values()] if isinstance(named, dict) else []
    found.append(entry.get("bearer_token_env_var"))
    # Only real names: `A}${file:…` would be taken for a reference to a variable, and read a file of the user's.
    return tuple(name for name in found if isinstance(name, str) and _VARIABLE.fullmatch(name))


def new_members(
    entry: Mapping[str, Any], command: Sequence[str], env: Mapping[str, str], passed_on: Sequence[str] = ()
) -> tuple[JsonDict, frozenset[str]]:
    """Members that make an entry start the guard, and those that must go. The host's own members stay.

    Args:
        entry: As it is.
        command: The whole command line of the guard.
        env: For the guard.
        passed_on: See `Found.passed_on`.
    """
    values: JsonDict = {"command": command[0], "args": [*command[1:]]}
    if env:
        values["env"] = dict(env)
    if "type" in entry:
        values["type"] = "stdio"
    if passed_on:
        given = entry.get("env_vars")
        before: list[JsonValue] = [*given] if isinstance(given, list) else []
        values["env_vars"] = [*before, *(name for name in passed_on if name not in before)]
    return values, frozenset(_OURS & set(entry)) - set(values)
