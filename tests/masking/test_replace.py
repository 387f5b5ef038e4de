"""What is replaced where findings, restored values and placeholders meet."""

from __future__ import annotations

import pytest

from mcp_guard.config.schema import MaskingConfig
from mcp_guard.masking.findings import Finding
from mcp_guard.masking.masker import Masker
from mcp_guard.masking.replace import beside, exact_values
from mcp_guard.masking.walk import Leaf

PLACEHOLDER = "[SECRET_k3f5q2m7xa]"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"{PLACEHOLDER}hunter2", ["hunter2"]),
        (f"hunter2 {PLACEHOLDER} - hunter3", ["hunter2", "hunter3"]),
        (f"Bearer {PLACEHOLDER}", []),
        (PLACEHOLDER, []),
        ("hunter2", ["hunter2"]),
    ],
)
def test_new_text_beside_a_placeholder_stays_a_finding(text: str, left: list[str]) -> None:
    """decisions.md D24: what is a placeholder stays; what is not is masked."""
    parts = beside(Leaf(text), [Finding(0, len(text), "SECRET", "name")])
    assert [text[f.start : f.end] for f in parts] == left


async def test_new_text_beside_a_placeholder_is_masked() -> None:
    """security.md S25: a placeholder shields nothing around it."""
    masker = Masker(MaskingConfig(), b"k" * 32)
    masked = await masker.mask({"password": f"{PLACEHOLDER}hunter2!"}, scope="s", server="x")
    assert "hunter2" not in str(masked.json.value)
    assert PLACEHOLDER in str(masked.json.value)


def test_known_values_are_found_wherever_they_stand() -> None:
    """decisions.md D33: resolved references."""
    detect = exact_values({"abc": "SECRET", "": "SECRET"}, "configured")
    assert detect("abc xabcx") == [Finding(0, 3, "SECRET", "configured"), Finding(5, 8, "SECRET", "configured")]
