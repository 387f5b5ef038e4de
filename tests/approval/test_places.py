"""Folders as bounds of grants: how wide they may be, and what lies in them (docs/grants.md)."""

from __future__ import annotations

import pytest

from mcp_guard.approval.places import folder_of, inside, place_of, same_place


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("/srv/work/a.txt", "/srv/work"),
        ("/srv/work/", None),
        ("/a.txt", None),
        ("/etc/passwd", None),
        ("/home/alice/.bashrc", None),
        ("/home/alice/project/a", "/home/alice/project"),
        ("/Users/alice/a", None),
        ("C:\\work\\a.txt", "C:/work"),
        ("c:/work/a.txt", "C:/work"),
        ("C:\\a.txt", None),
        ("C:\\Users\\alice\\a.txt", None),
        ("C:\\work\\a.txt:stream", None),
        ("C:\\work.\\a.txt", None),
        ("C:work", None),
        ("/var/home/me/notes.txt", None),
        ("/var/home/me/work/notes.txt", "/var/home/me/work"),
        ("/mnt/c/Users/me/x", None),
        ("/mnt/c/x", None),
        ("/c/Users/me/x", None),
        ("/export/home/me/x", None),
        ("/System/Volumes/Data/Users/me/x", None),
        ("/System/Volumes/Data/x", None),
        ("/Volumes/Disk/x", None),
        ("/run/media/me/stick/x", None),
        ("/data/data/app/files/home/x", None),
        ("/srv/users/me/x", None),
        ("/proc/self/root/etc/x", None),
        ("/proc/self/cwd/x", None),
        ("/dev/fd/3", None),
        ("/sys/class/net/x", None),
        ("/home/me/.ssh/x", None),
        ("/srv/work/.git/config", None),
    ],
)
def test_a_folder_is_never_wider_than_a_project(path: str, folder: str | None) -> None:
    """docs/grants.md: the root, a folder right below it, a disk, a home folder wherever it lies, and .git."""
    assert folder_of(path) == folder


def test_what_lies_in_a_folder_on_windows() -> None:
    """Both slashes, the drive in any case."""
    assert inside("C:/work", "c:\\work\\a.txt")
    assert not inside("C:/work", "D:\\work\\a.txt")
    assert not inside("C:/work", "C:\\WORK\\a.txt")


def test_the_same_folder_is_spelled_alike_whatever_the_slashes() -> None:
    """What a link resolves to is compared with what the card says."""
    assert same_place("/srv//work/./notes", "/srv/work/notes")
    assert same_place("C:/work", "c:\\work")
    assert not same_place("/srv/work/notes", "/srv/work/Notes")
    assert not same_place("/srv/work/../work", "/srv/work/../work")


@pytest.mark.parametrize("host", ["ü" * 70 + ".example", "ü..example", "xn--\u0131.example"])
def test_a_name_that_has_no_ascii_form_leads_nowhere(host: str) -> None:
    """docs/grants.md: what is not understood does not fit, and a person is asked."""
    assert (place_of(f"https://{host}/"), place_of(f"jo@{host}"), place_of(host)) == (None, None, None)
