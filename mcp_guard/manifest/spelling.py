"""How a text can spell a path: `~`, variables, percent-encoding, file URLs, words of a command line. Pure."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from pydantic import JsonValue

MAX_PATH = 4096
"""Characters. No system opens a longer path; only the words in such a text may be paths."""
_WORDS = re.compile(r"""[\s"'`=:,;|<>()\[\]{}&]+""")
"""What separates paths in a command line."""
_LIKE_PATH = re.compile(r"[/\\~$%]")
_CHANGES_FOLDER = frozenset({"cd", "pushd", "chdir", "-C"})
_MAY_MENTION = re.compile(r"[/\\~$%'\"]|cd|pushd|chdir|-C")
_MAX_TEXT = 64 * MAX_PATH
"""Characters of a text whose words are looked at."""
MAX_VEILED = 16 * MAX_PATH
"""Characters of an encoded text that is still read."""
_MAX_DECODED = 8
_MAX_LONG_DECODED = 3
MAX_JOINED = 64
"""Texts of one object that are tried together."""
_QUOTES = str.maketrans("", "", "'\"\\")
_EDGES = "".join(
    [
        *(chr(c) for c in (*range(0x21), *range(0x7F, 0xA1), 0xAD, 0x61C, 0x1680, 0x180E, *range(0x2000, 0x2010))),
        *(chr(c) for c in (*range(0x2028, 0x2030), *range(0x205F, 0x2070), 0x3000, 0xFEFF, *range(0xFFF9, 0xFFFC))),
        *"'\"`\u00b4\u2018\u2019\u201c\u201d\u00ab\u00bb",
    ]
)
"""What programs cut off at the ends of a text: blanks, line ends, marks without a width, quotes."""
_BEGINS_PATH = re.compile(r"(?:[/~.\\]|%(?:25)*(?:2[ef]|5c)|file:)", re.IGNORECASE)
_DRIVE = re.compile(r"/[A-Za-z]:/")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_BRACED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TILDE = re.compile(r"(?<![\w./-])~(?=/)")
_UNCHANGED = re.compile(r"/(?:\.?/)+")
_DROPPED = re.compile(r"(?<![^/\s=:,;|<>()\[\]{}&])(?!\.\.?/)[^/\s=:,;|<>()\[\]{}&]+/\.\./")
"""`x/../`"""


class Query(str):
    """A text of which the manifest says that it is looked for."""

    __slots__ = ()


class Vague(str):
    """A text of which nobody says whether it names something."""

    __slots__ = ()

    def says_place(self) -> bool:
        """Whether it is written as a path from the root or from home."""
        return self.strip()[:1] in {"/", "~"} and len(self.strip()) > 1


class Spellings:
    """Reads texts as the programs do that open files."""

    def __init__(self, home: Path, env: Mapping[str, str] | None = None) -> None:
        """Bind what names stand for.

        Args:
            home: What `~` stands for.
            env: For `$NAME`; default: HOME alone.
        """
        self._home = home
        self._env = {"HOME": str(home), "USERPROFILE": str(home)} if env is None else env

    def plain(self, text: str) -> str:
        """The text as the one path that it spells first."""
        path = _decoded(text)[-1].partition("\0")[0].strip(_EDGES)
        return self._expand(_of_file_url(path) if path[:5].lower() == "file:" else path)

    def whole(self, text: str) -> Iterator[str]:
        """The paths that a text may be read as from its beginning to its end, not resolved."""
        short = shortened(text)
        if short is None:
            return
        for form in _decoded(short):
            whole = form.partition("\0")[0]
            bare = form.strip(_EDGES)
            for path in (whole,) if bare == whole else (whole, bare.partition("\0")[0]):
                yield from self._forms(path)

    def _forms(self, path: str) -> Iterator[str]:
        if path[:5].lower() == "file:":
            path = _of_file_url(path)
        for start in (path, path[1:]) if path[:1] == "@" else (path,):
            if start:
                expanded = self._expand(start)
                yield expanded
                if "\\" in expanded:
                    yield expanded.replace("\\", "/")

    def in_words(self, text: str) -> Iterator[str]:
        """The paths in the words of a text, as a command line has them, not resolved."""
        # Only what looks like a path: every word would be a lookup.
        if "${" in text:
            text = _BRACED.sub(lambda m: self._env.get(m[1], m[0]), text[:_MAX_TEXT])
        yield from self._of_words(text, _WORDS.split(text[:_MAX_TEXT]))
        if len(text) <= MAX_PATH and any(c in text for c in "'\"\\"):
            bare = text.translate(_QUOTES)  # as a shell reads it
            yield from self._of_words(text, [bare, *_WORDS.split(bare)])

    def written_out(self, text: str) -> str:
        """A text for a search: with each `~` and variable in it expanded, and paths without what changes nothing."""
        text = _TILDE.sub(lambda _: str(self._home), text[:_MAX_TEXT].translate(_QUOTES))
        text = _UNCHANGED.sub("/", _VARIABLE.sub(lambda m: self._env.get(m[1], m[0]), text))
        for _ in range(_MAX_DECODED):
            shorter = _DROPPED.sub("", text)
            if shorter == text:
                break
            text = shorter
        return text

    def _of_words(self, text: str, words: list[str]) -> Iterator[str]:
        folder, left = "", 0
        for before, word in zip(["", *words], words, strict=False):
            if before in _CHANGES_FOLDER:
                folder, left = word, MAX_JOINED
            if not word or word == text:
                continue
            if folder and left > 0:
                left -= 1
                yield from self.whole(f"{folder}/{word}")
            if _LIKE_PATH.search(word):
                yield from self.whole(word)

    def _expand(self, path: str) -> str:
        if path == "~" or path.startswith(("~/", "~\\")):
            return str(self._home) + path[1:]
        if path.startswith("~"):
            return str(Path(self._home.parent, path[1:]))
        if "$" in path:
            return _VARIABLE.sub(lambda m: self._env.get(m[1], m[0]), path)
        return path


