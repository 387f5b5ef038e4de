"""What a server announced of its lists, and how much of that was read since (docs/limits.md; security.md S22)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from mcp_guard.model import CallKind

ListKind = Literal["tools", "resources", "prompts"]
"""As servers announce them: templates are among the resources."""

ALL: Final[tuple[ListKind, ...]] = ("tools", "resources", "prompts")

CONCERNED: Final[Mapping[CallKind, tuple[ListKind, ...]]] = {
    CallKind.TOOL: ("tools",),
    CallKind.RESOURCE: ("resources",),
    CallKind.PROMPT: ("prompts",),
    CallKind.COMPLETION: ("resources", "prompts"),
}
"""The lists that say what a call reaches: a change of any other is no reason for it to wait."""


class Announced:
    """Counts by kind. Not thread-safe."""

    def __init__(self) -> None:
        self._said = dict.fromkeys(ALL, 0)
        self._read = dict.fromkeys(ALL, 0)
        self._at = dict.fromkeys(ALL, float("-inf"))

    def add(self, kinds: Iterable[ListKind] = ALL) -> None:
        """The server said that these lists changed, or they could not be read."""
        for kind in kinds:
            self._said[kind] += 1

    def so_far(self) -> dict[ListKind, int]:
        """A mark: everything that was announced until now."""
        return dict(self._said)

    def unread(
        self,
        kinds: Iterable[ListKind] = ALL,
        *,
        until: Mapping[ListKind, int] | None = None,
        before: float = float("-inf"),
    ) -> tuple[ListKind, ...]:
        """Those of `kinds` that are to be read again.

        Args:
            kinds: What is asked for.
            until: A mark; what was announced later does not count.
            before: Also those that were read no later than this.
        """
        until = self._said if until is None else until
        return tuple(kind for kind in kinds if self._read[kind] < until[kind] or self._at[kind] <= before)

    def took(self, kinds: Iterable[ListKind], mark: Mapping[ListKind, int], now: float) -> None:
        """These were read, and judged; the mark was made before."""
        for kind in kinds:
            self._read[kind], self._at[kind] = mark[kind], now
