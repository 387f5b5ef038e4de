"""Programs of servers, on paths that the tests lay out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mcp_guard.doctor import programs
from tests.doctor.conftest import Place, codes
from tests.doctor.test_hosts import cursor, guard

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs as shell scripts")


def install(place: Place, name: str, script: str = "exit 0") -> Path:
    """Put a program on the PATH of the set-up, which holds nothing else."""
    folder = place.folder / "bin"
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    place.env["PATH"] = str(folder)
    return path


@pytest.mark.parametrize(
    ("command", "mend"),
    [
        ("npx", "install Node.js 18 or later from nodejs.org; npx comes with it"),
        ("uvx", "install uv (docs.astral.sh/uv); uvx comes with it"),
        ("docker", "install Docker and start it"),
        ("my-server", "install it, or write its absolute path at servers.a.command"),
        ("/opt/none/my-server", "install it, or write its absolute path at servers.a.command"),
    ],
)
def test_a_command_that_is_missing_is_a_problem_that_says_what_to_install(
    place: Place, command: str, mend: str
) -> None:
    """docs/doctor.md, program-missing; security.md F2."""
    place.env["PATH"] = str(place.folder)

    findings = programs.missing_programs(place.setup(a={"command": command}))

    assert codes(findings) == ["program-missing"]
    assert findings[0].text == f"Server a needs {Path(command).name}, which is not on the PATH."
    assert findings[0].mend == mend


def test_npx_without_node_is_a_problem(place: Place) -> None:
    """docs/doctor.md, program-missing."""
    install(place, "npx")

    assert [f.text for f in programs.missing_programs(place.setup(a={"command": "npx"}))] == [
        "Server a needs node, which is not on the PATH."
    ]


def test_the_path_that_a_server_is_given_is_the_one_that_counts(place: Place) -> None:
    install(place, "my-server")
    path = place.env["PATH"]
    place.env["PATH"] = str(place.folder)

    setup = place.setup(a={"command": "my-server", "env": {"PATH": path}}, b={"url": "https://example.test/mcp"})

    assert [f.text for f in programs.missing_programs(setup)] == ["1 command found"]
    assert programs.off_path(setup) == []


def test_a_command_relative_to_the_configuration_is_found_where_its_server_runs(place: Place) -> None:
    install(place, "my-server")

    setup = place.setup(a={"command": "./bin/my-server", "cwd": "."})

    assert [f.text for f in programs.missing_programs(setup)] == ["1 command found"]


def test_a_command_that_hosts_may_not_find_is_a_note(place: Place) -> None:
    """docs/doctor.md, program-off-path."""
    found = install(place, "my-server")
    assert programs.off_path(place.setup(a={"command": "my-server"})) == []  # no host that is started from a menu
    cursor(place, guard=guard(place))

    findings = programs.off_path(place.setup(a={"command": "my-server"}, b={"command": str(found)}))

    assert [f.text for f in findings] == [
        "Server a: a host started from a menu may not find my-server, since its PATH is shorter."
    ]
    assert findings[0].mend == f"write `command: {found}` for the server a in {place.path}"
    cursor(place, guard={**guard(place), "env": {"PATH": str(found.parent)}})
    assert programs.off_path(place.setup(a={"command": "my-server"})) == []  # as `wrap` writes it
    place.platform = "win32"
    assert programs.off_path(place.setup(a={"command": "my-server"})) == []


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo v16.20.2", "program-old"),
        ("echo v22.1.0", ""),
        ("echo hello", "program-broken"),
        ("exit 1", "program-broken"),
        ("", "program-broken"),
    ],
)
def test_the_version_of_node_is_asked_for(place: Place, script: str, code: str) -> None:
    """docs/doctor.md, program-old and program-broken."""
    install(place, "node", script)

    assert codes(programs.versions(place.setup(a={"command": "node"}))) == ([code] if code else [])


def test_a_docker_that_does_not_answer_is_a_problem(place: Place) -> None:
    """docs/doctor.md, program-broken."""
    install(place, "docker", "exit 1")

    findings = programs.versions(place.setup(a={"command": "docker"}))

    assert [(f.text, f.mend) for f in findings] == [("Docker is installed but does not answer.", "start Docker")]
    install(place, "docker", "echo 28")
    assert [f.text for f in programs.versions(place.setup(a={"command": "docker"}))] == ["Docker runs"]


def test_a_runtime_that_hangs_is_given_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_RUN_S", 0.2)
    install(place, "node", "exec /bin/sleep 60")

    assert codes(programs.versions(place.setup(a={"command": "node"}))) == ["program-broken"]


def test_nothing_is_said_without_a_configuration(place: Place) -> None:
    place.config["servers"] = "none"
    place.write()
    setup, _ = place.take_in()

    assert [check(setup) for check in (programs.missing_programs, programs.off_path, programs.versions)] == [[], [], []]
