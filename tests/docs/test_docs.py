"""The documents agree with the code (CONTRIBUTING.md, habit 11: "Docs are code")."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
import yaml

from mcp_guard import errors
from mcp_guard.config import schema
from mcp_guard.config.hosts import host_blocks, host_entries
from mcp_guard.config.schema import GuardConfig

ROOT = Path(__file__).parents[2]
SKIPPED = {".venv", ".git", "node_modules", ".pytest_cache", ".hypothesis"}
PAGES = sorted(page for page in ROOT.rglob("*.md") if not SKIPPED & set(page.relative_to(ROOT).parts))
SOURCES = sorted(
    file
    for pattern in ("*.py", "*.md", "*.yaml", "*.toml", "*.json", "*.sql")
    for file in ROOT.rglob(pattern)
    if not SKIPPED & set(file.relative_to(ROOT).parts) and file.name != "package-lock.json"
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
BANNED = "up" + "stream"
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
CITATION = re.compile(r"\b(decisions|security|approvals)\.md,? ((?:[DSFTI]\d+(?:, | and | to )?)+)")
NUMBERED = {"decisions": "D", "security": "SF", "approvals": "STI"}


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _tree(base: type[errors.GuardError]) -> Iterator[type[errors.GuardError]]:
    yield base
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child)


def test_every_error_code_has_its_heading_and_every_heading_its_error() -> None:
    """CONTRIBUTING.md, habit 5."""
    codes = {error.code for error in _tree(errors.GuardError)}

    assert set(re.findall(r"^### `([a-z_]+)`$", _read("docs/errors.md"), re.MULTILINE)) == codes


def test_the_json_rpc_number_and_retryable_of_each_error_are_the_documented_ones() -> None:
    """decisions.md D4: the numbers are part of the contract with clients."""
    sections = dict(
        re.findall(r"^### `([a-z_]+)`\n\n(.+?)(?=\n###|\n## |\Z)", _read("docs/errors.md"), re.MULTILINE | re.DOTALL)
    )
    for error in set(_tree(errors.RefusalError)) | set(_tree(errors.FaultError)):
        assert str(error.rpc_code) in sections[error.code], error.code
        assert ("not retryable" in sections[error.code]) != error.retryable or error in {
            errors.RefusalError,
            errors.FaultError,
        }, error.code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    """A document that points nowhere is worse than none."""
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_banned_word_occurs_only_where_the_glossary_bans_it() -> None:
    """decisions.md D1."""
    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in SOURCES
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if BANNED in line.lower() and not (file.name == "glossary.md" and "banned" in line)
    ]

    assert found == []


def test_every_cited_decision_threat_fault_and_transition_is_in_its_page() -> None:
    """A number in a comment is only worth something if it can be looked up."""
    known = {
        page: set(re.findall(rf"^\| ([{letters}]\d+) \|", _read(f"docs/{page}.md"), re.MULTILINE))
        for page, letters in NUMBERED.items()
    }
    missing = {
        f"{page}.md {number} ({file.relative_to(ROOT)})"
        for file in SOURCES
        if file.suffix == ".py"
        for page, numbers in CITATION.findall(file.read_text(encoding="utf-8"))
        for number in re.findall(r"[DSFTI]\d+", numbers)
        if number not in known[page]
    }

    assert missing == set()


def test_every_page_that_the_code_cites_is_in_the_tree() -> None:
    """A reader of the code has this tree and nothing else."""
    here = {page.name.lower() for page in PAGES}
    missing = {
        f"{page} ({file.relative_to(ROOT)})"
        for file in SOURCES
        if file.suffix == ".py"
        for page in re.findall(r"\b([A-Za-z]+\.md)\b", file.read_text(encoding="utf-8"))
        if page.lower() not in here
    }

    assert missing == set()


def test_the_example_configuration_in_the_readme_is_valid() -> None:
    """An example that does not load teaches the wrong thing."""
    block = re.search(r"```yaml\n(.+?)```", README, re.DOTALL)
    assert block is not None
    config = GuardConfig.model_validate(yaml.safe_load(block[1]))

    assert [(rule.id, rule.effect) for rule in config.rules] == [
        ("ask-before-delete", "require_approval"),
        ("never-drop", "deny"),
        ("crm-reads", "allow"),
    ]


def test_the_example_of_the_page_on_grants_is_valid() -> None:
    """An example that does not load teaches the wrong thing."""
    block = re.search(r"```yaml\n(.+?)```", _read("docs/grants.md"), re.DOTALL)
    assert block is not None
    rest = {"version": 1, "id": "x", "servers": {"files": {"command": "x"}}}
    config = GuardConfig.model_validate({**yaml.safe_load(block[1]), **rest})

    assert [len(rule.approval.grants or []) for rule in config.rules] == [2, 0]


@pytest.mark.parametrize(
    ("section", "model"),
    [
        ("Top level", schema.GuardConfig),
        ("`servers.NAME`", schema.ServerConfig),
        ("`rules[]`", schema.Rule),
        ("`rules[].match`", schema.Match),
        ("`rules[].approval`", schema.ApprovalOptions),
        ("`rules[].approval.grants[]`", schema.GrantOption),
        ("`defaults`", schema.DefaultsConfig),
        ("`masking`", schema.MaskingConfig),
        ("`approvals`", schema.ApprovalsConfig),
        ("`console`", schema.ConsoleConfig),
        ("`audit`", schema.AuditConfig),
    ],
)
def test_every_key_of_the_configuration_is_documented_with_its_default(section: str, model: type[schema.Model]) -> None:
    """CONTRIBUTING.md, habit 11."""
    found = re.search(rf"^##+ {re.escape(section)}\n(.+?)(?=^##|\Z)", _read("docs/config.md"), re.MULTILINE | re.DOTALL)
    assert found is not None
    rows = dict(re.findall(r"^\| `([a-z_]+)` \|([^|]*)\|", found[1], re.MULTILINE))

    assert set(rows) == set(model.model_fields)
    for key, field in model.model_fields.items():
        if isinstance(field.default, int | float):
            shown = str(field.default).lower() if isinstance(field.default, bool) else f"{field.default:g}"
            assert rows[key].strip() == shown, key


@pytest.mark.parametrize("host", ["Claude Desktop", "Claude Code", "Cursor", "VS Code", "Codex"])
def test_the_readme_shows_the_block_of_each_host_as_init_prints_it(host: str) -> None:
    """What a person pastes must be what the host reads."""
    entries = host_entries(["/path/to/mcp-guard"], PurePosixPath("/path/to/guard.yaml"))
    blocks = {block.host: block.text for block in host_blocks(entries, Path("/home/jane"), "linux")}

    assert f"\n{blocks[host]}\n```" in README


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not on this machine")
@pytest.mark.parametrize("command", sorted(set(re.findall(r"^\$ (make .+)$", README, re.MULTILINE))))
def test_make_accepts_every_make_command_of_the_readme(command: str) -> None:
    """Only what would run is printed: `make demo` itself is a test of its own."""
    plan = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert plan.returncode == 0, plan.stderr


def test_every_bound_of_the_configuration_is_in_the_list_of_limits_with_its_default() -> None:
    """CONTRIBUTING.md, habit 9: "Bound everything"."""
    limits, config = _read("docs/limits.md"), GuardConfig(version=1, id="x")
    for key, value in {
        "approvals.max_open": config.approvals.max_open,
        "approvals.hold_s": config.approvals.hold_s,
        "approvals.expires_after_s": config.approvals.expires_after_s,
        "approvals.use_within_s": config.approvals.use_within_s,
        "audit.append_timeout_s": config.audit.append_timeout_s,
    }.items():
        assert re.search(rf"\| {value:g} [^|]*`{re.escape(key)}`", limits), key


def test_the_changelog_keeps_its_format() -> None:
    """Keep a Changelog 1.1.0: one heading a version, the newest first, only the six kinds of change."""
    text = _read("CHANGELOG.md")
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))

    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", version) for version in versions[1:])
    assert kinds <= {"Security", "Added", "Changed", "Deprecated", "Removed", "Fixed"}


@pytest.mark.parametrize("lock", ["core.lock", "dev.lock"])
def test_locks_hold_hashes_and_no_address(lock: str) -> None:
    """decisions.md D38: a lock that names a host works only where that host is reached."""
    text = _read(f"requirements/{lock}")
    pins = [line for line in text.splitlines() if re.match(r"^[a-z0-9].*==", line)]

    assert len(pins) > 50
    assert text.count("--hash=sha256:") >= len(pins)
    assert not re.search(r"://|--index|--find-links|--extra-index| @ |file:", text)


def test_the_node_lock_names_no_address_to_fetch_from() -> None:
    """decisions.md D38."""
    assert '"resolved"' not in _read("tests/e2e/node/package-lock.json")
