"""What clients see and may call: the catalogue of all downstream servers, masked, and ready when it can be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

import anyio
import anyio.lowlevel
import structlog

from mcp_guard.downstream.catalog import Catalog
from mcp_guard.downstream.definition import Listing
from mcp_guard.downstream.pins import Pins
from mcp_guard.downstream.pool import FIRST_LIST_WAIT_S, LIST_WAIT_S, Pool
from mcp_guard.errors import (
    DownstreamUnavailableError,
    GuardError,
    MaskingError,
    QuarantinedError,
    UnknownTargetError,
)
from mcp_guard.model import Call, CallKind, JsonDict, MaskedText, Principal, Target
from mcp_guard.server.shown import visible_definition, visible_text

_log = structlog.get_logger(__name__)

LIST_TTL_S = 60.0
"""Age of a link's lists, in seconds, after which they are read again before a risky call or a client's list (S22)."""
_RELIST_WAIT_S = 5.0
"""How long a client's list waits for servers that list again."""
_WATCH_S = 1.0
"""How often a running guard looks whether `guard.lock` changed."""
_STEP = 16
"""Definitions that are masked before other calls get their turn."""
_FIRST_START_WAIT_S = 30.0
"""How long a call to an unknown name waits for servers that are still starting, in seconds."""


class DefinitionMasker(Protocol):
    """What listing needs of the masking engine."""

    def definition(self, value: JsonDict) -> JsonDict:
        """Mask the strings of a definition irreversibly; names and schema keys stay.

        Raises:
            MaskingError: a name holds what must not be shown; the definition is not offered.
        """
        ...

    def relax_schema(self, output_schema: JsonDict) -> JsonDict:
        """An output schema that masked results still fit (decisions.md D12)."""
        ...

    def text(self, text: str) -> MaskedText:
        """Mask text irreversibly."""
        ...


