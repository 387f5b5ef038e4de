"""Turns findings into placeholders and keeps the notes and vault entries. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

from pydantic import JsonValue

from mcp_guard.errors import MaskingError
from mcp_guard.masking.engine import Finding, resolve
from mcp_guard.masking.placeholders import Kind, Tagger, find_tokens
from mcp_guard.masking.rules import SECRET_TYPES
from mcp_guard.masking.walk import Leaf
from mcp_guard.model import Masked, MaskedJson, MaskNote, VaultEntry

Verb = Literal["placeholder", "remove", "off"]
Extra = Callable[[str], list[Finding]]


class Replacer:
    """Replaces findings in the leaves of one value."""

    def __init__(
        self,
        key: bytes,
        scope: str,
        server: str,
        *,
        secrets: Verb,
        pii: Verb,
        allowed: frozenset[str] = frozenset(),
        extra: list[Extra] | None = None,
    ) -> None:
        self._tagger = Tagger(key, scope)
        self._scope, self._server = scope, server
        self._secrets, self._pii = secrets, pii
        self._allowed = allowed
        self.extra = extra or []
        self._entries: dict[str, VaultEntry] = {}
        self._notes: Counter[tuple[str, str]] = Counter()

    def verb(self, kind: str) -> Verb:
        """What is done with findings of this type."""
        return self._secrets if kind in SECRET_TYPES else self._pii

    def apply(self, leaf: Leaf, findings: list[Finding]) -> None:
        """Replace in one leaf what is found there, less what was restored, allowed or is a placeholder already."""
        spared = [*leaf.kept, *((start, end) for start, end, _ in find_tokens(leaf.text))]
        wanted = [f for f in findings if self._wanted(leaf, f, spared)]
        if not wanted:
            return
        whole = len(wanted) == 1 and wanted[0].end - wanted[0].start == len(leaf.text)
        json_type: Kind = "int" if whole and isinstance(leaf.number, int) else "str"
        parts, at = [], 0
        for finding in wanted:
            parts += [leaf.text[at : finding.start], self._shown(leaf, finding, json_type)]
            at = finding.end
        leaf.put("".join([*parts, leaf.text[at:]]))

    def apply_extra(self, leaf: Leaf) -> None:
        """Run the detectors that the configuration names over a leaf that holds text."""
        if leaf.number is not None or leaf.role != "value":
            return
        text = str(leaf.new) if leaf.changed else leaf.text
        findings = resolve([f for detect in self.extra for f in detect(text)])
        if findings:
            fresh = Leaf(text)
            self.apply(fresh, findings)
            if fresh.changed:
                leaf.put(fresh.new)

    def masked(self, value: JsonValue) -> Masked:
        """The masked value with everything that was noted."""
        return Masked(MaskedJson(value), self.notes, self.entries)

    @property
    def notes(self) -> tuple[MaskNote, ...]:
        """What was masked, by type and rule."""
        return tuple(MaskNote(kind, count, rule) for (kind, rule), count in sorted(self._notes.items()))

    @property
    def entries(self) -> tuple[VaultEntry, ...]:
        """What the placeholders stand for."""
        return tuple(self._entries.values())

    def digest(self, value: str) -> str:
        """A name for a value that is not shown."""
        return self._tagger.digest(value)

    def _wanted(self, leaf: Leaf, finding: Finding, spared: list[tuple[int, int]]) -> bool:
        if self.verb(finding.type) == "off" or leaf.text[finding.start : finding.end] in self._allowed:
            return False
        return not any(start < finding.end and finding.start < end for start, end in spared)

    def _shown(self, leaf: Leaf, finding: Finding, json_type: Kind) -> str:
        self._notes[finding.type, finding.rule] += 1
        if self.verb(finding.type) == "remove":
            return f"[{finding.type}]"
        value = leaf.text[finding.start : finding.end]
        token = self._tagger.token(finding.type, value, json_type)
        entry = VaultEntry(self._scope, token, finding.type, value, self._server, json_type)
        if self._entries.setdefault(token, entry).value != value:
            raise MaskingError("two values share one placeholder; the value is withheld")
        return token if leaf.role == "uri" else f"[{token}]"
