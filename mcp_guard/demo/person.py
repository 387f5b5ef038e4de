"""The person at the terminal: one key, and the decision that it stands for."""

from __future__ import annotations

import os
from pathlib import Path

from anyio import to_thread

from mcp_guard.approval.review import Verdict
from mcp_guard.config.load import load_config
from mcp_guard.errors import ConflictError, RefusalError
from mcp_guard.model import Principal
from mcp_guard.system import single_keys, user_name

_POLL_S = 0.2
_KEYS: dict[str, Verdict] = {"a": "approve", "d": "deny"}


async def press_a_or_d() -> Verdict:
    """Wait for one of the two keys; every other key is ignored."""
    with single_keys() as poll:
        while True:
            key = await to_thread.run_sync(poll, _POLL_S)
            if key.lower() in _KEYS:
                return _KEYS[key.lower()]


async def decide(config: Path, ticket: str, verdict: Verdict) -> bool:
    """Decide as the person at this terminal (assurance A1). False when the request could not be decided."""
    from mcp_guard.cli.approvals import open_review

    person = Principal("os", user_name())
    async with open_review(load_config(config, os.environ)) as review:
        try:
            reviewer = await review.identify(user=person.subject, tty=True, token=None, principal_key=person.key)
            await review.decide(ticket, verdict, reviewer)
        except (ConflictError, RefusalError):
            return False
    return True
