"""Cutting a byte stream into lines, linear in their length and bounded in memory (threat S4, fault F4)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TooLong:
    """Stands for a line above the limit. Its content is gone."""

    length: int
    """Bytes without the newline."""


class LineCutter:
    """Collects chunks in a list and joins them once per line; `buffer + chunk` would be quadratic.

    A line above `limit` bytes is dropped as it arrives; the stream goes on at the next newline.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes | TooLong]:
        """Add a chunk and return the lines that it completed, without newline and trailing carriage return."""
        first, *rest = data.split(b"\n")
        self._add(first)
        lines: list[bytes | TooLong] = []
        for piece in rest:
            lines.append(self._take())
            self._add(piece)
        return lines

    @property
    def unfinished(self) -> int:
        """Bytes of the line that has not ended yet, kept or not."""
        return self._size

    def finish(self) -> list[bytes | TooLong]:
        """The unfinished last line at the end of the stream, if there is one."""
        return [self._take()] if self._size else []

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            self._chunks.clear()
        elif piece:
            self._chunks.append(piece)

    def _take(self) -> bytes | TooLong:
        size, chunks = self._size, self._chunks
        self._size, self._chunks = 0, []
        if size > self._limit:
            return TooLong(size)
        line = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return line.removesuffix(b"\r")
