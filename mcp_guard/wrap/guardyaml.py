"""Add servers to a guard.yaml that people wrote, as text: their comments, order and spelling stay."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from mcp_guard.config.document import parse_document
from mcp_guard.config.schema import GuardConfig
from mcp_guard.errors import ConfigError

_BLOCKS = ("servers", "mcpServers")


def add_servers(text: str, servers: Mapping[str, dict[str, Any]], file: str) -> str:
    """The text with these servers added.

    Args:
        text: A valid guard.yaml (or guard.json).
        servers: None of them is in it.
        file: Its name, for messages.

    Raises:
        ConfigError: it is written in a way in which nothing can be added without touching the rest.
    """
    if not servers:
        return text
    before = parse_document(text, file).data
    data: dict[str, Any] = dict(before) if isinstance(before, dict) else {}
    block = next((name for name in _BLOCKS if name in data), "servers")
    data[block] = {**(data.get(block) or {}), **servers}
    newline = "\r\n" if "\r\n" in text else "\n"
    added = _add(text.replace("\r\n", "\n"), block, servers).replace("\n", newline)
    try:
        GuardConfig.model_validate({("servers" if key == "mcpServers" else key): v for key, v in data.items()})
        same = parse_document(added, file).data == data
    except ValidationError:
        same = False
    if not same:
        raise ConfigError(
            f"{file} is written in a way in which no server can be added without touching the rest",
            hint="nothing was changed; write `servers:` as a block, each server on lines of its own",
        )
    return added


def checked_text(text: str, servers: Mapping[str, dict[str, Any]], file: str) -> str:
    """The text of a new guard.yaml, if it reads back as these servers.

    Raises:
        ConfigError: it does not.
    """
    data = parse_document(text, file).data
    try:
        read = GuardConfig.model_validate(data).servers
        same = isinstance(data, dict) and data["servers"] == servers and set(read) == set(servers)
    except ValidationError:
        same = False
    if not same:
        raise ConfigError(
            f"the servers cannot be written into {file}",
            hint="nothing was changed; wrap one host at a time to see whose servers these are",
        )
    return text


def _add(text: str, block: str, servers: Mapping[str, dict[str, Any]]) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    found = next(((key, value) for key, value in pairs if key.value == block), None)
    if found is None:
        return text.rstrip("\n") + "\n\n" + _block_text({block: dict(servers)}, 0)
    key, value = found
    if not isinstance(value, yaml.MappingNode):
        # `servers:` with nothing after it
        line = _end_of_line(text, key.end_mark.index)
        return text[:line] + "\n" + _block_text(servers, key.start_mark.column + 2).rstrip("\n") + text[line:]
    if value.flow_style:
        return _into_flow(text, value, servers, key)
    column = value.value[0][0].start_mark.column
    line = _end_of_line(text, _last_character(text, value))
    while own := re.compile(rf"\n {{{column + 1},}}#[^\n]*").match(text, line):
        line = own.end()  # comments that belong to the last server
    return text[:line] + "\n" + _block_text(servers, column).rstrip("\n") + text[line:]


def _into_flow(text: str, value: yaml.MappingNode, servers: Mapping[str, dict[str, Any]], key: yaml.Node) -> str:
    end = value.end_mark.index - 1
    if not value.value and '"' not in text[key.start_mark.index : key.end_mark.index]:
        start = value.start_mark.index
        lines = "\n" + _block_text(servers, key.start_mark.column + 2).rstrip("\n")
        rest = _end_of_line(text, end + 1)
        return text[:start].rstrip(" ") + text[end + 1 : rest] + lines + text[rest:]
    members = ", ".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in servers.items())
    head = text[:end].rstrip()
    comma = "" if head.endswith(("{", ",")) else ","
    return f"{head}{comma} {members}{text[len(head) : end]}{text[end:]}"


def _last_character(text: str, node: yaml.Node) -> int:
    """Where the text of a value ends, without the comments that the parser counts to it."""
    while isinstance(node, (yaml.MappingNode, yaml.SequenceNode)) and not node.flow_style and node.value:
        last = node.value[-1]
        inner = last[1] if isinstance(last, tuple) else last
        if isinstance(last, tuple) and inner.start_mark.index < last[0].end_mark.index:
            return int(last[0].end_mark.index)  # an alias: its node stands where the anchor is
        node = inner
    end = int(node.end_mark.index)
    return len(text[:end].rstrip())


def _end_of_line(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end


def _block_text(servers: Mapping[str, Any], column: int) -> str:
    text = yaml.safe_dump(dict(servers), sort_keys=False, allow_unicode=True, width=120)
    return re.sub(r"(?m)^(?=.)", " " * column, str(text))
