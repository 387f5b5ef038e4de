"""Scans the leaves of a document in bounded steps and says what stands where. Pure."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from mcp_guard.masking import keys
from mcp_guard.masking.encoded import long_runs
from mcp_guard.masking.engine import encoded_findings, may_hold, private_keys, scan
from mcp_guard.masking.findings import Finding, resolve
from mcp_guard.masking.rules import SECRET
from mcp_guard.masking.walk import Leaf

STEP = 8_192
"""Characters of one step (decisions.md D34)."""
_OVERLAP = 1_024
_OVERLAP_UNBROKEN = 2_048
"""Where no white space allows a clean cut."""
_GLUE = "\n\x1f\n"
"""Between leaves that are scanned together; no pattern crosses it."""
_NUMBER_LEAST = 7
"""Digits of a number that other detectors are asked about."""
_CARD_LEAST = 12
"""Digits of a number; only cards are found in numbers without a name."""
_TEXT_LEAST = 4
"""Characters of the shortest thing that is found without a name."""
_KEY_MOST = 128
_RUN_ON = re.compile(r"[A-Za-z0-9_\-./+=%]*+")

Report = Callable[[Leaf, list[Finding]], None]
Extra = Callable[[str], list[Finding]]


def examine(found: list[Leaf], report: Report, extra: Sequence[Extra] = ()) -> Iterator[None]:
    """Report the findings of each leaf that has some. Yields between steps of at most 8 KB.

    Args:
        found: The leaves.
        report: Called once for a leaf, with findings in order and without overlaps.
        extra: More detectors, each for the text of one leaf.
    """
    if not extra:
        yield from _examine(found, report)
        return
    by_leaf: dict[int, list[Finding]] = {}
    yield from _examine(found, lambda leaf, findings: by_leaf.update({id(leaf): findings}))
    for leaf in found:
        findings = [*by_leaf.get(id(leaf), ()), *_more(leaf, extra)]
        if findings:
            report(leaf, resolve(findings))
        yield


def _more(leaf: Leaf, extra: Sequence[Extra]) -> list[Finding]:
    if leaf.number is not None and len(leaf.text) < _NUMBER_LEAST:
        return []
    findings = [finding for detect in extra for finding in detect(leaf.text)]
    return findings if leaf.role == "value" else [f for f in findings if f.type == SECRET]


def _examine(found: list[Leaf], report: Report) -> Iterator[None]:
    batch: list[Leaf] = []
    size = 0
    for leaf in found:
        length = len(leaf.text)
        if leaf.hint is not None:
            known = by_name(leaf)
            if known:
                report(leaf, [known])
                continue
        if leaf.number is not None:
            if length >= _CARD_LEAST:
                _report(leaf, [f for f in scan(leaf.text) if f.type == "CREDIT_CARD"], report)
        elif length > STEP:
            collected: list[Finding] = []
            yield from long_scan(leaf.text, collected)
            _report(leaf, collected, report)
        elif length >= _TEXT_LEAST and may_hold(leaf.text) and not (leaf.role == "key" and _is_plain_key(leaf.text)):
            if size + length > STEP:
                _examine_batch(batch, report)
                batch, size = [], 0
                yield
            batch.append(leaf)
            size += length + len(_GLUE)
    _examine_batch(batch, report)


@lru_cache(maxsize=4096)
def _is_plain_key(key: str) -> bool:
    """Whether a key holds nothing by itself. Cached: rows repeat their keys."""
    return len(key) <= _KEY_MOST and not scan(key)


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
    found += encoded_findings(text, list(long_runs(text)))
    start = 0
    while start < len(text):
        end, overlap = _window(text, start)
        for finding in scan(text[start:end]):
            stop = start + finding.end
            if stop >= end - 1:
                run = _RUN_ON.match(text, stop)
                stop = run.end() if run else stop
            found.append(finding._replace(start=start + finding.start, end=stop))
        start = end - overlap if overlap else len(text)
        yield
    into.extend(resolve(found))


def _window(text: str, start: int) -> tuple[int, int]:
    """Where a window ends, at white space if there is some, and how much of it the next one repeats."""
    end = start + STEP
    if end >= len(text):
        return len(text), 0
    cut = max(text.rfind(" ", start + STEP // 2, end), text.rfind("\n", start + STEP // 2, end))
    return (cut, _OVERLAP) if cut > 0 else (end, _OVERLAP_UNBROKEN)
