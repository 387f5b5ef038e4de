"""The port of the page."""

from __future__ import annotations

import socket

import anyio
import pytest

from mcp_guard.config.load import load_config
from mcp_guard.doctor import page
from mcp_guard.http.console.parts import open_parts
from mcp_guard.http.console.serving import bind, serve_page
from tests.doctor.conftest import Place, codes


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_free_port_is_fine_and_no_key_is_made(place: Place, free_port: int) -> None:
    """docs/doctor.md: it changes nothing."""
    place.config["console"] = {"port": free_port}
    assert codes(page.port(place.setup())) == []
    assert [*place.data.iterdir()] == []


def test_a_port_that_another_program_has_is_told_with_the_key_that_mends_it(place: Place) -> None:
    """docs/doctor.md, console-port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        place.config["console"] = {"port": other.getsockname()[1]}
        [found] = page.port(place.setup())
    assert found.code == "console-port"
    assert found.mend == (
        f"end that program, or set console.port in {place.path} to a free port; then restart your hosts"
    )


def test_a_key_that_cannot_be_read_proves_nothing(place: Place) -> None:
    """docs/doctor.md, console-port: what cannot prove that it is ours is not."""
    (place.data / "keys" / "lookup.1.key").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        place.config["console"] = {"port": other.getsockname()[1]}
        assert codes(page.port(place.setup())) == ["console-port"]


@pytest.mark.parametrize(("data", "told"), [("./data", []), ("./other", ["console-port"])])
async def test_the_guard_of_this_data_folder_may_have_it_and_no_other(
    place: Place, free_port: int, data: str, told: list[str]
) -> None:
    """docs/doctor.md, console-port."""
    place.config["console"] = {"port": free_port}
    place.setup()
    async with open_parts(load_config(place.path, {})) as parts, anyio.create_task_group() as group:
        listener = bind(free_port)
        assert listener is not None
        await group.start(serve_page, parts, listener)
        place.config["data_dir"] = data
        found = await anyio.to_thread.run_sync(page.port, place.setup())
        group.cancel_scope.cancel()
    assert codes(found) == told
