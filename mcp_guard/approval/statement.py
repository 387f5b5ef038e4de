"""What is approved (the action), and who said so (the signed decision statement). approvals.md S1, S3."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeAlias, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, JsonValue, TypeAdapter

from mcp_guard.approval.eligibility import Mode, Separation, demanded
from mcp_guard.canon import digest, keyed_digest
from mcp_guard.keystore import KeyStore
from mcp_guard.model import Assurance, Call, Decision, JsonDict, MaskedJson, RawArguments, Views

_KEY = "decision"
_DOMAIN = b"mcp-guard/decision/v2\0"
_NS = 1_000_000_000

Said: TypeAlias = Literal["approve", "deny", "cancel", "completed", "failed"]
"""What a person may say of a request: T4, T5, T9, and both ways of T18."""


@dataclass(frozen=True, slots=True, repr=False)
class Stored:
    """All that is needed to carry the call out later. Kept encrypted."""

    call: Call
    views: Views
    decision: Decision
    environment: str
    mode: Mode
    """Whether somebody else than the requester must decide. Fixed when the request is made."""
    created_ns: int = 0
    linked: tuple[str, ...] = ()
    """Pointers of arguments whose folder was reached through links when the call was asked for."""
    shown_as: int = 0
    """`prompt.VIEW` of the version that made the request: what reviewers see is built anew, and must be the same."""

    @property
    def expires_ns(self) -> int:
        """Wall nanoseconds from which on nobody approves."""
        return self.created_ns + int(self.decision.terms.expires_after_s * _NS)

    @property
    def use_within_ns(self) -> int:
        """How long an approval may be used."""
        return int(self.decision.terms.use_within_s * _NS)

    def __repr__(self) -> str:
        return f"Stored({self.call.call_id})"


@dataclass(frozen=True, slots=True, repr=False)
class _Packed:
    """A stored call whose arguments stand beside it, each form of them once: they are nearly all of its size."""

    forms: list[JsonValue]
    which: list[Annotated[int, Field(ge=0, le=3)]]
    """Index in `forms` of: as sent, for the downstream, for reviewers, for the log."""
    stored: Stored


_STORED = TypeAdapter(Stored)
_PACKED = TypeAdapter(_Packed)
_FORM: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)
_PACKED_BEGINS = b'{"forms":'


def dump(stored: Stored) -> bytes:
    """Serialise; exact for integers of any size and for floats."""
    views = stored.views
    values: list[JsonValue] = [stored.call.arguments.value, views.for_downstream.value]
    # As written: in Python, 1, 1.0 and True are equal.
    written = [_FORM.dump_json(value) for value in [*values, views.for_reviewer.value, views.for_log.value]]
    forms = list(dict.fromkeys(written))
    which = json.dumps([forms.index(one) for one in written]).encode()
    rest = _STORED.dump_json(_with_arguments(stored, [{}, {}, {}, {}]))
    return _PACKED_BEGINS + b"[" + b",".join(forms) + b'],"which":' + which + b',"stored":' + rest + b"}"


def load(data: bytes) -> Stored | None:
    """Read what `dump` made, here or in an earlier version; None when it is not that."""
    try:
        if not data.startswith(_PACKED_BEGINS):
            return _STORED.validate_json(data)
        packed = _PACKED.validate_json(data)
        return _with_arguments(packed.stored, [packed.forms[index] for index in packed.which])
    except (ValueError, IndexError):
        return None


def _with_arguments(stored: Stored, forms: list[JsonValue]) -> Stored:
    sent, downstream, reviewer, log = forms
    if not isinstance(sent, dict) or not isinstance(downstream, dict):
        raise ValueError  # noqa: TRY004 - as for everything else that `dump` does not write
    views = replace(
        stored.views,
        for_downstream=RawArguments(downstream),
        for_reviewer=MaskedJson(reviewer),
        for_log=MaskedJson(log),
    )
    return replace(stored, call=replace(stored.call, arguments=RawArguments(sent)), views=views)


def action_digest(stored: Stored, nonce: str) -> str:
    """Digest of exactly what would run and for whom. The nonce hides arguments of low entropy.

    Raises:
        InvalidArgumentsError: the arguments have no canonical form.
    """
    target, decision = stored.call.target, stored.decision
    action: JsonDict = {
        "v": 2,
        "env": stored.environment,
        "server": {"name": target.server, "identity": target.server_identity},
        "tool": {"kind": target.kind.value, "name": target.name, "definition": target.definition_digest},
        "arguments": stored.views.for_downstream.value,
        "meta": stored.call.meta,
        "policy": {"rule": decision.rule, "digest": decision.policy_digest},
        "requester": stored.call.principal.key,
        "terms": {
            "mode": stored.mode,
            "needs": demanded(decision, stored.mode).name,
            "expires": stored.expires_ns,
            "use_within": stored.use_within_ns,
            "run": decision.terms.run,
        },
        "nonce": nonce,
    }
    return digest("action", action)


def lookup(keys: KeyStore, call: Call, arguments: RawArguments) -> str:
    """Keyed digest by which an identical call of the same owner finds its request."""
    return keyed_digest(keys.secret("lookup"), "lookup", _subject(call, arguments))


def lookups(keys: KeyStore, stored: Stored) -> list[str]:
    """What `lookup` said of a stored call, under every key of the ring."""
    subject = _subject(stored.call, stored.views.for_downstream)
    return [keyed_digest(key, "lookup", subject) for key in keys.ring("lookup")]


def _subject(call: Call, arguments: RawArguments) -> JsonValue:
    target = call.target
    return [call.principal.key, target.server, target.kind.value, target.name, arguments.value]


def comment_mac(keys: KeyStore, approval: str, nonce: str, comment: str) -> str:
    """Binds a reviewer's comment to the statement without repeating it there: comments can be erased."""
    return keyed_digest(keys.secret("lookup"), "comment", [approval, nonce, comment])