class Offers:
    """Implements `handlers.CatalogPort` over the catalogue and the pool."""

    def __init__(
        self,
        catalog: Catalog,
        pool: Pool,
        masker: DefinitionMasker,
        *,
        on_change: Callable[[], None],
        pins: Pins | None = None,
    ) -> None:
        self._catalog = catalog
        self._pins = pins
        self._pool = pool
        self._masker = masker
        self._on_change = on_change
        self._masked: dict[str, list[JsonDict]] = {}
        self._generation = 0
        self._updated = anyio.Event()

    def update(self, server: str, listing: Listing) -> None:
        """Take over what a server offers now, and tell clients when it differs from before."""
        if self._catalog.update(server, listing):
            self._changed()
        self._updated.set()
        self._updated = anyio.Event()

    def _changed(self) -> None:
        self._masked.clear()
        self._generation += 1
        self._on_change()

    async def watch(self) -> None:
        """Notice for ever that somebody accepted something: hosts list once, and would not ask for what was hidden."""
        while True:
            # Whatever is wrong here, sessions go on: each call looks at the lock by itself, and is refused if need be.
            try:
                self._look_at_lock()
                if self._pins is not None:
                    await self._pins.record_accepted()
            except GuardError as error:
                _log.warning("lock_not_watched", code=error.code)
            await anyio.sleep(_WATCH_S)

    def _look_at_lock(self) -> None:
        if self._pins is not None and self._pins.reload():
            self._pool.start_again()
        if self._catalog.judge_again():
            self._changed()

    async def confirm(self, call: Call) -> None:
        """Before a risky call: see that its server still offers what was judged.

        Raises:
            QuarantinedError: the tool or its server is not the accepted one, or another one than was judged.
            DownstreamUnavailableError: the server does not list its tools.
            UnknownTargetError: the tool is gone.
        """
        target = call.target
        await self._pool.refresh(target.server, call.principal.key, kind=target.kind, older_than_s=LIST_TTL_S)
        self._look_at_lock()
        still_the_same(self._catalog, call.target)

    async def resolve(self, kind: CallKind, name: str, principal: Principal) -> Target:
        """The target behind a name or URI; an unknown one waits until a server that is starting offers it.

        Raises:
            UnknownTargetError: no server offers it.
            QuarantinedError: it is not the one that was accepted.
            DownstreamUnavailableError: its server is held to nothing, and did not list in this run.
        """
        self._pool.start(principal.key)
        self._look_at_lock()
        with contextlib.suppress(UnknownTargetError):
            found = self._look_up(kind, name, principal)
            if not self._catalog.from_last_run(found.server):
                return found
        await self._until_offered(kind, name, principal)
        found = self._look_up(kind, name, principal)
        if self._catalog.from_last_run(found.server):
            raise DownstreamUnavailableError(f"{found.server} has not said yet what it offers")
        return found

    async def _until_offered(self, kind: CallKind, name: str, principal: Principal) -> None:
        """Return once the name is known or no server is starting any more: one slow server keeps no other waiting."""
        async with anyio.create_task_group() as waiting:

            async def watch() -> None:
                while True:
                    await self._updated.wait()
                    with contextlib.suppress(UnknownTargetError):
                        if not self._catalog.from_last_run(self._look_up(kind, name, principal).server):
                            waiting.cancel_scope.cancel()

            waiting.start_soon(watch)
            await self._pool.settled(_FIRST_START_WAIT_S)
            waiting.cancel_scope.cancel()

    async def listing(self, key: str, principal: Principal) -> list[JsonDict]:
        """Masked definitions. Waits up to 8 s for servers that are starting, 20 s while one was never seen (D27)."""
        self._pool.start(principal.key)
        await self._pool.settled(LIST_WAIT_S if self._catalog.complete else FIRST_LIST_WAIT_S)
        self._look_at_lock()
        if key == "tools":
            await self._pool.refresh_all(principal.key, older_than_s=LIST_TTL_S, timeout_s=_RELIST_WAIT_S)
        if key not in self._masked:
            raw = {
                "tools": self._catalog.tools,
                "prompts": self._catalog.prompts,
                "resources": self._catalog.resources,
                "resourceTemplates": self._catalog.templates,
            }[key]()
            return await self._mask_all(key, raw)
        return self._masked[key]

    async def _mask_all(self, key: str, raw: list[JsonDict]) -> list[JsonDict]:
        generation, shown = self._generation, []
        for index, definition in enumerate(raw):
            try:
                shown.append(self._shown(definition))
            except MaskingError:
                # Something in a name: masked it could not be called, and unmasked it must not be shown.
                _log.warning("definition_withheld", kind=key)
            if index % _STEP == 0:
                await anyio.lowlevel.checkpoint()
        if generation == self._generation:
            self._masked[key] = shown
        return shown

    def instructions(self) -> str:
        """The guard's own instructions, and those of the servers from the last run, masked."""
        parts = [_OWN_INSTRUCTIONS]
        parts += [
            f"[{name}] {visible_text(self._masker.text(text))}" for name, text in self._catalog.instructions().items()
        ]
        return "\n\n".join(parts)

    def declares(self, capability: str) -> bool:
        """Whether to declare `resources`, `prompts` or `completions`: as known from the last run, else yes (D27)."""
        return self._catalog.offers(capability)

    def _shown(self, definition: JsonDict) -> JsonDict:
        masked = self._masker.definition(definition)
        schema = masked.get("outputSchema")
        if isinstance(schema, dict):
            masked["outputSchema"] = self._masker.relax_schema(schema)
        return visible_definition(masked)

    def _look_up(self, kind: CallKind, name: str, principal: Principal) -> Target:
        if kind is CallKind.TOOL:
            return self._catalog.resolve(name, principal)
        if kind is CallKind.PROMPT:
            return self._catalog.resolve_prompt(name)
        return self._catalog.resolve_resource(name)

    async def resolve_completion(self, ref: JsonDict, principal: Principal) -> Target:
        """The target of a completion, by the prompt or template that it refers to.

        Raises:
            UnknownTargetError: no server offers it.
        """
        self._pool.start(principal.key)
        return self._catalog.resolve_completion(ref)


def still_the_same(catalog: Catalog, target: Target) -> None:
    """What stands today where `target` was found is the same tool of the same server.

    Raises:
        DownstreamUnavailableError: nothing is known of its server yet.
        UnknownTargetError: it is gone.
        QuarantinedError: it is another one, or held back.
    """
    now = catalog.current(target)
    if now is None:
        raise DownstreamUnavailableError(f"{target.server} has not said yet what it offers")
    if (now.definition_digest, now.server_identity) != (target.definition_digest, target.server_identity):
        raise QuarantinedError("the tool or its server is not the one that was judged")


_OWN_INSTRUCTIONS = (
    "mcp-guard stands in front of these tools. Values like [EMAIL_k3f7q2m5xa] are placeholders: pass them on "
    "unchanged, and the guard puts the real value back where that is allowed. A call that needs approval answers "
    "with a ticket: wait for it with guard_approval_wait, and do not look for another way to do the same."
)
