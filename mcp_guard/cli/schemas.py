"""Write the generated JSON Schemas into the tree: `python -m mcp_guard.cli.schemas [--check]`.

Editors complete and check files against them. For work on the repository: an installed package has no such folders.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import mcp_guard
from mcp_guard.config.load import config_schema
from mcp_guard.manifest.hosts import hosts_schema
from mcp_guard.manifest.model import manifest_schema
from mcp_guard.manifest.user import user_manifest_schema


def schema_files() -> dict[str, str]:
    """The generated files: path inside the repository → text."""
    return {
        "docs/schema/guard.v1.json": _text(config_schema()),
        "tool_manifests/schema/hosts.v1.json": _text(hosts_schema()),
        "tool_manifests/schema/manifest.v1.json": _text(manifest_schema()),
        "tool_manifests/schema/user-manifest.v1.json": _text(user_manifest_schema()),
    }


def stale_files(root: Path) -> list[str]:
    """The generated files below `root` that are missing or not what the models say now."""
    return [
        name
        for name, text in schema_files().items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != text
    ]


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Write the schemas, or with `--check` only compare.

    Args:
        argv: Default: the command line.
        root: The repository; default: where the package lies.

    Returns:
        0; 1 when `--check` found a stale file.
    """
    parser = argparse.ArgumentParser(prog="python -m mcp_guard.cli.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a file is stale")
    check: bool = parser.parse_args(argv).check
    top = root or Path(mcp_guard.__file__).parent.parent
    stale = stale_files(top)
    for name in stale:
        if check:
            sys.stderr.write(f"stale: {name}; run `python -m mcp_guard.cli.schemas`\n")
        else:
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(schema_files()[name], encoding="utf-8", newline="\n")
            sys.stdout.write(f"wrote {name}\n")
    return 1 if check and stale else 0


def _text(schema: object) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
