"""The Protocols through which sibling parts reach each other. `app` passes the real ones in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal, Protocol

from pydantic import JsonValue

from mcp_guard.model import (
    Answer,
    Call,
    Decision,
    JsonDict,
    Masked,
    MaskedText,
    MaskNote,
    RawArguments,
    RawResult,
    Receipt,
    Record,
    Suspended,
    Target,
    VaultEntry,
    Views,
)
from mcp_guard.permit import Permit
from mcp_guard.question import AskClient, Prompt, PromptAnswer


class Front(Protocol):
    """The client's side of one call, as far as the pipeline may use it (decisions.md D37)."""

    @property
    def era(self) -> Literal["legacy", "modern"]:
        """`modern` from protocol revision 2026-07-28 on."""
        ...

    @property
    def can_prompt(self) -> bool:
        """Whether the client declared form elicitation on this request."""
        ...

    @property
    def can_open(self) -> bool:
        """Whether the client declared that it can ask its user to open an address."""
        ...

    @property
    def resumed(self) -> tuple[str, PromptAnswer | None] | None:
        """Modern era, second round: (approval id from the sealed state, the answer if there is one)."""
        ...

    async def ask(self, prompt: Prompt) -> PromptAnswer | None:
        """Legacy era: show the form and await the answer; None when the client gave none.

        A prompt with an address is an invitation to open it instead, and every answer to that is `dismissed`.
        Cancelling it withdraws the question.
        """
        ...

    async def over(self, prompt: Prompt) -> None:
        """Legacy era: tell the client that what it was asked to open at `prompt.url` is decided. Never raises."""
        ...

    async def progress(self, done: float, total: float | None, message: MaskedText | None) -> None:
        """Report progress; does nothing when the client asked for none. Never raises."""
        ...


ProgressSink = Callable[[float, float | None, str | None], Awaitable[None]]
"""Raw progress of a downstream: done, total, message (unmasked)."""


class Downstreams(Protocol):
    """The pool of links to downstream servers."""

    async def forward(
        self, call: Call, permit: Permit, arguments: RawArguments, *, execution_id: str, progress: ProgressSink | None
    ) -> RawResult:
        """Send the call and await its answer.

        Raises:
            DownstreamUnavailableError: nothing was sent.
            OutcomeUnknownError: bytes were written and no answer came (crash, timeout, cancelled after sending).
        """
        ...


class AuditTrail(Protocol):
    """The append side of the audit log."""

    async def append(self, record: Record) -> Receipt:
        """Return once the record is durable.

        Raises:
            AuditUnavailableError: it could not be made durable in time, or this step of the call is on record.
        """
        ...

    async def has_forwarded(self, call_id: str) -> bool:
        """Whether the log says that this call was sent.

        Raises:
            AuditUnavailableError: the log cannot be read.
        """
        ...


class Vault(Protocol):
    """Durable placeholders, encrypted at rest."""

    async def get(self, scope: str, tokens: Iterable[str]) -> dict[str, VaultEntry]:
        """Entries of this scope by token; unknown tokens are absent."""
        ...

    async def put(self, entries: Iterable[VaultEntry]) -> None:
        """Store; idempotent. A token that stands for another value raises MaskingError (collision)."""
        ...


class MaskingPort(Protocol):
    """The masking engine as the pipeline sees it: pure."""

    def tokens_in(self, value: JsonValue) -> frozenset[str]:
        """Placeholder tokens that occur anywhere in `value`, keys included."""
        ...

    def derive(self, call: Call, known: Mapping[str, VaultEntry]) -> Views:
        """Step 1 of the line: the views of a call.

        Raises:
            MaskingError: the engine failed; nothing of the input is in the message.
        """
        ...

    async def mask(self, value: JsonValue, *, scope: str, server: str) -> Masked:
        """Mask any outbound JSON value reversibly. Awaits between bounded steps (decisions.md D34).

        Raises:
            MaskingError: the engine failed, or the value is above the size limit.
        """
        ...

    def text(self, text: str) -> MaskedText:
        """Mask text irreversibly (`[EMAIL]`), for logs, stderr and progress."""
        ...

    def announce(self, notes: tuple[MaskNote, ...]) -> str:
        """`masked 3: EMAIL ×2, SECRET ×1 …` or an empty string."""
        ...


Confirm = Callable[[Call], Awaitable[None]]
"""Before a risky call: see that its server still offers what was judged; raises QuarantinedError and its kin."""


class PolicyPort(Protocol):
    """The policy decision point: pure."""

    def decide(self, call: Call, views: Views) -> Decision:
        """Judge exactly what would run."""
        ...

    def permit(self, call: Call, decision: Decision) -> Permit:
        """The permit for a call that policy allows.

        Raises:
            InternalError: the decision is not `allow`.
        """
        ...


class ApprovalPort(Protocol):
    """The approval desk as the pipeline sees it."""

    async def round_of(self, call: Call, views: Views, front: Front) -> str | None:
        """Modern era, further round: call_id of the request that this very call comes back to, else None."""
        ...

    async def settle(
        self, call: Call, views: Views, decision: Decision, front: Front
    ) -> Suspended | AskClient | Answer:
        """Attach the call to its approval request, making one where none is live, and wait as long as allowed.

        Returns an `Answer` when the outcome of the approved call is there (delivered once), `Suspended` for a
        ticket, `AskClient` for a question to a modern client.

        Raises:
            ApprovalDeniedError, ApprovalExpiredError, NoEligibleReviewerError, OverloadedError,
            StoreUnavailableError
        """
        ...


class ApprovedRun(Protocol):
    """One approved call in the hands of the executor. Every step is durable before it returns."""

    approval_id: str
    execution_id: str
    call: Call
    views: Views
    decision: Decision

    async def mark_sent(self) -> bool:
        """T14: commit sent=1. False means: do not send (expired, cancelled, lost)."""
        ...


Executor = Callable[["ApprovedRun", Permit], Awaitable[Answer]]
"""`Pipeline.run_approved`: steps 5 to 7 for a claimed row."""

FitsSchema = Callable[[Target, JsonDict], bool]
"""Whether a masked result fits the output schema that clients are shown (decisions.md D12)."""

CheckArguments = Callable[[Target, RawArguments], Awaitable[None]]
"""Validates arguments against the pinned input schema; raises InvalidArgumentsError."""
