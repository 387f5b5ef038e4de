"""Arguments that lead into the guard's own files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import JsonValue

from mcp_guard.config.load import load_config, user_config_file, user_data_dir, wrap_dir
from mcp_guard.manifest.disk import SpentError
from mcp_guard.manifest.protect import OwnFiles, guard_files


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = (tmp_path / "home").resolve()
    (home / "conf" / "guard-data" / "keys").mkdir(parents=True)
    (home / "work").mkdir()
    (home / "conf" / "guard.yaml").write_text("version: 1")
    (home / "conf" / "guard-data" / "approvals.db").write_text("")
    (home / "work" / "notes.txt").write_text("")
    (home / "work" / "link").symlink_to(home / "conf" / "guard-data")
    (home / "work" / "innocent.txt").symlink_to(home / "conf" / "guard.yaml")
    os.link(home / "conf" / "guard.yaml", home / "work" / "hard.txt")
    return home


@pytest.fixture
def own(home: Path) -> OwnFiles:
    names = ("guard-data", "guard.yaml", "guard.lock", "mine.yaml")
    cwds = {"fs": home / "work", "conf": home / "conf"}
    return OwnFiles([home / "conf" / name for name in names], cwds=cwds, home=home, project=home / "work" / "repo")


@pytest.mark.parametrize(
    "value",
    [
        "{home}",
        "{home}/conf",
        "{home}/conf/",
        "{home}/work/../conf",
        "file://{home}/conf",
        "{home}/con%66",
        "~/conf",
        "$HOME/conf",
        "~",
        "..",
        "../CONF",
        "/",
        ["a", {"b": "{home}/conf"}],
        {"{home}/conf": 1},
        "repo/.vscode",
        "{home}/work/repo/.claude/",
        {"folder": "{home}/work/repo", "name": ".cursor"},
        {"folder": "{home}", "name": "conf"},
        "{home}/conf/guard.yaml",
    ],
    ids=str,
)
def test_a_folder_with_protected_files_in_it_is_known(own: OwnFiles, home: Path, value: JsonValue) -> None:
    """docs/limits.md, "The guard's own files": who puts another folder in its place has changed the rules."""
    assert own.below("fs", json.loads(json.dumps(value).replace("{home}", str(home))))


@pytest.mark.parametrize(
    "value",
    [
        "{home}/work/repo",
        "repo",
        "{home}/work",
        "{home}/work/repo/src",
        "{home}/config",
        "",
        "main",
        "a text with ~ and {home}/conf in it",
        "x" * 5000,
        {"folder": "{home}/work/repo", "name": "src"},
        7,
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_folder_that_is_worked_in_and_any_other_may_be_changed_as_a_whole(
    own: OwnFiles, home: Path, value: JsonValue
) -> None:
    """docs/limits.md, "The guard's own files": a commit in a repository with a .mcp.json is no risk of its own."""
    assert not own.below("fs", json.loads(json.dumps(value).replace("{home}", str(home))))


def test_the_folder_that_is_worked_in_is_asked_for_when_it_holds_files_of_the_guard(home: Path) -> None:
    """docs/limits.md, "The guard's own files": another branch may bring another guard.yaml."""
    repo = home / "work" / "repo"
    own = OwnFiles([repo / "guard.yaml"], cwds={"fs": repo}, home=home, project=repo)
    assert own.below("fs", ".")
    assert own.below("fs", str(home))
    assert own.touched_by("fs", ".mcp.json")


@pytest.mark.parametrize("ask", [OwnFiles.touched_by, OwnFiles.below], ids=["inside", "around"])
def test_more_paths_than_one_call_may_cost_are_no_answer(
    own: OwnFiles, ask: Callable[[OwnFiles, str, JsonValue], bool]
) -> None:
    """CONTRIBUTING.md, habit 9: bounded; who asks lets nothing pass then."""
    assert not ask(own, "fs", [f"a/{n}" for n in range(500)])
    with pytest.raises(SpentError):
        ask(own, "fs", [f"./f{n}" for n in range(50_000)])


INSIDE = [
    "{home}/conf/guard-data",
    "{home}/conf/guard-data/",
    "{home}/conf/guard-data/not-there-yet/x",
    "{home}/conf/guard.yaml",
    "{home}/conf/guard.lock",
    "{home}/conf/mine.yaml",
    "{home}/work/../conf/./guard.yaml",
    "{home}/conf//guard.yaml",
    "../conf/guard.yaml",
    "link",
    "link/approvals.db",
    "./link/keys/decision.1.key",
    "innocent.txt",
    "hard.txt",
    "{home}/CONF/Guard.YAML",
    "~/conf/guard.yaml",
    "$HOME/conf/guard.yaml",
    "${{HOME}}/conf/guard.yaml",
    "file://{home}/conf/guard.yaml",
    "file://localhost{home}/conf/guard.yaml?x=1",
    "FILE:{home}/conf/guard.yaml",
    "file://{home}/conf/%67uard.yaml",
    "{home}/conf/guard%2Eyaml",
    "{home}/conf%252Fguard.yaml",
    "{home}/conf/guard.yaml\0.txt",
    "cat '{home}/conf/guard.yaml' | head",
    "cp ../conf/guard.yaml /tmp/x",
    "--file=../conf/guard.yaml",
    "..\\conf\\guard.yaml",
    "x:/../../conf/guard.yaml",
    "a://../../conf/guard.yaml",
    "/proc/self/cwd/../conf/guard.yaml",
    "/proc/thread-self/cwd/../conf/guard.yaml",
    "/proc/self/task/../cwd/../conf/guard.yaml",
    "/proc/1/task/1/root{home}/conf/guard.yaml",
    "/proc/../proc/./self/root/proc/self/cwd/../conf/guard.yaml",
    "{home}/conf/guard%2525252Eyaml",
    "@{home}/conf/guard.yaml",
    "@../conf/guard.yaml",
    "cd {home}/conf && cat guard.yaml",
    "git -C ../conf show guard.yaml",
    "cat {home}/conf/guard'-'data/approvals.db",
    'cat {home}/conf/"guard"\\.yaml',
    "x {home}/conf/guard.yaml " + "y" * 5000,
    "z" * 300_000 + "{home}/conf/guard.yaml",
]


@pytest.mark.parametrize("text", INSIDE, ids=range(len(INSIDE)))
def test_each_spelling_of_a_protected_path_is_seen(own: OwnFiles, home: Path, text: str) -> None:
    """decisions.md D32: after resolving symlinks, `..`, case; security.md S9: path spellings."""
    assert own.touched_by("fs", {"a": [{"b": text.format(home=home)}]})


@pytest.mark.parametrize("value", [{"../conf/guard.yaml": 1}, ["x", ["link"]], "innocent.txt"])
def test_keys_lists_and_bare_text_are_looked_at_too(own: OwnFiles, value: JsonValue) -> None:
    """decisions.md D32."""
    assert own.touched_by("fs", value)


@pytest.mark.parametrize(
    "text",
    [
        "", "notes.txt", "{home}/work/notes.txt", "{home}/conf", "{home}", "/", ".", "~", "guard.yaml",
        "{home}/conf/guard",        "{home}/conf/guard-data2", "{home}/conf/guard.yaml.bak", "https://example.com{home}/conf/guard.yaml",
        "we speak of guard.yaml and of guard-data here", "select * from t where a / b > 3", "\0", "%", "a" * 100_000,
        "cd {home}/work && cat notes.txt", "/proc/self/status", "@notes.txt", "100%25 it's a \"test\"",
    ],
)  # fmt: skip
def test_other_text_is_left_alone(own: OwnFiles, home: Path, text: str) -> None:
    """A false alarm denies a call that no rule can allow."""
    assert not own.touched_by("fs", {"a": text.format(home=home)})


@pytest.mark.parametrize(
    "value",
    [
        {"repo_path": "{home}/conf", "file": "guard.yaml"},
        {"file": "guard.yaml", "repo_path": "../conf"},
        {"root": "/", "path": "{home}/conf/guard.yaml"},
        {"dir": "file://{home}/conf", "files": ["a", "guard-data/keys/decision.1.key"]},
        [{"x": {"dir": "~/conf/", "name": "guard.yaml", "mode": 5}}],
    ],
    ids=range(5),
)
def test_a_folder_and_a_name_in_two_arguments_are_read_together(own: OwnFiles, home: Path, value: JsonValue) -> None:
    """decisions.md D32: git servers take a repository and paths in it."""
    spelled = json.loads(json.dumps(value).replace("{home}", str(home)))
    assert own.touched_by("fs", spelled)


@pytest.mark.parametrize("value", [{"repo_path": "{home}/conf", "file": "a.txt"}, {"dir": "{home}/conf", "depth": 3}])
def test_a_folder_above_the_guards_files_may_be_worked_in(own: OwnFiles, home: Path, value: JsonValue) -> None:
    """A false alarm denies a call that no rule can allow."""
    assert not own.touched_by("fs", json.loads(json.dumps(value).replace("{home}", str(home))))


def test_what_lies_in_a_protected_folder_is_seen_after_the_folder_moved(own: OwnFiles, home: Path) -> None:
    """Threat S38: the folder is known by its identity, also from inside."""
    (home / "conf").rename(home / "else")
    assert own.touched_by("fs", {"path": str(home / "else" / "guard-data" / "keys" / "decision.1.key")})


def test_a_protected_folder_around_another_protected_place_stays_protected(home: Path) -> None:
    """decisions.md D32: a manifest may lie in the data folder."""
    data = home / "conf" / "guard-data"
    own = OwnFiles([data, data / "mine.yaml"], cwds={}, home=home)
    assert own.touched_by("fs", {"path": str(data)})


def test_a_relative_path_is_read_against_the_working_directory_of_its_server(own: OwnFiles) -> None:
    """decisions.md D29: the child's cwd."""
    assert own.touched_by("conf", {"path": "guard.yaml"})
    assert not own.touched_by("fs", {"path": "guard.yaml"})


