"""The day of a developer with eight servers, direct and through the guard: all works as before, and few are asked.

docs/hosts.md, docs/manifests.md, docs/grants.md. Set up as a person does: `init` from the host's own file, with the
cautious reading of each server's tools, and then with one entry per server in the host, or with one for all.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from tests.e2e.day import CHANGED, PROJECT, Answers, World, all_pages, complete, live, site, steps, timeless, tree
from tests.e2e.harness import until

GUARD = [sys.executable, "-m", "mcp_guard.cli.main"]
MOST_PROMPTS = 5
PLACEHOLDER = re.compile(r"\[[A-Z_]+_[a-z2-7]{10}\]")
NOTICE = "[mcp-guard] masked "
SPOKEN = {"resultType", "ttlMs", "cacheScope"}
"""Members that belong to a revision of the protocol and not to the server."""
OWN_TOOL = "guard_approval_wait"
NEEDS_QUESTIONS = "get-roots-list"
"""Offered to clients that can be asked back, which those of the newer revision cannot."""


@dataclass
class Person:
    """Approves everything at the client's form, and takes the widest grant where one is offered."""

    asked: list[str] = field(default_factory=list)

    async def __call__(self, _context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestFormParams)
        self.asked.append(params.message)
        fields: Any = params.requested_schema["properties"]
        decision = granting(fields["decision"]) or "approve_once"
        content: dict[str, Any] = {"decision": decision}
        if "fingerprint" in fields:
            found = re.search(r"Fingerprint: (\S+)", params.message)
            assert found
            content["fingerprint"] = found[1]
        return types.ElicitResult(action="accept", content=content)


def granting(decision: Mapping[str, Any]) -> str | None:
    """The last choice that approves more than this call."""
    choices = decision.get("enum") or [one["const"] for one in decision.get("oneOf", [])]
    grants = [str(choice) for choice in choices if choice not in {"deny", "approve_once", "ask"}]
    return grants[-1] if grants else None


@dataclass
class Run:
    """One day, and what was left of it."""

    tools: dict[str, list[dict[str, Any]]]
    answers: Answers
    files: dict[str, bytes]
    history: str
    memory: bytes
    report: dict[str, Any]
    asked: list[str]
    """What the person was asked."""


@dataclass
class Days:
    direct: Run
    guarded: Run
    combined: Run
    world: World


def environment(base: Path, world: World) -> dict[str, str]:
    """The host's environment: of a user with a home of his own."""
    home = base / "home"
    folders = {"XDG_CONFIG_HOME": ".config", "XDG_DATA_HOME": ".local/share", "XDG_STATE_HOME": ".local/state"}
    return {**world.environment(), "HOME": str(home), **{name: str(home / path) for name, path in folders.items()}}


def set_up(config: Path, world: World, env: Mapping[str, str]) -> None:
    """What a person does once: `init` from the host's file, which also reviews the tools of each server."""
    host = config.parent / "host.json"
    host.parent.mkdir(parents=True)
    host.write_text(json.dumps({"mcpServers": world.servers()}), encoding="utf-8")
    done = subprocess.run(
        [*GUARD, "init", "--yes", "--from", str(host), "--config", str(config)],
        env=dict(env), cwd=world.repo, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert {file.stem for file in (config.parent / "manifests").glob("*.yaml")} >= {"reporter"}, done.stdout


async def day(
    world: World,
    entries: Mapping[str, StdioServerParameters],
    *,
    guarded: bool,
    mode: str,
) -> Run:
    """Live through a day with one client per entry; an entry `*` serves all servers, through a shorter day."""

    async def roots(_context: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri=world.repo.as_uri(), name="shop")])

    person = Person()
    # Directly, a server would show tools of its own that ask the client: docs/limits.md, "Questions of servers".
    callbacks: dict[str, Any] = {"list_roots_callback": roots, "elicitation_callback": person if guarded else None}
    clients: dict[str, Client] = {}
    over = anyio.Event()

    async def connect(name: str, parameters: StdioServerParameters) -> None:
        async with Client(parameters, mode=mode, cache=None, **callbacks) as clients[name]:
            await over.wait()

    async with anyio.create_task_group() as group:
        for name, parameters in entries.items():
            group.start_soon(connect, name, parameters)
        await until(lambda: len(clients) == len(entries), within_s=60)
        tools = {name: await all_pages(client, "tools") for name, client in clients.items()}
        if "*" in clients:
            of_all = dict.fromkeys(world.servers(), clients["*"])
            short = [step for step in steps() if step.short]
            answers = await live(world, of_all, short, lambda server, name: f"{server}_{name}")
        else:
            answers = await live(world, clients, steps())
        over.set()
    return left_over(world, tools, answers, person.asked)


