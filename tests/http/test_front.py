"""The HTTP front's own guards: address, token (security.md S18, S33, S34)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcp_guard.errors import ConfigError
from mcp_guard.http.front import BearerOnly, bearer_token, listen, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), (":80", ("127.0.0.1", 80)), ("localhost:1", ("localhost", 1)),
     ("[::1]:9", ("::1", 9))],
)  # fmt: skip
def test_loopback_addresses_are_accepted(text: str, address: tuple[str, int]) -> None:
    """docs/cli.md: `serve --http HOST:PORT`, loopback."""
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["0.0.0.0:80", "192.168.1.5:80", "example.com:80", "127.0.0.1", "127.0.0.1:99999", ""])
def test_other_addresses_are_refused(text: str) -> None:
    """security.md S34."""
    with pytest.raises(ConfigError):
        parse_address(text)


def test_the_token_is_made_once_and_private(tmp_path: Path) -> None:
    """SECURITY.md: keys 0600."""
    token = bearer_token(tmp_path / "http.token")
    assert bearer_token(tmp_path / "http.token") == token
    assert (tmp_path / "http.token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff" * 40, "ü".encode() * 40])
def test_a_damaged_token_file_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    """Fail closed: an empty token would let everybody in, and one that is no text nobody."""
    (tmp_path / "http.token").write_bytes(content)
    with pytest.raises(ConfigError, match="damaged"):
        bearer_token(tmp_path / "http.token")


def test_a_token_that_cannot_be_kept_is_an_error_and_none_is_made_up(tmp_path: Path) -> None:
    """security.md S33, F10."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "http.token", tmp_path / "folder"):
        with pytest.raises(ConfigError, match="cannot be read or made"):
            bearer_token(path)


def test_a_port_that_is_taken_is_an_error_and_not_another_port() -> None:
    """security.md S34: a host sends its token to the address that it was given."""
    with listen("127.0.0.1", 0) as first, pytest.raises(ConfigError, match="cannot listen"):
        listen("127.0.0.1", first.getsockname()[1])


async def test_only_the_exact_bearer_token_gets_through() -> None:
    """security.md S33."""
    reached: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append("yes")

    async def status(headers: list[tuple[bytes, bytes]]) -> int | None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await BearerOnly(app, "t" * 40)({"type": "http", "headers": headers}, None, send)  # type: ignore[arg-type]
        return sent[0]["status"] if sent else None

    good = (b"authorization", b"Bearer " + b"t" * 40)
    assert await status([]) == 401
    assert await status([(b"authorization", b"Bearer " + b"x" * 40)]) == 401
    assert await status([(b"authorization", b"Basic " + b"t" * 40)]) == 401
    assert await status([good, good]) == 401
    assert reached == []
    assert await status([good]) is None
    assert reached == ["yes"]
