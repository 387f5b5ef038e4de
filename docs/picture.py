"""Draws docs/demo.svg: the real output of `mcp-guard demo --auto`, as the terminal shows it.

Run it with `make picture` after the demo has changed.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).parent
WIDTH = 80
_FONT = re.compile(r"@font-face\s*\{.*?\}", re.DOTALL)


def main() -> int:
    """Run the demo and write the picture. Returns the demo's exit code."""
    command = shutil.which("mcp-guard", path=str(Path(sys.executable).parent)) or "mcp-guard"
    environment = {**os.environ, "COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "TERM": "xterm-256color", "LOGNAME": "you"}
    environment.pop("NO_COLOR", None)
    done = subprocess.run([command, "demo", "--auto"], capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        return done.returncode
    # The path of this checkout is nobody's business.
    text = re.sub(r'command: "[^"]*"', 'command: "python"', done.stdout)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi("$ mcp-guard demo --auto\n" + text.rstrip()))
    drawing = console.export_svg(title="mcp-guard", theme=MONOKAI)
    # No fetching of fonts: the picture must look the same without a network, and tell nobody who looks at it.
    (HERE / "demo.svg").write_text(_FONT.sub("", drawing), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
