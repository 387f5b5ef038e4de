"""The tree of errors."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from mcp_guard import errors
from mcp_guard.errors import (
    AuditUnavailableError,
    ConflictError,
    FaultError,
    GuardError,
    MaskingError,
    RefusalError,
    WireError,
)


def tree(root: type[GuardError] = GuardError) -> Iterator[type[GuardError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


ALL = [kind for kind in tree() if kind.__module__ == errors.__name__]
DOCUMENTED = re.findall(r"\* (\w+Error) +(\w+)(?: +(-\d+))?", errors.__doc__ or "")


def test_the_text_is_code_message_and_hint() -> None:
    """docs/errors.md: the full text."""
    assert str(AuditUnavailableError("no space", hint="make some")) == ("[audit_unavailable] no space\nhint: make some")


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_has_a_hint_and_a_well_formed_code(kind: type[GuardError]) -> None:
    """CONTRIBUTING.md, habit 5."""
    assert re.fullmatch(r"[a-z_]+", kind.code)
    assert kind.default_hint
    assert kind.__doc__


def test_codes_are_unique() -> None:
    """Callers match on the code."""
    codes = [kind.code for kind in ALL]
    assert len(codes) == len(set(codes))


def test_the_module_docstring_is_the_tree() -> None:
    """decisions.md D4: the stable codes and their JSON-RPC numbers."""
    by_name = {kind.__name__: kind for kind in ALL}
    leaves = [(name, code, rpc) for name, code, rpc in DOCUMENTED if re.fullmatch(r"[a-z_]+", code) and rpc]
    assert len(leaves) >= 15
    for name, code, rpc in leaves:
        assert (by_name[name].code, by_name[name].rpc_code) == (code, int(rpc))
    assert {kind.__name__ for kind in ALL} == set(re.findall(r"\* (\w+Error)", errors.__doc__ or ""))


def test_only_faults_expiry_and_waiting_may_be_retried() -> None:
    """A refusal that an agent repeats unchanged annoys people."""
    retryable = {kind.code for kind in ALL if kind.retryable and issubclass(kind, RefusalError | ConflictError)}
    assert retryable == {"approval_expired", "approval_pending"}
    assert not errors.OutcomeUnknownError.retryable
    assert issubclass(errors.OutcomeUnknownError, FaultError)


def test_a_wire_error_says_which_request_was_refused() -> None:
    """decisions.md D3: -32700 or -32600, with the id where it could be read."""
    error = WireError("duplicate key", rpc=-32600, request_id=7)
    assert (error.rpc, error.request_id, error.code) == (-32600, 7, "wire")


def test_a_fault_tells_the_log_type_and_place_of_its_cause_and_never_its_text() -> None:
    """security.md S35; and whoever runs the guard must be able to find what broke."""
    with pytest.raises(ValueError, match="hunter2") as cause:
        int("hunter2-canary")
    error = MaskingError("the answer could not be masked", cause=cause.value)
    assert re.fullmatch(r"ValueError at test_errors\.py:\d+", error.origin)
    assert "hunter2" not in f"{error}{error!r}{error.origin}"
    assert MaskingError("plain").origin == ""
