"""Where the page for reviewers is. A link to it carries no authority: whoever opens it has to be signed in."""

from __future__ import annotations

from mcp_guard.canon import keyed_digest
from mcp_guard.keystore import KeyStore

_PREFIX_CHARS = 16


def console_prefix(keys: KeyStore) -> str:
    """First part of every path of the page, the same for one data folder.

    Cookies do not know ports: under a path that no other local page has, no other local server is sent the session.
    """
    return keyed_digest(keys.secret("lookup"), "console", "path")[:_PREFIX_CHARS]


def console_url(port: int, keys: KeyStore, approval_id: str | None = None) -> str:
    """Address of the page, or of one request on it."""
    root = f"http://127.0.0.1:{port}/{console_prefix(keys)}/"
    return root if approval_id is None else f"{root}requests/{approval_id}"
