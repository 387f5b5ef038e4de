"""The demo's temporary folder: its guard.yaml, the CRM's database, the guard's data, and the commands over them."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_guard.demo.agent import Ran, run_command

TOKEN = "MCP_GUARD_REVIEWER_TOKEN"  # noqa: S105 - the name of a variable, not a token

_GUARD = (sys.executable, "-m", "mcp_guard.cli.main")

CONFIG = """\
version: 1
id: demo
data_dir: ./guard-data
servers:
  crm:
    command: {python}
    args: ["-m", "mcp_guard.demo.crm", "--db", "${{config_dir}}/crm.db"]
    names: plain
rules:
  - id: ask-before-delete
    match: {{server: crm, tool: "delete_*"}}
    effect: require_approval
    approval: {{min_assurance: A1}}
  - id: replies
    match: {{server: crm, tool: send_reply}}
    effect: allow
    reason: "answers to customers are the agent's work"
approvals: {{hold_s: 0.5}}
"""


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect at the server, as the server wrote it down."""

    tool: str
    arguments: dict[str, Any]
    execution_id: str | None


class Workspace:
    """Everything the demo makes is in one folder, which the caller removes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "guard-data"
        self.config = folder / "guard.yaml"
        self.config.write_text(CONFIG.format(python=json.dumps(sys.executable)), encoding="utf-8")
        self._token = ""

    @property
    def serve(self) -> list[str]:
        """The command that a host would start."""
        return [*_GUARD, "serve", "--config", str(self.config)]

    def env(self, *, reviewer: bool = False) -> dict[str, str]:
        """The environment of a child; only a reviewer's has the token."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MCP_GUARD_")}
        return {**kept, TOKEN: self._token} if reviewer else kept

    async def guard(self, *words: str, reviewer: bool = False, config: Path | None = None) -> Ran:
        """Run `mcp-guard …` in a second process without a terminal."""
        command = [*_GUARD, *words, "--config", str(config or self.config)]
        return await run_command(command, cwd=self.folder, env=self.env(reviewer=reviewer))

    async def add_reviewer(self) -> bool:
        """Register a reviewer and keep the token in memory only."""
        made = (await self.guard("reviewer", "add", "demo-reviewer", "--json")).json
        self._token = str(made["token"]) if isinstance(made, dict) and "token" in made else ""
        return bool(self._token)

    async def request(self, ticket: str) -> dict[str, Any]:
        """An approval request as a reviewer sees it; empty when there is none."""
        shown = (await self.guard("approvals", "show", ticket, "--json")).json
        return shown if isinstance(shown, dict) else {}

    async def approve(self, ticket: str) -> Ran:
        """Approve as the reviewer, by the fingerprint of what was shown."""
        mark = str((await self.request(ticket)).get("fingerprint", ""))
        return await self.guard("approvals", "approve", ticket, "--fingerprint", mark, "--json", reviewer=True)

    async def is_pending(self, ticket: str) -> bool:
        """Whether the request still waits for somebody."""
        return (await self.request(ticket)).get("state") == "pending"

    def received(self, *, effects: bool) -> list[Effect]:
        """What the server wrote down: only effects, or every call."""
        query = "SELECT tool, arguments, execution_id FROM calls WHERE effect >= ? ORDER BY id"
        with closing(sqlite3.connect(f"{(self.folder / 'crm.db').as_uri()}?mode=ro", uri=True)) as db:
            return [
                Effect(tool, json.loads(arguments), run) for tool, arguments, run in db.execute(query, (int(effects),))
            ]

    def count(self, tool: str) -> int:
        """How often a tool took effect at the server."""
        return sum(effect.tool == tool for effect in self.received(effects=True))

    def holding(self, values: list[str]) -> list[str]:
        """Names of the guard's own files in which one of the values stands in the clear."""
        needles = [value.encode() for value in values]
        files = [*self.data_dir.rglob("*"), self.folder / "guard.log"]
        return [f.name for f in files if f.is_file() and any(needle in f.read_bytes() for needle in needles)]

    def copy(self) -> Workspace:
        """A second folder with a copy of the guard's data, for damage. The guard must have ended."""
        folder = self.folder / "copy"
        folder.mkdir()
        shutil.copytree(self.data_dir, folder / "guard-data")
        return Workspace(folder)
