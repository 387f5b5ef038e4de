"""Move plain secrets of a host's entry into private files, so that guard.yaml can be shown to others.

A file and not an environment variable: hosts with a window start programs without the shell's variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FOLDER = "secrets"
"""Beside guard.yaml."""

_MAX_BYTES = 64 * 1024
_NAME = re.compile(
    r"secret|token|passw|api[-_]?key|private[-_]?key|credential|authori[sz]ation|cookie|(^|[-_])(key|auth|pat|pwd)$",
    re.IGNORECASE,
)
_NOT_A_SECRET = re.compile(r"(file|path|dir|url|uri|endpoint|tokens|limit|name)$", re.IGNORECASE)
_PLAIN_VALUE = re.compile(r"\d{1,5}(?::[\d.:]+)?(?:/tcp|/udp)?|true|false|yes|no|on|off|none", re.IGNORECASE)
_SCHEME = re.compile(r"(?:bearer|basic|token)\s+", re.IGNORECASE)
_ASSIGNED = re.compile(r"(-{0,2}[A-Za-z][A-Za-z0-9_.-]*)(=|:\s+)(.+)", re.DOTALL)
_IN_TEXT = re.compile(
    r"(?<=://)(?:[^\s/:@]*):(?P<password>[^\s/@]+)(?=@)"
    r"|(?P<prefixed>\b(?:sk-|sk_live_|gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|AKIA|npm_|pypi-|hf_)[A-Za-z0-9_-]{12,})"
)
_PARAMETER = re.compile(r"[?&;#](?P<name>[^=&;#?]{1,100})=(?P<value>[^&;#]+)")
_SHORT_FLAGS = {"-p": "password", "-P": "password", "-pw": "password"}
"""Short options by which programs take a password. A port, a path or a word like `true` after them stays."""
_SHORT = re.compile(r"(-p)([^-=/.\s](?=[^\s]*[0-9A-Z!@#$%^&*])[^\s]{3,})")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(slots=True, repr=False)
class SecretFiles:
    """Collects the secrets of all servers. Holds secrets: shows nothing."""

    files: dict[str, str] = field(default_factory=dict)
    """Path relative to guard.yaml → content."""

    def __repr__(self) -> str:
        return f"SecretFiles({len(self.files)} files, …)"

    def move_from(self, server: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Copy of a server's fields with references where plain secrets were."""
        moved = dict(fields)
        for block in ("env", "headers"):
            if isinstance(fields.get(block), dict):
                moved[block] = {k: self._keyed(server, k, v) for k, v in fields[block].items()}
        if isinstance(fields.get("args"), list):
            moved["args"] = self._arguments(server, fields["args"])
        if isinstance(fields.get("url"), str):
            moved["url"] = self._in_query(server, self._inside(server, "url", fields["url"]))
        return moved

    def _keyed(self, server: str, key: str, value: Any) -> Any:
        if not isinstance(value, str) or "${" in value:
            return value
        if not names_a_secret(key) or _PLAIN_VALUE.fullmatch(value):
            return self._inside(server, key, value)
        scheme = _SCHEME.match(value)
        start = scheme.end() if scheme else 0
        return value[:start] + self._keep(server, key, value[start:])

    def _arguments(self, server: str, args: list[Any]) -> list[Any]:
        moved: list[Any] = []
        flag = ""
        for arg in args:
            if not isinstance(arg, str) or "${" in arg:
                moved.append(arg)
            elif flag and not arg.startswith(("-", "/", "./", "../", "~") if flag == "password" else "-"):
                moved.append(self._keyed(server, flag, arg))
            elif short := _SHORT.fullmatch(arg):
                moved.append(short[1] + self._keyed(server, _SHORT_FLAGS[short[1]], short[2]))
            elif assigned := _ASSIGNED.fullmatch(arg):
                name, sign, value = assigned.groups()
                moved.append(f"{name}{sign}{self._keyed(server, name.lstrip('-'), value)}")
            else:
                moved.append(self._inside(server, "arg", arg))
            flag = self._flag(arg)
        return moved

    @staticmethod
    def _flag(arg: Any) -> str:
        """Name of the secret that the next argument holds; empty when it holds none."""
        if not isinstance(arg, str) or not arg.startswith("-") or "=" in arg:
            return ""
        name = arg.lstrip("-")
        return _SHORT_FLAGS.get(arg, name if len(name) > 1 and names_a_secret(name) else "")

    def _inside(self, server: str, key: str, text: str) -> str:
        """Replace passwords in addresses, and tokens known by their beginning."""

        def replace(match: re.Match[str]) -> str:
            secret = match["password"] or match["prefixed"]
            return match[0].removesuffix(secret) + self._keep(server, key, secret)

        return text if "${" in text else _IN_TEXT.sub(replace, text)

    def _in_query(self, server: str, url: str) -> str:
        """Replace what parameters hold whose names say that it is a secret."""

        def replace(match: re.Match[str]) -> str:
            name, value = match["name"], match["value"]
            if not names_a_secret(name) or _PLAIN_VALUE.fullmatch(value) or "${" in value:
                return match[0]
            return match[0].removesuffix(value) + self._keep(server, name, value)

        return _PARAMETER.sub(replace, url)

    def _keep(self, server: str, key: str, value: str) -> str:
        # What a file cannot give back unchanged stays where it is; loading warns of it.
        if not value or value != value.rstrip("\r\n") or len(value.encode()) > _MAX_BYTES:
            return value
        stem = f"{FOLDER}/{_UNSAFE.sub('_', f'{server}.{key}')}"
        taken = {name.lower() for name in self.files}
        name, number = stem, 2
        while name.lower() in taken:
            name, number = f"{stem}.{number}", number + 1
        self.files[name] = value
        return f"${{file:{name}}}"


def names_a_secret(name: str) -> bool:
    """Whether a variable, header or option of this name holds a secret; `MAX_TOKENS` and `TOKEN_FILE` do not."""
    return bool(_NAME.search(name)) and not _NOT_A_SECRET.search(name)
