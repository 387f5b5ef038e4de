"""Which question, if any, the person at the requester's own client is asked (decisions.md D6, D25)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mcp_guard.approval.clients import SILENT_HOLD_S, Channel, Clients
from mcp_guard.approval.eligibility import Channels, Mode, may_prompt
from mcp_guard.approval.prompt import build_prompt, clip
from mcp_guard.approval.rows import Request
from mcp_guard.canon import fingerprint
from mcp_guard.model import ClientInfo, MaskedText
from mcp_guard.ports import Front
from mcp_guard.question import Prompt

_NAME = 40


@dataclass(frozen=True, slots=True)
class Question:
    """How the person at the client is asked about one request, and how long the call waits."""

    channel: Channel
    """Over which channel an answer would come."""
    prompt: Prompt | None
    """None: nobody is asked there."""
    hold_s: float


class Asking:
    """Chooses between the form, the page and nothing."""

    def __init__(self, clients: Clients, mode: Mode, page: Callable[[str], str] | None) -> None:
        self._clients = clients
        self._mode: Mode = mode
        self._page = page

    async def question(
        self, request: Request, client: ClientInfo | None, front: Front, hold_s: float, *, others: int = 0
    ) -> Question:
        """The form where its answer would count, else the page where the client can open it.

        In team mode the requester never decides, so his client is asked nothing.
        """
        able = await self._clients.able(client, front, hold_s)
        counts = may_prompt(self._mode, request.min_assurance, Channels(front.can_prompt, reviewers=False))
        channel: Channel = "form" if counts else "url"
        if counts and able.form:
            return Question(channel, build_prompt(request, others=others), able.hold_s)
        # Where forms vanish, the page would be offered to nobody either.
        lost = counts and able.swallows
        if able.url and self._page is not None and self._mode == "personal" and not lost:
            return Question("url", invitation(request, self._page(request.row.id)), able.hold_s)
        return Question(channel, None, min(able.hold_s, SILENT_HOLD_S) if able.swallows else able.hold_s)


def invitation(request: Request, url: str) -> Prompt:
    """The question to open the page at `url`. Opening it approves nothing: the decision is made there."""
    tool = f"{clip(str(request.view['server']), _NAME)}.{clip(str(request.view['tool']), _NAME)}"
    return Prompt(
        approval_id=request.row.id,
        message=MaskedText(
            f"mcp-guard: a call of {tool} waits. Open the page to look at it; opening approves nothing."
        ),
        fingerprint=fingerprint(request.row.action_digest),
        type_fingerprint=False,
        url=url,
    )
