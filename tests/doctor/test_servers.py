"""Real servers, started as the doctor starts them, and a real guard."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from mcp_guard.doctor import servers, startup, tools
from mcp_guard.doctor.servers import Probe
from mcp_guard.doctor.startup import Startup
from mcp_guard.downstream.definition import Listing, definition_digest
from mcp_guard.downstream.lockfile import Lock, Quarantine, ServerPin
from mcp_guard.downstream.pool import ServerState
from mcp_guard.model import JsonDict
from tests.doctor.conftest import Place, codes
from tests.e2e.harness import leaky

SECRET = "ghp_" + "s3cr3tZq7Kp2Lm9Rt4Vb6Nc1XyWv8a5b6c7d8e"
SAID = "the guard answers in 0.4 s"
SLOW = "Starting is slow: the guard answers in 4.0 s"
LATE = f"Starting is slow: {SAID} and lists tools in 9.0 s (its slowest server alone: 2.0 s)."
DIES = f"import sys; sys.stderr.write('\\x1b[31mno login for {SECRET}\\nsecond line\\n'); sys.exit(3)"
TIME = {"command": sys.executable, "args": ["-m", "mcp_server_time"]}


def python(code: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": ["-c", code]}


async def test_servers_are_really_started_and_what_fails_is_told_with_the_masked_end_of_its_stderr(
    place: Place,
) -> None:
    """docs/doctor.md, server-failed and tools-unreviewed; security.md F2, S35."""
    setup = place.setup(good=leaky(place.folder), dies=python(DIES), off={"command": "x", "disabled": True})
    assert setup.loaded is not None

    probes = await servers.probe(setup.loaded, ["good", "dies"], timeout_s=20)
    findings = servers.judge(probes)

    assert [(f.code, f.text) for f in findings if f.code != "ok"] == [
        ("server-failed", "Server dies does not start: exited with code 3 before it was ready.")
    ]
    assert findings[0].detail == ("stderr: \\u{1b}[31mno login for [SECRET]", "stderr: second line")
    assert findings[0].mend == "mend what it says, then run mcp-guard check --connect"
    assert SECRET not in json.dumps([f.data() for f in findings])
    assert next(f.text for f in findings if f.code == "ok").startswith("1 server started, with ")
    assert list(place.data.iterdir()) == []
    reviewed = tools.review(setup.loaded, probes)
    assert codes(reviewed) == ["tools-unreviewed"]
    assert reviewed[0].mend == "mcp-guard trust good"


async def test_a_server_that_says_nothing_is_slow(place: Place) -> None:
    """docs/doctor.md, server-slow; security.md F2."""
    setup = place.setup(hangs=python("import sys; sys.stdin.read()"))
    assert setup.loaded is not None

    findings = servers.judge(await servers.probe(setup.loaded, ["hangs"], timeout_s=0.3))

    assert [(f.code, f.text) for f in findings] == [("server-slow", "Server hangs was not ready in time.")]


async def test_only_the_end_of_a_flood_on_stderr_is_kept(place: Place) -> None:
    """CONTRIBUTING.md, habit 9: "Bound everything"."""
    code = "import sys; [sys.stderr.write(f'{n} ' + 'x' * 1000 + '\\n') for n in range(30)]; sys.exit(1)"
    setup = place.setup(floods=python(code))
    assert setup.loaded is not None

    probes = await servers.probe(setup.loaded, ["floods"], timeout_s=5)

    lines = probes["floods"].stderr
    assert [line.split()[0] for line in lines] == ["25", "26", "27", "28", "29"]
    assert all(len(line) < servers.STDERR_CHARACTERS + 40 for line in lines)


def test_a_tool_that_the_user_reviewed_is_not_counted_unless_its_definition_changed(place: Place) -> None:
    """docs/doctor.md, tools-unreviewed."""
    tool: JsonDict = {"name": "look", "description": "Looks.", "inputSchema": {"type": "object"}}
    folder = place.folder / "manifests"
    folder.mkdir()
    entry = {"effects": ["read"], "risk": "low", "why": "looks", "definition": definition_digest(tool)}
    reviewed = {"by": "jane", "on": "2026-11-21"}
    manifest = {"manifest": 1, "server": "a", "reviewed": reviewed, "tools": {"look": entry}}
    (folder / "a.yaml").write_text(json.dumps(manifest))
    loaded = place.setup(a={"command": "x"}).loaded
    assert loaded is not None

    assert tools.unreviewed(loaded, "a", Listing(tools=(tool,))) == 0
    assert tools.unreviewed(loaded, "a", Listing(tools=({**tool, "description": "Looks!"},))) == 1


def test_what_the_pins_hold_back_is_a_warning(place: Place) -> None:
    """docs/doctor.md, tools-quarantined."""
    pin = ServerPin(command="x", command_digest="d")
    held = {
        "a": Quarantine(server=["files"]),
        "b": Quarantine(tools={"t": ["description"], "u": ["new"]}),
        "c": Quarantine(instructions=True),
        "d": Quarantine(),
    }
    lock = Lock(servers={name: pin.model_copy(update={"quarantine": one}) for name, one in held.items()})
    (place.folder / "guard.lock").write_text(json.dumps(lock.model_dump()))
    (place.folder / "guard.lock").chmod(0o600)

    findings = tools.pins(place.setup(**{name: {"command": "x"} for name in held}))

    assert [(f.text, f.mend) for f in findings] == [
        ("Server a: all of it is held back, since its program changed since it was accepted.", "mcp-guard pins diff a"),
        ("Server b: 2 tools held back, new or changed since it was accepted.", "mcp-guard pins diff b"),
        (
            "Server c: its instructions are held back, since they changed since it was accepted.",
            "mcp-guard pins diff c",
        ),
    ]


def test_a_pins_file_that_cannot_be_used_is_a_problem(place: Place) -> None:
    """docs/doctor.md, pins-unusable."""
    assert tools.pins(place.setup()) == []
    (place.folder / "guard.lock").write_text("{")

    assert codes(tools.pins(place.setup())) == ["pins-unusable"]


async def test_a_guard_is_started_aside_and_leaves_nothing(place: Place) -> None:
    """docs/doctor.md: it changes nothing."""
    place.setup(time=TIME)

    measured = await startup.measure(place.machine, place.path, timeout_s=20)

    assert measured.initialize_s is not None, measured.stderr
    assert measured.tools_s is not None
    assert 0 < measured.initialize_s <= measured.tools_s
    assert sorted(path.name for path in place.folder.iterdir()) == ["data", "guard.yaml", "home"]
    assert list(place.data.iterdir()) == []


async def test_a_guard_that_does_not_start_is_a_problem_with_the_reason(place: Place) -> None:
    """docs/doctor.md, startup-failed."""
    place.setup(time={**TIME, "cwd": "${env:NOT_SET_HERE}"})

    findings = startup.judge(await startup.measure(place.machine, place.path, timeout_s=20), None)

    assert codes(findings) == ["startup-failed"]
    assert any("the environment variable NOT_SET_HERE is not set" in line for line in findings[0].detail)


@pytest.mark.parametrize(
    ("measured", "slowest", "code", "text"),
    [
        (Startup(0.4, 0.9), 0.8, "ok", f"{SAID}, lists tools in 0.9 s (its slowest server alone: 0.8 s)"),
        (Startup(0.4, 0.9), None, "ok", f"{SAID}, lists tools in 0.9 s"),
        (Startup(0.4, 9.0), 8.0, "ok", f"{SAID}, lists tools in 9.0 s (its slowest server alone: 8.0 s)"),
        (Startup(0.4, 9.0), 2.0, "startup-slow", LATE),
        (Startup(4.0, 5.0), 4.9, "startup-slow", f"{SLOW} and lists tools in 5.0 s (its slowest server alone: 4.9 s)."),
        (Startup(0.4, None), 0.8, "startup-slow", "The first list of tools takes longer than this check waits."),
        (Startup(None, None), 0.8, "startup-failed", "A guard that was started on trial did not answer."),
    ],
)  # fmt: skip
def test_starting_is_judged_by_what_the_guard_adds(
    measured: Startup, slowest: float | None, code: str, text: str
) -> None:
    """docs/doctor.md, startup-slow and startup-failed."""
    assert [(f.code, f.text) for f in startup.judge(measured, slowest)][-1] == (code, text)


def test_a_server_that_fails_again_is_failed_and_not_slow() -> None:
    again = Probe(ServerState("starting", "its session ended"), None, ())

    assert codes(servers.judge({"a": again})) == ["server-failed"]
