"""The working day of day.yaml: its project, its servers, its calls, and how two runs of it are compared."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mcp_types as types
import yaml
from mcp import Client
from mcp.shared.exceptions import MCPError

from tests.e2e.harness import ANY_RESULT, HERE
from tests.e2e.test_reference_servers import DOTENV, installed, node_server

SCRIPT = HERE / "day.yaml"
NODE_SERVERS = ("server-filesystem", "server-memory", "server-everything", "server-sequential-thinking")
MOST_PAGES = 20
SHORT = {"morning, looking around", "settings with secrets"}
DATE = "2026-03-02T09:00:00+0100"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PROJECT = {
    "README.md": "# Shop\n\nAdds things up; prices are floats.\nAsk mina.harker@example.net.\n",
    ".gitignore": ".env\ndata/\n",
    ".env": f"DEBUG=1\n{DOTENV}",
    "src/prices.py": "def line(price: float, count: int) -> float:\n    return round(price * count, 2)\n",
    "src/shop.py": (
        "from prices import line\n\n\ndef total(items: list[tuple[float, int]]) -> float:\n"
        "    return sum(line(*item) for item in items)\n"
    ),
    "tests/__init__.py": "",
    "docs/notes-1.md": "Totals are off by a cent now and then.\r\nSeen on 3 March.\r\n",
    "data/people.csv": "name,mail,phone\nMina,mina.harker@example.net,+44 20 7946 0958\nJo,jo@example.org,0123 456\n",
}
CHANGED = {
    "README.md", ".env", "src/prices.py", "src/shop.py", "tests/test_prices.py", "tests/test_shop.py",
    "docs/notes-1.md", "docs/done/notes-1.md", "data/people-copy.csv",
}  # fmt: skip
"""What the day changes in the project, and nothing else."""

ROUNDING = (
    "<html><head><title>Rounding</title></head><body><article><h1>Rounding</h1><p>Round once, at the end. Half to even "
    "keeps sums fair over many lines of a bill.</p><p>Cents as integers avoid it.</p></article></body></html>"
)
TEAM = (
    "<html><body><article><h1>Team</h1><p>Write to lucy.westenra@example.com for questions about the rates that we "
    "publish, or call +44 20 7946 0777 in the morning.</p></article></body></html>"
)
PAGES = {
    "/docs/rounding.html": ("text/html", ROUNDING),
    "/docs/team.html": ("text/html", TEAM),
    "/docs/long.txt": ("text/plain", "".join(f"line {number} of a long page\n" for number in range(60))),
    "/api/rates.json": ("application/json", json.dumps({"EUR": 1, "USD": 1.08, "JPY": 163.2}, indent=1)),
}


@dataclass(frozen=True)
class Step:
    """One call of the day."""

    number: int
    part: str
    server: str
    what: str
    arguments: dict[str, Any]
    save: str = ""

    def __str__(self) -> str:
        return f"{self.number} {self.server} {self.what}"

    @property
    def short(self) -> bool:
        """Whether it also belongs to a shorter day, in which the answers are the same."""
        kind = self.what.partition(":")[0]
        return (self.part in SHORT and self.server != "memory") or (
            self.server == "everything" and kind in {"resource", "prompt", "complete"}
        )


@dataclass(frozen=True)
class World:
    """Where the day takes place."""

    folder: Path
    site: str

    @property
    def repo(self) -> Path:
        return self.folder / "shop"

    @property
    def reports(self) -> Path:
        return self.folder / "reports.jsonl"

    def environment(self) -> dict[str, str]:
        """What the host gives to each server: commits get the same id in every run."""
        fixed = {"GIT_AUTHOR_DATE": DATE, "GIT_COMMITTER_DATE": DATE, "TZ": "UTC", "NO_PROXY": "127.0.0.1"}
        return {**os.environ, **fixed, "no_proxy": "127.0.0.1", "EDITOR": "ed"}

    def servers(self) -> dict[str, dict[str, Any]]:
        """The entries in the host's file, as people have them."""
        return {
            "filesystem": node_server("server-filesystem", str(self.repo)),
            "memory": node_server("server-memory", MEMORY_FILE_PATH=str(self.folder / "memory.jsonl")),
            "everything": node_server("server-everything"),
            "sequential-thinking": node_server("server-sequential-thinking", DISABLE_THOUGHT_LOGGING="true"),
            "git": _python("-m", "mcp_server_git", "--repository", str(self.repo)),
            "time": _python("-m", "mcp_server_time", "--local-timezone", "UTC"),
            "fetch": _python("-m", "mcp_server_fetch", "--allow-private-ips"),
            "reporter": _python(str(HERE / "reporting_server.py"), str(self.reports)),
        }

    def build(self) -> None:
        """The project with its first commit."""
        for name, text in PROJECT.items():
            file = self.repo / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode())
        (self.repo / "docs" / "logo.png").write_bytes(base64.b64decode(PNG))
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "Mina Harker")
        self.git("config", "user.email", "mina.harker@example.net")
        self.git("add", ".")
        self.git("commit", "-q", "-m", "Add the shop")

    def git(self, *command: str) -> str:
        done = subprocess.run(
            ["git", *command], cwd=self.repo, env=self.environment(), check=True, capture_output=True, text=True
        )
        return done.stdout

    def put_away(self, name: str) -> Path:
        """Move everything aside, so that the next run has the same paths."""
        return Path(shutil.move(self.folder, self.folder.with_name(name)))


