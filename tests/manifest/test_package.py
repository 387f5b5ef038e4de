"""From a command to a package URL."""

from __future__ import annotations

import pytest

from mcp_guard.config.schema import ServerConfig
from mcp_guard.manifest.package import package_urls

FILESYSTEM = "pkg:npm/%40modelcontextprotocol/server-filesystem"
FOUND = [
    ("npx -y @modelcontextprotocol/server-filesystem@2026.7.10 /data", FILESYSTEM),
    ("npx @modelcontextprotocol/server-filesystem", FILESYSTEM),
    ("/usr/local/bin/npx --yes -- @modelcontextprotocol/server-filesystem /data", FILESYSTEM),
    ("npx -p @modelcontextprotocol/server-filesystem mcp-server-filesystem /data", FILESYSTEM),
    ("cmd /c npx -y @modelcontextprotocol/server-filesystem", FILESYSTEM),
    ("npx.cmd -y @modelcontextprotocol/server-filesystem", FILESYSTEM),
    ("bunx @modelcontextprotocol/server-filesystem@latest", FILESYSTEM),
    ("pnpm dlx @modelcontextprotocol/server-filesystem", FILESYSTEM),
    ("npm exec -y @modelcontextprotocol/server-filesystem", FILESYSTEM),
    ("node /x/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js /data", FILESYSTEM),
    ("node C:\\x\\node_modules\\@modelcontextprotocol\\server-filesystem\\dist\\index.js", FILESYSTEM),
    ("node ${config_dir}/node_modules/a/node_modules/b/index.js", "pkg:npm/b"),
    ("npx some-server", "pkg:npm/some-server"),
    ("uvx mcp-server-git --repository /r", "pkg:pypi/mcp-server-git"),
    ("uvx mcp_server.Git==1.2", "pkg:pypi/mcp-server-git"),
    ("uvx mcp-server-git@latest", "pkg:pypi/mcp-server-git"),
    ("uvx mcp-server-git[all]>=1", "pkg:pypi/mcp-server-git"),
    ("uvx --python 3.12 --from mcp-server-git tool", "pkg:pypi/mcp-server-git"),
    ("uvx --from=mcp-server-git tool", "pkg:pypi/mcp-server-git"),
    ("uvx --with mcp<2 mcp-server-git", "pkg:pypi/mcp-server-git"),
    ("uv tool run mcp-server-git", "pkg:pypi/mcp-server-git"),
    ("pipx run mcp-server-git", "pkg:pypi/mcp-server-git"),
    ("python -m mcp_server_git --repository /r", "pkg:pypi/mcp-server-git"),
    ("/opt/v/bin/python3.11 -u -m mcp_server_git", "pkg:pypi/mcp-server-git"),
    ("python -m acme.crm.server", "pkg:pypi/acme#acme/crm/server"),
    ("mcp-server-git --repository /r", "pkg:pypi/mcp-server-git"),
    ("C:\\venv\\Scripts\\mcp-server-git.exe", "pkg:pypi/mcp-server-git"),
    ("docker run -i --rm -e TOKEN mcp/fetch", "pkg:docker/mcp/fetch"),
    ("docker run -i --rm --mount type=bind,src=/a,dst=/b docker.io/mcp/fetch:1.0 arg", "pkg:docker/mcp/fetch"),
    ("podman run --rm ghcr.io/acme/x@sha256:" + "0" * 64, "pkg:docker/ghcr.io/acme/x"),
]
NOT_FOUND = [
    "npx --registry http://evil/ @modelcontextprotocol/server-filesystem",
    "npx github:acme/server-filesystem",
    "npx ./server-filesystem",
    "npx x@npm:other@1",
    "npx -c whatever",
    "npx",
    "npx -p",
    "uvx --index-url http://evil/ mcp-server-git",
    "uvx --from git+https://evil/mcp-server-git mcp-server-git",
    "uvx --with git+https://evil/mcp-server-git mcp-server-git",
    "uvx --with=./evil mcp-server-git",
    "uvx ./mcp-server-git",
    "uv run mcp-server-git",
    "python server.py -m mcp_server_git",
    "python -c pass -m mcp_server_git",
    "python -m",
    "python -m ../x",
    "docker run --entrypoint sh mcp/fetch",
    "docker exec mcp/fetch",
    "node --require ./evil.js /x/node_modules/a/index.js",
    "node index.js",
    "npx ${PACKAGE}",
]


@pytest.mark.parametrize(("line", "url"), FOUND)
def test_a_command_that_plainly_starts_a_package_gives_its_url(line: str, url: str) -> None:
    """decisions.md D31: npx, uvx, docker, -m; versions are not part of it."""
    command, *args = line.split(" ")

    assert package_urls(ServerConfig(command=command, args=args)) == (url,)


@pytest.mark.parametrize("line", NOT_FOUND)
def test_anything_less_plain_gives_none_so_that_its_tools_count_as_not_reviewed(line: str) -> None:
    """decisions.md D31; a package from elsewhere is not the package that was reviewed."""
    command, *args = line.split(" ")

    assert package_urls(ServerConfig(command=command, args=args)) == ()


def test_a_remote_server_has_no_package() -> None:
    """decisions.md D31: never by what the server says of itself."""
    assert package_urls(ServerConfig(url="http://h/server-filesystem")) == ()
