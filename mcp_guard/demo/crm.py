"""The demo's downstream: a small CRM as a real MCP server over stdio. Knows nothing of the guard.

Usage: python -m mcp_guard.demo.crm --db PATH [--effects PATH]

Every call is kept in the table `calls` with its arguments exactly as they were received; the view `effects` holds
those that changed something. `--effects` also appends each effect to a file, one JSON object per line.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from mcp_guard.demo.seed import CUSTOMERS, DATABASES, ORDERS, SCHEMA

EXECUTION_ID = "io.mcp-guard/execution-id"
"""Key in a request's `_meta` under which a caller may say which execution this is."""

Json = dict[str, Any]
Strings = dict[str, str]


class CrmError(Exception):
    """A call that cannot be done; the message is for the caller."""


def _object(*required: str, optional: Json | None = None) -> Json:
    properties: Json = {name: {"type": "string", "minLength": 1} for name in required}
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


_FIELDS = ("id", "name", "email", "phone", "card", "iban", "ssn", "plan", "segment", "api_token")
_CUSTOMER: Json = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in _FIELDS} | {"email": {"type": "string", "format": "email"}},
    "required": list(_FIELDS),
}
_READ = types.ToolAnnotations(read_only_hint=True, open_world_hint=False)
_WRITE = types.ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False)
_LIMIT: Json = {"limit": {"type": "integer", "minimum": 1, "maximum": 50}}

TOOLS = [
    types.Tool(
        name="search_customers",
        description="Find customers by a part of their name, plan or segment.",
        input_schema=_object("query", optional=_LIMIT),
        annotations=_READ,
    ),
    types.Tool(
        name="get_customer",
        description="Everything known about one customer.",
        input_schema=_object("customer_id"),
        output_schema=_CUSTOMER,
        annotations=_READ,
    ),
    types.Tool(
        name="list_orders",
        description="The orders of one customer.",
        input_schema=_object("customer_id"),
        annotations=_READ,
    ),
    types.Tool(
        name="send_reply",
        description="Send an e-mail to a customer.",
        input_schema=_object("to", "subject", "body"),
        annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=True),
    ),
    types.Tool(
        name="export_customer_data",
        description="Write all customers of a segment to a file for somebody else.",
        input_schema=_object("segment", "destination"),
        annotations=_WRITE,
    ),
    types.Tool(
        name="delete_production_db",
        description="Delete a database with everything in it. Cannot be undone.",
        input_schema=_object("name"),
        annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False),
    ),
]


