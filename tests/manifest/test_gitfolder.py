"""Arguments that lead into a folder of git's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from mcp_guard.manifest.disk import SpentError
from mcp_guard.manifest.gitfolder import GitFolders


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A repository, another work tree of it, and a bare one."""
    home = (tmp_path / "home").resolve()
    for folder in ("repo/.git/hooks", "repo/src", "tree", "bare/objects", "bare/refs", "half/objects", "half/refs"):
        (home / folder).mkdir(parents=True)
    (home / "repo" / ".git" / "config").write_text("[core]")
    (home / "repo" / "README.md").write_text("")
    (home / "bare" / "HEAD").write_text("ref: refs/heads/main")
    (home / "tree" / ".git").write_text(f"gitdir: {home}/repo/.git/worktrees/tree")
    (home / "repo" / "inner").symlink_to(home / "repo" / ".git")
    (home / "repo" / "settings").symlink_to(".git/config")
    return home


@pytest.fixture
def git(home: Path) -> GitFolders:
    return GitFolders(cwds={"fs": home / "repo"}, home=home)


INSIDE = [
    "{home}/repo/.git",
    "{home}/repo/.git/",
    "{home}/repo/.git/config",
    "{home}/repo/.git/hooks/pre-commit",
    "{home}/repo/.git/modules/x/config",
    "{home}/new/.git/config",
    "{home}/tree/.git",
    "{home}/repo/inner/config",
    "{home}/repo/settings",
    "{home}/repo/src/../.git/config",
    "{home}/repo/.git/../README.md",
    "{home}/repo//.git//config",
    "{home}/repo/.GIT/Config",
    "{home}/repo/.git./config",
    "{home}/repo/.git /config",
    "{home}/repo/GIT~1/config",
    "{home}/repo/.g\u200cit/config",
    "{home}/repo/.git::$INDEX_ALLOCATION/config",
    ".git/config",
    "./inner/hooks",
    "src\\..\\.git\\config",
    "~/repo/.git/config",
    "$HOME/repo/.git/config",
    "file://{home}/repo/.git/config",
    "{home}/repo/%2egit/config",
    "@.git/config",
    "/proc/self/cwd/.git/config",
    "{home}/bare",
    "{home}/bare/config",
    "{home}/bare/hooks/new",
    "{home}/half/HEAD",
    "{home}/any/commondir",
    "x" * 300_000 + "/.git/config",
]


@pytest.mark.parametrize("text", INSIDE, ids=range(len(INSIDE)))
def test_each_spelling_of_a_path_into_gits_own_files_is_seen(git: GitFolders, home: Path, text: str) -> None:
    """docs/limits.md, "Git's own files"; security.md S9: path spellings."""
    assert git.led_into_by("fs", {"paths": [text.replace("{home}", str(home))]})


@pytest.mark.parametrize(
    "value",
    [
        {"repo_path": "{home}/repo", "files": ["README.md", ".git/config"]},
        {"repo_path": "{home}/repo", "files": ["inner/config"]},
        {"dir": "{home}/half", "name": "HEAD"},
        {"{home}/repo/.git/config": "x"},
    ],
    ids=range(4),
)
def test_keys_and_a_folder_with_a_name_in_another_argument_are_read_too(
    git: GitFolders, home: Path, value: dict[str, JsonValue]
) -> None:
    """docs/limits.md, "Git's own files"."""
    filled = {key.replace("{home}", str(home)): item for key, item in value.items()}
    assert git.led_into_by("fs", {key: _filled(item, home) for key, item in filled.items()})


def _filled(value: JsonValue, home: Path) -> JsonValue:
    return value.replace("{home}", str(home)) if isinstance(value, str) else value


