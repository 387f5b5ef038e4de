"""Which package a command starts, as a package URL: the only way by which a manifest is found by itself.

Never the key in guard.yaml and never what the server says of itself: both are easy to choose (decisions.md D31).
What is not plainly a package of the default registry, such as an unknown option, a git address or another index,
gives nothing: the tools then count as not reviewed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import quote

from mcp_guard.config.schema import ServerConfig

_NPM = re.compile(r"(@[a-z0-9._~-]+/)?[a-z0-9._~-]+")
_NPM_VERSION = re.compile(r"[A-Za-z0-9.+~^*<>=|-]*")
_PYPI = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[A-Za-z0-9,._-]*\])?(([=<>!~]=?=?|@)[A-Za-z0-9.*+!,<>=~-]+)?")
_IMAGE = re.compile(r"((?:[a-z0-9.-]+(?::\d+)?/)?[a-z0-9._/-]+)(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_PYTHON = re.compile(r"python(\d(\.\d+)?)?|py|pythonw")

_NPX = (("-y", "--yes", "-q", "--quiet", "--prefer-offline", "--prefer-online"), ())
_UVX = (("-q", "--quiet", "--offline", "--no-cache", "-n", "--isolated", "--refresh"), ("--python", "-p", "--with"))
_PIPX = (("-q", "--quiet", "--no-cache"), ("--python",))
_PY = (("-u", "-I", "-E", "-s", "-B", "-O", "-OO", "-P"), ("-X", "-W"))
_DOCKER = (
    ("-i", "--interactive", "-t", "--tty", "-it", "-ti", "--rm", "--init", "--read-only", "-q", "--quiet"),
    (
        *("-e", "--env", "--env-file", "-v", "--volume", "--mount", "--name", "--network", "--net", "-p", "--publish"),
        *("-w", "--workdir", "-u", "--user", "--platform", "--pull", "-l", "--label", "-m", "--memory", "--cpus"),
        *("--add-host", "--security-opt", "--cap-drop", "--pids-limit", "--tmpfs"),
    ),
)
_Options = tuple[Sequence[str], Sequence[str]]
"""Options without and with a value."""


def package_urls(server: ServerConfig) -> tuple[str, ...]:
    """Package URLs, without versions, of what a server's command starts; the first that has a manifest counts.

    Args:
        server: As written. A reference in the package's name gives no package.
    """
    if server.command is None:
        return ()
    command, args = _program(server.command), list(server.args)
    if command == "cmd" and [a.lower() for a in args[:1]] == ["/c"] and len(args) > 1:
        command, args = _program(args[1]), args[2:]
    for program, words, find in (
        ("npx", (), _npx),
        ("bunx", (), _npx),
        ("npm", ("exec",), _npx),
        ("pnpm", ("dlx",), _npx),
        ("uvx", (), _uvx),
        ("uv", ("tool", "run"), _uvx),
        ("pipx", ("run",), _pipx),
        ("docker", ("run",), _docker),
        ("podman", ("run",), _docker),
        ("node", (), _node),
    ):
        if command == program:
            return find(args[len(words) :]) if tuple(args[: len(words)]) == words else ()
    if _PYTHON.fullmatch(command):
        return _python(args)
    return _pypi(command) if _PYPI.fullmatch(command) else ()


def _program(command: str) -> str:
    name = PurePosixPath(command.replace("\\", "/")).name
    return re.sub(r"\.(exe|cmd|bat|ps1)$", "", name, flags=re.IGNORECASE)


def _split(args: Sequence[str], options: _Options, wanted: Sequence[str] = ()) -> tuple[str | None, list[str]] | None:
    """Value of the wanted option, and what follows the options; None at an option that is not known."""
    flags, valued = options
    value: str | None = None
    rest = list(args)
    while rest and rest[0].startswith("-"):
        option, equals, attached = rest.pop(0).partition("=")
        if option == "--":
            break
        if option in flags and not equals:
            continue
        if option not in valued and option not in wanted:
            return None
        if not equals and not rest:
            return None
        given = attached if equals else rest.pop(0)
        if option == "--with" and not _PYPI.fullmatch(given):
            return None  # what comes along may be a plain package only, as the main one
        value = given if option in wanted else value
    return value, rest


def _first(args: Sequence[str], options: _Options, wanted: Sequence[str] = ()) -> str:
    found = _split(args, options, wanted)
    if found is None:
        return ""
    value, rest = found
    return value if value is not None else rest[0] if rest else ""


def _npx(args: Sequence[str]) -> tuple[str, ...]:
    return _npm(_first(args, _NPX, ("-p", "--package")))


def _npm(spec: str) -> tuple[str, ...]:
    at = spec.find("@", 1)
    name, version = (spec, "") if at < 0 else (spec[:at], spec[at + 1 :])
    if not _NPM.fullmatch(name) or not _NPM_VERSION.fullmatch(version) or name.startswith("."):
        return ()
    return (f"pkg:npm/{quote(name, safe='/')}",)


def _uvx(args: Sequence[str]) -> tuple[str, ...]:
    return _pypi(_first(args, _UVX, ("--from",)))


def _pipx(args: Sequence[str]) -> tuple[str, ...]:
    return _pypi(_first(args, _PIPX, ("--spec",)))


def _pypi(spec: str) -> tuple[str, ...]:
    match = _PYPI.fullmatch(spec)
    return (f"pkg:pypi/{re.sub(r'[-_.]+', '-', match[1]).lower()}",) if match else ()


def _python(args: Sequence[str]) -> tuple[str, ...]:
    module = _split(args[: args.index("-m") if "-m" in args else 0], _PY)
    if "-m" not in args or module is None or module[1] or args.index("-m") + 1 >= len(args):
        return ()
    name = args[args.index("-m") + 1]
    if not _MODULE.fullmatch(name):
        return ()
    (package,) = _pypi(name.partition(".")[0])
    return (f"{package}#{name.replace('.', '/')}",) if "." in name else (package,)


def _docker(args: Sequence[str]) -> tuple[str, ...]:
    match = _IMAGE.fullmatch(_first(args, _DOCKER))
    return (f"pkg:docker/{match[1].removeprefix('docker.io/')}",) if match else ()


def _node(args: Sequence[str]) -> tuple[str, ...]:
    script = args[0].replace("\\", "/") if args else ""
    _, found, inside = script.rpartition("/node_modules/")
    if not found or script.startswith("-"):
        return ()
    parts = inside.split("/")
    return _npm("/".join(parts[:2]) if inside.startswith("@") else parts[0])
