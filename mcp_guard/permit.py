"""What lets one call through, once. Nothing is forwarded without it (ARCHITECTURE.md, "One call")."""

from __future__ import annotations

from mcp_guard.errors import InternalError


class Permit:
    """Lets one call through once. Made by `issue_permit` only, which policy and the approval desk call."""

    __slots__ = ("_used", "call_id", "source")

    def __init__(self, call_id: str, source: str, *, seal: _Seal) -> None:
        if seal is not _SEAL:
            raise InternalError("a permit was made outside of policy and approval")
        self.call_id = call_id
        self.source = source
        self._used = False

    def use(self, call_id: str) -> None:
        """Consume the permit.

        Raises:
            InternalError: it was used before, or was issued for another call.
        """
        if self._used or call_id != self.call_id:
            raise InternalError("a permit is single use and bound to its call")
        self._used = True

    @property
    def used(self) -> bool:
        """Whether it was consumed. While it was not, nothing can have been sent."""
        return self._used


class _Seal:
    __slots__ = ()


_SEAL = _Seal()


def issue_permit(call_id: str, source: str) -> Permit:
    """Make the permit for one call. `source` is a rule id or an approval id."""
    return Permit(call_id, source, seal=_SEAL)
