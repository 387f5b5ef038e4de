"""Where paths end, at what cost."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import pytest

from mcp_guard.manifest.disk import Disk, SpentError, identity


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path.resolve()
    (folder / "real" / "deep").mkdir(parents=True)
    (folder / "link").symlink_to("real/deep")
    (folder / "absolute").symlink_to(folder / "real")
    (folder / "round").symlink_to("round")
    (folder / "self").symlink_to("/proc/self/cwd")
    return folder


def ends(disk: Disk, start: Path, path: str) -> list[str]:
    return [end.path for end in disk.ends(str(start), path)]


@pytest.mark.parametrize(
    "path",
    [
        "real", "link", "link/x", "link/../y", "absolute/deep/../z", "missing/a/../b", "round/a", ".", "../..",
        "real/./deep//", "/",
    ],
)  # fmt: skip
def test_paths_end_where_the_system_would_open_them(folder: Path, path: str) -> None:
    """decisions.md D32: after symlinks and `..`."""
    assert ends(Disk("/"), folder, path)[0] == os.path.realpath(folder / path)


def test_a_link_before_dots_is_also_dropped_as_text_is(folder: Path) -> None:
    """docs/limits.md, "The guard's own files": Node resolves `link/..` as text, the kernel goes through the link."""
    assert ends(Disk("/"), folder, "link/../x") == [f"{folder}/real/x", f"{folder}/x"]


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("/proc/self/cwd/a", "/srv/own/a"),
        ("/proc/thread-self/cwd/a", "/srv/own/a"),
        ("/proc/self/task/7/cwd/a", "/srv/own/a"),
        ("/proc/self/root/etc", "/etc"),
        ("/proc/4194999/cwd/a", "/srv/own/a"),
        ("/proc/1/root/x", "/x"),
        ("self/a", "/srv/own/a"),
        ("/proc/self/../self/cwd", "/srv/own"),
    ],
)
def test_the_links_of_a_process_are_those_of_the_server(folder: Path, path: str, end: str) -> None:
    """docs/limits.md, "The guard's own files": the guard has another working directory."""
    assert ends(Disk("/srv/own"), folder, path)[0] == end


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_working_directory_of_another_process_is_its_own() -> None:
    """docs/limits.md, "The guard's own files": the number of a process names one, as for the server."""
    assert ends(Disk("/srv/own"), Path("/"), f"/proc/{os.getpid()}/cwd/a")[0] == f"{Path.cwd()}/a"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/fd")
def test_what_lies_behind_an_open_file_of_the_server_nobody_can_say(folder: Path) -> None:
    """docs/limits.md, "The guard's own files": it may be the folder of the configuration; standard output is none."""
    disk = Disk("/srv/own")
    assert [end.marked for end in disk.ends(str(folder), "/dev/fd/5/guard.yaml")] == [True]
    assert [end.marked for end in disk.ends(str(folder), "/proc/self/fd/5/x")] == [True]
    for harmless in ("/dev/stdout", "/dev/fd/1", "/dev/null", "/proc/self/status"):
        assert not any(end.marked for end in disk.ends(str(folder), harmless)), harmless
    assert ends(disk, folder, "/dev/fd/../cwd/a")[0] == "/srv/own/a"


def test_a_marked_folder_is_known_under_another_name_and_from_inside(folder: Path) -> None:
    """Threat S38: moved, bound, or linked hard."""
    mark = identity(str(folder / "real"))
    assert mark is not None
    (folder / "real").rename(folder / "else")
    disk = Disk("/", {mark})
    assert [end.marked for end in disk.ends(str(folder), "else/deep/new")] == [True]
    assert [end.marked for end in disk.ends(str(folder), "else/../x")] == [False, False]


def test_each_part_is_looked_at_once_and_no_more_than_a_call_may_cost(folder: Path) -> None:
    """CONTRIBUTING.md, habit 9: bounded; docs/limits.md."""
    disk = Disk("/")
    for number in range(500):
        assert ends(disk, folder, f"missing/{number}") == [f"{folder}/missing/{number}"]
    with pytest.raises(SpentError):
        list(itertools.chain.from_iterable(disk.ends(str(folder), f"a/{number}") for number in range(100_000)))


def test_what_is_only_mentioned_has_a_budget_of_its_own(folder: Path) -> None:
    """docs/limits.md: a long list of files must not use up what the paths of the call need."""
    disk = Disk("/")

    def spends(_text: str) -> bool:
        disk.spend(1_000_000)
        return True

    assert disk.look_through(["a", "b" * 5000], spends) == (False, ["a", "b" * 5000])
    assert ends(disk, folder, "link") == [f"{folder}/real/deep"]


def test_no_short_text_takes_what_the_next_one_needs(folder: Path) -> None:
    """docs/limits.md: a list of paths in one argument must not hide a command in another."""
    disk = Disk("/")

    def found(text: str) -> bool:
        disk.spend(1_000_000 if text == "long list" else 10)
        return text == "a command that comes later"

    assert disk.look_through(["a command that comes later", "long list"], found) == (True, [])


def test_the_names_in_a_folder_are_read_unless_there_are_too_many(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/limits.md: "Many paths"."""
    assert Disk("/").names(str(folder)) == frozenset({"real", "link", "absolute", "round", "self"})
    assert Disk("/").names(f"{folder}/none") == frozenset()
    assert Disk("/").names("/proc") is None
    assert Disk("/").names("\0") is None
    monkeypatch.setattr("mcp_guard.manifest.disk._MAX_NAMES", 4)
    assert Disk("/").names(str(folder)) is None


