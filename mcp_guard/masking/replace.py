"""Turns findings into placeholders and keeps the notes and vault entries. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from pydantic import JsonValue

from mcp_guard.errors import MaskingError
from mcp_guard.masking.apply import Extra
from mcp_guard.masking.findings import Finding
from mcp_guard.masking.placeholders import Kind, Tagger, find_tokens
from mcp_guard.masking.rules import SECRET_TYPES
from mcp_guard.masking.validators import is_stop_value
from mcp_guard.masking.walk import Leaf
from mcp_guard.model import Masked, MaskedJson, MaskNote, VaultEntry

Verb = Literal["placeholder", "remove", "off"]
_CORE = re.compile(r"\w(?:.*\w)?", re.DOTALL)
"""Text without the signs around it."""


def beside(leaf: Leaf, findings: list[Finding], *, tokens: bool = True) -> list[Finding]:
    """Findings less what was restored in the leaf and, with `tokens`, less what is a placeholder already.

    What sticks out on either side of such a place is new text and stays a finding of its own.
    """
    spared = [*leaf.kept, *((start, end) for start, end, _ in find_tokens(leaf.text))] if tokens else [*leaf.kept]
    if not spared:
        return findings
    spared.sort()
    return [part for finding in findings for part in _remnants(leaf.text, finding, spared)]


def _remnants(text: str, finding: Finding, spared: list[tuple[int, int]]) -> Iterator[Finding]:
    crossed = [(start, end) for start, end in spared if start < finding.end and finding.start < end]
    if not crossed:
        yield finding
        return
    at = finding.start
    for start, end in [*crossed, (finding.end, finding.end)]:
        core = _CORE.search(text, at, max(at, start))
        if core and not is_stop_value(core[0]):  # `Bearer [SECRET_…]` has nothing more to hide
            yield finding._replace(start=core.start(), end=core.end())
        at = max(at, end)


class Replacer:
    """Replaces findings in the leaves of one value."""

    def __init__(
        self,
        tagger: Callable[[str], Tagger],
        scope: str,
        server: str,
        *,
        secrets: Verb,
        pii: Verb,
        allowed: frozenset[str] = frozenset(),
        extra: Sequence[Extra] = (),
    ) -> None:
        self._tagger = tagger
        self._scope, self._server = scope, server
        self._secrets, self._pii = secrets, pii
        self._allowed = allowed
        self.extra = extra
        self._entries: dict[str, VaultEntry] = {}
        self._notes: dict[tuple[str, str], int] = {}

    def verb(self, kind: str) -> Verb:
        """What is done with findings of this type."""
        return self._secrets if kind in SECRET_TYPES else self._pii

    def apply(self, leaf: Leaf, findings: list[Finding]) -> None:
        """Replace in one leaf what is found there, less what was restored, allowed or is a placeholder already."""
        wanted = [f for f in beside(leaf, findings) if self._wanted(leaf, f)]
        if not wanted:
            return
        whole = len(wanted) == 1 and wanted[0].end - wanted[0].start == len(leaf.text)
        json_type: Kind = "int" if whole and isinstance(leaf.number, int) else "str"
        parts, at = [], 0
        for finding in wanted:
            parts += [leaf.text[at : finding.start], self._shown(leaf, finding, json_type)]
            at = finding.end
        leaf.put("".join([*parts, leaf.text[at:]]))

    def masked(self, value: JsonValue) -> Masked:
        """The masked value with everything that was noted."""
        return Masked(MaskedJson(value), self.notes, self.entries)

    @property
    def notes(self) -> tuple[MaskNote, ...]:
        """What was masked, by type and rule."""
        return tuple(MaskNote(kind, count, rule) for (kind, rule), count in sorted(self._notes.items()))

    @property
    def replaced(self) -> bool:
        """Whether anything was."""
        return bool(self._notes)

    @property
    def entries(self) -> tuple[VaultEntry, ...]:
        """What the placeholders stand for."""
        return tuple(self._entries.values())

    def digest(self, value: str) -> str:
        """A name for a value that is not shown."""
        return self._tagger(self._scope).digest(value)

    def _wanted(self, leaf: Leaf, finding: Finding) -> bool:
        return self.verb(finding.type) != "off" and leaf.text[finding.start : finding.end] not in self._allowed

    def _shown(self, leaf: Leaf, finding: Finding, json_type: Kind) -> str:
        kind = (finding.type, finding.rule)
        self._notes[kind] = self._notes.get(kind, 0) + 1
        if self.verb(finding.type) == "remove":
            return f"[{finding.type}]"
        value = leaf.text[finding.start : finding.end]
        token = self._tagger(self._scope).token(finding.type, value, json_type)
        entry = VaultEntry(self._scope, token, finding.type, value, self._server, json_type)
        if self._entries.setdefault(token, entry).value != value:
            raise MaskingError("two values share one placeholder; the value is withheld")
        return token if leaf.role == "uri" else f"[{token}]"


def exact_values(values: Mapping[str, str], rule: str) -> Extra:
    """A detector for values that are known, whatever they look like: value -> type."""

    def detect(text: str) -> list[Finding]:
        found = []
        for value, kind in values.items():
            at = text.find(value) if value else -1
            while at >= 0:
                found.append(Finding(at, at + len(value), kind, rule))
                at = text.find(value, at + len(value))
        return found

    return detect