@pytest.mark.parametrize(
    "value",
    [
        {"repo_path": "{home}/repo"},
        {"repo_path": "{home}/tree", "branch_name": "HEAD"},
        {"repo_path": "{home}/repo", "files": [".", "README.md", ".gitignore", ".github/workflows/ci.yml"]},
        {"path": "{home}/repo/src/digit/main.git.py", "mode": 5, "flag": True, "none": None},
        {"path": "{home}/repo/.gitmodules"},
        {"path": "{home}/half/config"},
        {"path": "HEAD"},
        {"url": "https://example.com/group/project.git"},
        {"path": "\0"},
        {},
    ],
    ids=range(10),
)
def test_work_in_a_repository_is_left_alone(git: GitFolders, home: Path, value: dict[str, JsonValue]) -> None:
    """A false alarm asks a person, and who is asked too often stops reading."""
    assert not git.led_into_by("fs", {key: _filled(item, home) for key, item in value.items()})


def test_a_link_that_is_made_later_is_seen(git: GitFolders, home: Path) -> None:
    """Threat S38: nothing is remembered from an earlier look."""
    assert not git.led_into_by("fs", {"path": "later"})
    (home / "repo" / "later").symlink_to(home / "repo" / ".git")
    assert git.led_into_by("fs", {"path": "later"})


def test_links_in_a_circle_and_paths_that_nobody_can_open_are_judged_by_their_spelling(
    git: GitFolders, home: Path
) -> None:
    """CONTRIBUTING.md, habit 3: fail closed."""
    (home / "repo" / "round").symlink_to(home / "repo" / "round")
    assert git.led_into_by("fs", {"path": "round/.git/config"})
    assert git.led_into_by("fs", {"path": "y/" * 1500 + ".git/config"})
    assert not git.led_into_by("fs", {"path": "round/a"})


def test_more_paths_than_one_call_may_cost_are_no_answer(git: GitFolders) -> None:
    """CONTRIBUTING.md, habit 9: bounded; who asks lets nothing pass then."""
    assert not git.led_into_by("fs", [f"a/{n}" for n in range(500)])
    with pytest.raises(SpentError):
        git.led_into_by("fs", [f"src/f{n}" for n in range(50_000)])


@pytest.mark.parametrize(
    "path",
    [
        "{home}/repo/" + "./" * 2100 + ".git/config",
        "./" * 2100 + "inner/config",
        " .git/config",
        "'.git'",
        "inner/config\n",
        "inner/../.git/x",
    ],
)
def test_what_servers_drop_from_a_path_hides_nothing(git: GitFolders, home: Path, path: str) -> None:
    """docs/limits.md, "Git's own files": in every spelling that the section above it lists."""
    assert git.led_into_by("fs", {"path": path.format(home=home)})


def test_a_link_is_followed_from_each_folder_that_a_server_may_use(home: Path) -> None:
    """docs/limits.md, "Git's own files": server-filesystem reads relative paths against its arguments."""
    given: Any = {"cwds": {"fs": home}, "home": home / "none"}
    assert not GitFolders(**given).led_into_by("fs", {"path": "inner/config"})
    named = GitFolders(**given, named=lambda _server: (str(home / "repo"),))
    assert named.led_into_by("fs", {"path": "inner/config"})


def test_many_paths_in_a_text_are_searched_for_gits_name_at_least(git: GitFolders) -> None:
    """docs/limits.md, "Git's own files": a long list is no alarm, and hides nothing that is spelled."""
    words = " ".join(f"a{n}/b" for n in range(40_000))
    assert not git.led_into_by("fs", {"command": words})
    assert not git.led_into_by("fs", {"command": f"{words} x/.github/y z/.gitignore"})
    assert git.led_into_by("fs", {"command": f"{words} x/.GIT/config"})


def test_a_path_that_this_language_cannot_open_is_judged_as_it_is_spelled(git: GitFolders, home: Path) -> None:
    """security.md S3, S41: others put U+FFFD in place of half a character, and open that."""
    assert git.led_into_by("fs", {"path": f"{home}/repo/.git/hooks/\ud800"})
    assert not git.led_into_by("fs", {"path": f"{home}/repo/src/\ud800"})
