"""The nouns of the guard: frozen, no I/O. Raw and masked, decided and permitted are different types.

A value that may hold a secret is wrapped (`RawArguments`, `RawResult`, `VaultEntry`) and its `repr` shows nothing.
What reviewers, records and clients may see is `MaskedJson` or `MaskedText`; only `mcp_guard.masking` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Literal, NewType, TypeAlias

from pydantic import JsonValue

JsonDict: TypeAlias = dict[str, JsonValue]

MaskedText = NewType("MaskedText", str)
"""Text in which the masking engine found nothing more to mask. Made by `mcp_guard.masking` only."""

GUARD_META = "io.mcp-guard/"  # prefix of the guard's keys in `_meta`


class CallKind(StrEnum):
    """What a call asks for. All kinds walk the same line (decisions.md D37)."""

    TOOL = "tool"
    RESOURCE = "resource"
    PROMPT = "prompt"
    COMPLETION = "completion"


class Effect(StrEnum):
    """What a decision says. `rank` orders them; the most restrictive wins."""

    ALLOW = "allow"
    REQUIRE_APPROVAL = "require_approval"
    DENY = "deny"

    @property
    def rank(self) -> int:
        """0 allow, 1 require_approval, 2 deny."""
        return list(Effect).index(self)


class Risk(StrEnum):
    """Worst plausible harm of a tool, from its manifest."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 low … 3 critical."""
        return list(Risk).index(self)


