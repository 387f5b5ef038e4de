"""The benchmark of a decision's effect measures real effects."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.approve import LIMIT_MS, _print, measure


def test_every_round_ends_in_one_effect_after_its_commit(tmp_path: Path) -> None:
    """benchmarks/README.md: from the decision, made in another process, to the line of the downstream server."""
    effects, commits = measure(tmp_path, 3)

    assert len(effects) == 3
    assert all(0 < commit < effect for commit, effect in zip(commits, effects, strict=True))
    assert len((tmp_path / "effects").read_text().splitlines()) == 4  # one more to warm up


@pytest.mark.parametrize(("median", "code"), [(LIMIT_MS - 1, 0), (LIMIT_MS + 1, 1)])
def test_a_median_above_the_limit_fails(median: float, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """benchmarks/README.md: "It fails when the median is above 50 ms"."""
    assert _print([median] * 3, [3.0] * 3) == code
    assert f"{median:.1f}" in capsys.readouterr().out