class Crm:
    """The CRM's database. One connection, used from one thread; each call is one transaction."""

    def __init__(self, path: Path, effects: Path | None = None) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._folder = path.parent
        self._effects = effects
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._seed()
        self._reads: dict[str, Callable[[Json], Json]] = {
            "search_customers": self._search,
            "get_customer": self._get,
            "list_orders": self._orders,
        }
        self._writes: dict[str, Callable[[Json], Json]] = {
            "send_reply": self._reply,
            "export_customer_data": self._export,
            "delete_production_db": self._delete,
        }

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def call(self, tool: str, arguments: Json, execution_id: str | None) -> Json:
        """Carry one call out and keep what was received.

        Raises:
            CrmError: it cannot be done; nothing was changed.
        """
        effect = tool in self._writes
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        received = json.dumps(arguments, ensure_ascii=False)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            result = (self._writes if effect else self._reads)[tool](arguments)
            self._db.execute(
                "INSERT INTO calls (at, tool, arguments, execution_id, effect) VALUES (?, ?, ?, ?, ?)",
                (at, tool, received, execution_id, int(effect)),
            )
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        if effect:
            self._note({"at": at, "tool": tool, "arguments": arguments, "execution_id": execution_id})
        return result

    def _seed(self) -> None:
        with closing(self._db.cursor()) as cursor:
            if cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'customers'").fetchone():
                return
            cursor.executescript(SCHEMA)
            cursor.execute("BEGIN IMMEDIATE")
            cursor.executemany("INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", CUSTOMERS)
            cursor.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", ORDERS)
            cursor.executemany("INSERT INTO databases VALUES (?, ?)", DATABASES)
            cursor.execute("COMMIT")

    def _note(self, line: Json) -> None:
        if self._effects is None:
            return
        with self._effects.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _all(self, query: str, *parameters: object) -> list[Json]:
        return [dict(row) for row in self._db.execute(query, parameters)]

    def _search(self, arguments: Json) -> Json:
        like = f"%{arguments['query']}%"
        query = "SELECT id, name, email, plan FROM customers WHERE name LIKE ? OR plan LIKE ? OR segment LIKE ? LIMIT ?"
        return {"customers": self._all(query, like, like, like, arguments.get("limit", 10))}

    def _get(self, arguments: Json) -> Json:
        found = self._all("SELECT * FROM customers WHERE id = ?", arguments["customer_id"])
        if not found:
            raise CrmError("there is no customer with this id")
        return found[0]

    def _orders(self, arguments: Json) -> Json:
        query = "SELECT id, item, cents FROM orders WHERE customer_id = ? ORDER BY id"
        return {"orders": self._all(query, arguments["customer_id"])}

    def _reply(self, arguments: Json) -> Json:
        values = (arguments["to"], arguments["subject"], arguments["body"])
        self._db.execute("INSERT INTO outbox (recipient, subject, body) VALUES (?, ?, ?)", values)
        return {"sent": True}

    def _export(self, arguments: Json) -> Json:
        rows = self._all("SELECT * FROM customers WHERE segment = ? ORDER BY id", arguments["segment"])
        # The destination is only written down: the file stays in the CRM's own folder, under a name of its own.
        done = self._db.execute(
            "INSERT INTO exports (segment, destination, customers) VALUES (?, ?, ?)",
            (arguments["segment"], arguments["destination"], len(rows)),
        )
        file = self._folder / f"export-{done.lastrowid}.json"
        file.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        return {"exported": len(rows), "file": file.name}

    def _delete(self, arguments: Json) -> Json:
        found = self._all("DELETE FROM databases WHERE name = ? RETURNING name, entries", arguments["name"])
        if not found:
            raise CrmError("there is no database with this name")
        return {"deleted": found[0]["name"], "entries": found[0]["entries"]}


def _checked(tool: str, arguments: Json) -> Json:
    schema = next((known.input_schema for known in TOOLS if known.name == tool), None)
    if schema is None:
        raise CrmError("there is no such tool")
    kinds: dict[str, type] = {"string": str, "integer": int}
    for name in schema["required"]:
        if name not in arguments:
            raise CrmError(f"{name} is missing")
    for name, value in arguments.items():
        kind = kinds[schema["properties"][name]["type"]] if name in schema["properties"] else None
        if kind is None or not isinstance(value, kind) or isinstance(value, bool):
            raise CrmError("an argument is unknown or of the wrong type")
    return arguments


def build(crm: Crm) -> Server[Any]:
    """The MCP server in front of a CRM."""

    async def list_tools(_ctx: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=TOOLS)

    async def call_tool(_ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        execution = (params.meta or {}).get(EXECUTION_ID)
        try:
            arguments = _checked(params.name, dict(params.arguments or {}))
            result = crm.call(params.name, arguments, execution if isinstance(execution, str) else None)
        except CrmError as error:
            return types.CallToolResult(content=[types.TextContent(text=str(error))], is_error=True)
        text = json.dumps(result, ensure_ascii=False, indent=2)
        structured = result if params.name == "get_customer" else None
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=structured)

    return Server(
        "demo-crm",
        version="1.0.0",
        instructions="A small CRM with invented customers.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _serve(database: Path, effects: Path | None) -> None:
    server = build(Crm(database, effects))
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def main() -> None:
    """Serve on stdio until the client goes."""
    parser = argparse.ArgumentParser(prog="python -m mcp_guard.demo.crm", description="The demo CRM as an MCP server.")
    parser.add_argument("--db", type=Path, required=True, metavar="PATH", help="SQLite file; made where it is missing")
    parser.add_argument("--effects", type=Path, metavar="PATH", help="also append each effect to this file")
    options = parser.parse_args()
    anyio.run(_serve, options.db.resolve(), options.effects)


if __name__ == "__main__":
    main()