def test_a_link_that_is_made_later_is_seen(own: OwnFiles, home: Path) -> None:
    """Threat S38: symlink swap; nothing is remembered from an earlier look."""
    assert not own.touched_by("fs", {"path": "later"})
    (home / "work" / "later").symlink_to(home / "conf" / "guard.yaml")

    assert own.touched_by("fs", {"path": "later"})


LONG = "./" * 2100


@pytest.mark.parametrize(
    "text",
    [
        f"{{home}}/{LONG}conf/guard.yaml",
        f"{{home}}{'/' * 4200}conf/guard.yaml",
        f"{{home}}{'/a/..' * 1000}/conf/guard.yaml",
        f"{LONG}../conf/guard.yaml",
        f"file://{{home}}/{LONG}conf/guard.yaml",
        "{home}" + "/%2e" * 1500 + "/conf/guard.yaml",
        " ../conf/guard.yaml",
        "../conf/guard.yaml\n",
        "'{home}/conf/guard.yaml'",
        '"../conf/guard.yaml"',
        "../conf/guard.yaml\u00a0",
        "\ufeff../conf/guard.yaml",
        "link/../../conf/guard.yaml",
        "link/../guard.yaml",
        "/dev/fd/../cwd/../conf/guard.yaml",
        "{home}/work/process/../conf/guard.yaml",
    ],
    ids=range(16),
)
def test_what_servers_drop_from_a_path_hides_nothing(own: OwnFiles, home: Path, text: str) -> None:
    """docs/limits.md, "The guard's own files": long paths, blanks, quotes, `link/..` as text, links of a process."""
    (home / "work" / "process").symlink_to("/proc/self/cwd")
    assert own.touched_by("fs", {"a": text.format(home=home)})


