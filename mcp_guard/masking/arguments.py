"""The views of a call (decisions.md D11, D33): restore placeholders, mask by policy, mask for reviewers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from pydantic import JsonValue

from mcp_guard.config.schema import ArgumentMasking
from mcp_guard.errors import MaskingError
from mcp_guard.masking.apply import Extra, examine
from mcp_guard.masking.findings import Finding
from mcp_guard.masking.placeholders import find_tokens
from mcp_guard.masking.replace import Replacer, Verb, beside, exact_values
from mcp_guard.masking.rules import SECRET_TYPES
from mcp_guard.masking.walk import Leaf, flat, leaves, rebuild, text_size
from mcp_guard.model import (
    ArgumentFact,
    Call,
    JsonDict,
    MaskedJson,
    RawArguments,
    VaultEntry,
    Views,
)

MakeReplacer = Callable[[str, str, Verb, Verb], Replacer]
MAX_ARGUMENTS = 4 * 1024 * 1024
"""Characters of text in the arguments of one call; a line from the client holds no more (decisions.md D3)."""
_RAW_ROLES = frozenset({"recipient", "identifier", "content"})


class _Reader:
    """Goes over the leaves of the arguments: restores, then masks what the policy masks."""

    def __init__(
        self, call: Call, known: Mapping[str, VaultEntry], policy: ArgumentMasking, make: MakeReplacer
    ) -> None:
        self._call, self._known, self._policy = call, known, policy
        self.replacer = make(
            call.principal.key,
            call.target.server,
            "placeholder" if policy.secrets == "placeholder" else "off",
            "placeholder",
        )
        self.restored: dict[str, None] = {}
        self.refused: dict[str, None] = {}
        self.secrets: dict[str, None] = {}
        self.clean = True
        """Whether nothing at all was found."""

    def restore(self, leaf: Leaf) -> None:
        """Put back, in one pass, the placeholders that may stand here."""
        if not self._known:
            return
        parts: list[str] = []
        at = size = 0
        whole: VaultEntry | None = None
        for start, end, token in find_tokens(leaf.text):
            entry = self._known.get(token)
            if entry is None:
                continue
            if not self._may_restore(entry, leaf):
                self.refused[token] = None
                continue
            self.restored[token] = None
            parts += [leaf.text[at:start], entry.value]
            size += start - at
            leaf.kept += ((size, size + len(entry.value)),)
            size += len(entry.value)
            whole = entry if end - start == len(leaf.text) else None
            at = end
        if parts:
            leaf.text = "".join([*parts, leaf.text[at:]])
            number = whole is not None and whole.kind == "int" and leaf.role == "value"
            leaf.put(int(leaf.text) if number else leaf.text)

    def judge(self, leaf: Leaf, findings: list[Finding]) -> None:
        """Mask or note what is found in one leaf."""
        self.clean = False
        fresh = beside(leaf, findings, tokens=False)
        if self._policy.secrets == "ask":
            self.secrets.update(dict.fromkeys(f.type for f in fresh if f.type in SECRET_TYPES))
        raw = self._policy.pii == "allow" or (self._policy.pii == "by_manifest" and self._raw(leaf))
        wanted = [f for f in fresh if f.type in SECRET_TYPES or not raw]
        if wanted:
            self.replacer.apply(leaf, wanted)

    def _may_restore(self, entry: VaultEntry, leaf: Leaf) -> bool:
        if entry.scope != self._call.principal.key or self._call.target.server not in entry.servers:
            return False
        return entry.type not in SECRET_TYPES or self._role(leaf) == "content"

    def _role(self, leaf: Leaf) -> str | None:
        fact = fact_of(self._call.target.facts.arguments, leaf.pointer)
        return fact.role if fact else None

    def _raw(self, leaf: Leaf) -> bool:
        role = self._role(leaf)
        return role in _RAW_ROLES or (role is None and self._call.target.local)


def fact_of(facts: Mapping[str, ArgumentFact], pointer: str) -> ArgumentFact | None:
    """The fact for this place, or for the nearest place around it."""
    while pointer:
        if pointer in facts:
            return facts[pointer]
        pointer = pointer.rpartition("/")[0]
    return None


def derive(call: Call, known: Mapping[str, VaultEntry], policy: ArgumentMasking, make: MakeReplacer) -> Views:
    """Step 1 of the line. See `MaskingPort.derive`.

    Raises:
        MaskingError: more than 4 MiB of text. One call of this function does not yield, so its input is bounded.
    """
    given = call.arguments.value
    if text_size(given, limit=MAX_ARGUMENTS, mcp=False) > MAX_ARGUMENTS:
        raise MaskingError("the arguments hold more than 4 MiB of text; the call was not forwarded")
    reader = _Reader(call, known, policy, make)
    found = _leaves(given, call, reader.restore)
    for _ in examine(flat(found), reader.judge, reader.replacer.extra):
        pass
    changed = reader.restored or reader.replacer.replaced
    real = cast("JsonDict", rebuild(given, found)) if changed else given
    shown = make(call.principal.key, call.target.server, "placeholder", "placeholder")
    masked: JsonValue = real
    if not reader.clean or reader.restored:
        values = {known[token].value: known[token].type for token in reader.restored}
        masked = _masked(real, call, shown, exact_values(values, "restored"))
    entries = {entry.token: entry for entry in (*reader.replacer.entries, *shown.entries)}
    return Views(
        for_downstream=RawArguments(real),
        for_reviewer=MaskedJson(_hidden(masked, real, call, shown)),
        for_log=MaskedJson(masked),
        notes=reader.replacer.notes,
        entries=tuple(entry for token, entry in entries.items() if token not in known),
        restored=tuple(reader.restored),
        refused=tuple(reader.refused),
        secrets=tuple(reader.secrets),
    )


def _leaves(arguments: JsonDict, call: Call, prepare: Callable[[Leaf], None] | None = None) -> list[Leaf]:
    facts = call.target.facts.arguments
    found = leaves(arguments, mcp=False)
    for leaf in flat(found):
        if prepare:
            prepare(leaf)
        fact = fact_of(facts, leaf.pointer) if facts else None
        if fact and fact.role == "secret" and leaf.role == "value":
            leaf.hint, leaf.name = "SECRET", "password"
    return found


def _masked(real: JsonDict, call: Call, shown: Replacer, restored: Extra) -> JsonValue:
    """What people and records see. What was restored is masked again even where no rule would find it there."""
    found = _leaves(real, call)
    for _ in examine(flat(found), shown.apply, [restored, *shown.extra]):
        pass
    return rebuild(real, found)


def _hidden(masked: JsonValue, real: JsonDict, call: Call, shown: Replacer) -> JsonValue:
    """The same less what the manifest keeps from reviewers."""
    facts = call.target.facts.arguments
    if all(fact.show not in ("hidden", "digest") for fact in facts.values()):
        return masked
    found = leaves(masked, mcp=False)
    originals = leaves(real, mcp=False)
    for leaf, original in zip(found, originals, strict=True):
        fact = fact_of(facts, leaf.pointer)
        if fact and leaf.role == "value" and fact.show in ("hidden", "digest"):
            leaf.inner = None
            leaf.put("[hidden]" if fact.show == "hidden" else f"[digest {shown.digest(original.text)}]")
    return rebuild(masked, found)
