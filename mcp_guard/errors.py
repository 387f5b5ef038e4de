"""Every error of the guard, as one tree.

* GuardError
  * ConfigError                  config                 exit 2
    * HostFileError              host_file              exit 2
  * UsageError                   usage                  exit 2
  * RefusalError                 the guard said no
    * PolicyDeniedError          policy_denied          -32010
    * ApprovalDeniedError        approval_denied        -32011
    * ApprovalExpiredError       approval_expired       -32012
    * ApprovalPendingError       approval_pending       -32017
    * NoEligibleReviewerError    no_eligible_reviewer   -32011
    * QuarantinedError           tool_quarantined       -32016
    * InvalidArgumentsError      invalid_arguments      -32602
    * UnknownTargetError         unknown_target         -32602
    * PlaceholderError           placeholder_unresolved -32602
  * FaultError                   the guard, or a part of it, broke
    * DownstreamUnavailableError downstream_unavailable -32013
    * OutcomeUnknownError        outcome_unknown        -32013
    * AuditUnavailableError      audit_unavailable      -32014
    * StoreUnavailableError      store_unavailable      -32014
    * OverloadedError            overloaded             -32015
    * MaskingError               masking_failed         -32603
    * InternalError              internal               -32603
  * ConflictError                approval rows: somebody else was first, or the caller may not
    * NotEligibleError           not_eligible
    * AlreadyDecidedError        already_decided
    * UnknownApprovalError       unknown_approval
    * NotConfirmedError          not_confirmed
  * WireError                    a frame that the strict reader refused (-32700 or -32600)

`code` is API: callers match on it, never on the message. Messages are constant text plus names from the
configuration; they never hold a value from a call. `hint` says what to do next.
"""

from __future__ import annotations

import traceback
from pathlib import PurePath
from typing import ClassVar


class GuardError(Exception):
    """Base of all errors the guard raises on purpose."""

    code: ClassVar[str] = "guard"
    """Stable, documented identifier."""

    rpc_code: ClassVar[int] = -32603
    """JSON-RPC error code where a method's result has no `isError`."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""

    default_hint: ClassVar[str] = "see the masked log of the guard; `mcp-guard check` finds most causes"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}\nhint: {self.hint}"


class ConfigError(GuardError):
    """The configuration, a manifest or a lock file is not usable. Lists every problem at once."""

    code = "config"
    default_hint = "run `mcp-guard check` after each edit"


class HostFileError(ConfigError):
    """`wrap` or `unwrap` could not write a host's file, or what belongs to it. All files are as before."""

    code = "host_file"
    default_hint = "nothing was changed; close the host, then try again"


class UsageError(GuardError):
    """A command line that does not fit."""

    code = "usage"
    default_hint = "run the command with --help"


class RefusalError(GuardError):
    """The guard said no."""

    code = "refused"
    rpc_code = -32010


class PolicyDeniedError(RefusalError):
    """A rule, or a built-in default, denies the call."""

    code = "policy_denied"
    default_hint = "do not retry; ask the owner of the rule, or use another tool"


class ApprovalDeniedError(RefusalError):
    """A reviewer denied the call."""

    code = "approval_denied"
    rpc_code = -32011
    default_hint = "do not retry and do not try another route; ask the user"


class ApprovalExpiredError(RefusalError):
    """Nobody decided in time, or an approved call was not used in time."""

    code = "approval_expired"
    rpc_code = -32012
    retryable = True
    default_hint = "repeat the call once a reviewer is available; the earlier request is closed"


class ApprovalPendingError(RefusalError):
    """A resource or prompt waits for a reviewer; where the method's result has no `isError`."""

    code = "approval_pending"
    rpc_code = -32017
    retryable = True
    default_hint = "repeat the same request once a reviewer has decided"


class NoEligibleReviewerError(RefusalError):
    """No configured channel reaches a reviewer with the assurance that the rule demands."""

    code = "no_eligible_reviewer"
    rpc_code = -32011
    default_hint = (
        "it was not executed; the user runs `mcp-guard reviewer add NAME` once, in a terminal. Then repeat the call: "
        "the user decides it with that token, on the page of `mcp-guard console` or with `mcp-guard approvals approve`"
    )


