"""Tells people that calls wait: on the desktop, or wherever apprise can send to (extra `notify`).

A notice says how many calls wait, or that a tool is held back, and nothing else: it may be shown on a locked screen,
and many services keep it. It holds no tool, no argument, no address and no token, and nobody can answer it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import structlog
from anyio import to_thread

DESKTOP = "desktop"
HELD_BACK = "mcp-guard: a tool changed and is held back"
_TIMEOUT_S = 20.0
_PROGRAM_S = 5.0

_log = structlog.get_logger(__name__)


def sentence(waiting: int) -> str:
    """The whole notice."""
    return "mcp-guard: a call waits" if waiting == 1 else f"mcp-guard: {waiting} calls wait"


class Notifier:
    """Sends notices to all targets, one at a time, off the event loop. The targets hold secrets: it shows nothing."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = tuple(targets)
        self._one = anyio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"Notifier({len(self._targets)} targets)"

    async def tell(self, waiting: int) -> None:
        """Say everywhere how many calls wait."""
        await self._everywhere(sentence(waiting))

    async def tell_held_back(self) -> None:
        """Say everywhere that something changed and is in quarantine."""
        await self._everywhere(HELD_BACK)

    async def _everywhere(self, text: str) -> None:
        """What fails is logged by its place in the list, and not tried again."""
        for index, target in enumerate(self._targets):
            sent = False
            with anyio.move_on_after(_TIMEOUT_S):
                sent = await to_thread.run_sync(_send, target, text, abandon_on_cancel=True, limiter=self._one)
            if not sent:
                _log.info("notice_not_sent", place=f"approvals.notify[{index}]")


def problems(targets: Sequence[str]) -> list[str]:
    """What stands in the way of these targets, in plain sentences without the targets; for `doctor`. Slow."""
    found = []
    for index, target in enumerate(targets):
        place = f"approvals.notify[{index}]"
        if target == DESKTOP:
            address = _desktop_address()
            if _desktop_command("") is None and (address is None or _service(address) is None):
                found.append(f"{place}: nothing here can show a desktop notification")
        elif _apprise() is None:
            found.append(f"{place}: the package apprise is not installed (extra `notify`)")
        elif _service(target) is None:
            found.append(f"{place}: apprise does not understand this address")
    return found


def _send(target: str, text: str) -> bool:
    """Whether it was handed over. Nothing of the target or of a foreign error leaves this function."""
    try:
        if target != DESKTOP:
            return _by_apprise(target, text)
        command, address = _desktop_command(text), _desktop_address()
        if command is not None:
            return _by_program(command)
        return address is not None and _by_apprise(address, text)
    except Exception as error:  # noqa: BLE001 - the boundary: any service may fail in its own way
        _log.info("notice_broke", error=type(error).__name__)
        return False


def _desktop_command(text: str) -> list[str] | None:
    """The system's own way to show a notification; None where there is none. The text is ours and constant."""
    if sys.platform == "win32":
        return None
    if sys.platform == "darwin":
        program, arguments = "osascript", ["-e", f'display notification "{text}"']
    else:
        program, arguments = "notify-send", ["--app-name=mcp-guard", text]
    found = shutil.which(program)
    return [found, *arguments] if found else None


def _desktop_address() -> str | None:
    """The desktop by way of apprise, where the package is there that apprise needs for it.

    Looked at first: to find out by asking, apprise would load all its services, in the moment when somebody decides.
    """
    address, package = ("windows://", "win32api") if sys.platform == "win32" else ("dbus://", "dbus")
    return address if importlib.util.find_spec(package) else None


def _by_program(command: list[str]) -> bool:
    env = dict(os.environ)
    if sys.platform != "win32":
        # Hosts start the guard with a short environment; the bus of the session is where it always is.
        bus = Path(f"/run/user/{os.getuid()}/bus")
        if "DBUS_SESSION_BUS_ADDRESS" not in env and bus.exists():
            env["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={bus}"
    quiet = subprocess.DEVNULL
    done = subprocess.run(command, env=env, stdin=quiet, stdout=quiet, stderr=quiet, timeout=_PROGRAM_S, check=False)
    return done.returncode == 0


def _by_apprise(address: str, text: str) -> bool:
    service = _service(address)
    return service is not None and bool(service.notify(body=text))


def _service(address: str) -> Any:
    """Apprise, ready to send to this one address; None where it cannot."""
    apprise = _apprise()
    if apprise is None:
        return None
    asset = apprise.AppriseAsset(app_id="mcp-guard", app_desc="mcp-guard", app_url="", image_url_mask="")
    service = apprise.Apprise(asset=asset)
    return service if service.add(address) else None


def _apprise() -> Any:
    # Both write addresses, and with them tokens, into their logs.
    for name in ("apprise", "urllib3", "requests"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        import apprise
    except ImportError:
        return None
    return apprise
