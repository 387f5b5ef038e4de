"""`mcp-guard doctor` as a person or a script uses it (docs/doctor.md)."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_guard.cli import main

PROGRAM = [sys.executable, "-m", "mcp_guard.cli.main", "doctor"]
SECRET = "ghp_" + "s3cr3tZq7Kp2Lm9Rt4Vb6Nc1XyWv8a5b6c7d8e"
DIES = f"import sys; sys.stderr.write('no login for {SECRET}\\n'); sys.exit(3)"

Here = Callable[..., tuple[int, str, str]]


def doctor(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it as a program, with a home folder of its own."""
    return subprocess.run(
        [*PROGRAM, *words],
        capture_output=True,
        text=True,
        env=environment(folder, **env),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def environment(folder: Path, **env: str) -> dict[str, str]:
    home = folder / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    full = {**os.environ, "HOME": str(home), "USERPROFILE": str(home), "NO_COLOR": "1", "COLUMNS": "80", **env}
    for name in ("MCP_GUARD_CONFIG", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "APPDATA", "LOCALAPPDATA"):
        full.pop(name, None)
    return full


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Runs it in this process, which spares a second of start: exit code, stdout, stderr."""

    def run(*words: str, **env: str) -> tuple[int, str, str]:
        for name in set(os.environ) - set(full := environment(tmp_path, **env)):
            monkeypatch.delenv(name)
        for name, value in full.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["mcp-guard", "doctor", *words])
        with pytest.raises(SystemExit) as ended:
            main.run()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


def configure(folder: Path, **servers: dict[str, Any]) -> Path:
    folder.chmod(0o700)
    path = folder / "guard.yaml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # another guard on this machine may have the usual one
    config = {"version": 1, "id": "t", "data_dir": "./data", "console": {"port": port}, "servers": servers}
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    (folder / "data").mkdir(mode=0o700)
    host = folder / "home" / ".cursor" / "mcp.json"
    host.parent.mkdir(parents=True, mode=0o700)
    entry = {"command": sys.executable, "args": ["-P", "-m", "mcp_guard.cli.main", "serve", "--config", str(path)]}
    host.write_text(json.dumps({"mcpServers": {"mcp-guard": entry}}))
    return path


def everything(folder: Path) -> dict[str, str]:
    """Digest and mode of all files and folders."""
    return {
        str(path.relative_to(folder)): f"{path.stat().st_mode:o} "
        + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted(folder.rglob("*"))
    }


def test_without_anything_it_names_the_first_step_and_exits_2(tmp_path: Path, here: Here) -> None:
    """docs/doctor.md, config-missing."""
    code, out, err = here()

    assert (code, err) == (2, "")
    assert out.startswith(
        "mcp-guard doctor\n\nconfiguration\n  problem Nothing is set up yet: there is no guard.yaml. [config-missing]\n"
        "          → mcp-guard wrap (takes over the servers of your hosts), or mcp-guard init\n\nhosts\n"
    )
    assert not (tmp_path / "home" / ".local").exists()


def test_a_configuration_that_was_named_must_be_there(here: Here) -> None:
    code, out, err = here("--config", "none.yaml")

    assert (code, out) == (2, "")
    assert err.startswith("[config] the file given with --config does not exist\nhint: ")


def test_an_invalid_configuration_is_told_problem_by_problem_and_exits_2(tmp_path: Path, here: Here) -> None:
    """docs/doctor.md, config-invalid."""
    path = configure(tmp_path, a={"comand": SECRET})

    code, out, err = here("--config", str(path), "--json")

    assert code == 2
    found = json.loads(out)["groups"]["configuration"]
    assert {finding["code"] for finding in found if finding["code"] != "ok"} == {"config-invalid"}
    assert SECRET not in out + err


def test_a_healthy_set_up_exits_0_in_a_few_calm_lines_and_nothing_is_changed(tmp_path: Path) -> None:
    """docs/doctor.md: "It changes nothing"."""
    path = configure(tmp_path, time={"command": sys.executable, "args": ["-m", "mcp_server_time"]})
    before = everything(tmp_path)

    done = doctor(tmp_path, "--config", str(path))

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "  ok      1 server and 0 rules; no plain secrets; files are private\n" in done.stdout
    assert "  ok      Cursor: every server behind the guard\n" in done.stdout
    assert "1 server started, with 2 tools" in done.stdout
    assert ".; " not in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "→" not in line and "doctor:" not in line)
    assert everything(tmp_path) == before


def test_a_broken_set_up_is_told_in_full_without_a_secret_or_a_traceback_and_exits_1(tmp_path: Path) -> None:
    """docs/doctor.md; security.md F2, F12, F19, S35, S40."""
    path = configure(
        tmp_path,
        dies={"command": sys.executable, "args": ["-c", DIES], "env": {"API_KEY": SECRET}},
        gone={"command": "no-such-program-anywhere"},
        unset={"command": "x", "env": {"T": "${env:NOT_SET_HERE}"}},
    )
    data = tmp_path / "data"
    (data / "approvals.db").write_bytes(b"not a database" * 500)
    (data / "keys").mkdir(mode=0o700)
    (data / "keys" / "vault.1.key").write_bytes(b"short")
    (data / "keys" / "vault.1.key").chmod(0o600)
    (data / "audit" / "00").mkdir(parents=True)
    (data / "audit" / "00" / "2026-11.db").write_bytes(b"\0" * 5000)
    host = tmp_path / "home" / ".cursor" / "mcp.json"
    host.write_text(json.dumps({"mcpServers": {"github": {"command": "npx", "env": {"TOKEN": SECRET}}}}))

    done = doctor(tmp_path, "--config", str(path), "--json")

    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    told = {name: {f["code"] for f in found if f["code"] != "ok"} for name, found in report["groups"].items()}
    assert told["configuration"] >= {"plain-secret", "reference-unresolved"}
    assert told["hosts"] == {"host-bypass", "host-secret"}
    assert told["programs"] == {"program-missing"}
    assert told["servers"] == {"server-failed"}
    assert told["data"] == {"store-damaged", "key-unusable", "key-missing"}
    assert told["record"] == {"record-unverifiable"}
    assert report["worst"] == "problem"
    mends = {f["code"]: f["mend"] for found in report["groups"].values() for f in found}
    assert mends["host-bypass"] == f"mcp-guard wrap --config {path} cursor, then restart Cursor"
    assert "check-failed" not in done.stdout
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "no login for [SECRET]" in done.stdout


def test_nothing_in_the_folder_where_a_person_stands_is_run(tmp_path: Path) -> None:
    """security.md S39: `-m` would put that folder before everything else, and a server without a `cwd` would, too."""
    config, evil = tmp_path / "config", tmp_path / "evil"
    config.mkdir()
    evil.mkdir()
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')"
    (evil / "mcp_guard" / "cli").mkdir(parents=True)
    for name in ("mcp_guard/__init__.py", "mcp_guard/cli/__init__.py", "anyio.py", "some_server.py"):
        (evil / name).write_text(trap, encoding="utf-8")
    (config / "some_server.py").write_text("raise SystemExit(3)", encoding="utf-8")
    path = configure(config, some={"command": sys.executable, "args": ["-m", "some_server"]})
    safe = [sys.executable, "-P", "-m", "mcp_guard.cli.main", "doctor", "--json", "--config", str(path)]
    done = subprocess.run(safe, capture_output=True, text=True, env=environment(tmp_path), cwd=evil, check=False)
    assert done.returncode == 1, done.stderr
    found = {one["code"] for group in json.loads(done.stdout)["groups"].values() for one in group}
    assert "server-failed" in found
    assert "startup-failed" not in found
    assert not (tmp_path / "ran").exists()


def test_quick_starts_no_server(tmp_path: Path, here: Here) -> None:
    """docs/doctor.md: "`--quick` starts no server"."""
    touched = tmp_path / "touched"
    path = configure(tmp_path, a={"command": sys.executable, "args": ["-c", f"open({str(touched)!r}, 'w')"]})

    code, out, _ = here("--config", str(path), "--quick", "--json")

    assert code == 0, out
    assert json.loads(out)["groups"]["servers"] == []
    assert not touched.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="modes as POSIX has them")
def test_colours_are_not_needed_to_read_it(tmp_path: Path, here: Here) -> None:
    """docs/cli.md, NO_COLOR."""
    path = configure(tmp_path)
    path.chmod(0o660)

    plain = here("--config", str(path), "--quick")[1]
    coloured = here("--config", str(path), "--quick", NO_COLOR="", FORCE_COLOR="1")[1]

    assert "  problem The configuration" in plain
    assert "\x1b" not in plain
    assert "\x1b[1;31m" in coloured
