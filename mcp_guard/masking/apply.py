"""Scans the leaves of a document in bounded steps and says what stands where. Pure."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Iterator

from mcp_guard.masking import keys
from mcp_guard.masking.engine import Finding, private_keys, resolve, scan
from mcp_guard.masking.rules import SECRET
from mcp_guard.masking.walk import Leaf

STEP = 8_192
"""Characters of one step (decisions.md D34)."""
_OVERLAP = 1_024
_OVERLAP_UNBROKEN = 4_096
"""Where no white space allows a clean cut."""
_GLUE = "\n\x1f\n"
"""Between leaves that are scanned together; no pattern crosses it."""
_RUN_ON = re.compile(r"[A-Za-z0-9_\-./+=%]*+")

Report = Callable[[Leaf, list[Finding]], None]


def examine(found: Iterable[Leaf], report: Report) -> Iterator[None]:
    """Report the findings of each leaf that has some. Yields after each step of at most 8 KB."""
    batch: list[Leaf] = []
    size = 0
    for leaf in found:
        known = by_name(leaf)
        if known:
            report(leaf, [known])
        elif leaf.number is None and len(leaf.text) > 3:  # noqa: PLR2004 - a size that the line itself explains
            if len(leaf.text) > STEP:
                collected: list[Finding] = []
                yield from long_scan(leaf.text, collected)
                _report(leaf, collected, report)
                continue
            if size + len(leaf.text) > STEP:
                _examine_batch(batch, report)
                batch, size = [], 0
                yield
            batch.append(leaf)
            size += len(leaf.text) + len(_GLUE)
        elif leaf.number is not None and len(leaf.text) >= 12:  # noqa: PLR2004 - a size that the line itself explains
            _report(leaf, [f for f in scan(leaf.text) if f.type == "CREDIT_CARD"], report)
    _examine_batch(batch, report)
    yield


def by_name(leaf: Leaf) -> Finding | None:
    """The finding that covers the whole leaf because of the name of its field."""
    if leaf.hint is None or leaf.role != "value" or (leaf.number is not None and leaf.hint == SECRET):
        return None
    if not keys.accepts(leaf.hint, leaf.name, leaf.text):
        return None
    return Finding(0, len(leaf.text), leaf.hint, f"key:{leaf.hint.lower()}")


def _examine_batch(batch: list[Leaf], report: Report) -> None:
    if not batch:
        return
    starts, at = [], 0
    for leaf in batch:
        starts.append(at)
        at += len(leaf.text) + len(_GLUE)
    by_leaf: dict[int, list[Finding]] = {}
    for finding in scan(_GLUE.join(leaf.text for leaf in batch)):
        index = bisect.bisect_right(starts, finding.start) - 1
        while index < len(batch) and starts[index] < finding.end:
            start = max(0, finding.start - starts[index])
            end = min(len(batch[index].text), finding.end - starts[index])
            if start < end:
                by_leaf.setdefault(index, []).append(finding._replace(start=start, end=end))
            index += 1
    for index, findings in by_leaf.items():
        _report(batch[index], findings, report)


def _report(leaf: Leaf, findings: list[Finding], report: Report) -> None:
    if leaf.role == "uri":
        findings = [f for f in findings if f.type == SECRET]
    if findings:
        report(leaf, findings)


def long_scan(text: str, into: list[Finding]) -> Iterator[None]:
    """Scan a text of any length in overlapping windows, so that what spans a boundary is found."""
    found = list(private_keys(text))
    start = 0
    while start < len(text):
        end = min(len(text), start + STEP)
        if end < len(text):
            cut = max(text.rfind(" ", start + STEP // 2, end), text.rfind("\n", start + STEP // 2, end))
            overlap = _OVERLAP if cut > 0 else _OVERLAP_UNBROKEN
            end = cut if cut > 0 else end
        else:
            overlap = 0
        for finding in scan(text[start:end]):
            stop = start + finding.end
            if stop >= end - 1:
                run = _RUN_ON.match(text, stop)
                stop = run.end() if run else stop
            found.append(finding._replace(start=start + finding.start, end=stop))
        start = end - overlap if overlap else len(text)
        yield
    into.extend(resolve(found))
