"""The benchmark measures what it says, and refuses to give a figure for a target that did not do its work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.client import BenchError, Client
from benchmarks.run import main, summarise
from benchmarks.targets import environment, targets
from mcp_guard.config.schema import GuardConfig


def test_a_run_prints_a_table_and_figures_of_every_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """benchmarks/README.md: "It prints the medians of the rounds"."""
    figures = tmp_path / "figures.json"

    code = main(["--only", "direct", "--rounds", "1", "--calls", "5", "--json", str(figures)])

    assert code == 0
    assert "echo, one at a time, p50 µs" in capsys.readouterr().out
    metrics = json.loads(figures.read_text())["metrics"]
    assert {name: metrics[name]["direct"]["x_direct"] for name in metrics} == {
        "initialize_ms": 1.0,
        "tools_list_ms": 1.0,
        "echo_p50_us": 1.0,
        "echo_p99_us": 1.0,
        "echo_rate": 1.0,
    }


def test_ratios_are_taken_within_each_round_not_between_medians() -> None:
    """A slow phase of the machine hits both targets of a round, so only the ratio within the round means something."""
    report = summarise({"m": {"direct": [1.0, 10.0, 2.0], "guard": [3.0, 20.0, 6.0]}}, rounds=3, calls=1)

    assert report["metrics"]["m"]["guard"] == {"median": 6.0, "x_direct": 3.0, "x_naive": None}


def test_the_guard_is_measured_with_a_valid_configuration_that_allows_the_echo(tmp_path: Path) -> None:
    """benchmarks/README.md: "with policy, masking and the audit log on"."""
    targets(tmp_path)

    config = GuardConfig.model_validate(yaml.safe_load((tmp_path / "guard.yaml").read_text(encoding="utf-8")))

    assert [rule.effect for rule in config.rules] == ["allow"]
    assert config.masking.results.pii == config.masking.results.secrets == "placeholder"


def test_a_target_that_ends_gives_an_error_and_no_figure(tmp_path: Path) -> None:
    """A figure of a target that did not answer would mean nothing."""
    command = [sys.executable, "-c", "import sys; sys.stderr.write('went away')"]
    with (
        pytest.raises(BenchError, match="went away"),
        Client(command, stderr=tmp_path / "log", environment=environment()) as client,
    ):
        client.open()