@dataclass(frozen=True, slots=True)
class Statement:
    """One verdict of one person over one action. Times in wall nanoseconds, as strings on the wire."""

    approval: str
    round: int
    action_digest: str
    verdict: Said
    reviewer: str
    assurance: Assurance
    channel: str
    mode: Mode
    separation: Separation
    at_ns: int
    exp_ns: int
    """An approval is worth nothing from here on."""
    comment_mac: str
    nonce: str
    how: str = ""
    """What the person did to decide, where the channel tells: `second_look`."""

    def text(self) -> str:
        """The bytes that are signed: JSON with sorted keys, strings and small integers only."""
        value = {
            "v": 2,
            "approval": self.approval,
            "round": self.round,
            "action_digest": self.action_digest,
            "decision": self.verdict,
            "reviewer": self.reviewer,
            "assurance": self.assurance.name,
            "channel": self.channel,
            "mode": self.mode,
            "separation": self.separation,
            "comment": self.comment_mac,
            "at": str(self.at_ns),
            "exp": str(self.exp_ns),
            "nonce": self.nonce,
            **({"how": self.how} if self.how else {}),
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def sign(keys: KeyStore, statement: Statement) -> bytes:
    """Ed25519 signature with the current `decision` key."""
    return keys.signing_key(_KEY).sign(_DOMAIN + statement.text().encode())


def verify(keys: KeyStore, text: str, signature: bytes) -> Statement | None:
    """Return the statement if any key of the ring signed exactly these bytes, else None."""
    for key in keys.ring(_KEY):
        try:
            Ed25519PrivateKey.from_private_bytes(key).public_key().verify(signature, _DOMAIN + text.encode())
        except InvalidSignature:
            continue
        return _parse(text)
    return None


def _parse(text: str) -> Statement | None:
    try:
        value = json.loads(text)
        return Statement(
            approval=str(value["approval"]),
            round=int(value["round"]),
            action_digest=str(value["action_digest"]),
            verdict=_one_of(Said, value["decision"]),
            reviewer=str(value["reviewer"]),
            assurance=Assurance[value["assurance"]],
            channel=str(value["channel"]),
            mode=_one_of(Mode, value["mode"]),
            separation=_one_of(Separation, value["separation"]),
            comment_mac=str(value["comment"]),
            at_ns=int(value["at"]),
            exp_ns=int(value["exp"]),
            nonce=str(value["nonce"]),
            how=str(value.get("how", "")),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _one_of(kind: Any, value: object) -> Any:
    """The value, if the literal type `kind` has it."""
    if value not in get_args(kind):
        raise ValueError
    return value
