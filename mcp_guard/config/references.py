"""Resolve `${…}` in the servers block: secrets stay out of guard.yaml, and out of every message.

Resolved text is never looked at again: what a variable holds cannot name another reference (threat S38).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcp_guard.config.problems import Finding, Place
from mcp_guard.config.schema import ServerConfig
from mcp_guard.config.secretshapes import MIN_PART, names_a_secret, secret_spans

MIN_SECRET = MIN_PART
"""Characters; a shorter value is not masked as an exact match, it would mask unrelated text."""

HOST_VARIABLE = "MCP_GUARD_HOST_"
"""Begins variables that `wrap` has a host set for the server of its entry, and that nobody else has."""

LEFT_OUT = "left out: only the host that it belongs to sets its variables"
"""Warning about a server that is not run here."""

_MAX_SECRET_FILE = 64 * 1024
_REFERENCE = re.compile(r"\$\{([^{}]*)(\}?)")
_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_TARGET = re.compile(r"desktop|[A-Za-z][A-Za-z0-9+.-]*://\S+")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_HOST_NAMES = frozenset(
    {
        "workspaceFolder",
        "workspaceFolderBasename",
        "userHome",
        "cwd",
        "file",
        "pathSeparator",
        "execPath",
        "workspaceRoot",
    }
)

KeyringGet = Callable[[str, str], str | None]
"""Service and user name → password, None when there is none."""


@dataclass(frozen=True, slots=True, repr=False)
class ResolvedServers:
    """Servers with all references resolved. Holds secrets: shows nothing."""

    servers: Mapping[str, ServerConfig]
    secrets: tuple[str, ...]
    """Exact values to mask wherever they occur."""
    files: tuple[Path, ...]
    """Files of `${file:…}`."""
    findings: tuple[Finding, ...]
    warnings: tuple[Finding, ...]

    def __repr__(self) -> str:
        return f"ResolvedServers({len(self.servers)} servers, …)"


class _Unresolved(Exception):  # noqa: N818 - private, turned into a Finding at once
    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


@dataclass(slots=True, repr=False)
class Resolver:
    """Resolves references against an environment, the folder of guard.yaml and the system's keyring."""

    env: Mapping[str, str]
    config_dir: Path
    keyring: KeyringGet | None = None
    """Default: the `keyring` package, imported when the first reference needs it."""
    secrets: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def text(self, text: str, place: Place) -> str:
        """Replace all references in `text`; a problem is noted and leaves an empty text."""

        def replace(match: re.Match[str]) -> str:
            if not match[2]:
                self.findings.append(Finding(place, "a ${ is not closed"))
                return ""
            try:
                return self._value(match[1], place)
            except _Unresolved as problem:
                self.findings.append(Finding(place, problem.what, problem.hint))
                return ""

        return _REFERENCE.sub(replace, text)

    def keyed(self, values: Mapping[str, str], place: Place) -> dict[str, str]:
        """Resolve a block of `env` or `headers`; a plain secret in it is noted as a warning, and masked."""
        resolved = {}
        for key, value in values.items():
            here = (*place, key)
            resolved[key] = self.text(value, here)
            if names_a_secret(key):
                if value and "${" not in value:
                    self.warnings.append(Finding(here, "a secret in plain text", "use ${env:NAME} or ${file:PATH}"))
                self._keep(resolved[key], here)
            else:
                self.keep_parts(value)
        return resolved

    def keep_parts(self, text: str) -> None:
        """Mask what evidently is a secret within a text, wherever it came from."""
        parts = [text[start:end] for _, start, end in secret_spans(text)]
        self.secrets += [part for part in parts if len(part) >= MIN_SECRET and "${" not in part]

    def _value(self, body: str, place: Place) -> str:
        scheme, colon, rest = body.partition(":")
        if body == "config_dir":
            return str(self.config_dir)
        if scheme == "input" or body in _HOST_NAMES:
            raise _Unresolved(
                f"${{{scheme}{':…' if colon else ''}}} belongs to a host and is not known here",
                "use ${env:NAME}, ${file:PATH} or ${config_dir}",
            )
        if colon and not rest.startswith("-"):
            return self._secret(scheme, rest, place)
        match = _VARIABLE.fullmatch(body)
        if match is None:
            raise _Unresolved("a ${…} that is not understood", "see the list of references in the documentation")
        if match[2] is not None:
            return self.env.get(match[1]) or match[2]
        return self._variable(match[1])

    def _secret(self, scheme: str, rest: str, place: Place) -> str:
        if scheme == "env":
            if not _VARIABLE.fullmatch(rest) or ":-" in rest:
                raise _Unresolved("${env:…} needs the name of a variable")
            value = self._variable(rest)
        elif scheme == "file":
            value = self._file(rest)
        elif scheme == "keyring":
            value = self._keyring(rest)
        else:
            raise _Unresolved("a ${…:…} of an unknown kind", "known are env, file and keyring")
        self._keep(value, place)
        return value

    def _variable(self, name: str) -> str:
        if name not in self.env:
            raise _Unresolved(f"the environment variable {name} is not set", "set it where the host starts the guard")
        return self.env[name]

    def _file(self, name: str) -> str:
        try:
            path = self.config_dir / Path(name).expanduser()
            self.files.append(path)
            with path.open("rb") as file:
                raw = file.read(_MAX_SECRET_FILE + 1)
            text = raw.decode()
        except (OSError, ValueError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise _Unresolved(f"the file of a ${{file:…}} cannot be read: {reason}") from error
        if len(raw) > _MAX_SECRET_FILE:
            raise _Unresolved("the file of a ${file:…} is larger than 64 KiB")
        if "\0" in text:
            raise _Unresolved("the file of a ${file:…} is not a text file")
        return text.rstrip("\r\n")

    def _keyring(self, rest: str) -> str:
        service, slash, user = rest.partition("/")
        if not (service and slash and user):
            raise _Unresolved("${keyring:…} needs SERVICE/USER")
        try:
            get = self.keyring or importlib.import_module("keyring").get_password
        except ImportError as error:
            raise _Unresolved("${keyring:…} needs the package keyring", "install it, or use ${env:NAME}") from error
        try:
            value = get(service, user)
        except Exception as error:  # any backend of the keyring may fail in its own way
            raise _Unresolved("the keyring cannot be read") from error
        if not isinstance(value, str):
            raise _Unresolved("the keyring has no such entry")
        return value

    def _keep(self, value: str, place: Place) -> None:
        self.keep_parts(value)
        for part in {value, value.partition(" ")[2].strip() if value.lower().startswith(("bearer ", "basic ")) else ""}:
            if len(part) >= MIN_SECRET:
                self.secrets.append(part)
            elif part:
                self.warnings.append(
                    Finding(place, f"a secret of fewer than {MIN_SECRET} characters is not masked as an exact value")
                )


def variables_of(server: ServerConfig) -> frozenset[str]:
    """Names in the `${env:NAME}` of a server as it is written."""
    texts = [*server.args, *server.env.values(), *server.headers.values(), *(text for _, text in _texts(server))]
    return variables_in(texts)


def variables_in(texts: Iterable[str]) -> frozenset[str]:
    """Names in the `${env:NAME}` of texts as they are written."""
    return frozenset(name for text in texts for name in _ENV.findall(text))


def resolve_notify(targets: Sequence[str], resolver: Resolver) -> tuple[str, ...]:
    """Resolve the references of `approvals.notify`.

    A reference to nothing is a warning and takes its target out: for a notice nobody's guard should stay down. What
    is no address is an error, since it is a slip of the pen.
    """
    found = []
    for index, written in enumerate(targets):
        place: Place = ("approvals", "notify", index)
        before = len(resolver.findings)
        text = resolver.text(written, place)
        missing, resolver.findings[before:] = resolver.findings[before:], []
        resolver.warnings += missing
        if missing:
            continue
        if _TARGET.fullmatch(text):
            found.append(text)
        else:
            hint = "write desktop, or an address such as ntfy://ntfy.example/topic"
            resolver.findings.append(Finding(place, "is not a place for notices", hint))
    return tuple(found)


def resolve_servers(
    servers: Mapping[str, ServerConfig], resolver: Resolver, only: str | None = None
) -> ResolvedServers:
    """Resolve the references of all servers that are not disabled. Problems are collected, not raised.

    A server whose host gives it variables of its own (`HOST_VARIABLE`) is left out where they are not set: it runs
    behind that host's entry alone.

    Args:
        servers: As written.
        resolver: Collects the problems.
        only: The one server that is wanted. The secrets of the others are masked too, but what is wrong with them is
            no problem here.
    """
    resolved = {}
    for name, server in servers.items():
        missing = needs_its_host(server, resolver.env)
        if server.disabled or (missing and name != only):
            if missing and only is None:
                resolver.warnings.append(Finding(("servers", name), LEFT_OUT))
            continue
        found = _server(name, server, resolver)
        if only in (None, name):
            resolved[name] = found
    if only is not None:
        resolver.findings[:] = [finding for finding in resolver.findings if finding.place[1:2] == (only,)]
        resolver.warnings[:] = [finding for finding in resolver.warnings if finding.place[1:2] == (only,)]
    return ResolvedServers(
        servers=resolved,
        secrets=tuple(dict.fromkeys(resolver.secrets)),
        files=tuple(dict.fromkeys(resolver.files)),
        findings=tuple(resolver.findings),
        warnings=tuple(resolver.warnings),
    )


def needs_its_host(server: ServerConfig, env: Mapping[str, str]) -> bool:
    """Whether it needs variables that only the host sets to which it belongs, and that are not there."""
    return any(name.startswith(HOST_VARIABLE) and name not in env for name in variables_of(server))


def _server(name: str, server: ServerConfig, resolver: Resolver) -> ServerConfig:
    place: Place = ("servers", name)
    update: dict[str, object] = {
        "args": [resolver.text(text, (*place, "args", i)) for i, text in enumerate(server.args)],
        "env": resolver.keyed(server.env, (*place, "env")),
        "headers": resolver.keyed(server.headers, (*place, "headers")),
    }
    for key, value in _texts(server):
        update[key] = resolver.text(value, (*place, key))
    for text in (*server.args, server.command or "", server.url or ""):
        resolver.keep_parts(text)
    # The schema judged the text before; it is a copy, so that no value gets into a message of the schema.
    return server.model_copy(update=update)


def _texts(server: ServerConfig) -> Iterator[tuple[str, str]]:
    for key in ("command", "cwd", "url"):
        value = getattr(server, key)
        if value is not None:
            yield key, value