def fold(path: str) -> str:
    """A path for comparison."""
    # Everywhere, not only where the file system ignores case: a false alarm costs nothing here.
    same = path if path.isascii() else unicodedata.normalize("NFC", path)
    return same.casefold().replace("\\", "/").rstrip("/")


def _of_file_url(url: str) -> str:
    rest = url[5:].partition("?")[0].partition("#")[0]
    if rest.startswith("//"):
        rest = "/" + rest[2:].partition("/")[2]  # the host is empty, localhost, or not ours to tell
    return rest[1:] if _DRIVE.match(rest) else rest


def bare(text: str) -> str:
    """A text without blanks, marks that nobody sees, and quotes at its ends."""
    return text.strip(_EDGES)


def shortened(text: str) -> str | None:
    """A text that may be a path; a long one without what programs drop from paths. None where it stays too long."""
    if len(text) <= MAX_PATH:
        return text
    for again in range(_MAX_LONG_DECODED, -1, -1):
        text = _without_empty_parts(text.partition("\0")[0].strip(_EDGES))
        if len(text) <= MAX_PATH or "%" not in text:
            break
        if not again or len(text) > MAX_VEILED:
            return None
        text = unquote(text)
    if len(text) > MAX_PATH:
        text = os.path.normpath(text)  # the system opens nothing so long, but who drops `x/..` as text does
    return text if len(text) <= MAX_PATH else None


def is_veiled(text: str) -> bool:
    """Whether a text may be a path in an encoding that takes too long to read."""
    return len(text) > MAX_VEILED and "%" in text and _BEGINS_PATH.match(text) is not None and " " not in text


def may_mention(text: str) -> bool:
    """Whether words of it may be paths."""
    return _MAY_MENTION.search(text) is not None


def looks_like_path(text: str) -> bool:
    """Whether it does not only name something: it has a separator, or begins as paths do."""
    return text[:1] in {"~", "."} or "/" in text or "\\" in text


def _without_empty_parts(path: str) -> str:
    if path[:5].lower() == "file:":
        path = _of_file_url(path)
    if "\\" in path:
        path = path.replace("\\", "/")
    for empty in ("//", "/./"):
        while empty in path:
            path = path.replace(empty, "/")
    return path


def _decoded(text: str) -> list[str]:
    """The text, and what percent-decoding makes of it, again and again."""
    forms = [text]
    while "%" in forms[-1] and len(forms) <= _MAX_DECODED:
        once = unquote(forms[-1])
        if once == forms[-1]:
            break
        forms.append(once)
    return forms


def neighbours(value: JsonValue) -> Iterator[list[str]]:
    """For each object with several members: the short texts in it, also in lists of it. A bounded number of each."""
    pending: list[JsonValue] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
        elif isinstance(item, dict):
            pending += item.values()
            if len(item) > 1:
                texts = [text for part in item.values() for text in (part if isinstance(part, list) else [part])]
                yield [t for t in texts if isinstance(t, str) and 0 < len(t) <= MAX_PATH and "\n" not in t][:MAX_JOINED]


def texts_in(value: JsonValue) -> Iterator[str]:
    """All texts in a value, keys included."""
    pending: list[JsonValue] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            pending += item


def distinct(value: JsonValue) -> list[str]:
    """The same, each text once; one of another kind is another one."""
    return [text for _, text in dict.fromkeys((type(text), text) for text in texts_in(value))]
