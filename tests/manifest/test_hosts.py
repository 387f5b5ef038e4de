"""The table of known hosts."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from mcp_guard.errors import ConfigError
from mcp_guard.manifest import hosts
from mcp_guard.manifest.find import shipped_folder
from mcp_guard.manifest.hosts import FILE, HostEntry, KnownHosts, hosts_schema, known_hosts

ROOT = Path(__file__).parents[2]
ENTRY = {"id": "x", "title": "X", "names": ["x"], "note": "n", "source": "s"}


def test_the_shipped_table_is_valid_by_its_published_schema() -> None:
    """docs/decisions.md D6: "table by clientInfo, shipped as data"."""
    data = yaml.safe_load((shipped_folder().parent / FILE).read_text(encoding="utf-8"))

    jsonschema.Draft202012Validator(hosts_schema()).validate(data)

    assert KnownHosts.model_validate(data) == known_hosts()


@pytest.mark.parametrize(
    ("name", "version", "entry"),
    [
        ("claude-ai", "0.1.0", "claude-desktop"),
        ("claude-ai (via mcp-remote 0.1.37)", "0.1.0", "claude-desktop"),
        ("local-agent-mode-files", "1.0.0", "claude-desktop-code"),
        ("claude-code", "2.1.75", "claude-code-old"),
        ("claude-code", "2.1.76", "claude-code"),
        ("claude-code", "3", "claude-code"),
        ("claude-code", "unknown", "claude-code"),
        ("codex-mcp-client", "0.154.0", "codex"),
        ("Visual Studio Code", "1.120.0", "vscode"),
        ("Visual Studio Code - Insiders", "1.121.0-insider", "vscode"),
        ("cursor-vscode", "1.0.0", "cursor"),
        ("CLAUDE-AI", "0.1.0", None),
        ("", "", None),
        ("claude-code\n", "2.1.76", None),
    ],
)
def test_a_client_is_found_by_the_name_that_it_gives(name: str, version: str, entry: str | None) -> None:
    """docs/decisions.md D6: "hosts known to show nothing"."""
    found = known_hosts().find(name, version)

    assert (found.id if found else None) == entry


def test_a_host_known_to_show_nothing_is_held_for_five_seconds() -> None:
    """docs/decisions.md D6: "5 s for hosts known to show nothing"."""
    found = known_hosts().find("claude-ai", "0.1.0")

    assert found is not None
    assert (found.form, found.url, found.hold_s) == (False, False, 5)


def test_every_host_that_gives_up_is_answered_well_before() -> None:
    """docs/decisions.md D6: a ticket comes before the client's own time-out."""
    for entry in known_hosts().hosts:
        assert entry.tool_timeout_s is None or (entry.hold_s or 0) <= entry.tool_timeout_s - 5, entry.id


@pytest.mark.parametrize(
    "wrong",
    [
        {"hold_s": 58, "tool_timeout_s": 60},
        {"tool_timeout_s": 60},
        {"names": []},
        {"since": "latest"},
        {"asurance": "A2"},
        {"note": "two\nlines"},
    ],
)
def test_an_entry_that_could_not_work_is_refused(wrong: dict[str, object]) -> None:
    """CONTRIBUTING.md, habit 3: a misspelt key is a key that is not there."""
    with pytest.raises(ValidationError):
        HostEntry.model_validate({**ENTRY, **wrong})


def test_two_entries_with_one_id_are_refused() -> None:
    """docs/decisions.md D6: entries are cited by id."""
    with pytest.raises(ValidationError, match="same id"):
        KnownHosts.model_validate({"version": 1, "hosts": [ENTRY, ENTRY]})


def test_the_page_shows_the_table_row_by_row() -> None:
    """CONTRIBUTING.md, habit 11: "Docs are code"."""
    page = (ROOT / "docs" / "known-hosts.md").read_text(encoding="utf-8")
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in page.splitlines()
        if re.match(r"\| `", line)
    ]

    assert rows == [_row(entry) for entry in known_hosts().hosts]


def _row(entry: HostEntry) -> tuple[str, ...]:
    shows = {True: "yes", False: "no", None: "as declared"}
    versions = f"before {entry.before}" if entry.before else f"from {entry.since}" if entry.since else "all"
    return (
        f"`{entry.id}`",
        entry.title,
        ", ".join(f"`{name}`" for name in entry.names),
        versions,
        shows[entry.form],
        shows[entry.url],
        "" if entry.tool_timeout_s is None else f"{entry.tool_timeout_s:g} s",
        "" if entry.hold_s is None else f"{entry.hold_s:g} s",
        entry.note,
        entry.source,
    )


def test_a_table_that_is_damaged_is_an_error_and_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """security.md F12, F15: nobody is asked in a way that is not known to work."""
    monkeypatch.setattr(hosts, "shipped_folder", lambda: tmp_path / "manifests")
    known_hosts.cache_clear()
    try:
        for text in ("version: 1\nhosts: [{id: x}]\n", "hosts: ["):
            (tmp_path / FILE).write_text(text, encoding="utf-8")
            with pytest.raises(ConfigError, match=r"not valid|hosts"):
                known_hosts()
    finally:
        known_hosts.cache_clear()
