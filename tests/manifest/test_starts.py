"""From which folders a server may read relative paths."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mcp_guard.manifest.spelling import Spellings
from mcp_guard.manifest.starts import Roots, Starts, folders_named, is_elsewhere


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("cwd/inner", "docs", "home/notes", "more"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "server.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["{base}/docs"], ["docs"]),
        (["-y", "server", "{base}/docs", "{base}/more/"], ["docs", "more"]),
        (["--root={base}/docs"], ["docs"]),
        (["--roots", "{base}/docs,{base}/more"], ["docs", "more"]),
        (["{base}/docs:{base}/more"], ["docs", "more"]),
        (['{{"allowed": ["{base}/docs"]}}'], ["docs"]),
        (["~/notes"], ["home/notes"]),
        (["--dir=~/notes"], ["home/notes"]),
        (["$HOME/notes"], ["home/notes"]),
        (["file://{base}/docs"], ["docs"]),
        (["inner", "../docs"], ["cwd/inner", "docs"]),
        (["{base}/later"], ["later"]),
        (["{base}/server.py", "--port=80", "word", "", "/", "https://host/a", "x=db://a:b@host/c"], []),
    ],
)
def test_the_folders_a_server_is_started_for_are_found_in_its_arguments(
    base: Path, texts: list[str], names: list[str]
) -> None:
    """docs/limits.md, "The guard's own files": server-filesystem reads relative paths against these."""
    given = [text.format(base=base) for text in texts]
    found = folders_named(given, base / "cwd", Spellings(base / "home"))
    assert set(found) == {str(base / name) for name in names}


def test_a_bounded_number_of_folders_counts(base: Path) -> None:
    """CONTRIBUTING.md, habit 9: bounded."""
    texts = [f"{base}/later/{number}" for number in range(100)]
    assert len(folders_named(texts, base, Spellings(base))) == 16


def test_roots_are_remembered_as_folders_also_after_the_client_changed_them() -> None:
    """docs/limits.md, "The guard's own files": a server that was told of a root may go on to use it."""
    roots = Roots()
    roots.note(["file:///work/a%20b", "https://example.com/x"])
    roots.note(["file:///work/c"])
    assert roots.folders == ("/work/c", "/work/a b")
    roots.note(f"file:///{number}" for number in range(1000))
    assert len(roots.folders) == 64


def test_a_relative_path_starts_in_the_own_folder_those_named_and_home() -> None:
    """docs/limits.md, "The guard's own files"."""
    roots = Roots()
    starts = Starts({"s": Path("/cwd")}, Path("/home/ann"), lambda _server: ("/docs", *roots.folders))
    assert starts.of("s", "a") == ("/cwd", "/docs", "/home/ann")
    assert starts.of("s", "/a") == ("/cwd",)
    roots.note(["file:///work"])
    assert starts.of("s", "a") == ("/cwd", "/docs", "/work", "/home/ann")
    assert starts.of("other", "a")[0] == str(Path.cwd())


@pytest.mark.parametrize(
    ("cwd", "path", "found"),
    [
        ("/", "users", ()),
        ("/", "./users", ()),
        ("/", "home/ann", ("/", "/home/ann")),
        ("/home/ann", "Library", ()),
        ("/home/ann", "./Library", ("/home/ann",)),
        ("/home/ann", ".config", ("/home/ann",)),
        ("/cwd", ".config", ("/cwd",)),
        ("/cwd", "..", ("/cwd", "/home/ann")),
    ],
)
def test_a_mere_word_names_no_folder_of_the_system_or_of_home(cwd: str, path: str, found: tuple[str, ...]) -> None:
    """docs/limits.md, "The guard's own files": a table called users is none."""
    starts = Starts({"s": Path(cwd)}, Path("/home/ann"))
    assert starts.of("s", path, changes=True) == found


@pytest.mark.parametrize(
    ("url", "elsewhere"),
    [
        ("https://api.db-host.com/mcp", True),
        ("https://1-2-3-4.db-host.com/mcp", True),
        ("https://db.example/mcp", False),
        ("http://nas.home/", False),
        ("http://devbox.corp:8080/", False),
        ("http://printer.fritz.box/", False),
        ("http://srv.company.intra/", False),
        ("http://x.test/", False),
        ("http://127.0.0.1.nip.io/", False),
        ("http://app.192-168-1-5.sslip.io/", False),
        ("http://7f000001.nip.io/", False),
        ("http://[64:ff9b::7f00:1]/", False),
        ("http://[64:ff9b::5db8:d822]/", True),
        ("http://[::ffff:93.184.216.34]/", True),
        ("http://[2606:4700::1111]/", True),
        ("https://93.184.216.34/mcp", True),
        ("http://localhost:1", False),
        ("http://127.0.0.2:1/", False),
        ("http://[::1]:1/", False),
        ("http://0.0.0.0:1/", False),
        ("http://192.168.1.5/", False),
        ("http://127.1/", False),
        ("http://0x7f.0.0.1/", False),
        ("http://[::ffff:127.0.0.1]/", False),
        ("http://mybox:8080/", False),
        ("http://mybox.local/", False),
        ("http://a.localhost./", False),
        ("http://[bad", False),
        ("${URL}.example/x", False),
    ],
)
def test_a_server_is_elsewhere_only_where_its_address_says_so(url: str, elsewhere: bool) -> None:  # noqa: FBT001
    """docs/limits.md, "The guard's own files": such a server opens no files of this machine."""
    assert is_elsewhere(url) is elsewhere


def test_a_name_with_that_of_this_machine_in_it_is_local() -> None:
    """docs/limits.md, "The guard's own files"."""
    assert not is_elsewhere(f"http://{socket.gethostname()}.db-host.com/")
