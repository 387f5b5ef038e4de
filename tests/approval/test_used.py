"""Witnesses of used approvals (docs/approvals.md, I1)."""

from __future__ import annotations

from pathlib import Path

from mcp_guard.approval.used import Used

DAY = 86_400 * 1_000_000_000


def test_an_approval_is_taken_once_also_by_another_process(tmp_path: Path) -> None:
    """I1."""
    folder = tmp_path / "used"
    before = Used(folder).holds("apr_1")
    taken = [Used(folder).take("apr_1", 1), Used(folder).take("apr_1", 1), Used(folder).take("apr_2", 1)]
    assert not before
    assert taken == [True, False, True]
    assert Used(folder).holds("apr_1")


def test_where_nothing_can_be_noted_nothing_is_taken_and_everything_counts_as_used(tmp_path: Path) -> None:
    """Fail closed."""
    file = tmp_path / "used"
    file.write_bytes(b"")
    assert not Used(file).take("apr_1", 1)
    assert Used(file).holds("apr_1")


def test_witnesses_go_long_after_their_approval_ended_and_never_before(tmp_path: Path) -> None:
    """The signed approval ends first: then the witness protects nothing any more."""
    used = Used(tmp_path / "used")
    used.sweep(0)
    used.take("apr_old", DAY)
    used.take("apr_new", 5 * DAY)
    (tmp_path / "used" / "apr_odd").write_bytes(b"?")
    used.sweep(9 * DAY)
    assert [used.holds(name) for name in ("apr_old", "apr_new", "apr_odd")] == [False, True, True]
