"""What is text, what is media, and what only says so."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import JsonValue

from mcp_guard.config.schema import MaskingConfig
from mcp_guard.masking.masker import Masker
from mcp_guard.masking.walk import text_size
from mcp_guard.model import JsonDict

TOKEN = "ghp_2F2HIrOpxR7Ex4scUXHvfC2ifTfPUC5V9rJG"
PICTURE = base64.b64encode(bytes(range(256))).decode()


async def shown(value: JsonValue) -> JsonValue:
    return (await Masker(MaskingConfig(), b"k" * 32).mask(value, scope="s", server="x")).json.value


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "data": f"{TOKEN}*", "mimeType": "image/png"},
        {"type": "image", "data": f"{TOKEN}=", "mimeType": "text/plain"},
        {"type": "image", "data": f"see {TOKEN}", "mimeType": "image/png"},
        {"type": "text", "data": f"{TOKEN}====", "mimeType": "image/png"},
        {"type": "image", "data": f"{TOKEN}"},
        {"type": "video", "data": TOKEN, "mimeType": "/"},
        {"uri": "file:///a", "blob": f"see {TOKEN}", "mimeType": "image/png"},
        {"uri": "file:///a", "blob": base64.b64encode(TOKEN.encode()).decode(), "mimeType": "application/x-thing"},
    ],
)
async def test_what_only_claims_to_be_media_is_read_as_text(block: JsonDict) -> None:
    """decisions.md D3: base64 of images and audio alone passes unread."""
    masked = await shown({"content": [block]})
    text = str(masked)
    assert TOKEN not in text
    assert base64.b64encode(TOKEN.encode()).decode() not in text


@pytest.mark.parametrize(
    "mime",
    ["image/svg+xml", "Image/SVG+XML; charset=utf-8", "application/json", "application/xml", "application/yaml"],
)
async def test_pictures_that_are_text_are_read(mime: str) -> None:
    """decisions.md D3: only what is no text passes unread."""
    data = base64.b64encode(f"<svg><text>{TOKEN}</text></svg>".encode()).decode()
    for block in ({"type": "image", "data": data, "mimeType": mime}, {"uri": "f://x", "blob": data, "mimeType": mime}):
        masked = await shown({"content": [block]})  # type: ignore[list-item] # both are JSON objects
        assert isinstance(masked, dict)
        content: Any = masked["content"]
        plain = base64.b64decode(content[0].get("data") or content[0]["blob"]).decode()
        assert plain.startswith("<svg><text>[SECRET_")
        assert TOKEN not in plain


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "data": PICTURE, "mimeType": "image/png"},
        {"type": "audio", "data": PICTURE, "mimeType": "audio/wav"},
        {"uri": "file:///a", "blob": PICTURE, "mimeType": "image/png"},
        {"uri": "file:///a", "blob": PICTURE},
    ],
)
async def test_media_and_binary_blobs_pass_unread_and_uncounted(block: JsonDict) -> None:
    """decisions.md D3."""
    assert await shown({"content": [block]}) == {"content": [block]}
    assert text_size({"content": [block]}, limit=10_000) < len(PICTURE)


def test_what_is_read_is_counted() -> None:
    """decisions.md D3: the limit cannot be passed by a false type."""
    claimed: JsonValue = {"type": "image", "data": "not base64! " * 100, "mimeType": "image/png"}
    assert text_size(claimed, limit=10_000) > 1_200
    assert text_size({"data": PICTURE, "type": "image", "mimeType": "image/png"}, limit=10_000, mcp=False) > len(
        PICTURE
    )


async def test_rows_take_their_types_from_the_columns_beside_them() -> None:
    """masking.md §5: rows as arrays."""
    masked = await shown(
        {"structuredContent": {"columns": ["id", "full_name"], "rows": [[1, "Ann Bell"], [2, "Bo Li"]]}}
    )
    assert "Ann Bell" not in str(masked)
    assert "Bo Li" not in str(masked)


async def test_object_with_a_key_twice_inside_text_keeps_its_layout() -> None:
    """masking.md §5: offsets and layout of text stay."""
    text = '{"a": 1,  "mail": "jo@x.com", "a": 2}'
    masked = str(await shown(text))
    assert masked.startswith('{"a": 1,  "mail": "[EMAIL_')
    assert masked.endswith(']", "a": 2}')