class QuarantinedError(RefusalError):
    """The definition of the tool is not the one that was accepted."""

    code = "tool_quarantined"
    rpc_code = -32016
    default_hint = "do not retry; the user sees with `mcp-guard pins diff` what changed, and decides"


class InvalidArgumentsError(RefusalError):
    """The arguments do not fit the input schema of the tool."""

    code = "invalid_arguments"
    rpc_code = -32602
    default_hint = "correct the arguments by the tool's input schema and call again"


class UnknownTargetError(RefusalError):
    """No such tool, resource or prompt behind the guard."""

    code = "unknown_target"
    rpc_code = -32602
    default_hint = "list the tools again; names are matched exactly"


class PlaceholderError(RefusalError):
    """A placeholder in the arguments may not be restored there."""

    code = "placeholder_unresolved"
    rpc_code = -32602
    default_hint = "a placeholder can only go back to the server it came from; ask the user for the value"


class FaultError(GuardError):
    """The guard, or a part of it, broke."""

    code = "fault"
    retryable = True

    def __init__(self, message: str, *, hint: str | None = None, cause: BaseException | None = None) -> None:
        super().__init__(message, hint=hint)
        self.origin = "" if cause is None else origin_of(cause)
        """Type and place of what went wrong inside, for the log; never its text."""


def origin_of(error: BaseException) -> str:
    """Type and innermost place of an exception: `KeyError at walk.py:12`."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place


class DownstreamUnavailableError(FaultError):
    """The downstream server is not running, or its transport broke before anything was sent."""

    code = "downstream_unavailable"
    rpc_code = -32013
    default_hint = "`mcp-guard check --connect` says why; the guard keeps trying to start it"


class OutcomeUnknownError(FaultError):
    """The call was sent and no answer came. It may or may not have had its effect."""

    code = "outcome_unknown"
    rpc_code = -32013
    retryable = False
    default_hint = "check at the server whether the call took effect before repeating it"


class AuditUnavailableError(FaultError):
    """No audit, no call."""

    code = "audit_unavailable"
    rpc_code = -32014
    default_hint = "check that the data folder is writable and has space; `mcp-guard audit verify` checks the log"


class StoreUnavailableError(FaultError):
    """The store of approvals and placeholders cannot be read or written."""

    code = "store_unavailable"
    rpc_code = -32014
    default_hint = "check that the data folder is writable and has space"


class OverloadedError(FaultError):
    """A bound was reached."""

    code = "overloaded"
    rpc_code = -32015
    default_hint = "wait until earlier calls or requests are settled"


class MaskingError(FaultError):
    """Masking failed. What it failed on is not in the message."""

    code = "masking_failed"
    retryable = False


class InternalError(FaultError):
    """Anything not foreseen. Constant text."""

    code = "internal"
    retryable = False


class ConflictError(GuardError):
    """A step on an approval request that is not possible now."""

    code = "conflict"


class NotEligibleError(ConflictError):
    """This person or channel may not decide this request."""

    code = "not_eligible"
    default_hint = "`mcp-guard approvals show ID` says which assurance is needed"


class AlreadyDecidedError(ConflictError):
    """The request is no longer open. The message names its state."""

    code = "already_decided"
    default_hint = "`mcp-guard approvals show ID` tells who decided and when"


class UnknownApprovalError(ConflictError):
    """No request with this id."""

    code = "unknown_approval"
    default_hint = "`mcp-guard approvals ls` lists the requests"


class NotConfirmedError(ConflictError):
    """An approval without the fingerprint that it needs, with a wrong one, or without a yes. Nothing was decided."""

    code = "not_confirmed"
    default_hint = "`mcp-guard approvals show ID` shows the request and its fingerprint"


class WireError(GuardError):
    """A frame that the strict reader refused."""

    code = "wire"
    default_hint = "send one JSON-RPC 2.0 message per line, UTF-8, without duplicate keys"

    def __init__(self, message: str, *, rpc: int, request_id: str | int | None = None) -> None:
        super().__init__(message)
        self.rpc = rpc
        """-32700 (not JSON) or -32600 (JSON, but not an acceptable message)."""
        self.request_id = request_id
        """Id of the refused request where it could be read, else None."""