def left_over(world: World, tools: dict[str, list[dict[str, Any]]], answers: Answers, asked: list[str]) -> Run:
    memory = world.folder / "memory.jsonl"
    reports = world.reports.read_text(encoding="utf-8").splitlines() if world.reports.exists() else ["{}"]
    history = world.git("log", "--all", "--format=%H %D %s") + world.git("status", "--porcelain", "--ignored")
    remembered = memory.read_bytes() if memory.exists() else b""
    return Run(tools, answers, tree(world.repo), history, remembered, json.loads(reports[-1]), asked)


async def all_days(base: Path, world: World) -> Days:
    env, config = environment(base, world), base / "home" / ".config" / "mcp-guard" / "guard.yaml"

    def guard(*arguments: str) -> StdioServerParameters:
        serve = [*GUARD[1:], "serve", "--config", str(config), *arguments]
        return StdioServerParameters(command=GUARD[0], args=serve, env=env, cwd=world.repo)

    servers = world.servers()
    entries = {
        "direct": {
            name: StdioServerParameters(
                command=one["command"], args=one["args"], env={**env, **one.get("env", {})}, cwd=world.repo
            )
            for name, one in servers.items()
        },
        "guarded": {name: guard("--server", name) for name in servers},
        "combined": {"*": guard()},
    }
    runs: dict[str, Run] = {}
    for name, mode in (("direct", "legacy"), ("guarded", "legacy"), ("combined", "auto")):
        world.build()
        async with anyio.create_task_group() as group:
            if name == "direct":  # meanwhile, since it only looks at what the servers offer
                group.start_soon(anyio.to_thread.run_sync, set_up, config, world, env)
            runs[name] = await day(world, entries[name], guarded=name != "direct", mode=mode)
        world.put_away(name)
    return Days(**runs, world=world)


@pytest.fixture(scope="module", params=complete())
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Days]:
    base = tmp_path_factory.mktemp("day")
    (base / "home").mkdir()
    with site() as address:
        yield anyio.run(all_days, base, World(base / "world", address))


def own(answer: dict[str, Any]) -> dict[str, Any]:
    """What the server said: without the guard's notice and marks, and without marks of a protocol revision."""
    found = {key: value for key, value in timeless(answer).items() if key not in {*SPOKEN, "_meta"}}
    if found.get("isError") is False:
        del found["isError"]
    if "content" in found:
        found["content"] = [block for block in found["content"] if not str(block.get("text")).startswith(NOTICE)]
    return found


