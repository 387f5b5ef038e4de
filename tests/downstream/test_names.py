"""Exposed names."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mcp_guard.downstream.names import HOST_PREFIX, LONGEST_NAME, exposed_name
from mcp_guard.downstream.server import ResolvedServer

PLAIN = ResolvedServer("s", "id", names="plain")
PREFIXED = ResolvedServer("s", "id")


@given(st.text(min_size=1, max_size=200))
def test_every_name_fits_what_hosts_accept_and_is_the_same_each_time(name: str) -> None:
    """decisions.md D14."""
    for server, longest in ((PLAIN, LONGEST_NAME), (PREFIXED, LONGEST_NAME - HOST_PREFIX)):
        exposed = exposed_name(server, name)
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", exposed)
        assert len(exposed) <= longest
        assert exposed == exposed_name(server, name)


def test_names_that_fit_are_not_changed_and_shortened_ones_stay_apart() -> None:
    """decisions.md D14: allow-lists of hosts key on names."""
    assert exposed_name(PLAIN, "a.b-c_D") == "a.b-c_D"
    assert exposed_name(PREFIXED, "get") == "s_get"
    long = "x" * 100
    assert exposed_name(PREFIXED, long + "1") != exposed_name(PREFIXED, long + "2")
    assert exposed_name(PLAIN, "a b") != exposed_name(PLAIN, "a_b")