@pytest.mark.parametrize("path", ["conf/guard.yaml", "./conf/keys/../guard.yaml", "conf/guard-data/keys", "work/link"])
def test_a_relative_path_is_read_against_home_and_all_folders_that_a_server_may_use(home: Path, path: str) -> None:
    """docs/limits.md, "The guard's own files": server-filesystem reads it against its arguments or the roots."""
    protected = [home / "conf" / name for name in ("guard-data", "guard.yaml")]
    elsewhere = {"fs": home / "work" / "repo"}
    at_home = OwnFiles(protected, cwds=elsewhere, home=home)
    assert at_home.touched_by("fs", {"path": path})
    named = OwnFiles(
        protected, cwds=elsewhere, home=home / "none", named=lambda server: (str(home),) * (server == "fs")
    )
    assert named.touched_by("fs", {"path": path})
    assert not named.touched_by("other", {"path": path})
    assert named.below("fs", {"path": "./conf"})
    assert not named.below("other", {"path": "./conf"})


@pytest.mark.parametrize(
    ("cwd", "value"),
    [("/", {"table": "users"}), ("/Users/ann", {"collection": "Library"}), ("/", {"page": "home"})],
)
def test_a_mere_word_is_no_folder_around_the_guards_files(cwd: str, value: JsonValue) -> None:
    """docs/limits.md, "The guard's own files": hosts start servers in `/`, and a table may be called users."""
    for user in (Path("/Users/ann"), Path("/home/ann")):
        protected = [user / ".config/mcp-guard", user / "Library/Claude/claude_desktop_config.json"]
        assert not OwnFiles(protected, cwds={"db": Path(cwd)}, home=user).below("db", value)
        assert OwnFiles(protected, cwds={"db": Path(cwd)}, home=user).below("db", {"path": str(user)})


