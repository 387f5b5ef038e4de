"""Move plain secrets of a host's entry into private files, so that guard.yaml can be shown to others.

A file and not an environment variable: hosts with a window start programs without the shell's variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_guard.config.secretshapes import (
    is_harmless,
    is_trivial,
    looks_random,
    names_a_secret,
    random_parts,
    scheme_end,
    secret_spans,
)

FOLDER = "secrets"
"""Beside guard.yaml."""

_MAX_BYTES = 64 * 1024
_ASSIGNED = re.compile(r"(-{0,2}[A-Za-z][A-Za-z0-9_.-]*)(=|:[ \t]*)(.+)", re.DOTALL)
_PARAMETER = re.compile(r"[?&;#](?P<name>[^=&;#?]{1,100})=(?P<value>[^&;#]+)")
_SHORT_FLAGS = {"-p": "password", "-P": "password", "-pw": "password"}
"""Short options by which programs take a password. A port, a path or a word like `true` after them stays."""
_SHORT = re.compile(r"(-p)([^-=/.\s](?=[^\s]*[0-9A-Z!@#$%^&*])[^\s]{3,})")
_LOGIN_FLAGS = frozenset({"-u", "--user", "--basic-auth", "--credentials"})
"""Options that take `name:password`."""
_ENV_FLAGS = frozenset({"-e", "--env", "-H", "--header", "--headers"})
"""Options that take `NAME=value` or `Name: value`, of which nobody knows what it means."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(slots=True, repr=False)
class SecretFiles:
    """Collects the secrets of all servers. Holds secrets: shows nothing."""

    files: dict[str, str] = field(default_factory=dict)
    """Path relative to guard.yaml → content."""
    careful: bool = False
    """Whether values of variables and headers are moved too that only may be secrets. A reference serves as well."""

    _taken: set[str] = field(default_factory=set)
    """Names of files in small letters: some disks do not tell them apart."""

    _numbers: dict[str, int] = field(default_factory=dict)
    """The next number for each name."""

    def __post_init__(self) -> None:
        self._taken.update(name.lower() for name in self.files)

    def __repr__(self) -> str:
        return f"SecretFiles({len(self.files)} files, …)"

    def move_from(self, server: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Copy of a server's fields with references where plain secrets were."""
        moved = dict(fields)
        for block in ("env", "headers"):
            if isinstance(fields.get(block), dict):
                moved[block] = {k: self._keyed(server, k, v, careful=self.careful) for k, v in fields[block].items()}
        if isinstance(fields.get("args"), list):
            moved["args"] = self._arguments(server, fields["args"])
        if isinstance(fields.get("command"), str):
            moved["command"] = self._inside(server, "command", fields["command"])
        if isinstance(fields.get("url"), str):
            moved["url"] = self._address(server, fields["url"])
        return moved

    def _keyed(self, server: str, key: str, value: Any, *, careful: bool = False) -> Any:
        """The value of a variable, a header or an option."""
        if not isinstance(value, str) or "${" in value or is_trivial(value):
            return value
        if names_a_secret(key):
            start = scheme_end(value)
            return value[:start] + self._keep(server, key, value[start:])
        if careful and not is_harmless(_without_spans(value)):
            return self._keep(server, key, value)
        return self._inside(server, key, value)

    def _arguments(self, server: str, args: list[Any]) -> list[Any]:
        moved: list[Any] = []
        before: Any = ""
        for arg in args:
            moved.append(self._argument(server, arg, before) if isinstance(arg, str) and "${" not in arg else arg)
            before = arg
        return moved

    def _argument(self, server: str, arg: str, before: Any) -> str:
        flag = _flag(before)
        if flag and not arg.startswith(("-", "/", "./", "../", "~") if flag == "password" else "-"):
            return str(self._keyed(server, flag, arg))
        if short := _SHORT.fullmatch(arg):
            return short[1] + str(self._keyed(server, _SHORT_FLAGS[short[1]], short[2]))
        if before in _LOGIN_FLAGS and ":" in arg and not is_trivial(arg):
            name, _, password = arg.partition(":")
            return f"{name}:{self._keyed(server, 'password', password)}"
        assigned = _ASSIGNED.fullmatch(arg)
        if assigned and not assigned[3].startswith("//"):
            name, sign, value = assigned.groups()
            careful = self.careful and before in _ENV_FLAGS
            if careful or names_a_secret(name.lstrip("-")):
                return f"{name}{sign}{self._keyed(server, name.lstrip('-'), value, careful=careful)}"
            if sign == "=":
                return f"{name}={self._word(server, name.lstrip('-'), value)}"
        return self._word(server, "arg", arg)

    def _word(self, server: str, key: str, word: str) -> str:
        """A word of the command line, or what an option of no special name takes."""
        if "://" in word:
            return self._address(server, word, key)
        return self._keep(server, key, word) if looks_random(word) else self._inside(server, key, word)

    def _inside(self, server: str, key: str, text: str) -> str:
        """Replace what is evidently a secret within a text."""
        if "${" in text:
            return text
        parts, position = [], 0
        for name, start, end in secret_spans(text):
            parts += [text[position:start], self._keep(server, name or key, text[start:end])]
            position = end
        return "".join([*parts, text[position:]])

    def _address(self, server: str, url: str, key: str = "url") -> str:
        """Replace passwords, parameters whose names say that it is a secret, and steps that look like a token."""

        def replace(match: re.Match[str]) -> str:
            name, value = match["name"], match["value"]
            secret = names_a_secret(name) or looks_random(value)
            if not secret or is_trivial(value) or "${" in value:
                return match[0]
            return match[0].removesuffix(value) + self._keep(server, name, value)

        kept = _PARAMETER.sub(replace, url)
        kept = self._inside(server, key, kept)
        for step in random_parts(url) if self.careful and not url.startswith("git+") else ():
            if f"/{step}" in kept:
                kept = kept.replace(f"/{step}", f"/{self._keep(server, key, step)}", 1)
        return kept

    def _keep(self, server: str, key: str, value: str) -> str:
        # A line break at the end is not part of what a file gives back, so it stays beside the reference.
        kept = value.rstrip("\r\n")
        if not kept or len(kept.encode()) > _MAX_BYTES:
            return value  # larger than what is read back; loading warns of it
        stem = f"{FOLDER}/{_UNSAFE.sub('_', f'{server}.{key}')[:150]}"
        name, number = stem, self._numbers.get(stem, 2)
        while name.lower() in self._taken:
            name, number = f"{stem}.{number}", number + 1
        self._numbers[stem] = number
        self._taken.add(name.lower())
        self.files[name] = kept
        return f"${{file:{name}}}{value[len(kept) :]}"


def _flag(arg: Any) -> str:
    """Name of the secret that the next argument holds; empty when it holds none."""
    if not isinstance(arg, str) or not arg.startswith("-") or "=" in arg:
        return ""
    name = arg.lstrip("-")
    if arg in _ENV_FLAGS:
        return ""
    return _SHORT_FLAGS.get(arg, name if len(name) > 1 and names_a_secret(name) else "")


def _without_spans(text: str) -> str:
    """A text with a plain word in place of each secret in it."""
    parts, position = [], 0
    for _, start, end in secret_spans(text):
        parts += [text[position:start], "x"]
        position = end
    return "".join([*parts, text[position:]])
