"""What is said of guard.yaml and the files around it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mcp_guard.config.load import load_config
from mcp_guard.doctor import config
from mcp_guard.doctor.setup import take_in
from tests.doctor.conftest import Place, codes

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="modes as POSIX has them")


def test_without_a_configuration_the_first_step_is_named(place: Place) -> None:
    """docs/doctor.md, config-missing."""
    setup, findings = take_in(place.machine, None, lambda: load_config(place.path, {}))

    assert codes(findings) == ["config-missing"]
    assert findings[0].text == "Nothing is set up yet: there is no guard.yaml."
    assert findings[0].mend == "mcp-guard wrap (takes over the servers of your hosts), or mcp-guard init"
    assert [
        check(setup) for check in (config.describe, config.plain_secrets, config.double_wrapped, config.file_modes)
    ] == [[], [], [], []]


def test_each_problem_of_a_broken_configuration_is_a_finding_without_its_values(place: Place) -> None:
    """docs/doctor.md, config-invalid."""
    place.config["servers"] = {"a": {"comand": "sk-live-0123456789"}, "b": {"command": "x", "cwd": 7}}
    place.write()

    setup, findings = place.take_in()

    assert setup.loaded is None
    assert len(findings) >= 2
    assert set(codes(findings)) == {"config-invalid"}
    assert all(f.text.startswith("guard.yaml:1: servers.") for f in findings)
    assert "sk-live" not in str(findings)
    assert findings[0].mend == f"edit {place.path}, then run mcp-guard check"


def test_a_reference_that_is_missing_here_hides_no_other_server(place: Place) -> None:
    """docs/doctor.md, reference-unresolved."""
    place.config["servers"] = {"a": {"command": "x", "env": {"T": "${env:NOT_SET_HERE}"}}, "b": {"command": "x"}}
    place.write()

    setup, findings = place.take_in()

    assert [f.text for f in findings] == ["Server a was not started: the environment variable NOT_SET_HERE is not set."]
    assert findings[0].mend == "set it where the host starts the guard"
    assert setup.loaded is not None
    assert list(setup.loaded.servers) == ["b"]
    assert not setup.complete


def test_a_server_that_only_its_host_can_start_is_a_note(place: Place) -> None:
    """docs/doctor.md, server-left-out."""
    place.config["servers"] = {"a": {"command": "x", "env": {"T": "${env:MCP_GUARD_HOST_A_T}"}}}
    place.write()

    setup, findings = place.take_in()

    assert codes(findings) == ["server-left-out"]
    assert setup.complete


def test_a_short_secret_is_a_note(place: Place) -> None:
    """docs/doctor.md, secret-short."""
    place.env["PIN"] = "1234"
    place.config["servers"] = {"a": {"command": "x", "env": {"API_TOKEN": "${env:PIN}"}}}
    place.write()

    setup, findings = place.take_in()

    assert codes(findings) == ["secret-short"]
    assert "1234" not in str(findings)
    assert "1234" not in repr(setup)


def test_plain_secrets_are_told_by_the_names_of_their_keys(place: Place) -> None:
    """docs/doctor.md, plain-secret; never a value."""
    server = {"command": "x", "args": ["--api-key", "plain-one-123"], "env": {"TOKEN": "plain-two-456", "MODE": "fast"}}

    findings = config.plain_secrets(place.setup(crm=server))

    assert [f.text for f in findings] == ["Server crm has 2 secrets in plain text in guard.yaml (TOKEN, api-key)."]
    assert findings[0].mend == "put it into a file that you alone can read, and write ${file:PATH} in its place"


def test_files_of_secrets_that_nothing_names_are_a_note(place: Place) -> None:
    """docs/doctor.md, secret-unused."""
    (place.folder / "secrets").mkdir(mode=0o700)
    for name in ("a.KEY", "gone.KEY"):
        (place.folder / "secrets" / name).write_text("x", encoding="utf-8")
    setup = place.setup(a={"command": "x", "env": {"KEY": "${file:secrets/a.KEY}"}})
    findings = config.unused_secrets(setup)
    assert [f.text for f in findings] == ["1 file of secrets not in use: gone.KEY."]
    (place.folder / "secrets" / "gone.KEY").unlink()
    assert config.unused_secrets(setup) == []


def test_a_guard_behind_the_guard_is_a_problem(place: Place) -> None:
    """docs/doctor.md, double-wrapped."""
    findings = config.double_wrapped(place.setup(me={"command": "/opt/bin/mcp-guard", "args": ["serve"]}))

    assert [f.text for f in findings] == ["Server me starts the guard itself."]
    assert findings[0].mend == f"remove servers.me from {place.path}"


@POSIX
def test_a_private_set_up_has_nothing_to_mend(place: Place) -> None:
    setup = place.setup(a={"command": "x"})

    assert codes(config.file_modes(setup)) == []
    assert [f.text for f in config.describe(setup)] == ["1 server and 0 rules"]
    assert codes(config.plain_secrets(setup)) == []


@POSIX
@pytest.mark.parametrize(
    "name", ["guard.yaml", "guard.lock", "manifests/a.yaml", "data", "secrets", "data/keys/vault.1.key"]
)
def test_what_others_may_change_is_a_problem_with_the_command_that_mends_it(place: Place, name: str) -> None:
    """docs/doctor.md, file-writable; security.md S38."""
    setup = place.setup()
    path = _made(place, name)
    path.chmod(0o777)

    findings = config.file_modes(setup)

    assert codes(findings) == ["file-writable"]
    assert findings[0].text.endswith(" can be changed by everybody.")
    os.system(findings[0].mend)  # noqa: S605 - the command that was told
    assert codes(config.file_modes(setup)) == []


@POSIX
def test_a_file_that_the_group_may_change_is_a_problem(place: Place) -> None:
    """docs/doctor.md, file-writable."""
    setup = place.setup()
    place.path.chmod(0o660)

    assert [f.text for f in config.file_modes(setup)] == [
        f"The configuration {place.path} can be changed by the group."
    ]


@POSIX
@pytest.mark.parametrize("name", ["data", "secrets", "data/keys", "data/keys/vault.1.key", "token"])
def test_secrets_that_others_may_read_are_a_problem_with_the_command_that_mends_it(place: Place, name: str) -> None:
    """docs/doctor.md, file-readable; security.md S38."""
    path = _made(place, name)
    setup = place.setup(a={"command": "x", "env": {"T": "${file:token}"}} if name == "token" else {"command": "x"})
    path.chmod(0o755 if path.is_dir() else 0o644)

    findings = config.file_modes(setup)

    assert codes(findings) == ["file-readable"]
    assert findings[0].text.endswith(" can be read by everybody.")
    os.system(findings[0].mend)  # noqa: S605 - the command that was told
    assert codes(config.file_modes(setup)) == []


@POSIX
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_a_problem(place: Place) -> None:
    """docs/doctor.md, file-owner."""
    if sys.platform == "win32":
        return
    setup = place.setup()
    os.chown(place.path, 12345, -1)

    findings = config.file_modes(setup)

    assert codes(findings) == ["file-owner"]
    assert findings[0].mend.startswith("sudo chown ")


def _made(place: Place, name: str) -> Path:
    path = place.folder / name
    for folder in reversed(path.relative_to(place.folder).parents):
        (place.folder / folder).mkdir(mode=0o700, exist_ok=True)
    if path.suffix or name == "token":
        path.touch(mode=0o600)
        path.write_text("0123456789" if name == "token" else path.read_text())
    else:
        path.mkdir(mode=0o700, exist_ok=True)
    return path
