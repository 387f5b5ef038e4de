"""How requests look at a terminal (docs/cli.md, `approvals`; security.md S15; approvals.md S17)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from mcp_guard.approval.machine import State
from mcp_guard.approval.prompt import pieces, quoted
from mcp_guard.approval.review import Shown
from mcp_guard.approval.rows import Request
from mcp_guard.canon import fingerprint
from mcp_guard.cli.approvals_text import ago, card_of, fitted, listed, needs_fingerprint
from mcp_guard.model import JsonDict, Risk
from tests.approval.test_prompt import request_for

NS = 1_000_000_000
MINUTE = 60 * NS
HOSTILE = "\x1b[2J\x1b]0;x\x07\u200b\u202e\u2066gnihton\x9b\r\x7f\ufeff\U000e0041"


def shown(request: Request) -> Shown:
    return Shown(request, fingerprint(request.row.action_digest), ())


def at(request: Request, **more: object) -> Request:
    """The request as the machine would leave it later."""
    return replace(request, row=replace(request.row, **more))  # type: ignore[arg-type]  # names of columns


@pytest.mark.parametrize("width", [40, 80, 132])
async def test_a_list_fits_the_terminal_and_tells_requests_apart(tmp_path: Path, width: int) -> None:
    """docs/cli.md: age, tool, what, who, risk, fingerprint, time left; local words instead of moments in UTC."""
    request = await request_for(tmp_path, {"table": "users", "filter": "x" * 500}, Risk.HIGH)
    now = request.created_ns + 3 * MINUTE

    lines = listed(request, None, now, width)

    assert max(map(cell_len, lines)) <= width
    told = " ".join(" ".join(lines).split())
    for part in ("high", "db/drop_table", "alice (unverified)", "asked 3 min ago", "12 min left", request.row.id):
        assert part in told
    assert fingerprint(request.row.action_digest) in told
    assert "T" not in told.partition("asked")[2].partition("left")[0]
    if width > 40:
        assert 'table="users"' in told


async def test_what_is_affected_keeps_its_end_in_a_list(tmp_path: Path) -> None:
    """Of a path the end says most; names in wide letters fit too."""
    request = await request_for(tmp_path, {"table": "t"})
    view: JsonDict = {**request.view, "resource": "/srv/" + "deep/" * 60 + "報告書.txt"}

    first = listed(replace(request, view=view), None, request.created_ns, 80)[0]

    assert first.endswith("報告書.txt")
    assert "…" in first
    assert cell_len(first) <= 80
    assert fitted("報" * 50, 21).count("報") >= 9


async def test_a_closed_request_says_what_became_of_it_who_decided_and_why(tmp_path: Path) -> None:
    """docs/cli.md, `--all`."""
    request = await request_for(tmp_path, {"table": "users"})
    ended = request.created_ns + MINUTE
    denied = at(request, state=State.DENIED, ended_ns=ended, decided_by="rita", reason="not\ttoday\x1b")

    told = " ".join(" ".join(listed(denied, None, ended + 7200 * NS, 200)).split())

    assert 'denied 2 h ago, decided by rita: "not\\ttoday\\u{1b}"; asked 2 h ago' in told


@pytest.mark.parametrize(
    ("later", "said"), [(0, "just now"), (59, "59 s ago"), (3599, "59 min ago"), (90_000, "1 d ago")]
)
def test_an_age_is_one_number(later: int, said: str) -> None:
    """docs/cli.md: local words."""
    assert ago(5 * NS, (5 + later) * NS) == said


async def test_hidden_characters_have_one_spelling_wherever_they_stand(tmp_path: Path) -> None:
    """security.md S15: the same as on the page and on the form; what looks like a spelling is told from one."""
    request = await request_for(tmp_path, {HOSTILE: HOSTILE, "literal": "\\u{1b} \\u001b \\\\u200b"})
    card = card_of(shown(replace(request, server="s" + HOSTILE)), request.created_ns)
    text = card.text(None)

    spelt = "".join(run for run, _ in pieces(HOSTILE))
    assert text.count(spelt) == 3
    assert "\\u001b [" not in text
    assert '"literal" = "\\\\u{1b} \\\\u001b \\\\\\\\u200b"' in text
    assert all(run == "\n" or character.isprintable() for run in [*text] for character in run if run != "\n")
    assert card.hidden
    assert needs_fingerprint(request, card) == "a call with hidden characters"


async def test_letters_from_right_to_left_are_shown_as_they_are_and_their_controls_are_not(tmp_path: Path) -> None:
    """security.md S15: Hebrew and Arabic are language; a control that reorders a line is not."""
    plain = await request_for(tmp_path / "a", {"table": "שלום مرحبا e\u0301"})
    moved = await request_for(tmp_path / "b", {"table": "\u2067users\u2069"})

    assert '"table" = "שלום مرحبا e\u0301"' in card_of(shown(plain), 0).text(None)
    assert not card_of(shown(plain), 0).hidden
    assert '"table" = "\\u{2067}users\\u{2069}"' in card_of(shown(moved), 0).text(None)


@pytest.mark.parametrize("text", ["one\ntwo\tthree", "one\r\ntwo\r\n", "a plain line", ""])
async def test_ordinary_files_take_no_fingerprint_for_their_line_ends(tmp_path: Path, text: str) -> None:
    """security.md S15: line feeds and tabs are visible and no trick."""
    request = await request_for(tmp_path, {"content": text})
    assert needs_fingerprint(request, card_of(shown(request), 0)) == ""


@pytest.mark.parametrize(
    "arguments",
    [
        {"x": "a" * 5_000},
        {f"key{n}": "v" for n in range(200)},
        {f"key{n}": "v" * 900 for n in range(50)},
        {"k" * 900: 1},
    ],
    ids=["long", "many", "much", "long name"],
)
async def test_what_is_left_out_is_counted_shown_on_request_and_asks_for_the_fingerprint(
    tmp_path: Path, arguments: JsonDict
) -> None:
    """Attack 30: padding cannot push the danger out of sight unnoticed."""
    request = await request_for(tmp_path, arguments)
    card, whole = card_of(shown(request), 0), card_of(shown(request), 0, full=True)

    assert card.cut
    assert "--full shows all" in card.text(None)
    assert needs_fingerprint(request, card) == "a call that is not shown whole"
    assert not whole.cut
    assert needs_fingerprint(request, whole) == ""
    for name, value in arguments.items():
        assert f"{quoted(name)} = {quoted(value)}" in whole.text(None)


@pytest.mark.parametrize("risk", [Risk.HIGH, Risk.CRITICAL])
async def test_from_high_risk_on_the_fingerprint_is_asked_for_in_any_case(tmp_path: Path, risk: Risk) -> None:
    """approvals.md 5.7."""
    request = await request_for(tmp_path, {"table": "users"}, Risk.HIGH)
    request = replace(request, risk=risk)
    assert needs_fingerprint(request, card_of(shown(request), 0)) == f"a call of {risk} risk"


async def test_a_long_value_goes_on_below_its_own_line_and_never_looks_like_one_of_the_guard(tmp_path: Path) -> None:
    """approvals.md S17, attack 31: a terminal breaks long lines at its edge, where a forged line could begin."""
    forged = "x" * 69 + "fingerprint  AAAA-AAAA" + "y" * 58 + "risk         low"
    request = await request_for(tmp_path, {"table": forged, "שם": "w" * 200})
    card = card_of(shown(request), request.created_ns)

    lines = card.text(80).split("\n")

    assert max(map(cell_len, lines)) <= 80
    assert [line for line in lines if line.startswith("fingerprint")] == [lines[-1]]
    assert [line for line in lines if line.startswith("risk ")] == ["risk         medium: destructive"]
    assert "".join(line.strip() for line in lines).count(forged) == 1


async def test_the_card_says_who_asks_with_label_and_client_and_ends_with_the_fingerprint(tmp_path: Path) -> None:
    """docs/console.md: the page says the same. docs/cli.md, `show`."""
    request = await request_for(tmp_path, {"table": "users"})
    view: JsonDict = {**request.view, "requester": {"subject": "alice", "label": "ci"}, "client": "claude-code 2.1"}
    lines = card_of(shown(replace(request, view=view)), request.created_ns + MINUTE).text(None).split("\n")

    assert "requester    alice / ci (unverified)" in lines
    assert "client       claude-code 2.1" in lines
    assert any(line.startswith("asked        1 min ago (") for line in lines)
    assert any(line.startswith("expires      in 14 min (") for line in lines)
    assert lines[-1] == f"fingerprint  {fingerprint(request.row.action_digest)}"