def plainly(server: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """An item of a combined list under the name that its server gave it."""
    return lambda item: {**item, "name": item["name"].removeprefix(f"{server}_")}


class Stands:
    """What each placeholder stands for, as found by comparing with the direct run."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def same(self, plain: Any, masked: Any) -> bool:
        """Equal, but for placeholders that each stand for one value throughout the day."""
        if isinstance(plain, dict) and isinstance(masked, dict):
            return plain.keys() == masked.keys() and all(self.same(plain[key], masked[key]) for key in plain)
        if isinstance(plain, list) and isinstance(masked, list):
            return len(plain) == len(masked) and all(map(self.same, plain, masked))
        if isinstance(plain, str) and isinstance(masked, str) and PLACEHOLDER.search(masked):
            return self._text(plain, masked)
        return bool(plain == masked)

    def _text(self, plain: str, masked: str) -> bool:
        literal = [re.escape(part) for part in PLACEHOLDER.split(masked)]
        found = re.fullmatch("(.+?)".join(literal), plain, re.DOTALL)
        if not found:
            return False
        pairs = zip(PLACEHOLDER.findall(masked), found.groups(), strict=True)
        return all(self.values.setdefault(token, value) == value for token, value in pairs)


def refused_alike(plain: dict[str, Any], guarded: dict[str, Any]) -> bool:
    """The guard refuses arguments that the server would refuse, in its own words (decision D23)."""
    return bool(
        plain.get("isError")
        and guarded.get("isError")
        and str(guarded["content"][0]["text"]).startswith("[invalid_arguments]")
    )


def differences(direct: Run, guarded: Run) -> list[str]:
    stands, found = Stands(), []
    for step in (step for step in steps() if step.number in guarded.answers):
        plain, masked = own(direct.answers[step.number]), own(guarded.answers[step.number])
        if "*" in guarded.tools and step.what == NEEDS_QUESTIONS:
            continue
        if "*" in guarded.tools and "pages" in plain:
            masked = {"pages": [one for one in map(plainly(step.server), masked["pages"]) if one in plain["pages"]]}
        if not stands.same(plain, masked) and not refused_alike(plain, masked):
            found.append(f"{step}: {json.dumps(plain)[:300]} became {json.dumps(masked)[:300]}")
    return found


def test_the_day_is_a_working_day(days: Days) -> None:
    """Before anything is compared: 120 calls, of which the failing ones are meant to fail."""
    assert len(steps()) == len(days.guarded.answers) == 120
    assert len(days.combined.answers) > 30
    failed = [
        str(step) for step in steps() if "error" in (one := days.direct.answers[step.number]) or one.get("isError")
    ]
    assert failed == ["51 fetch fetch", "58 filesystem edit_file", "73 git git_show", "103 everything echo"]


@pytest.mark.parametrize("kind", ["guarded", "combined"])
def test_every_call_of_the_day_gives_what_the_server_gives(kind: str, days: Days) -> None:
    """Same results but for placeholders."""
    assert not differences(days.direct, getattr(days, kind))


def test_what_is_masked_is_announced(days: Days) -> None:
    """Decision D33: no placeholder without a word about it, in the text and in `_meta`."""
    for step in steps():
        answer = days.guarded.answers[step.number]
        if PLACEHOLDER.search(json.dumps({key: answer[key] for key in answer.keys() - {"_meta"}})):
            assert answer["_meta"]["io.mcp-guard/masked"], step
            assert "content" not in answer or NOTICE in json.dumps(answer["content"]), step


def test_one_entry_per_server_offers_the_same_tools_under_the_same_names(days: Days) -> None:
    """Decisions D12, D14: all is as before, but for relaxed output schemas and the guard's own tool."""
    for server, tools in days.direct.tools.items():
        offered = [tool for tool in days.guarded.tools[server] if tool["name"] != OWN_TOOL]
        assert [without_output(tool) for tool in offered] == [without_output(tool) for tool in tools], server
        assert [names_in(tool.get("outputSchema")) for tool in offered] == [
            names_in(tool.get("outputSchema")) for tool in tools
        ]


def test_one_entry_for_all_offers_the_same_tools_under_prefixed_names(days: Days) -> None:
    """Decision D14."""
    offered = {tool["name"] for tool in days.combined.tools["*"]} - {OWN_TOOL}
    assert offered == {f"{server}_{tool['name']}" for server, tools in days.direct.tools.items() for tool in tools} - {
        f"everything_{NEEDS_QUESTIONS}"
    }


def without_output(tool: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tool.items() if key != "outputSchema"}


def names_in(schema: Any) -> list[str]:
    """The names of all members that a schema speaks of."""
    if isinstance(schema, list):
        return [name for item in schema for name in names_in(item)]
    if not isinstance(schema, dict):
        return []
    properties = schema.get("properties")
    own_names = sorted(properties) if isinstance(properties, dict) else []
    return sorted([*own_names, *(name for item in schema.values() for name in names_in(item))])


def test_files_commits_and_memory_are_the_same_to_the_byte(days: Days) -> None:
    """Decision D33: settings and people that were read and written back too."""
    run = days.guarded
    assert {name for name in run.files if run.files[name] != days.direct.files.get(name)} == set()
    assert run.files.keys() == days.direct.files.keys()
    assert run.history == days.direct.history
    assert run.memory == days.direct.memory


def test_settings_and_people_are_written_back_to_the_byte_through_the_newer_revision_too(days: Days) -> None:
    """Decision D33."""
    written = {"docs/logo.png": days.direct.files["docs/logo.png"]} | {
        name: days.direct.files[name] if name in {".env", "data/people-copy.csv"} else text.encode()
        for name, text in {**PROJECT, "data/people-copy.csv": ""}.items()
    }
    assert days.combined.files == written


def test_nothing_but_what_the_day_is_about_has_changed(days: Days) -> None:
    before = {name: text.encode() for name, text in PROJECT.items()}
    after = {name: content for name, content in days.guarded.files.items() if name != "docs/logo.png"}
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == CHANGED
    assert after[".env"] == before[".env"].replace(b"DEBUG=1", b"DEBUG=0")
    assert after["data/people-copy.csv"] == before["data/people.csv"]


@pytest.mark.parametrize("kind", ["guarded", "combined"])
def test_a_server_sees_the_folder_and_environment_that_the_host_gave(kind: str, days: Days) -> None:
    """Decision D29. What it sees of roots is in the answers of filesystem and everything."""
    assert getattr(days, kind).report == days.direct.report
    assert days.direct.report["cwd"] == str(days.world.repo)


@pytest.mark.parametrize("kind", ["guarded", "combined"])
def test_few_are_asked_and_nobody_twice(kind: str, days: Days, capsys: pytest.CaptureFixture[str]) -> None:
    """At most five questions a day, no two alike, and none that a grant covers (docs/grants.md)."""
    asked: list[str] = getattr(days, kind).asked
    with capsys.disabled():
        tools = [found[1] for message in asked if (found := re.search(r"Tool: (\S+)", message))]
        sys.stdout.write(f"\n{len(asked)} questions in a day ({kind}): {', '.join(tools)}\n")
    questions = [re.sub(r"\n(Expires|Fingerprint): .*", "", message) for message in asked]
    assert len(questions) <= MOST_PROMPTS, "\n\n".join(asked)
    assert len(set(questions)) == len(questions)
    folders: list[Path] = []
    for path in (Path(found[1]) for message in asked if (found := re.search(r'"path" = "([^"]+)"', message))):
        assert not [folder for folder in folders if path.is_relative_to(folder)], path
        folders.append(path.parent)
