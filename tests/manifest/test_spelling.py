"""How texts spell paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_guard.manifest.spelling import MAX_PATH, Spellings, is_veiled, shortened

SPELLINGS = Spellings(Path("/home/ann"), {"HOME": "/home/ann", "NAME": "x"})


@pytest.mark.parametrize(
    "text",
    [
        " /a/b", "/a/b\n", "'/a/b'", '"/a/b"', "`/a/b`", "\u00a0/a/b\u3000",
        "\ufeff/a/b\u200b", "\u201c/a/b\u201d", '\t"/a/b" ',
    ],
)  # fmt: skip
def test_what_servers_cut_off_at_the_ends_of_a_path_is_read_with_and_without(text: str) -> None:
    """docs/limits.md, "The guard's own files": servers trim blanks, line ends, quotes and marks that nobody sees."""
    assert "/a/b" in set(SPELLINGS.whole(text))
    assert text in set(SPELLINGS.whole(text))
    assert SPELLINGS.plain(text) == "/a/b"


@pytest.mark.parametrize(
    "text",
    [
        "/a/" + "./" * 3000 + "b",
        "/" * 5000 + "a/b",
        "/a" + "/x/.." * 1000 + "/b",
        "/a/b" + "/" * 5000,
        "/a/b" + "/." * 5000,
        " " * 5000 + "/a/b",
        "/a/b\0" + "x" * 5000,
        "file:///" + "./" * 3000 + "a/b",
        "file://localhost/" + "./" * 3000 + "a/b",
        "file:///a/b?" + "x" * 5000,
        "/a" + "%2f%2e" * 1000 + "/b",
        "/a/" + ".%2f" * 1500 + "b",
        ".\\" * 3000 + "\\..\\..\\a\\b",
    ],
    ids=range(13),
)
def test_a_long_path_is_read_without_the_parts_that_change_nothing(text: str) -> None:
    """docs/limits.md, "The guard's own files": servers drop these parts before they open the path."""
    assert len(text) > MAX_PATH
    found = set(SPELLINGS.whole(text))
    assert {path.rstrip("/.") for path in found} & {"/a/b", "./../../a/b"}, found


@pytest.mark.parametrize("text", ["x" * 5000, "a b\n" * 5000, "/9j/4AAQ" * 5000, "/a/" * 5000], ids=range(4))
def test_a_text_that_stays_long_is_no_path(text: str) -> None:
    """No system opens a path of more than 4096 bytes: images and prose are no paths."""
    assert shortened(text) is None
    assert list(SPELLINGS.whole(text)) == []


def test_an_encoded_path_that_takes_too_long_to_read_is_known() -> None:
    """security.md F18: what cannot be judged is not let through, and an image in an address is no path."""
    assert is_veiled("/" + "%2e%2f" * 60_000)
    assert is_veiled("%252e%252f" * 60_000)
    assert not is_veiled("data:image/svg+xml,%3Csvg" + "%20" * 100_000)
    assert not is_veiled("/" + "%2e%2f" * 600)


def test_words_are_read_as_paths_where_they_look_like_one() -> None:
    """docs/limits.md, "The guard's own files": the words of a command line, with `cd` and quotes."""
    found = list(SPELLINGS.in_words("cd /a && cat b 'c d/e' $NAME/f %67 plain"))
    assert {"/a", "/a/b", "c", "d/e", "x/f", "g"} - {"c"} <= set(found)
    assert "plain" not in found
    assert "/a/b" in list(SPELLINGS.in_words(f"/x\n/a/{'./' * 3000}b\n"))
