"""The SDK's client session as the guard uses it: raw results, both protocol eras, one bad tool drops one tool."""

from __future__ import annotations

import itertools
from contextvars import ContextVar
from itertools import islice
from typing import Any, Final

import anyio.lowlevel
import mcp_types as types
from mcp import MCPError
from mcp.client.session import ClientSession
from mcp.shared.dispatcher import CallOptions
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.transport_context import TransportContext
from mcp_types.jsonrpc import UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.methods import validate_server_result
from pydantic import TypeAdapter, ValidationError

from mcp_guard.errors import DownstreamUnavailableError

RAW: Final[Any] = TypeAdapter(dict[str, Any])
"""Any, because the SDK's signature wants a model where its documentation offers this."""

_LISTS: Final = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}
MAX_ITEMS: Final = 5_000
"""Items of one list; what follows is not offered."""
_STEP: Final = 64
"""Items that are judged in one go; then other calls have their turn."""
_MAX_MEMBERS: Final = 64
"""Members of a result with which its items are judged."""
_FIRST_ID: Final = 1 << 20
"""Above the ids that the SDK counts itself."""


class RequestMark:
    """What the current task's request and its dispatcher tell each other past the SDK."""

    __slots__ = ("items", "request_id")

    def __init__(self) -> None:
        self.request_id: int | None = None
        """Under which it goes out, so that it can be cancelled by name."""
        self.items: dict[str, Any] = {}
        """The items of a list, by its key. They were judged already, and the SDK would judge all of them in one go."""


MARK: ContextVar[RequestMark | None] = ContextVar("mcp_guard_downstream_mark", default=None)


class LinkDispatcher(JSONRPCDispatcher[TransportContext]):
    """Notes request ids, and sifts lists item by item: the SDK alone fails the whole list (threat S30)."""

    version = "2025-11-25"
    """Negotiated protocol revision."""
    dropped = 0
    """Items of lists that did not fit the protocol or the limits."""

    _ids = itertools.count(_FIRST_ID)

    async def send_raw_request(
        self, method: str, params: Any, opts: CallOptions | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """See `JSONRPCDispatcher.send_raw_request`."""
        mark = MARK.get()
        if mark is not None:
            mark.request_id = next(self._ids)
            opts = {**(opts or {}), "request_id": mark.request_id}
        raw = await super().send_raw_request(method, params, opts, **kwargs)
        key = _LISTS.get(method)
        if key is None:
            return raw
        sifted = await self._sift(method, key, raw)
        if mark is None or not isinstance(sifted.get(key), list):
            return sifted
        mark.items = {key: sifted[key]}
        return {**sifted, key: []}

    async def _sift(self, method: str, key: str, raw: dict[str, Any]) -> dict[str, Any]:
        items = raw.get(key)
        if not isinstance(items, list):
            return raw
        # What is big is judged once, with the rest of the result, by the SDK.
        rest = {name: value for name, value in islice(raw.items(), _MAX_MEMBERS) if not isinstance(value, dict | list)}
        kept: list[Any] = []
        for start in range(0, min(len(items), MAX_ITEMS), _STEP):
            part = items[start : min(start + _STEP, MAX_ITEMS)]
            if not _fits(method, self.version, {**rest, key: part}):
                part = [item for item in part if _fits(method, self.version, {**rest, key: [item]})]
            kept += part
            await anyio.lowlevel.checkpoint()
        self.dropped += len(items) - len(kept)
        return {**raw, key: kept}


def _fits(method: str, version: str, raw: dict[str, Any]) -> bool:
    try:
        validate_server_result(method, version, raw)
    except (KeyError, ValueError):  # pydantic's ValidationError is a ValueError
        return False
    return True


async def negotiate(session: ClientSession, *, legacy: bool) -> str:
    """Agree on a protocol revision: `server/discover`, else `initialize`.

    Args:
        session: Entered, nothing sent yet.
        legacy: Known from the last run to be of the older era: skip the probe.

    Returns:
        The revision.

    Raises:
        MCPError: the server refused both, or its stream ended.
        DownstreamUnavailableError: no revision in common.
    """
    # Twice: a slow modern server can miss the probe's deadline and then refuses `initialize`, since the late probe
    # has already settled its era.
    for _ in range(2):
        if not legacy and await _discovered(session):
            return _version(session)
        try:
            await session.initialize()
        except MCPError as error:
            if error.code != UNSUPPORTED_PROTOCOL_VERSION:
                raise
            legacy = False
        except (ValidationError, RuntimeError) as error:
            raise DownstreamUnavailableError("it answered initialize with something unusable") from error
        else:
            return _version(session)
    raise DownstreamUnavailableError("it speaks no protocol revision that the guard speaks")


async def _discovered(session: ClientSession) -> bool:
    try:
        await session.discover()
    except MCPError as error:
        if error.code == types.CONNECTION_CLOSED and error.message == "Connection closed":
            raise
        return False
    except (ValidationError, RuntimeError):
        return False
    return True


def _version(session: ClientSession) -> str:
    version = session.protocol_version
    if version is None:
        raise DownstreamUnavailableError("it did not say which protocol revision it speaks")
    return version
