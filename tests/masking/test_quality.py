"""Quality and speed of the engine on generated tool results (masking.md §7)."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

import pytest

from mcp_guard.masking.engine import scan
from mcp_guard.masking.validators import is_card


def card(rng: random.Random) -> str:
    while True:
        digits = "4" + "".join(rng.choices("0123456789", k=15))
        if is_card(digits):
            return digits if rng.random() < 0.5 else "-".join(digits[i : i + 4] for i in range(0, 16, 4))


def iban(rng: random.Random) -> str:
    account = "".join(rng.choices("0123456789", k=18))
    check = 98 - int(account + "131400") % 97
    return f"DE{check:02d}{account}"


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "EMAIL": lambda r: f"{r.choice('abc')}{r.randrange(999)}.x@mail{r.randrange(99)}.example.com",
    "CREDIT_CARD": card,
    "IBAN": iban,
    "US_SSN": lambda r: f"{r.randrange(100, 600)}-{r.randrange(10, 99)}-{r.randrange(1000, 9999)}",
    "PHONE": lambda r: f"+1 {r.randrange(201, 989)} {r.randrange(201, 989)} {r.randrange(1000, 9999)}",
    "IP": lambda r: f"8.{r.randrange(9)}.{r.randrange(255)}.{r.randrange(1, 254)}",
    "SECRET": lambda r: "ghp_" + "".join(r.choices("abcdefgXYZ0123456789", k=36)),
}
TEMPLATES = ("row {} ok", '{{"v": "{}"}}', "a,{},b", "see ({})", "{}\n", "- {}; next", "'{}'")


def generated(count: int) -> list[tuple[str, str, str]]:
    """(text, type, value), seeded."""
    rng = random.Random(7)  # noqa: S311 - judged, see the lines around
    made = []
    for _ in range(count):
        kind, maker = rng.choice(list(MAKERS.items()))
        value = maker(rng)
        made.append((rng.choice(TEMPLATES).format(value), kind, value))
    return made


def test_structured_data_is_found_and_little_else() -> None:
    """masking.md §7: recall and precision at least .99."""
    rows = generated(1500)
    hits = right = all_found = 0
    for text, kind, value in rows:
        found = [(f.type, text[f.start : f.end]) for f in scan(text)]
        hits += (kind, value) in found
        right += sum(item == (kind, value) for item in found)
        all_found += len(found)
    assert hits / len(rows) >= 0.99
    assert right / all_found >= 0.99


def clean_text() -> str:
    rng = random.Random(3)  # noqa: S311 - judged, see the lines around
    lock = [
        f'    "pkg-{i}": {{"version": "{i % 9}.{i % 20}.1", "integrity": "sha512-{rng.getrandbits(256):064x}"}},'
        for i in range(300)
    ]
    code = [
        f"def handle_{i}(token: str, password: str) -> None:\n    self.password = get_password(token)"
        for i in range(300)
    ]
    metrics = [
        json.dumps(
            {"ts": 1790000000 + i, "p99": rng.random(), "order_id": rng.randrange(10**9, 10**10), "max_tokens": 4096}
        )
        for i in range(300)
    ]
    log = [
        f"2026-11-21 10:{i % 60:02d}:11,123 INFO [worker-{i}] GET /v1/items/{rng.getrandbits(128):032x} 200 127.0.0.1"
        for i in range(300)
    ]
    return "\n".join(lock + code + metrics + log)


def test_clean_tool_results_are_left_alone() -> None:
    """masking.md §7: at most one false mask in 100 KB."""
    text = clean_text()
    found = [text[f.start : f.end] for f in scan(text)]
    assert len(found) <= len(text) / 102_400, found


ATTACKS = (
    "username ", "a@", "@a.", "1", "1 ", "1-", "+1", "+(1)", "password=", 'password"', "password: ", "phone ", "tel (",
    "AA00 ", "-----BEGIN PRIVATE KEY-----", "eyJ", "eyJa.", "sk-", "://a:", "\\", "\\n", '"a":"', '"a": "\\', "key",
    "1.", "1.1.1.1.", ":", "a:", "::", "%40", "a%40", "Bearer ", "_", "-", "Q~", "|", ":A", "ssn ", "[", "ghp_",
)  # fmt: skip


@pytest.mark.parametrize("index", range(len(ATTACKS)))
def test_no_input_makes_the_engine_slow(index: int) -> None:
    """security.md S10: a bound, and growth as a ratio."""
    spent = []
    for size in (20_000, 80_000):
        text = (ATTACKS[index] * size)[:size]
        best = float("inf")
        for _ in range(2):
            start = time.perf_counter()
            scan(text)
            best = min(best, time.perf_counter() - start)
        spent.append(best)
    assert spent[1] < 1.0
    assert spent[1] < max(spent[0] * 8, 0.05)
