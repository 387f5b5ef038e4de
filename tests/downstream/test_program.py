"""Which files count as the program of a command (docs/pins.md; security.md S22)."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from mcp_guard.downstream.definition import Program
from mcp_guard.downstream.program import observe
from mcp_guard.downstream.server import ResolvedServer
from mcp_guard.errors import DownstreamUnavailableError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="makes executables by their mode")


def launcher(folder: Path, name: str) -> str:
    path = folder / name
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("name", "args", "found"),
    [
        ("python3.12", ("-u", "main", "data.db"), ["main"]),
        ("python3", ("-m", "pkg", "--db", "data.db"), []),
        ("node", ("--require=hook.js", "main", "other.mjs"), ["hook.js", "main", "other.mjs"]),
        ("npx", ("-y", "some-package@1.2.3", "data.db"), []),
        ("uvx", ("some-package", "main"), []),
        ("docker", ("run", "-i", "image"), []),
        ("mail-server", ("--db", "data.db", "hook.js"), ["mail-server", "hook.js"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_program_and_code_are_hashed_and_launchers_and_data_are_not(
    name: str, args: tuple[str, ...], found: list[str], tmp_path: Path
) -> None:
    """A database among the arguments changes with each call; that is no new program."""
    for file in ("main", "hook.js", "other.mjs", "data.db"):
        (tmp_path / file).write_text(file, encoding="utf-8")
    command = launcher(tmp_path, name)
    seen = observe(ResolvedServer("x", "id", (command, *args), cwd=tmp_path))
    assert seen.path == command
    assert sorted(seen.files) == sorted(command if file == name else file for file in found)
    for path, sha256 in seen.files.items():
        assert sha256 == hashlib.sha256((tmp_path / path).read_bytes()).hexdigest()


def test_the_same_script_in_two_folders_is_the_same_program(tmp_path: Path) -> None:
    """docs/pins.md: hosts start the guard in different folders; what is written counts, and the bytes."""
    seen = []
    for name in ("one", "two", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.py").write_text("x" if name != "other" else "y", encoding="utf-8")
        launcher(tmp_path / name, "python3")
        seen.append(observe(ResolvedServer("x", "id", ("./python3", "./main.py"), cwd=tmp_path / name)))
    assert seen[0] == seen[1] == Program("./python3", {"./main.py": seen[0].files["./main.py"]})
    assert seen[2] != seen[0]


def test_a_remote_server_has_no_program_and_a_missing_one_is_unavailable() -> None:
    """security.md F2."""
    assert observe(ResolvedServer("x", "id", url="http://127.0.0.1:1/")) == Program()
    with pytest.raises(DownstreamUnavailableError):
        observe(ResolvedServer("x", "id", ("no-such-program-anywhere",)))


def test_arguments_that_are_no_names_of_files_are_left_alone(tmp_path: Path) -> None:
    """security.md S38: too long, or not a name at all."""
    server = ResolvedServer("x", "id", (launcher(tmp_path, "node"), "x" * 5000, "a\0b", "", "--", "."), cwd=tmp_path)
    assert observe(server).files == {}


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root reads everything")
def test_a_program_that_may_be_executed_but_not_read_is_the_same_in_every_run(tmp_path: Path) -> None:
    """docs/pins.md."""
    command = launcher(tmp_path, "secret-server")
    Path(command).chmod(0o111)
    assert observe(ResolvedServer("x", "id", (command,))).files == {command: "unreadable"}