class Assurance(IntEnum):
    """How sure it is that the person named decided (docs/approvals.md)."""

    A0 = 0
    """Policy or a standing grant."""
    A1 = 1
    """The requester's own client, or the local command line."""
    A2 = 2
    """A linked chat identity, a signed system, or a reviewer's token."""
    A3 = 3
    """The reviewer's own web session."""
    A4 = 4
    """A WebAuthn signature over the decision."""


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """What the client says of itself. Recorded, never compared."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. Issuer `os` on stdio: OS user and label, unverified (D36); `local-token` behind the bearer token."""

    issuer: str
    subject: str
    label: str = ""
    verified: bool = False
    client: ClientInfo | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """Canonical identity: JSON list of issuer, subject, label. clientInfo is not part of it."""
        return json.dumps([self.issuer, self.subject, self.label], ensure_ascii=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class CallContext:
    """Circumstances of a call, recorded with its decision. `session` is the guard's own id of the connection."""

    transport: Literal["stdio", "http"]
    protocol: str
    session: str
    host: str = ""
    """Name of the host entry: the `--server NAME` of `serve`, else empty."""
    justification: str = field(default="", repr=False)
    """What the agent says for itself: unmasked, unverified, at most 500 characters. Only reviewers see it, masked."""


@dataclass(frozen=True, slots=True, repr=False)
class RawArguments:
    """Arguments that may hold secrets. Only decide, digest, the encrypted row and forward read `value`."""

    value: JsonDict

    def __repr__(self) -> str:
        return "RawArguments(…)"


@dataclass(frozen=True, slots=True, repr=False)
class RawResult:
    """What a downstream answered: a `result` object, or an `error` with code, message and perhaps data."""

    result: JsonDict | None = None
    error: JsonDict | None = None

    def __repr__(self) -> str:
        return "RawResult(…)"


@dataclass(frozen=True, slots=True)
class MaskedJson:
    """A JSON value as reviewers, records and clients may see it. Made by `mcp_guard.masking` only."""

    value: JsonValue


@dataclass(frozen=True, slots=True)
class ArgumentFact:
    """What the manifest says of one argument."""

    role: Literal["recipient", "identifier", "content", "query", "secret"] | None = None
    show: Literal["full", "masked", "digest", "hidden"] = "masked"


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """Facts about one tool: from its manifest, or the cautious reading when no manifest lists it."""

    listed: bool
    effects: tuple[str, ...]
    risk: Risk
    category: str | None = None
    resource: str | None = None
    """JSON Pointer into the arguments to what is affected."""
    arguments: Mapping[str, ArgumentFact] = field(default_factory=dict)
    """By JSON Pointer."""
    why: str = ""
    manifest: str | None = None
    manifest_digest: str = ""


UNREVIEWED = ToolFacts(listed=False, effects=(), risk=Risk.HIGH, why="not reviewed: no manifest lists this tool")


@dataclass(frozen=True, slots=True)
class Target:
    """What a call goes to, as resolved by the catalogue."""

    kind: CallKind
    server: str
    """Name of the downstream in guard.yaml."""
    name: str
    """The downstream's own name: tool name, prompt name or resource URI."""
    exposed: str
    local: bool
    """Whether the downstream is a local stdio server."""
    definition_digest: str = ""
    input_schema: JsonDict | None = None
    output_schema: JsonDict | None = None
    facts: ToolFacts = UNREVIEWED
    server_identity: str = ""
    """Digest over the command or URL of the downstream."""


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """One call over all its rounds, with the arguments as the client sent them (placeholders unrestored)."""

    call_id: str
    target: Target
    arguments: RawArguments
    principal: Principal
    context: CallContext
    meta: JsonDict = field(default_factory=dict)
    """The client's `_meta` less progress token and protocol keys; forwarded."""

    def __repr__(self) -> str:
        return f"Call({self.call_id}, {self.target.kind} {self.target.server}/{self.target.name})"


@dataclass(frozen=True, slots=True)
class MaskNote:
    """One kind of thing that was masked or restored."""

    type: str
    """Entity: EMAIL, SECRET, CREDIT_CARD, US_SSN, IBAN, PHONE, IP, …"""
    count: int
    rule: str
    """Id of the detector rule that found it, for "why was this masked"."""


@dataclass(frozen=True, slots=True, repr=False)
class VaultEntry:
    """What a placeholder stands for."""

    scope: str
    """`Principal.key`: nobody else's placeholder is ever restored."""
    token: str
    """Without brackets: EMAIL_k3f7q2m5xa."""
    type: str
    value: str
    server: str
    """The downstream it came from first."""
    kind: Literal["str", "int"] = "str"
    """JSON type of the original where the placeholder replaced a whole value."""
    also: frozenset[str] = frozenset()
    """Other downstreams that it came from since."""

    def __repr__(self) -> str:
        return f"VaultEntry({self.token}, …)"

    @property
    def servers(self) -> frozenset[str]:
        """All downstreams that it came from: it may go back to each of them."""
        return self.also | {self.server}


@dataclass(frozen=True, slots=True)
class Masked:
    """A masked value with what was done to it."""

    json: MaskedJson
    notes: tuple[MaskNote, ...] = ()
    entries: tuple[VaultEntry, ...] = ()
    """New vault entries; stored before the masked value leaves."""


@dataclass(frozen=True, slots=True)
class Views:
    """The views of a call (decisions.md D11)."""

    for_downstream: RawArguments
    """Exactly what would run: placeholders restored where allowed, masked where the policy says so."""
    for_reviewer: MaskedJson
    for_log: MaskedJson
    notes: tuple[MaskNote, ...] = ()
    """What was masked in `for_downstream` against what the client sent."""
    entries: tuple[VaultEntry, ...] = ()
    restored: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    """Known tokens that may not be restored where they stand; the call is refused."""
    secrets: tuple[str, ...] = ()
    """Types of secrets that `for_downstream` holds; `arguments.secrets: ask` asks for them."""


@dataclass(frozen=True, slots=True)
class GrantOffer:
    """A standing permission that the reviewer may give with an approval, for `for_s` seconds (approvals.md S13)."""

    for_s: float
    max_uses: int
    """Calls that it lets through, the approved one not counted."""
    keep: Mapping[str, Literal["same", "folder", "domain"]] | None = None
    """JSON Pointers of arguments that are bound to the approved call, each with its bound; None: all, the same."""


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """How a suspended call is settled, and what may be granted with an approval. Durations in seconds."""

    min_assurance: Assurance = Assurance.A1
    expires_after_s: float = 900.0
    use_within_s: float = 300.0
    """From approval to the first byte sent."""
    hold_s: float = 45.0
    """How long the call waits before it becomes a ticket."""
    run: Literal["on_approval", "on_pickup"] = "on_approval"
    grants: tuple[GrantOffer, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Ids, codes and constant text only: a decision can be shown to anybody."""

    effect: Effect
    rule: str
    """Rule id; built-in defaults are named `default:<risk>`, built-in rules `builtin:<name>`."""
    risk: Risk
    reasons: tuple[str, ...]
    policy_digest: str
    terms: ApprovalTerms = ApprovalTerms()


@dataclass(frozen=True, slots=True)
class Suspended:
    """A call that waits for people. Becomes a ticket (`isError`) for the client."""

    approval_id: str
    state: str
    fingerprint: str
    expires_ns: int
    needs: str
    rule: str = ""
    note: str = ""
    """What the user has to know besides: a plain sentence of ours."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Position of a record in the audit log and the log head right after it: `root` in base64, at `size`."""

    origin: str
    index: int
    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets: masked. `error` is a JSON-RPC error object, else `result` is set."""

    result: MaskedJson | None = None
    error: MaskedJson | None = None
    notes: tuple[MaskNote, ...] = ()
    receipt: Receipt | None = None
    approval_id: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One audit record before it gets its place in the log. Masked content only.

    `fields` holds str, int below 2^53, bool, None, lists and dicts of them with ASCII keys; no floats.
    """

    type: str
    """call.intent, call.forwarded, call.result, call.refused, call.interrupted, approval.requested, …"""
    call_id: str = ""
    session: str = ""
    actor: str = ""
    """`Principal.key` of who acts."""
    tool: str = ""
    """server/name."""
    outcome: str = ""
    """ok, error, refused, suspended, unknown, …"""
    fields: Mapping[str, JsonValue] = field(default_factory=dict)
    payloads: Mapping[str, MaskedJson] = field(default_factory=dict)
    """By name: args, result, shown, comment."""
    at_ns: int = 0
    """Wall nanoseconds; 0 = when it is appended."""

    def with_payload(self, name: str, payload: MaskedJson) -> Record:
        """Return a copy that also carries this part."""
        return replace(self, payloads={**self.payloads, name: payload})
