"""Addresses, and what only looks like one."""

from __future__ import annotations

import pytest

from mcp_guard.masking.engine import scan


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("from 8.8.4.4 port", "IP", "8.8.4.4"),
        ("peer 2001:4860:4860::8888 up", "IP", "2001:4860:4860::8888"),
        ("peer=[2606:4700:4700:0:0:0:0:1111]", "IP", "2606:4700:4700:0:0:0:0:1111"),
        ("mail <jo.doe+x@example.com>", "EMAIL", "jo.doe+x@example.com"),
        ("postgres://app:hunter2@db.example.com/x", "SECRET", "hunter2"),
    ],
)
def test_address_is_found(text: str, kind: str, value: str) -> None:
    """masking.md §2."""
    assert [(f.type, text[f.start : f.end]) for f in scan(text)] == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "at 10:30:15 to 11:45:00",
        "std::vector::begin",
        "v1.2.3.4",
        "version: 8.1.2.3",
        "1.2.3.4.5",
        "999.1.1.1",
        "127.0.0.1",
        "192.168.0.7",
        "fe80::1",
        "@app.route",
        "https://user@host.example.com/",
    ],
)
def test_what_only_looks_like_an_address_is_left_alone(text: str) -> None:
    """masking.md §3: versions, times, local networks, decorators."""
    assert scan(text) == []
