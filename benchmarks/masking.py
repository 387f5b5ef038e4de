"""What the masking engine finds in generated data, what it takes, and how that compares to scrubadub in the same run.

Times are the best of several repeats. Only the ratios say something on another machine.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable

import anyio

from benchmarks.generated import CLEAN, planted, rows
from mcp_guard.config.schema import MaskingConfig
from mcp_guard.masking.apply import long_scan
from mcp_guard.masking.findings import Finding
from mcp_guard.masking.masker import Masker
from mcp_guard.masking.scrub import import_scrubadub

PLANTED = 3_000
SIZES = (256, 1_024, 10_240, 102_400)
KB = 1_024
REPEATS = 5
SCRUBADUB_MOST = 10_240
"""Characters; beyond, one run of scrubadub takes seconds."""


def main() -> int:
    """Print all tables; returns the exit code."""
    quality()
    false_masks()
    anyio.run(speed)
    return 0


def quality() -> None:
    """Recall and precision by type; a finding counts when type and place are exact."""
    there: Counter[str] = Counter()
    right: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for text, kind, value in planted(PLANTED):
        findings = scan_all(text)
        there[kind] += 1
        right[kind] += any((f.type, text[f.start : f.end]) == (kind, value) for f in findings)
        found.update(f.type for f in findings)
    print(f"{'type':<14}{'planted':>9}{'recall':>9}{'precision':>11}")
    for kind in sorted(there):
        print(f"{kind:<14}{there[kind]:>9}{right[kind] / there[kind]:>9.3f}{right[kind] / max(1, found[kind]):>11.3f}")


def false_masks() -> None:
    """Findings where there is nothing to be found."""
    print(f"\n{'clean text':<14}{'found per 100 KB':>18}")
    for kind, make in CLEAN.items():
        print(f"{kind:<14}{len(scan_all(make(102_400))):>18}")


async def speed() -> None:
    """Microseconds per KB: the engine alone, the whole way of a result, and scrubadub's `clean` with its defaults."""
    kinds: dict[str, Callable[[int], str]] = {**CLEAN, "personal rows": lambda size: rows(size, personal=True)}
    clean = _scrubadub_clean()
    masker = Masker(MaskingConfig(), b"k" * 32)
    print(f"\n{'µs per KB':<14}{'characters':>11}{'engine':>9}{'result':>9}{'scrubadub':>11}{'x result':>10}")
    for kind, make in kinds.items():
        for size in SIZES:
            text = make(size)
            engine = result = other = float("inf")
            for _ in range(REPEATS):
                engine = min(engine, timed(scan_all, text))
                result = min(result, await _timed_result(masker, text))
                if size <= SCRUBADUB_MOST:
                    other = min(other, timed(clean, text))
            shown = f"{other:>11.0f}{other / result:>10.1f}" if size <= SCRUBADUB_MOST else ""
            print(f"{kind:<14}{len(text):>11}{engine:>9.0f}{result:>9.0f}{shown}")


def scan_all(text: str) -> list[Finding]:
    """All findings of a text of any length."""
    found: list[Finding] = []
    for _ in long_scan(text, found):
        pass
    return found


def timed(work: Callable[[str], object], text: str) -> float:
    """Microseconds per KB of one run."""
    start = time.perf_counter()
    work(text)
    return (time.perf_counter() - start) * 1e6 / (len(text) / KB)


async def _timed_result(masker: Masker, text: str) -> float:
    start = time.perf_counter()
    await masker.mask({"content": [{"type": "text", "text": text}]}, scope="bench", server="bench")
    return (time.perf_counter() - start) * 1e6 / (len(text) / KB)


def _scrubadub_clean() -> Callable[[str], str]:
    warnings.simplefilter("ignore")  # scrubadub's own, one for each replacement
    scrubber = import_scrubadub().Scrubber()
    return lambda text: str(scrubber.clean(text))


if __name__ == "__main__":
    sys.exit(main())
