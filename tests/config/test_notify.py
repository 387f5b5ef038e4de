"""`approvals.notify`: references resolved, nothing of them shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_guard.config.load import LoadedConfig, load_config
from mcp_guard.errors import ConfigError

TOPIC = "topic-canary-8842"


def load(folder: Path, targets: list[str], env: dict[str, str] | None = None, *, resolve: bool = True) -> LoadedConfig:
    path = folder / "guard.yaml"
    path.write_text(json.dumps({"version": 1, "id": "test", "approvals": {"notify": targets}}), encoding="utf-8")
    path.chmod(0o600)
    return load_config(path, env or {}, resolve=resolve)


def test_references_are_resolved_kept_secret_and_shown_nowhere(tmp_path: Path) -> None:
    """docs/config.md: references keep secrets out of the file, and what they hold is masked."""
    loaded = load(tmp_path, ["desktop", "ntfys://ntfy.example/${env:TOPIC}"], {"TOPIC": TOPIC})

    assert loaded.notify == ("desktop", f"ntfys://ntfy.example/{TOPIC}")
    assert TOPIC in loaded.secrets
    assert TOPIC not in repr(loaded)
    assert loaded.config.approvals.notify[1] == "ntfys://ntfy.example/${env:TOPIC}"


def test_a_reference_to_nothing_is_a_warning_and_takes_its_target_out(tmp_path: Path) -> None:
    """docs/config.md: hosts start the guard with few variables; a notice is not worth a guard that stays down."""
    loaded = load(tmp_path, ["ntfys://ntfy.example/${env:TOPIC}", "desktop"])

    assert loaded.notify == ("desktop",)
    assert "approvals.notify.0" in loaded.warnings[0] or "approvals.notify[0]" in loaded.warnings[0]
    assert "TOPIC is not set" in loaded.warnings[0]


@pytest.mark.parametrize("target", ["deskop", "", f"//{TOPIC}", f"ntfy:/{TOPIC}", f"ntfy://a b{TOPIC}", "${env:BAD}"])
def test_what_is_no_address_is_an_error_without_its_text(tmp_path: Path, target: str) -> None:
    """CONTRIBUTING.md, habit 4: no value echoed."""
    with pytest.raises(ConfigError, match="is not a place for notices") as caught:
        load(tmp_path, [target], {"BAD": TOPIC})

    assert TOPIC not in str(caught.value)


def test_commands_that_start_nothing_need_no_variable(tmp_path: Path) -> None:
    """docs/config.md: `approvals` runs in a terminal, where the variables of the host are not set."""
    assert load(tmp_path, ["ntfys://${env:TOPIC}"], resolve=False).notify == ()
