"""The question before an approval at the command line: nobody approves what they were not shown (approvals.md 5.7)."""

from __future__ import annotations

from mcp_guard.approval.review import Shown
from mcp_guard.canon import same_fingerprint
from mcp_guard.cli.approvals_text import card_of, needs_fingerprint
from mcp_guard.cli.options import console
from mcp_guard.clock import SystemClock
from mcp_guard.errors import NotConfirmedError


def confirmed(seen: Shown, typed: str, *, asks: bool, full: bool, grant: int | None) -> str:
    """How the person confirmed what was shown: by a yes, or by the fingerprint; empty where neither is needed.

    Args:
        seen: The request.
        typed: `--fingerprint`; it answers without a question.
        asks: Whether a person can be shown the request and asked.
        full: Whether it is shown whole.
        grant: The grant that is given with it.

    Raises:
        NotConfirmedError: no yes, or not the fingerprint.
    """
    card = card_of(seen, SystemClock().now_ns(), full=full and asks)
    why = needs_fingerprint(seen.request, card)
    if asks:
        console().print(card.text(console().width))
        given = "" if grant is None else f" and give grant {grant}"
        if why and not typed:
            typed = _answer(f"\nTo approve {why}{given}, type the fingerprint: ")
        elif not typed:
            if _answer(f"\nApprove this call{given}? [y/N] ").lower() not in ("y", "yes"):
                raise _not_confirmed(seen, "it was not approved")
            return "yes"
    elif why and not typed:
        raise _not_confirmed(seen, f"{why} is approved by its fingerprint, with --fingerprint XXXX-XXXX")
    if typed and not same_fingerprint(typed, seen.fingerprint):
        raise _not_confirmed(seen, "this is not the fingerprint of the request")
    if why and not typed:
        raise _not_confirmed(seen, "it was not approved")
    return "fingerprint" if typed else ""


def _not_confirmed(seen: Shown, why: str) -> NotConfirmedError:
    approval_id = seen.request.row.id
    return NotConfirmedError(
        f"{why}; nothing was decided, and {approval_id} still waits",
        hint=f"`mcp-guard approvals show {approval_id}` shows it with its fingerprint; `deny` refuses it",
    )


def _answer(question: str) -> str:
    try:
        return input(question).strip()
    except EOFError:
        return ""
