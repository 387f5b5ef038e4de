"""Tool results that are made up, from a seed: with known values to be found, and with nothing to be found.

The tests and `benchmarks/masking.py` share them. Maker and rules have one author, so that the figures say whether
something broke, not how the engine does on other people's data.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import NamedTuple

from mcp_guard.masking.validators import is_card

SEED = 7
WORDS = [
    *("order", "warehouse", "truck", "night", "stock", "item", "region", "supplier", "time", "box", "invoice"),
    *("the", "was", "shipped", "then", "moved", "while", "of", "in", "remains", "low", "because", "did", "not", "on"),
]


class Planted(NamedTuple):
    """A text that holds one value of a type."""

    text: str
    type: str
    value: str


def card(rng: random.Random) -> str:
    """A number that passes Luhn, with or without dashes."""
    while True:
        digits = "4" + "".join(rng.choices("0123456789", k=15))
        if is_card(digits):
            return digits if rng.random() < 0.5 else "-".join(digits[i : i + 4] for i in range(0, 16, 4))


def iban(rng: random.Random) -> str:
    """A German IBAN whose checksum is right."""
    account = "".join(rng.choices("0123456789", k=18))
    return f"DE{98 - int(account + '131400') % 97:02d}{account}"


def _base32(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("abcdefgXYZ0123456789", k=count))


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "EMAIL": lambda r: f"{r.choice('abc')}{r.randrange(999)}.x@mail{r.randrange(99)}.example.com",
    "CREDIT_CARD": card,
    "IBAN": iban,
    "US_SSN": lambda r: f"{r.randrange(100, 600)}-{r.randrange(10, 99)}-{r.randrange(1000, 9999)}",
    "PHONE": lambda r: f"+1 {r.randrange(201, 989)} {r.randrange(201, 989)} {r.randrange(1000, 9999)}",
    "IP": lambda r: f"8.{r.randrange(9)}.{r.randrange(255)}.{r.randrange(1, 254)}",
    "SECRET": lambda r: r.choice(["ghp_", "npm_", "glpat-", "sk_live_"]) + _base32(r, 36),
}
TEMPLATES = ("row {} ok", '{{"v": "{}"}}', "a,{},b", "see ({})", "{}\n", "- {}; next", "'{}'")


def planted(count: int, seed: int = SEED) -> list[Planted]:
    """`count` texts, each with one value."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        kind, maker = rng.choice(list(MAKERS.items()))
        value = maker(rng)
        made.append(Planted(rng.choice(TEMPLATES).format(value), kind, value))
    return made


def rows(size: int, seed: int = SEED, *, personal: bool = False) -> str:
    """Rows of a table as JSON, about `size` characters; with `personal`, an e-mail address and a phone in each."""
    rng = random.Random(seed)
    made: list[dict[str, object]] = []
    length = 0
    while length < size:
        row: dict[str, object] = {
            "id": rng.randrange(10**6),
            "sku": f"SKU-{rng.randrange(9999)}",
            "title": " ".join(rng.choices(WORDS, k=4)),
            "status": rng.choice(["open", "done"]),
            "price": round(rng.random() * 100, 2),
            "created_at": f"2026-0{rng.randrange(1, 9)}-1{rng.randrange(9)}T10:00:00Z",
        }
        if personal:
            row |= {"email": MAKERS["EMAIL"](rng), "phone": MAKERS["PHONE"](rng)}
        made.append(row)
        length += len(json.dumps(row)) + 2
    return json.dumps(made)


def code(size: int, seed: int = SEED) -> str:
    """Python that handles tokens and passwords and holds none."""
    rng = random.Random(seed)

    def function(_: int) -> str:
        name, noun = rng.choice(WORDS), rng.choice(WORDS)
        return (
            f"def handle_{name}(request: Request, token: str, password: str) -> Response:\n"
            f'    """Return the {noun} of the {name}."""\n'
            "    if request.user.is_authenticated and request.key in self.cache:\n"
            f"        return self.cache[request.key].render(limit={rng.randrange(99)})\n"
            "    self.password = get_password(token)\n"
            f"    result = self.client.fetch('/v1/{noun}/{rng.randrange(999)}', timeout=30)\n"
            "    return Response(sum(item.amount for item in result.items))\n\n"
        )

    return _filled(size, function)


def logs(size: int, seed: int = SEED) -> str:
    """Lines of an access log."""
    rng = random.Random(seed)
    return _filled(
        size,
        lambda _: (
            f"2026-11-21 10:{rng.randrange(60):02d}:11,123 INFO [worker-{rng.randrange(9)}] "
            f"GET /v1/items/{rng.getrandbits(128):032x} 200 127.0.0.1 {rng.randrange(900)}ms\n"
        ),
    )


def prose(size: int, seed: int = SEED) -> str:
    """Sentences without meaning."""
    rng = random.Random(seed)
    return _filled(size, lambda _: " ".join(rng.choices(WORDS, k=12)).capitalize() + ". ")


def lock_file(size: int, seed: int = SEED) -> str:
    """A list of packages with versions and digests."""
    rng = random.Random(seed)
    return _filled(
        size,
        lambda i: (
            f'    "pkg-{i}": {{"version": "{i % 9}.{i % 20}.1", "integrity": "sha512-{rng.getrandbits(256):064x}"}},\n'
        ),
    )


def metrics(size: int, seed: int = SEED) -> str:
    """JSON lines of numbers, with the fields of language models that sound like secrets."""
    rng = random.Random(seed)

    def point(index: int) -> str:
        numbers = {"ts": 1790000000 + index, "p99": rng.random(), "order_id": rng.randrange(10**9, 10**10)}
        return json.dumps({**numbers, "max_tokens": 4096}) + "\n"

    return _filled(size, point)


def _filled(size: int, piece: Callable[[int], str]) -> str:
    parts: list[str] = []
    length = 0
    while length < size:
        parts.append(piece(len(parts)))
        length += len(parts[-1])
    return "".join(parts)[:size]


CLEAN: dict[str, Callable[[int], str]] = {
    "rows": rows,
    "code": code,
    "logs": logs,
    "prose": prose,
    "lock file": lock_file,
    "metrics": metrics,
}
"""Kinds of text in which nothing is to be found."""
