"""Options and output that all commands share."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue
from rich.console import Console

from mcp_guard.cli.loading import load
from mcp_guard.config.load import LoadedConfig, config_words
from mcp_guard.config.references import LEFT_OUT

if TYPE_CHECKING:
    from mcp_guard.keystore import KeyStore

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="PATH", help="guard.yaml; else MCP_GUARD_CONFIG, else the user's."),
]
MODULE = (sys.executable, "-P", "-m")
"""Starts a module of this installation. `-P`: without it, files in the current folder would come before it."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def console() -> Console:
    """A console that honours NO_COLOR and never highlights or interprets markup in data."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def loaded(path: Path | None, *, resolve: bool = False, about: str | None = None) -> LoadedConfig:
    """Find and load the configuration; warnings go to stderr. See `loading.load`.

    Args:
        path: As given with `--config`.
        resolve: Whether references are resolved.
        about: The one server that the command is about: that others are left out here is not told.
    """
    found = load(path, resolve=resolve)
    for warning in found.warnings:
        if about is None or LEFT_OUT not in warning or f" servers.{about}: " in warning:
            sys.stderr.write(f"warning: {warning}\n")
    return found


def follow_up(words: str, path: Path) -> str:
    """A command that a person is told to run: `mcp-guard WORDS`, with `--config` where it would not find `path`."""
    return f"mcp-guard {words}{config_words(path, os.environ)}"


def keys_of(config: LoadedConfig) -> KeyStore:
    """The key store of the data folder."""
    from mcp_guard.keystore import KeyStore

    return KeyStore(config.data_dir / "keys")


def print_json(value: JsonValue) -> None:
    """Print one JSON document; control characters stay escaped."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True, indent=2) + "\n")
