"""A pipeline whose neighbours note what they are asked, in order, and fail on demand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import anyio
from pydantic import JsonValue

from mcp_guard.errors import (
    MaskingError,
)
from mcp_guard.model import (
    Answer,
    Call,
    CallContext,
    CallKind,
    Decision,
    Effect,
    JsonDict,
    Masked,
    MaskedJson,
    MaskedText,
    MaskNote,
    Principal,
    RawArguments,
    RawResult,
    Receipt,
    Record,
    Risk,
    Suspended,
    Target,
    VaultEntry,
    Views,
)
from mcp_guard.permit import Permit, issue_permit
from mcp_guard.pipeline import Pipeline
from mcp_guard.ports import Front, ProgressSink
from mcp_guard.question import AskClient, Prompt, PromptAnswer

SECRET = "hunter2-canary"
ALICE = Principal("os", "alice")
SUSPENDED = Suspended("apr_1", "pending", "ABCD-EFGH", 1, "one reviewer (A1)")


@dataclass
class Bench:
    """Small, whole implementations of the ports around the real pipeline; `steps` is what happened, in order."""

    effect: Effect = Effect.ALLOW
    settle_gives: Suspended | Answer | AskClient | None = None
    fail: dict[str, Exception] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    answer: RawResult = field(default_factory=lambda: RawResult(result={"content": [{"type": "text", "text": SECRET}]}))
    steps: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    forwarded: list[JsonDict] = field(default_factory=list)
    progress_seen: list[str | None] = field(default_factory=list)
    era: Literal["legacy", "modern"] = "legacy"
    can_prompt: bool = False
    can_open: bool = False
    resumed: tuple[str, PromptAnswer | None] | None = None
    leave: anyio.Event | None = None
    sent_before: bool = False
    fits: bool = True
    same_call: str | None = None

    def pipeline(self) -> Pipeline:
        return Pipeline(
            masking=self,
            vault=self,
            check_arguments=self.check,
            fits_schema=lambda _target, _result: self.fits,
            policy=self,
            confirm=self.confirm,
            approvals=self,
            audit=self,
            downstreams=self,
        )

    async def confirm(self, _call: Call) -> None:
        self._step("confirm")

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name in self.fail:
            raise self.fail[name]

    # masking
    def tokens_in(self, value: JsonValue) -> frozenset[str]:
        return frozenset({"EMAIL_aaaaaaaaaa"})

    def derive(self, call: Call, known: Mapping[str, VaultEntry]) -> Views:
        self._step("derive")
        masked = MaskedJson({"x": "[SECRET_aaaaaaaaaa]"})
        return Views(RawArguments({"x": SECRET}), masked, masked, refused=self.refused)

    async def mask(self, value: JsonValue, *, scope: str, server: str) -> Masked:
        self._step("mask")
        return Masked(MaskedJson({"content": [{"type": "text", "text": "[SECRET_aaaaaaaaaa]"}]}), entries=())

    def text(self, text: str) -> MaskedText:
        if "boom" in text:
            raise MaskingError("the engine failed")
        return MaskedText(text.replace(SECRET, "[SECRET]"))

    def announce(self, notes: tuple[MaskNote, ...]) -> str:
        return ""

    # vault
    async def get(self, scope: str, tokens: Iterable[str]) -> dict[str, VaultEntry]:
        self._step("vault.get")
        return {}

    async def put(self, entries: Iterable[VaultEntry]) -> None:
        self._step("vault.put")

    async def check(self, target: Target, arguments: RawArguments) -> None:
        self._step("check")

    # policy
    def decide(self, call: Call, views: Views) -> Decision:
        self._step("decide")
        return Decision(self.effect, "rule-1", Risk.HIGH, ("not reviewed",), "0" * 64)

    def permit(self, call: Call, decision: Decision) -> Permit:
        self._step("permit")
        return issue_permit(call.call_id, decision.rule)

    # approvals
    async def settle(
        self, call: Call, views: Views, decision: Decision, front: Front
    ) -> Suspended | AskClient | Answer:
        self._step("settle")
        if self.leave is not None:
            self.leave.set()
            await anyio.sleep_forever()
        assert self.settle_gives is not None
        return self.settle_gives

    async def round_of(self, call: Call, views: Views, front: Front) -> str | None:
        self._step("round_of")
        return self.same_call

    # audit
    async def has_forwarded(self, call_id: str) -> bool:
        return self.sent_before

    async def append(self, record: Record) -> Receipt:
        self._step(record.type)
        self.records.append(record)
        return Receipt("log", len(self.records), len(self.records), "root")

    # downstreams
    async def forward(
        self, call: Call, permit: Permit, arguments: RawArguments, *, execution_id: str, progress: ProgressSink | None
    ) -> RawResult:
        permit.use(call.call_id)
        self._step("forward")
        self.forwarded.append(arguments.value)
        if progress is not None:
            await progress(1, 2, f"half way with {SECRET}")
            await progress(2, 2, "boom")
        return self.answer

    # front
    async def over(self, prompt: Prompt) -> None:
        raise AssertionError

    async def ask(self, prompt: Prompt) -> PromptAnswer:
        raise AssertionError

    async def progress(self, done: float, total: float | None, message: MaskedText | None) -> None:
        self.progress_seen.append(message)


@dataclass
class Run:
    """A claimed approval row in the hands of the executor."""

    call: Call
    views: Views
    decision: Decision
    approval_id: str = "apr_1"
    execution_id: str = "exe_1"
    sends: bool = True
    steps: list[str] = field(default_factory=list)

    async def mark_sent(self) -> bool:
        self.steps.append("mark_sent")
        return self.sends


def a_call() -> Call:
    target = Target(CallKind.TOOL, "crm", "get", "crm_get", local=True)
    return Call("call_1", target, RawArguments({"x": SECRET}), ALICE, CallContext("stdio", "2025-11-25", "ses_1"))


def a_run(bench: Bench) -> Run:
    call = a_call()
    views = bench.derive(call, {})
    bench.steps.clear()
    return Run(call, views, bench.decide(call, views), steps=bench.steps)
