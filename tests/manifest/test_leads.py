"""Where the arguments of a call lead, by one look with a bounded budget."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydantic import JsonValue

from mcp_guard.manifest.gitfolder import GitFolders
from mcp_guard.manifest.leads import Leads
from mcp_guard.manifest.protect import OwnFiles
from mcp_guard.manifest.spelling import Query, Vague


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path.resolve() / "home"
    (home / ".config" / "mcp-guard").mkdir(parents=True)
    (home / "proj" / ".git").mkdir(parents=True)
    return home


@pytest.fixture
def leads(home: Path) -> Leads:
    cwds = {"fs": home / "proj"}
    own = OwnFiles([home / ".config" / "mcp-guard"], cwds=cwds, home=home, project=home / "proj")
    return Leads(own, GitFolders(cwds=cwds, home=home), elsewhere={"far"})


@pytest.mark.parametrize(
    ("path", "led"),
    [
        ("~/.config/mcp-guard/guard.yaml", "own_files"),
        ("~/.config", "above_own_files"),
        (".git/config", "git_folder"),
        ("src/main.py", None),
    ],
)
def test_the_strictest_rule_is_told_and_only_of_what_is_changed(leads: Leads, path: str, led: str | None) -> None:
    """docs/limits.md, "The guard's own files" and "Git's own files"."""
    assert leads("fs", {"path": path}, lambda: {"path": path}) == led
    assert leads("fs", {"path": path}, lambda: None) == (led if led == "own_files" else None)


@pytest.mark.parametrize("path", ["~/.config/mcp-guard/guard.yaml", "/", ".git"])
def test_a_server_on_another_machine_leads_nowhere(leads: Leads, path: str) -> None:
    """docs/limits.md, "The guard's own files": it cannot open the files of this one."""
    assert leads("far", {"path": path}, lambda: {"path": path}) is None


MUCH: dict[str, JsonValue] = {
    "short": [f"./a/{n}" for n in range(40_000)],
    "names": [f".w{n}" for n in range(99_000)],
    "deep": [f"/a{n}/" + "b/" * 60 for n in range(19_000)],
    "up": ["../" * 1300 + f"x{n}" for n in range(1000)],
    "process": ["/proc/self" * 400 + f"{n}" for n in range(1000)],
    "percent": ["%25" * 1300 + f"{n}" for n in range(1000)],
    "objects": [{f"k{k}": f"/x{k}_{n}" for k in range(100)} for n in range(480)],
}


@pytest.mark.parametrize("value", MUCH.values(), ids=MUCH)
def test_more_than_one_call_may_cost_is_too_many_and_known_soon(leads: Leads, value: JsonValue) -> None:
    """docs/limits.md, first table: while it looks, the guard does nothing else."""
    begun = time.process_time()
    assert leads("fs", {"a": value}, lambda: {"a": value}) == "too_many"
    assert time.process_time() - begun < 1.5  # 0.3 on an idle machine


@pytest.mark.parametrize(
    "value",
    [
        {"path": "list.txt", "content": "\n".join(f"src/{n % 97}/a{n}" for n in range(21_500))},
        {"path": "a.csv", "content": "\n".join(f"{n % 12}/{n % 28}/20{n % 99},{n}" for n in range(20_000))},
        {"content": "\n".join(f"https://example.com/{n}" for n in range(11_000))},
        {"files": [{"path": f"f{k}", "content": "\n".join(f"s/{k}/{n}" for n in range(2500))} for k in range(9)]},
        {"text": "a/../b " * 500_000},
        {"image": "/9j/4AAQ" * 100_000},
        {"entities": [{"name": f"E{n}", "observations": [f"says {k} of {n}" for k in range(5)]} for n in range(60)]},
    ],
    ids=["list", "csv", "addresses", "batch", "long", "image", "entities"],
)
def test_a_long_text_with_many_paths_in_it_is_no_alarm(leads: Leads, value: JsonValue) -> None:
    """A false alarm denies a call that no rule can allow."""
    assert leads("fs", value, lambda: None) is None


def test_a_protected_path_is_seen_in_a_text_that_is_too_long_to_be_looked_through(leads: Leads, home: Path) -> None:
    """docs/limits.md, "The guard's own files": such a text is searched for protected paths as they are spelled."""
    words = " ".join(f"a{n}/b" for n in range(50_000))
    for text in (f"{words} {home}/.config/mcp-guard/keys", f"{home}/.CONFIG/mcp-guard {words}"):
        assert leads("fs", {"command": text}, lambda: None) == "own_files"


def test_too_much_that_may_be_changed_is_asked_for(leads: Leads) -> None:
    """docs/limits.md: what cannot be judged is not let through without a person."""
    many: JsonValue = [f"/x/a{n}" for n in range(90_000)]
    assert leads("fs", {"path": "a"}, lambda: many) == "unsure"


def test_what_may_be_an_encoded_path_and_takes_too_long_to_read_is_too_much(leads: Leads) -> None:
    """security.md F18: fail closed."""
    assert leads("fs", {"path": "/" + "%2e%2f" * 60_000}, lambda: None) == "too_many"


LITTLE: dict[str, JsonValue] = {
    "rows": [{"name": f"Name {n}", "city": "Berlin", "at": f"2026-01-01 10:00:{n}"} for n in range(2000)],
    "words": [f"word{n}" for n in range(30_000)],
    "files": [f"src/pkg{n % 50}/module_{n}.py" for n in range(6000)],
}


@pytest.mark.parametrize("roots", [0, 64])
@pytest.mark.parametrize("value", LITTLE.values(), ids=LITTLE)
def test_many_rows_words_and_files_are_no_alarm_however_many_roots_there_are(
    home: Path, value: JsonValue, roots: int
) -> None:
    """docs/limits.md, "Many paths": a name that is in none of the folders leads nowhere, and is not looked up."""
    cwds, folders = {"fs": home / "proj"}, [f"{home}/root{n}" for n in range(roots)]
    own = OwnFiles([home / ".config" / "mcp-guard"], cwds=cwds, home=home, named=lambda _server: folders)
    leads = Leads(own, GitFolders(cwds=cwds, home=home, named=lambda _server: folders))
    assert leads("fs", {"a": value}, lambda: {"a": value}) is None


def test_a_link_among_many_words_is_still_followed(leads: Leads, home: Path) -> None:
    """Threat S38: a name in one of the folders may be a link."""
    (home / "proj" / "Inner").symlink_to(home / ".config" / "mcp-guard")
    (home / "proj" / "gits").symlink_to(".git")
    words: list[JsonValue] = [f"word{n}" for n in range(1000)]
    assert leads("fs", [*words, "Inner"], lambda: None) == "own_files"
    assert leads("fs", [*words, "Inner/guard.yaml"], lambda: None) == "own_files"
    assert leads("fs", words, lambda: [*words, "gits/config"]) == "git_folder"


@pytest.mark.parametrize(
    "command",
    [
        "cp evil $HOME/.config/mcp-guard/guard.yaml",
        "cp evil ~/.config/mcp-guard/guard.yaml",
        "cp evil '../.config/mcp-guard/guard.yaml'",
        "cp evil .config/mcp-guard/guard.yaml",
        "cp evil ${HOME}//x/.././.config/mcp-guard/guard.yaml",
        "cp evil {home}/./.config//mcp-guard/guard.yaml",
    ],
)
@pytest.mark.parametrize("size", [1000, 20_000])
def test_a_long_list_hides_no_protected_path_in_its_own_text_or_in_another(
    leads: Leads, home: Path, command: str, size: int
) -> None:
    """docs/limits.md, "Many paths": short texts have a budget of their own, and who runs out of one is searched."""
    spelled, note = command.replace("{home}", str(home)), " ".join(f"d{n}/f{n}" for n in range(size))
    assert leads("fs", {"cmd": spelled, "note": note}, lambda: None) == "own_files"
    assert leads("fs", {"cmd": f"true {note}; {spelled}"}, lambda: None) == "own_files"
    assert leads("fs", {"cmd": "cp good docs/x.config/mcp-guard-notes/a", "note": note}, lambda: None) is None


def test_a_mere_name_beside_a_folder_is_not_one_of_home(home: Path) -> None:
    """docs/limits.md, "The guard's own files": a search in a project for a file of this name is no attack."""
    (home / "proj" / "src").mkdir()
    own = OwnFiles([home / ".claude.json"], cwds={"fs": home / "proj"}, home=home, project=home / "proj")
    for folder in (home / "proj", home / "proj" / "src"):
        assert not own.touched_by("fs", {"path": str(folder), "pattern": ".claude.json"})
    at_home: list[JsonValue] = [
        {"pattern": ".claude.json"},
        {"path": str(home), "pattern": ".claude.json"},
        {"path": str(home / "none"), "pattern": ".claude.json"},
        {"path": str(home / "proj"), "pattern": "./.claude.json"},
        [{"path": str(home / "proj"), "pattern": ".claude.json"}, ".claude.json"],
    ]
    assert not own.touched_by("fs", {"pattern": Query(".claude.json")})
    at_home.append({"pattern": Query(".claude.json"), "path": ".claude.json"})
    for value in at_home:
        assert own.touched_by("fs", value), value


@pytest.mark.parametrize("text", [" / ", "'/'", "/", "`~`", "~", "a/..", "..", "\\" * 50])
def test_a_separator_that_nobody_calls_a_name_is_no_folder_around_the_guards_files(leads: Leads, text: str) -> None:
    """docs/limits.md, "The guard's own files": it is asked for where the manifest says that it names something."""
    assert leads("fs", {"a": text}, lambda: {"a": Vague(text)}) is None


@pytest.mark.parametrize("text", ["{home}", "~/", "/.", "~/.config", "../.config"])
def test_a_folder_around_the_guards_files_that_is_spelled_as_one_is_asked_for(
    leads: Leads, home: Path, text: str
) -> None:
    """docs/limits.md, "The guard's own files"."""
    spelled = text.replace("{home}", str(home))
    assert leads("fs", {"a": spelled}, lambda: {"a": Vague(spelled)}) == "above_own_files"
    joined: JsonValue = {"root": Vague("/"), "path": Vague(f"{home}/.config"[1:])}
    assert leads("fs", joined, lambda: joined) == "above_own_files"


def test_what_is_changed_is_only_worked_out_where_it_counts(leads: Leads) -> None:
    """CONTRIBUTING.md, habit 9: bounded; reading texts costs time."""

    def never() -> JsonValue:
        raise AssertionError

    assert leads("fs", {"path": "~/.config/mcp-guard"}, never) == "own_files"
    assert leads("far", {"path": "~/.config/mcp-guard"}, never) is None
