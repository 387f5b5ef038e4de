"""The servers of guard.yaml while hosts are wrapped: which are there, which come, under which names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from mcp_guard.config.initfile import config_id_for, first_text, free_name
from mcp_guard.config.load import load_config
from mcp_guard.config.references import Resolver
from mcp_guard.config.schema import ServerConfig
from mcp_guard.config.secretfiles import FOLDER, SecretFiles
from mcp_guard.config.servernames import NamesInUse, in_use
from mcp_guard.errors import ConfigError
from mcp_guard.wrap.apply import Write
from mcp_guard.wrap.entries import Found, HostVariables
from mcp_guard.wrap.guardyaml import add_servers, checked_text

_DEFINES = ("command", "args", "env", "url", "headers")
"""Members that say which server it is."""
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True, repr=False)
class Servers:
    """Servers of one guard.yaml. Holds secrets: shows nothing."""

    path: Path
    raw: bytes | None
    """Content of guard.yaml; None when there is none yet."""
    there: dict[str, ServerConfig]
    new: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Servers to add, with plain secrets still in them."""
    _names: NamesInUse = field(default_factory=NamesInUse)
    """Of all of them."""

    def __repr__(self) -> str:
        return f"Servers({self.path})"

    @classmethod
    def load(cls, path: Path) -> Servers:
        """Those of a guard.yaml that may not exist yet.

        Raises:
            ConfigError: it is not valid.
        """
        if not path.exists():
            return cls(path, None, {})
        raw = path.read_bytes()
        there = dict(load_config(path, {}, resolve=False, only="").config.servers)
        return cls(path, raw, there, _names=in_use(there))

    def copy(self) -> dict[str, dict[str, Any]]:
        """What was added so far."""
        return dict(self.new)

    def restore(self, new: dict[str, dict[str, Any]]) -> None:
        """Go back to what `copy` gave."""
        self.new = new
        self._names = in_use((*self.there, *new))

    def take(self, name: str, found: Found, host: str) -> tuple[str, dict[str, str]]:
        """The server for an entry of a host: one of the same definition, or a new one.

        Returns:
            Its name in guard.yaml, and the variables that the host's entry must set for it.
        """
        for server in self._names_for(name, host):
            fields, variables = self._named(server, found)
            if self._same(server, fields):
                return server, variables
            if server not in self._names.names and not self._names.mixed_up_with(server):
                self.new[server] = fields
                self._names.add(server)
                return server, variables
        raise AssertionError("there is always one more name")  # pragma: no cover

    @staticmethod
    def _names_for(name: str, host: str) -> Iterator[str]:
        """Names to try: that of the host, then with the host's own added, then numbers."""
        for wanted in (name, f"{name}-{host}"):
            server = free_name(wanted, ())
            yield from dict.fromkeys((server, server.replace("_", "-")))
        for number in count(2):
            yield free_name(f"{name[:50]}-{host}"[:52].replace("_", "-") + f"-{number}", ())

    def _named(self, server: str, found: Found) -> tuple[dict[str, Any], dict[str, str]]:
        variables = HostVariables(server, found.passed_on)
        return variables.named(found.fields), variables.values

    def _same(self, server: str, fields: Mapping[str, Any]) -> bool:
        """Whether the server of this name is the one that `fields` define."""
        if server in self.new:
            known: Mapping[str, Any] = self.new[server]
        elif server in self.there and not self.there[server].disabled:
            known = self._with_secrets(self.there[server].model_dump(include=set(_DEFINES), exclude_defaults=True))
        else:
            return False
        return all((known.get(key) or None) == (fields.get(key) or None) for key in _DEFINES)

    def _with_secrets(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A definition with what its files hold, to compare it with a host's; other references stay."""

        def text(value: Any) -> Any:
            if not isinstance(value, str) or f"${{file:{FOLDER}/" not in value:
                return value
            resolver = Resolver({}, self.path.parent)
            start = value.index("${file:")
            end = value.index("}", start) + 1
            return value[:start] + resolver.text(value[start:end], ()) + text(value[end:])

        return {
            key: {k: text(v) for k, v in value.items()}
            if isinstance(value, dict)
            else [text(v) for v in value]
            if isinstance(value, list)
            else text(value)
            for key, value in fields.items()
        }

    def name_tools(self, *, only_one: bool) -> None:
        """Write down how the tools of new servers are named where one entry offers all (decisions.md D14).

        An entry of its own serves the server's own names, whatever stands there.
        """
        alone = only_one and len(self.new) + len(self.there) == 1
        for fields in self.new.values() if only_one else ():
            fields["names"] = "plain" if alone else "prefixed"

    def secrets(self) -> list[str]:
        """Plain secrets of the new servers."""
        return [*self._moved()[1].values()]

    def writes(self) -> list[Write]:
        """What has to be written: the secrets first, then guard.yaml. Nothing when no server is new.

        Raises:
            ConfigError: guard.yaml is written in a way in which no server can be added.
        """
        if not self.new:
            return []
        servers, files = self._moved()
        writes = [Write(self.path.parent / name, None, text.encode()) for name, text in files.items()]
        ignore = self.path.parent / FOLDER / ".gitignore"
        if files and not ignore.exists():
            writes.insert(0, Write(ignore, None, b"*\n"))
        return [*writes, Write(self.path, self.raw, self._text(servers).encode())]

    def _text(self, servers: Mapping[str, dict[str, Any]]) -> str:
        if self.raw is None:
            return checked_text(first_text(servers, config_id=config_id_for(self.path)), servers, self.path.name)
        try:
            mark = "\ufeff" if self.raw.startswith(_BOM) else ""
            return mark + add_servers(self.raw.decode("utf-8-sig"), servers, self.path.name)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.path.name} is not UTF-8 text") from error

    def _moved(self) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """The new servers with references in place of plain secrets, and the files of those."""
        folder = self.path.parent / FOLDER
        taken = {f"{FOLDER}/{file.name}": "" for file in folder.iterdir()} if folder.is_dir() else {}
        secrets = SecretFiles(dict(taken), careful=True)
        servers = {name: secrets.move_from(name, fields) for name, fields in self.new.items()}
        return servers, {name: text for name, text in secrets.files.items() if name not in taken}
