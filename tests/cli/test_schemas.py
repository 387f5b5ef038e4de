"""The generated JSON Schemas."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from mcp_guard.cli.schemas import main, schema_files, stale_files


def test_the_schemas_in_the_tree_are_what_the_models_say() -> None:
    """Published schemas: generated, and checked for staleness."""
    assert main(["--check"]) == 0


def test_check_names_a_stale_file_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Published schemas: the check fails when a file is stale or missing."""
    assert main(["--check"], tmp_path) == 1
    assert "docs/schema/guard.v1.json" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    (tmp_path / "docs/schema/guard.v1.json").write_text("{}", encoding="utf-8")
    assert stale_files(tmp_path) == ["docs/schema/guard.v1.json"]


@pytest.mark.parametrize("name", sorted(schema_files()))
def test_each_file_is_a_valid_schema_that_refuses_unknown_keys(name: str) -> None:
    """Decision D30: a misspelt key is an error, also in the editor."""
    schema = json.loads(schema_files()[name])
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