def _python(*arguments: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": [*arguments]}


def complete() -> list[str]:
    """A parameter for tests: itself, or nothing where a server is not installed."""
    return ["day"] if all(installed(package) for package in NODE_SERVERS) else []


def steps() -> list[Step]:
    """The calls of day.yaml in their order."""
    parts = yaml.safe_load(SCRIPT.read_text(encoding="utf-8"))
    calls = ((part, *call) for part, calls in parts.items() for call in calls)
    return [Step(number, *call) for number, call in enumerate(calls, 1)]


class Site(http.server.BaseHTTPRequestHandler):
    """A small web site with a moved page and without robots.txt."""

    def do_GET(self) -> None:
        if self.path == "/old":
            self.send_response(301)
            self.send_header("Location", "/api/rates.json")
            self.end_headers()
            return
        kind, text = PAGES.get(self.path, ("text/plain", ""))
        self.send_response(200 if text else 404)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
        """Say nothing."""


@contextmanager
def site() -> Iterator[str]:
    """Serve the pages on loopback."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


Answers = dict[int, dict[str, Any]]
NameOf = Callable[[str, str], str]
"""Server and its tool or prompt → the name under which the client knows it."""


async def live(
    world: World, clients: Mapping[str, Client], todo: list[Step], name_of: NameOf = lambda _, name: name
) -> Answers:
    """Make these calls, one after the other; the answers by number."""
    saved: dict[str, str] = {}
    answers: Answers = {}
    for step in todo:
        client = clients[step.server]
        arguments = _filled(step.arguments, world, saved)
        try:
            answers[step.number] = await _answer(client, step, arguments, name_of)
        except MCPError as error:
            answers[step.number] = {"error": error.error.message}
        if step.save:
            saved[step.save] = answers[step.number]["content"][0]["text"]
    return answers


async def _answer(client: Client, step: Step, arguments: dict[str, Any], name_of: NameOf) -> dict[str, Any]:
    kind, _, name = (
        step.what.rpartition(":") if not step.what.startswith("resource:") else ("resource", "", step.what[9:])
    )
    if kind == "list":
        return {"pages": await all_pages(client, name)}
    if kind == "resource":
        request = types.ReadResourceRequest(params=types.ReadResourceRequestParams(uri=name))
        resource: dict[str, Any] = await client.session.send_request(request, ANY_RESULT)
        return resource
    if kind == "prompt":
        found = await client.get_prompt(name_of(step.server, name), arguments)
        return found.model_dump(mode="json", by_alias=True, exclude_none=True)
    if kind == "complete":
        prompt, _, argument = name.partition("/")
        reference = types.PromptReference(name=name_of(step.server, prompt))
        about = {"name": argument, "value": arguments.pop("value")}
        completion = await client.complete(reference, about, arguments or None)
        return completion.model_dump(mode="json", by_alias=True, exclude_none=True)
    result = await client.call_tool(name_of(step.server, step.what), arguments)
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


async def all_pages(client: Client, kind: str) -> list[dict[str, Any]]:
    """All items of a list; fails where the pages do not end."""
    ask, field = {
        "tools": (client.list_tools, "tools"),
        "resources": (client.list_resources, "resources"),
        "templates": (client.list_resource_templates, "resource_templates"),
        "prompts": (client.list_prompts, "prompts"),
    }[kind]
    items: list[dict[str, Any]] = []
    cursor = None
    for _ in range(MOST_PAGES):
        found: Any = await ask(cursor=cursor)
        items += [item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in getattr(found, field)]
        cursor = found.next_cursor
        if cursor is None:
            return items
    raise AssertionError(f"the pages of {kind} do not end")


def _filled(value: Any, world: World, saved: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, world, saved) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, world, saved) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith("{text:"):
        return saved[value[6:-1]]
    return value.replace("{repo}", str(world.repo)).replace("{site}", world.site)


MOMENTS = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?|\d{1,2}:\d\d:\d\d( [AP]M)?"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d{4} \d\d:\d\d:\d\d GMT[+-]\d{4} \([^)]*\)"
)
"""What differs from run to run."""


def timeless(value: Any) -> Any:
    """The same without the moments in it, and base64 text as text."""
    if isinstance(value, dict):
        return {key: _plain(item) if key == "blob" else timeless(item) for key, item in value.items()}
    if isinstance(value, list):
        return [timeless(item) for item in value]
    return MOMENTS.sub("(then)", value) if isinstance(value, str) else value


def _plain(blob: str) -> str:
    return MOMENTS.sub("(then)", base64.b64decode(blob).decode("utf-8", "replace"))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of the project but git's own."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and ".git" not in file.relative_to(folder).parts
    }
