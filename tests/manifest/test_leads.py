"""Where the arguments of a call lead, by one look with one budget."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydantic import JsonValue

from mcp_guard.manifest.gitfolder import GitFolders
from mcp_guard.manifest.leads import Leads
from mcp_guard.manifest.protect import OwnFiles


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
    assert leads("fs", {"path": path}, {"path": path}) == led
    assert leads("fs", {"path": path}, None) == (led if led == "own_files" else None)


@pytest.mark.parametrize("path", ["~/.config/mcp-guard/guard.yaml", "/", ".git"])
def test_a_server_on_another_machine_leads_nowhere(leads: Leads, path: str) -> None:
    """docs/limits.md, "The guard's own files": it cannot open the files of this one."""
    assert leads("far", {"path": path}, {"path": path}) is None


MUCH: dict[str, JsonValue] = {
    "short": [f"a/{n}" for n in range(40_000)],
    "names": [f"w{n}" for n in range(99_000)],
    "deep": [f"a{n}/" + "b/" * 60 for n in range(19_000)],
    "up": ["../" * 1300 + f"x{n}" for n in range(1000)],
    "process": ["/proc/self" * 400 + f"{n}" for n in range(1000)],
    "percent": ["%25" * 1300 + f"{n}" for n in range(1000)],
    "objects": [{f"k{k}": f"/x{k}_{n}" for k in range(40)} for n in range(480)],
}


@pytest.mark.parametrize("value", MUCH.values(), ids=MUCH)
def test_more_than_one_call_may_cost_is_too_many_and_known_soon(leads: Leads, value: JsonValue) -> None:
    """docs/limits.md, first table: while it looks, the guard does nothing else."""
    begun = time.process_time()
    assert leads("fs", {"a": value}, {"a": value}) == "too_many"
    assert time.process_time() - begun < 0.4  # 0.1 on an idle machine


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
    assert leads("fs", value, None) is None


def test_a_protected_path_is_seen_in_a_text_that_is_too_long_to_be_looked_through(leads: Leads, home: Path) -> None:
    """docs/limits.md, "The guard's own files": such a text is searched for protected paths as they are spelled."""
    words = " ".join(f"a{n}/b" for n in range(50_000))
    for text in (f"{words} {home}/.config/mcp-guard/keys", f"{home}/.CONFIG/mcp-guard {words}"):
        assert leads("fs", {"command": text}, None) == "own_files"


def test_too_much_that_may_be_changed_is_asked_for(leads: Leads) -> None:
    """docs/limits.md: what cannot be judged is not let through without a person."""
    many: JsonValue = [f"/x/a{n}" for n in range(90_000)]
    assert leads("fs", {"path": "a"}, many) == "above_own_files"


def test_what_may_be_an_encoded_path_and_takes_too_long_to_read_is_too_much(leads: Leads) -> None:
    """security.md F18: fail closed."""
    assert leads("fs", {"path": "/" + "%2e%2f" * 60_000}, None) == "too_many"
