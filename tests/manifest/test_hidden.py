"""Characters that a person does not see and a model reads."""

from __future__ import annotations

import pytest

from mcp_guard.manifest.hidden import hides
from mcp_guard.manifest.propose import propose
from mcp_guard.manifest.words import Looks
from tests.manifest.test_propose import READ_ONLY, tool


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("plain text\nwith lines\tand tabs", False),
        ("warning \u26a0\ufe0f and family \U0001f468\u200d\U0001f469", False),
        ("Stra\u00dfe and the page of \u65e5\u672c", False),
        ("zero\u200bwidth", True),
        ("right\u202eleft", True),
        ("a tag \U000e0041", True),
        ("escape \x1b[2J", True),
        ("private \ue000", True),
        ("selector a\ufe0f", True),
    ],
)
def test_hidden_characters_are_found_and_ordinary_text_is_not(text: str, hidden: bool) -> None:  # noqa: FBT001 - a table
    """security.md S21: what a person does not see, a model reads."""
    assert hides(text) is hidden
    found = propose(tool("get_page", "id", description=text, annotations=READ_ONLY))
    assert (found.hidden, found.looks) == (hidden, Looks.UNCLEAR if hidden else Looks.READ)