def test_the_guards_own_files_are_data_configuration_lock_manifests_and_files_with_secrets(tmp_path: Path) -> None:
    """decisions.md D32."""
    (tmp_path / "key").write_text("hunter2-hunter2")
    path = tmp_path / "guard.yaml"
    path.write_text(
        "version: 1\nid: a\ndata_dir: d\nmanifests: [m.yaml]\n"
        "servers: {a: {command: x, manifest: ./n.yaml, env: {K: '${file:key}'}}, b: {command: x, manifest: git}}\n"
    )
    path.chmod(0o600)

    names = ["d", "guard.yaml", "guard.lock", ".guard.lock.writer", "secrets", "manifests", "m.yaml", "n.yaml", "key"]
    assert guard_files(load_config(path, {})) == [
        *(tmp_path / name for name in names),
        user_config_file().parent,
        user_data_dir(),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere these folders are not named by variables")
def test_the_users_folders_of_the_guard_are_out_of_reach_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """decisions.md D32: a checkout in the folder of the configuration would bring another one, of any name or id."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "conf"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path = tmp_path / "project" / "guard.yaml"
    path.parent.mkdir()
    path.write_text("version: 1\nid: a\ndata_dir: d\nservers: {a: {command: x}}\n")
    path.chmod(0o600)
    inside = OwnFiles(guard_files(load_config(path, {})), cwds={"a": tmp_path / "project"}, home=tmp_path)
    for folder in (user_config_file().parent, user_data_dir(), user_data_dir() / "another-id", wrap_dir()):
        assert inside.touched_by("a", {"repo_path": str(folder), "branch_name": "evil"}), folder
        assert inside.touched_by("a", {"path": f"{folder}/.git"})
    for work in (str(tmp_path / "project"), ".", "src/main.py", str(tmp_path / "project" / ".git")):
        assert not inside.touched_by("a", {"repo_path": work, "branch_name": "main"}), work
    assert not inside.touched_by("a", {"path": str(tmp_path / "conf"), "pattern": "x"})


@pytest.mark.parametrize(
    "path",
    [
        "manifests/pages.yaml",
        "manifests",
        "manifests/../manifests/new.yaml",
        "MANIFESTS/Pages.yaml",
        "guard.lock",
        ".guard.lock.4711.abcdef01",
        ".guard.yaml.4711.abcdef01",
    ],
)
def test_manifests_and_what_is_written_aside_of_a_protected_file_are_inside(tmp_path: Path, path: str) -> None:
    """decisions.md D32: an agent must not review its own tools, nor what is about to become the lock."""
    conf = tmp_path / "guard.yaml"
    conf.write_text("version: 1\nid: a\ndata_dir: d\nservers: {a: {command: x}}\n")
    conf.chmod(0o600)
    inside = OwnFiles(guard_files(load_config(conf, {})), cwds={"a": tmp_path}, home=tmp_path)
    assert inside.touched_by("a", {"path": path})
    assert inside.touched_by("a", {"folder": str(tmp_path), "name": path})
    assert not inside.touched_by("a", {"path": "guard.lock-notes.txt"})


@pytest.mark.parametrize("value", ["{home}/conf/guard-data/keys/\ud800", "../conf/guard.yaml/\udfff"])
def test_a_path_that_this_language_cannot_open_is_judged_as_it_is_spelled(
    own: OwnFiles, home: Path, value: str
) -> None:
    """security.md S3: others put U+FFFD in place of half a character, and open that."""
    spelled = os.path.normpath(home / "work" / value.format(home=home))
    assert own.touched_by("fs", {"path": spelled})
    assert not own.touched_by("fs", {"path": "notes\ud800.txt"})


def test_where_nothing_is_protected_nothing_leads_there(home: Path) -> None:
    """A false alarm denies a call that no rule can allow."""
    assert not OwnFiles([], cwds={}, home=home).touched_by("fs", {"path": f"{home}/a", "text": "x" * 5000})
