"""`mcp-guard demo`: a real guard, a real server and a scripted agent, in a temporary folder."""

from __future__ import annotations


def run(*, auto: bool) -> int:
    """Show the main job from end to end, check every sentence shown, and leave nothing behind.

    Args:
        auto: A second process answers with a reviewer's token; else the person at the terminal presses a key.

    Returns:
        0 when every claim held, 1 when one did not or something broke, 2 without a terminal to answer at.
    """
    from mcp_guard.demo.script import run_demo

    return run_demo(auto=auto)
