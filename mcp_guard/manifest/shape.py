"""What the input schema of a tool gives away of what the tool does; for `propose`. Pure, and bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from mcp_guard.manifest.words import Looks, of_argument, of_name, tokens, word_set
from mcp_guard.model import JsonDict

MAX_NODES: Final = 4000
"""Objects and lists of a schema that are looked at; a larger schema is unclear."""

_MAX_CHOICES: Final = 400

Sign = tuple[Looks, str]
"""What it looks like, and a sentence that says by what. The sentence holds no text of the server."""

_COMMANDS: Final = word_set(
    "command commands cmd shell bash script powershell javascript argv executable program shell_command command_line"
)
_MAYBE_CODE: Final = word_set("code source_code expression snippet function lambda formula")
_SQL: Final = word_set("sql statement statements sql_query cypher mutation")
_CHANGES: Final = word_set(
    "edits patch changes updates mutations deletions operations force overwrite replace dry_run confirm confirmed "
    "confirmation output_path output_file output_dir outfile save_path save_to save_as download_path target_path"
)
_ACTIONS: Final = word_set("action operation op verb method http_method command mode what do task")
_NEEDS_CHOICES: Final = _ACTIONS - {"mode", "what", "do", "task"}
_PATHS: Final = word_set("path file file_path filepath filename source src from_path")
_CONTENTS: Final = word_set(
    "content contents body text data markdown html new_text old_text file_text file_content file_contents"
)
_TO: Final = word_set("to recipient recipients cc bcc to_email channel channel_id")
_MESSAGES: Final = word_set("body message subject text content")
_MONEY: Final = word_set("amount price sum amount_cents amount_usd amount_eur")
_PAYEES: Final = word_set("recipient payee account to_account card iban wallet to_address")
_PAYLOADS: Final = word_set("body payload json form files post_data form_data data content")
_ADDRESSES: Final = word_set("url urls uri uris link links href webhook callback")
_PLACES: Final = word_set("endpoint host hostname")


@dataclass(frozen=True, slots=True)
class Argument:
    """One property of an input schema, at whatever depth."""

    name: str
    schema: JsonDict
    top: bool

    @property
    def key(self) -> str:
        """Its name as words joined by `_`."""
        return "_".join(tokens(self.name))

    @property
    def is_address(self) -> bool:
        """Whether it names something on a network."""
        return not _ADDRESSES.isdisjoint(tokens(self.name)[-1:]) or self.schema.get("format") in ("uri", "url", "iri")

    @property
    def is_flag(self) -> bool:
        """Whether it is on or off."""
        return self.schema.get("type") == "boolean"


def arguments(schema: JsonValue) -> tuple[list[Argument], bool]:
    """All properties of a schema, those of nested objects too, and whether the whole schema could be looked at."""
    found: list[Argument] = []
    pending: list[tuple[JsonValue, bool]] = [(schema, True)]
    for _ in range(MAX_NODES):
        if not pending:
            return found, True
        node, top = pending.pop()
        if isinstance(node, list):
            pending += [(item, False) for item in node]
        elif isinstance(node, dict):
            properties = node.get("properties")
            for name, inner in properties.items() if isinstance(properties, dict) else ():
                found.append(Argument(name, inner if isinstance(inner, dict) else {}, top))
                pending.append((inner, False))
            pending += [(value, False) for key, value in node.items() if key != "properties"]
    return found, False


def signs(schema: JsonValue, *, converts: bool = False, looks_for: bool = False) -> Iterator[Sign]:
    """Everything in a schema that speaks of change, or that keeps one from telling.

    Args:
        schema: Of the arguments.
        converts: Whether the name of the tool speaks of converting, so that an amount and `to` are no payment.
        looks_for: Whether it speaks of searching, so that a text beside a path is what is looked for there.
    """
    found, whole = arguments(schema)
    if not whole or not isinstance(schema, dict) or not _says_its_arguments(schema, found):
        yield Looks.UNCLEAR, "Its schema does not say what arguments it takes."
    for argument in found:
        yield from _of_one(argument)
    keys = {argument.key for argument in found}
    yield from _of_all(keys - {"text"} if looks_for else keys, found)
    if keys & _MONEY and "to" in keys and not converts:
        yield Looks.SPEND, "It takes an amount and somebody to pay."


def _says_its_arguments(schema: JsonDict, found: list[Argument]) -> bool:
    if schema.get("type") != "object" or "patternProperties" in schema:
        return False
    if not found and schema.get("additionalProperties") not in (None, False):
        return False
    return not any(isinstance(ref, str) and not ref.startswith("#") for ref in _references(schema))


def _references(schema: JsonDict) -> Iterator[JsonValue]:
    pending: list[JsonValue] = [schema]
    for _ in range(MAX_NODES):
        if not pending:
            return
        node = pending.pop()
        if isinstance(node, dict):
            pending += node.values()
            yield from (node[key] for key in ("$ref", "$dynamicRef") if key in node)
        elif isinstance(node, list):
            pending += node


def _of_one(argument: Argument) -> Iterator[Sign]:
    key, choices = argument.key, list(_choices(argument.schema))
    if not argument.name.isascii():
        yield Looks.UNCLEAR, "An argument has a name with letters that look like others."
    if key in _ACTIONS and not argument.is_flag:
        yield from _of_action(key, choices)
    elif key in _COMMANDS:
        yield Looks.EXECUTE, f"It takes an argument named {key}."
    elif (order := of_argument(tokens(argument.name))) is not None:
        yield order[0], f'The name of an argument says "{order[1]}".'
    if key in _MAYBE_CODE:
        yield Looks.UNCLEAR, f"It takes an argument named {key}, which it may run."
    if key in _SQL:
        yield Looks.STATEMENT, f"It takes an argument named {key}: a statement may do anything."
    yield from _of_use(argument, key)
    for choice in choices:
        order = of_argument(tokens(choice), base=key in _ACTIONS)
        if order is not None:
            yield order[0], f"One choice for an argument is to {order[1]}."


def _of_use(argument: Argument, key: str) -> Iterator[Sign]:
    if key in _CHANGES or (key.startswith("new_") and not argument.is_flag):
        yield Looks.CHANGE, "It takes an argument that only a tool that changes things needs."
    elif argument.is_flag and (name := of_name(tokens(argument.name)[:1])) is not None:
        yield name[0], f"It can be told to {name[1]}."
    if key.endswith(("webhook", "callback", "webhook_url", "callback_url")):
        yield Looks.SEND, "It takes an address to which something is sent."
    elif argument.is_address:
        yield Looks.WEB, "It goes to an address that the agent chooses, and what stands in the address is sent there."


def _choices(schema: JsonDict) -> Iterator[str]:
    """All texts that a schema allows by name, however it lists them; not those of properties inside of it."""
    pending: list[JsonValue] = [schema]
    for _ in range(_MAX_CHOICES):
        if not pending:
            return
        node = pending.pop()
        if isinstance(node, dict):
            pending += [value for key, value in node.items() if key not in ("properties", "description", "title")]
            given = node.get("enum")
            listed = [*given] if isinstance(given, list) else []
            yield from (item for item in (*listed, node.get("const")) if isinstance(item, str))
        elif isinstance(node, list):
            pending += node


def _of_action(key: str, choices: list[str]) -> Iterator[Sign]:
    if not choices and key == "command":
        yield Looks.EXECUTE, "It takes an argument named command."
    elif not choices and key in _NEEDS_CHOICES:
        yield Looks.UNCLEAR, f"What it does depends on an argument named {key}."


def _of_all(keys: set[str], found: list[Argument]) -> Iterator[Sign]:
    if keys & _PATHS and (keys & _CONTENTS or keys & {"destination", "dest"}):
        yield Looks.CHANGE, "It takes a path, and something to put there."
    if keys & _TO and keys & _MESSAGES:
        yield Looks.SEND, "It takes a recipient and a message."
    if keys & _MONEY and keys & _PAYEES:
        yield Looks.SPEND, "It takes an amount and somebody to pay."
    if keys & _PAYLOADS and (keys & _PLACES or any(argument.is_address for argument in found)):
        yield Looks.SEND, "It takes an address and something to send there."
