"""The shipped manifests against their format, and against the real servers where those are installed."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from mcp_guard.config.schema import ServerConfig
from mcp_guard.manifest.find import Shelf, shipped_folder
from mcp_guard.manifest.model import ToolManifest
from mcp_guard.manifest.package import package_urls
from mcp_guard.model import Risk

MANIFESTS = Shelf().shipped()
FILES = sorted(shipped_folder().glob("*.yaml"))
IDS = {"demo", "everything", "fetch", "filesystem", "git", "memory", "sequential-thinking", "sqlite", "time"}
LIVE = {
    "demo": ("mcp-guard", ["mcp_guard.demo.crm", "--db", "crm.db"]),
    "git": ("mcp-server-git", ["mcp_server_git", "--repository", "."]),
    "time": ("mcp-server-time", ["mcp_server_time"]),
}
"""Manifest → distribution, and how its server is started with `python -m`."""


def test_all_promised_manifests_are_shipped_and_valid() -> None:
    """Decision D31."""
    assert set(Shelf().shipped()) == IDS


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_file_is_named_after_its_server_and_says_why_for_each_tool(path: Path) -> None:
    """Decision D31; a reviewer reads `why`."""
    manifest = MANIFESTS[path.stem]
    assert manifest.server == path.stem
    assert manifest.tools
    for tool, entry in manifest.tools.items():
        assert entry.why.endswith("."), tool


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_resource_is_one_of_the_described_arguments(path: Path) -> None:
    """Decision D31: pointers are JSON Pointers (RFC 6901) to arguments."""
    for tool, entry in MANIFESTS[path.stem].tools.items():
        pointers = [*entry.arguments, *([entry.resource] if entry.resource else [])]
        assert all(re.fullmatch(r"/[A-Za-z][A-Za-z0-9_]*", pointer) for pointer in pointers), tool
        assert entry.resource is None or entry.resource in entry.arguments, tool


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_what_loses_or_exports_for_good_asks(path: Path) -> None:
    """Decision D30: high asks. Only a deletion that the call itself can undo may stay below."""
    for tool, entry in MANIFESTS[path.stem].tools.items():
        lasting = entry.category in ("deletion", "data_export") and entry.undo is None
        assert not lasting or Risk(entry.risk).rank >= Risk.HIGH.rank, tool


@pytest.mark.parametrize(
    ("command", "args", "server"),
    [
        ("npx", ["-y", "@modelcontextprotocol/server-filesystem", "/srv"], "filesystem"),
        ("npx", ["-y", "@modelcontextprotocol/server-memory"], "memory"),
        ("npx", ["-y", "@modelcontextprotocol/server-everything"], "everything"),
        ("npx", ["-y", "@modelcontextprotocol/server-sequential-thinking"], "sequential-thinking"),
        ("uvx", ["mcp-server-git"], "git"),
        ("python", ["-m", "mcp_server_time"], "time"),
        ("uvx", ["mcp-server-fetch"], "fetch"),
        ("uvx", ["mcp-server-sqlite", "--db-path", "a.db"], "sqlite"),
        (sys.executable, ["-m", "mcp_guard.demo.crm"], "demo"),
    ],
)
def test_the_usual_command_of_each_server_names_its_package(command: str, args: list[str], server: str) -> None:
    """Decision D31: found by the package that the command starts."""
    urls = package_urls(ServerConfig(command=command, args=args))
    assert set(urls) & set(Shelf().shipped()[server].packages)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


@pytest.mark.parametrize("server", sorted(LIVE))
async def test_the_manifest_lists_exactly_the_tools_of_the_live_server(server: str, repository: Path) -> None:
    """Decision D31: an unlisted tool would count as not reviewed, a listed one that is gone is a stale fact."""
    distribution, module = LIVE[server]
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed")
    parameters = StdioServerParameters(command=sys.executable, args=["-m", *module], cwd=repository)
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        tools = (await session.list_tools()).tools
    manifest = MANIFESTS[server]
    assert {tool.name for tool in tools} == set(manifest.tools)
    for tool in tools:
        arguments = {f"/{name}" for name in tool.model_dump()["input_schema"].get("properties", {})}
        assert set(manifest.tools[tool.name].arguments) <= arguments, tool.name


def test_the_published_schema_accepts_each_shipped_manifest() -> None:
    """Published schemas: editors check the files against the generated schema."""
    import jsonschema
    import yaml

    schema = json.loads((shipped_folder().parent / "schema" / "manifest.v1.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    for path in FILES:
        assert not list(validator.iter_errors(yaml.safe_load(path.read_text(encoding="utf-8")))), path.stem


def test_no_two_manifests_are_for_one_package() -> None:
    """Decision D31: the package decides which manifest is used, so it must decide."""
    manifests: list[ToolManifest] = list(Shelf().shipped().values())
    packages = [package for manifest in manifests for package in manifest.packages]
    assert len(packages) == len(set(packages))
