"""How a text can spell a path: `~`, variables, percent-encoding, file URLs, words of a command line. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from pydantic import JsonValue

MAX_PATH = 4096
"""Characters. Longer text is no path; only the words in it are."""
_WORDS = re.compile(r"""[\s"'`=:,;|<>()\[\]{}&]+""")
"""What separates paths in a command line."""
_CHANGES_FOLDER = frozenset({"cd", "pushd", "chdir", "-C"})
_MAX_TEXT = 64 * MAX_PATH
"""Characters of a text whose words are looked at."""
_MAX_DECODED = 8
MAX_JOINED = 64
"""Texts of one object that are tried together."""
_UP = r"(?:/+(?:\.|[^/.][^/]*/+\.\.))*"
_PROCESS = re.compile(rf"/proc{_UP}/+(?:self|thread-self|\d+){_UP}(?:/+task/+\d+{_UP})?/+(?P<link>cwd|root)(?=/|$)")
_QUOTES = str.maketrans("", "", "'\"\\")
_DRIVE = re.compile(r"/[A-Za-z]:/")


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
        path = _decoded(text)[-1].partition("\0")[0]
        return self._expand(_of_file_url(path) if path[:5].lower() == "file:" else path)

    def of(self, text: str) -> Iterator[str]:
        """All paths that a text may be read as, not resolved."""
        if len(text) <= MAX_PATH:
            yield from self.whole(text)
        # Inside longer text (a command line) only what looks like a path: every word would be a lookup.
        yield from self._of_words(text, _WORDS.split(text[:_MAX_TEXT]))
        if len(text) <= MAX_PATH and any(c in text for c in "'\"\\"):
            bare = text.translate(_QUOTES)  # as a shell reads it
            yield from self._of_words(text, [bare, *_WORDS.split(bare)])

    def _of_words(self, text: str, words: list[str]) -> Iterator[str]:
        folder, left = "", 0
        for before, word in zip(["", *words], words, strict=False):
            if before in _CHANGES_FOLDER:
                folder, left = word, MAX_JOINED
            if word == text or not 0 < len(word) <= MAX_PATH:
                continue
            if folder and left > 0:
                left -= 1
                yield from self.whole(f"{folder}/{word}")
            if any(c in word for c in "/\\~$%"):
                yield from self.whole(word)

    def whole(self, text: str) -> Iterator[str]:
        """The paths that a text may be read as from its beginning to its end."""
        for form in _decoded(text):
            path = form.partition("\0")[0]
            if path[:5].lower() == "file:":
                path = _of_file_url(path)
            for start in (path, path[1:]) if path[:1] == "@" else (path,):
                if start:
                    expanded = self._expand(start)
                    yield expanded
                    if "\\" in expanded:
                        yield expanded.replace("\\", "/")

    def _expand(self, path: str) -> str:
        if path == "~" or path.startswith(("~/", "~\\")):
            return str(self._home) + path[1:]
        if path.startswith("~"):
            return str(Path(self._home.parent, path[1:]))
        if "$" in path:
            return re.sub(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?", lambda m: self._env.get(m[1], m[0]), path)
        return path


def fold(path: str) -> str:
    """A path for comparison."""
    # Everywhere, not only where the file system ignores case: a false alarm costs nothing here.
    return unicodedata.normalize("NFC", path).casefold().replace("\\", "/").rstrip("/")


def _of_file_url(url: str) -> str:
    rest = url[5:].partition("?")[0].partition("#")[0]
    if rest.startswith("//"):
        rest = "/" + rest[2:].partition("/")[2]  # the host is empty, localhost, or not ours to tell
    return rest[1:] if _DRIVE.match(rest) else rest


def of_process(path: str, cwd: Path) -> str:
    """A path through the links of a process, whichever it is, as the server would follow them from its own folder."""
    for _ in range(_MAX_DECODED):
        found = _PROCESS.search(path) if "proc" in path else None
        if found is None:
            break
        path = (str(cwd) if found["link"] == "cwd" else "") + path[found.end() :]
    return path or "/"


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