@pytest.mark.parametrize(
    "path", [r"\\host\share\a", "//host/share/a", r"\\?\UNC\host\share\a", r"\\.\UNC\host\share\a"]
)
def test_on_windows_nothing_on_another_machine_is_touched(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/limits.md, "The guard's own files": a look at it would send the user's credentials there."""
    touched: list[str] = []
    disk = Disk("C:\\", windows=True)
    with monkeypatch.context() as watched:
        watched.setattr(os.path, "realpath", touched.append)
        watched.setattr(os.path, "isdir", touched.append)
        watched.setattr(os.path, "lexists", touched.append)
        found = list(disk.ends("C:\\", path))
        assert not disk.holds(found[0].path, "HEAD")
    assert touched == []
    assert "host" in found[0].folded


@pytest.mark.parametrize("name", ["guard.yaml::$DATA", "guard.yaml:x", "guard.yaml.", "guard.yaml. .", "GUARD.yaml "])
def test_on_windows_a_part_of_a_file_and_dots_at_its_end_are_the_file(name: str, folder: Path) -> None:
    """docs/limits.md, "The guard's own files": `::$DATA` is the content of a file."""
    found = next(Disk("/", windows=True).ends(str(folder), f"{folder}/{name}"))
    assert found.folded == f"{folder}/guard.yaml".casefold()


def test_on_windows_a_device_name_and_an_own_share_are_local_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/limits.md, "The guard's own files": other spellings of `C:`."""
    monkeypatch.setattr(os.path, "realpath", lambda path: path)  # of another system
    disk = Disk("C:\\", windows=True)
    for spelled in (r"\\?\C:\a\b", r"\\.\C:\a\b", r"\\me\C$\a\b"):
        assert next(disk.ends("C:\\", spelled)).folded == "c:/a/b", spelled


def test_on_windows_a_marked_folder_is_known_and_what_it_holds(folder: Path) -> None:
    """Threat S38: as elsewhere, by its identity."""
    mark = identity(str(folder / "real"))
    assert mark is not None
    disk = Disk("/", {mark}, windows=True)
    for path, marked in ((f"{folder}/real/deep", True), (f"{folder}/else", False), (f"{folder}/none\0", False)):
        assert next(disk.ends(str(folder), path)).marked is marked, path
