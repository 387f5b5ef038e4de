"""What a detector says: where something stands, of which type, by which rule. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing found: `text[start:end]` is of `type`, by `rule`."""

    start: int
    end: int
    type: str
    rule: str


def resolve(found: list[Finding]) -> list[Finding]:
    """Order findings; where two overlap the earlier one wins and grows over what sticks out."""
    kept: list[Finding] = []
    for finding in sorted(found, key=lambda f: (f.start, -f.end)):
        if not kept or finding.start >= kept[-1].end:
            kept.append(finding)
        elif finding.end > kept[-1].end:
            kept[-1] = kept[-1]._replace(end=finding.end)
    return kept
