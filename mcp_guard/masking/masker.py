"""`Masker`: the masking engine behind `mcp_guard.ports.MaskingPort`.

Masking is pure: it returns the new vault entries and the pipeline stores them before the value leaves.
Whatever goes wrong inside becomes a MaskingError with constant text, so nothing passes unmasked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial

import anyio
import anyio.lowlevel
import anyio.to_thread
from pydantic import JsonValue

from mcp_guard.config.schema import MaskingConfig
from mcp_guard.errors import MaskingError
from mcp_guard.masking.apply import examine
from mcp_guard.masking.arguments import derive
from mcp_guard.masking.definitions import CannotHideError, DefinitionMasker, relax_schema
from mcp_guard.masking.placeholders import Tagger, find_tokens
from mcp_guard.masking.replace import Replacer, Verb, exact_values
from mcp_guard.masking.rules import SECRET, SECRET_TYPES
from mcp_guard.masking.walk import flat, leaves, rebuild, text_size
from mcp_guard.model import Call, JsonDict, Masked, MaskedText, MaskNote, VaultEntry, Views

MAX_TEXT = 16 * 1024 * 1024
"""Characters of text in one value; above, the value is withheld (decisions.md D3)."""
WORKER_TEXT = 256 * 1024
"""Characters of text from which a worker thread masks."""
MAX_LINE = 256 * 1024
"""Characters of one text for logs, progress or a definition; `text` does not yield, so more is not looked at."""
_TAGGERS = 256
"""Scopes whose derived keys are kept."""
_NAMES = 4096
"""Names of definitions whose judgement is kept."""
_UNMASKABLE = MaskedText("[MASKED:error]")


class Masker:
    """Masks results, arguments, definitions and text by one configuration and one key of 32 bytes."""

    def __init__(self, config: MaskingConfig, key: bytes, *, secrets: Sequence[str] = ()) -> None:
        """Bind a configuration.

        Args:
            config: The `masking` block.
            key: 32 bytes; placeholders hang on it.
            secrets: Exact values that are masked wherever they occur: the references that the configuration resolved.
        """
        self._config = config
        self._tagger = lru_cache(maxsize=_TAGGERS)(partial(Tagger, key))
        self._allowed = frozenset(config.allow)
        self._extra = [exact_values(dict.fromkeys(secrets, SECRET), "configured")] if secrets else []
        if config.detectors:
            from mcp_guard.masking.scrub import load_detectors

            self._extra += load_detectors(config.detectors)

        # Cached: definitions repeat a few names.
        self._definitions = DefinitionMasker(
            self._part, shown=lru_cache(maxsize=_NAMES)(self._shown), shown_uri=self._shown_uri
        )

    def __repr__(self) -> str:
        return "Masker(…)"

    def tokens_in(self, value: JsonValue) -> frozenset[str]:
        """See `MaskingPort`."""
        with_text = flat(leaves(value, mcp=False))
        return frozenset(token for leaf in with_text for _, _, token in find_tokens(leaf.text))

    def derive(self, call: Call, known: Mapping[str, VaultEntry]) -> Views:
        """See `MaskingPort`."""
        try:
            return derive(call, known, self._config.arguments, self._replacer)
        except MaskingError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever broke, nothing is forwarded, no argument is told (F18)
            raise MaskingError("the arguments could not be masked; the call was not forwarded", cause=error) from None

    async def mask(self, value: JsonValue, *, scope: str, server: str) -> Masked:
        """See `MaskingPort`."""
        size = text_size(value, limit=MAX_TEXT)
        if size > MAX_TEXT:
            raise MaskingError(
                "the answer holds more than 16 MiB of text; it is withheld", hint="ask the tool for less at a time"
            )
        replacer = self._replacer(scope, server, self._config.results.secrets, self._config.results.pii)
        try:
            if size > WORKER_TEXT:
                return await anyio.to_thread.run_sync(_run, replacer, value)
            made: list[JsonValue] = []
            for _ in _steps(replacer, value, made):
                await anyio.lowlevel.checkpoint()
            return replacer.masked(made[0])
        except Exception as error:  # noqa: BLE001 - whatever broke, the unmasked value and its traces stay here (F18)
            raise MaskingError("the answer could not be masked; it is withheld", cause=error) from None

    def text(self, text: str) -> MaskedText:
        """See `MaskingPort`. Where masking fails, or above MAX_LINE, the whole text is replaced (security.md F18)."""
        if len(text) > MAX_LINE:
            return _UNMASKABLE
        try:
            return MaskedText(str(_run(self._replacer("", "", "remove", "remove"), text).json.value))
        except Exception:  # noqa: BLE001 - logs must go on, and what could not be masked must not be in them (F18)
            return _UNMASKABLE

    def announce(self, notes: tuple[MaskNote, ...]) -> str:
        """See `MaskingPort`. One line for the model; which rule found what stands in the notes of `_meta`."""
        if not notes or not self._config.announce:
            return ""
        counts: Counter[str] = Counter()
        for note in notes:
            counts[note.type] += note.count
        kinds = ", ".join(f"{kind} ×{count}" for kind, count in sorted(counts.items()))
        results, pii = self._config.results, not set(counts) <= SECRET_TYPES
        verbs = {results.secrets if kind in SECRET_TYPES else results.pii for kind in counts}
        kept = " (placeholders; the guard restores them where allowed)" if "placeholder" in verbs else ""
        off = "masking.results.pii: off" if pii else "masking.allow, for single values"
        return f"[mcp-guard] masked {counts.total()}: {kinds}{kept}. Off: {off}"

    def definition(self, value: JsonDict) -> JsonDict:
        """Mask a tool, prompt or resource definition irreversibly; names, addresses and schemas keep working.

        Raises:
            MaskingError: a name or address that must stay as it is holds something to be masked, or the engine failed.
                The definition must not be shown then.
        """
        try:
            return self._definitions.definition(value)
        except CannotHideError:
            raise MaskingError("a definition holds in a name what must not be shown; it is not offered") from None
        except Exception:  # noqa: BLE001 - whatever broke, nothing unmasked is shown (F18)
            raise MaskingError("a definition could not be masked; it is not offered") from None

    def _part(self, value: JsonValue) -> JsonValue:
        """A part of a definition, masked irreversibly. A text that is too long for one go is replaced."""
        if isinstance(value, str):
            return str(self.text(value))
        if text_size(value, limit=MAX_LINE, mcp=False) > MAX_LINE:
            return str(_UNMASKABLE)
        return _run(self._replacer("", "", "remove", "remove"), value, mcp=False).json.value

    def _shown(self, text: str) -> bool:
        return self.text(text) == text

    def _shown_uri(self, uri: str) -> bool:
        return len(uri) <= MAX_LINE and _run(self._replacer("", "", "remove", "off"), uri).json.value == uri

    def relax_schema(self, schema: JsonDict) -> JsonDict:
        """The output schema that a client is shown, so that placeholders fit it (decisions.md D12)."""
        return relax_schema(schema)

    def _replacer(self, scope: str, server: str, secrets: Verb, pii: Verb) -> Replacer:
        return Replacer(self._tagger, scope, server, secrets=secrets, pii=pii, allowed=self._allowed, extra=self._extra)


def _steps(replacer: Replacer, value: JsonValue, made: list[JsonValue], *, mcp: bool = True) -> Iterator[None]:
    found = leaves(value, mcp=mcp)
    yield from examine(flat(found), replacer.apply, replacer.extra)
    made.append(rebuild(value, found) if replacer.replaced else value)


def _run(replacer: Replacer, value: JsonValue, *, mcp: bool = True) -> Masked:
    made: list[JsonValue] = []
    for _ in _steps(replacer, value, made, mcp=mcp):
        pass
    return replacer.masked(made[0])
