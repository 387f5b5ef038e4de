"""Files of hosts in the shapes that are met: three systems, comments, unknown keys, inputs, TOML, odd bytes.

Each secret in them begins with `canary`, so that a test can search for it everywhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

APPS = {"linux": ".config", "darwin": "Library/Application Support", "win32": "AppData/Roaming"}


@dataclass(frozen=True)
class Config:
    """A file below the home folder."""

    path: str
    text: bytes
    wrapped: int
    """How many of its servers go behind the guard."""
    platform: str = "linux"


def _desktop(platform: str) -> str:
    return f"{APPS[platform]}/Claude/claude_desktop_config.json"


def _code(platform: str, name: str = "mcp.json") -> str:
    return f"{APPS[platform]}/Code/User/{name}"


def _config(path: str, text: str, wrapped: int, platform: str = "linux") -> Config:
    return Config(path, text.encode(), wrapped, platform)


PLAIN = """{
  "mcpServers": {
    "filesystem": {
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-filesystem", "/Users/jo/Documents"]
    }
  }
}
"""
SECRETS = """{
  "globalShortcut": "Cmd+Shift+Space",
  "mcpServers": {
    "github": {
      "command": "npx",
      "args": [
        "-y",
        "@modelcontextprotocol/server-github"
      ],
      "env": {
        "GITHUB_PERSONAL_ACCESS_TOKEN": "canary-github-0123456789abcdef"
      }
    },
    "postgres": {
      "command": "uvx",
      "args": ["postgres-mcp", "postgresql://app:canary-pg-secret1@localhost/db"],
      "env": {"PGSSLMODE": "require", "LOG_LEVEL": "info"}
    },
    "search": {
      "command": "npx",
      "args": ["-y", "search-mcp", "--api-key", "canary-arg-7f8e9d6c"]
    }
  },
  "preferences": {"menuBarEnabled": false}
}
"""
CURSOR = """{
\t// shared by all my projects
\t"mcpServers": {
\t\t"files": {
\t\t\t"command": "npx", // needs node 20
\t\t\t"args": ["-y", "@modelcontextprotocol/server-filesystem", "${workspaceFolder}"], /* the folder */
\t\t\t"alwaysAllow": ["read_file", "list_directory"],
\t\t},
\t\t// "old": {"command": "x"},
\t\t"docs": {
\t\t\t"url": "https://docs.example.com/mcp",
\t\t\t"headers": {"Authorization": "Bearer canary-docs-token-123"}, // mine
\t\t\t"disabled": false,
\t\t},
\t},
}
"""
VSCODE = """{
    // comments are fine here
    "inputs": [
        {"type": "promptString", "id": "perplexity-key", "description": "Perplexity API Key", "password": true},
    ],
    "servers": {
        "perplexity": {
            "type": "stdio",
            "command": "npx",
            "args": ["-y", "server-perplexity-ask"],
            "env": {
                "PERPLEXITY_API_KEY": "${input:perplexity-key}",
            },
        },
        "fetch": {
            "type": "http",
            "url": "https://example.com/mcp",
            "headers": {"X-Api-Key": "${input:perplexity-key}"}
        },
        "db": {
            "command": "uvx",
            "args": ["db-mcp", "--path=${workspaceFolder}/x.db"],
            "cwd": "${workspaceFolder}",
            "envFile": "${workspaceFolder}/.env",
            "dev": {"watch": "src/**"}
        }
    }
}
"""
CLAUDE_CODE = json.dumps(
    {
        "numStartups": 214,
        "tipsHistory": {"shift-enter": 3},
        "oauthAccount": {"emailAddress": "jo@example.com", "accessToken": "canary-oauth-keep"},
        "mcpServers": {
            "sequential": {"type": "stdio", "command": "npx", "args": ["-y", "server-sequential-thinking"], "env": {}},
            "api": {
                "type": "http",
                "url": "${API_BASE:-https://api.example.com}/mcp",
                "headers": {"Authorization": "Bearer ${API_KEY}"},
            },
            "crm": {
                "type": "http",
                "url": "https://crm.example.com/mcp",
                "headers": {"Authorization": "Bearer canary-crm-token"},
                "timeout": 60000,
            },
            "events": {"type": "sse", "url": "https://events.example.com/sse"},
            "sentry": {"type": "http", "url": "https://mcp.sentry.example/mcp"},
        },
        "projects": {
            "/home/jo/app": {
                "allowedTools": [],
                "mcpServers": {
                    "memory": {
                        "type": "stdio",
                        "command": "npx",
                        "args": ["-y", "server-memory"],
                        "env": {"K": "${HOME:-/x}"},
                    }
                },
                "hasTrustDialogAccepted": True,
            },
            "/home/jo/über projekt": {
                "mcpServers": {},
                "history": [{"display": "fix ünïcode 🎉", "pastedContents": {}}],
            },
            "/srv/other": {
                "mcpServers": {
                    "sequential": {"command": "node", "args": ["other.js"], "env": {"SECRET": "canary-other"}}
                }
            },
        },
    },
    indent=2,
    ensure_ascii=False,
)
CODEX = """# Codex
model = "gpt-5"
approval_policy = "on-request"   # ask

[mcp_servers.docs]
command = "docs-server"          # a comment that stays
args = [
  "--stdio",
  "--verbose",   # more
]
startup_timeout_sec = 20
tool_timeout_sec = 600

[mcp_servers.docs.env]
DOCS_TOKEN = 'canary-codex-docs-1'
MODE = "fast"

[mcp_servers."remote api"]
url = "https://api.example.com/mcp"
bearer_token_env_var = "REMOTE_TOKEN"
enabled = true

[profiles.deep]
model_reasoning_effort = "high"
"""
CODEX_INLINE = """[mcp_servers]
a = { command = "a-server", args = ["x"], env = { API_KEY = "canary-inline-key" } }
b = { command = 'C:\\tools\\b.exe', cwd = "/srv" }

[tui]
notifications = true
"""
CODEX_DOTTED = """mcp_servers.dotted.command = "d"
mcp_servers.dotted.args = ["1"]

[history]
persistence = "none"
"""
WINDSURF = """{
  "mcpServers": {
    "figma": {"serverUrl": "http://127.0.0.1:3845/mcp"},
    "stripe": {"command": "npx", "args": ["-y", "@stripe/mcp", "--api-key=canary-stripe-key1"], "disabledTools": ["x"]},
    "hosted": {"serverUrl": "https://hosted.example.com/sse"}
  }
}"""
SETTINGS = """{
    "editor.fontSize": 13,
    "workbench.colorCustomizations": {"[Theme]": {"a": "#fff"}}, // colours
    "mcp": {
        "inputs": [],
        "servers": {
            "time": {"command": "uvx", "args": ["mcp-server-time"]}
        }
    },
    "files.trimTrailingWhitespace": true,
}
"""
HUGE = json.dumps(
    {
        "projects": {f"/p/{n}": {"history": [{"display": f'say {{{n}}} "x" // no comment'}] * 40} for n in range(200)},
        "mcpServers": {"one": {"command": "npx", "args": ["one"], "env": {"TOKEN": "canary-huge-token"}}},
    },
    indent=2,
)
WINDOWS = PLAIN.replace('"npx"', '"cmd"').replace('"-y"', '"/c", "npx", "-y"').replace("/Users/jo", "C:\\\\Users\\\\Jo")
WRAPPED = """{"mcpServers": {
  "a": {"command": "../old/bin/mcp-guard", "args": ["serve", "--server", "a"]},
  "b": {"command": "uvx", "args": ["--from", "git+https://git.example/mcp-guard@v0.2", "mcp-guard", "serve"]},
  "c": {"command": "python3", "args": ["-m", "mcp_guard.cli.main", "serve", "--config", "/x/guard.yaml"]},
  "d": {"command": "C:\\\\Tools\\\\MCP-Guard.EXE", "args": ["serve"]},
  "e": {"command": "uvx", "args": ["mcp-guard==0.3.1", "serve"]},
  "f": {"command": "docker", "args": ["run", "-i", "mcp-guard:latest", "serve"]}
}}
"""
ODD = """{"mcpServers": {
  "no command": {"args": ["x"]},
  "text": "npx",
  "nothing": null,
  "both": {"command": "x", "url": "https://x.example"},
  "numbers": {"command": "x", "args": [1, 2]},
  "sandboxed": {"command": "x", "sandboxEnabled": true},
  "login": {"url": "https://x.example/mcp", "headers": {"A": "b"}, "oauth": {"clientId": "c"}},
  "socket": {"type": "ws", "url": "wss://x.example"},
  "address": {"url": "${input:url}"},
  "a.b/c ü": {"command": "x", "env": {"PORT": 8080, "DEBUG": true}}
}}
"""

REVIEWED = json.dumps(
    {
        "mcpServers": {
            "notion": {
                "command": "npx",
                "env": {"OPENAPI_MCP_HEADERS": '{"Authorization": "Bearer ntn_canary4839fjd93kdl"}'},
            },
            "mysql": {"command": "npx", "env": {"MYSQL_HOST": "127.0.0.1", "MYSQL_PASS": "canaryTr0ub"}},
            "mssql": {"command": "npx", "env": {"CONNECTION_STRING": "Server=db;Password=canarySup3r;Encrypt=true"}},
            "remote": {
                "command": "npx",
                "args": ["https://x.example", "--header", "Authorization:Bearer canaryabc123"],
            },
            "smtp": {"command": "npx", "args": ["--smtp-pass", "canaryhunter", "--pass", "canaryhunter2"]},
            "tele": {
                "command": "npx",
                "env": {"TELEGRAM_API_HASH": "canary0123", "SESSION_STRING": "canary1BV", "PASSPHRASE": "canary-horse"},
            },
            "neutral": {"command": "docker", "args": ["run", "-e", "U=canary7Kq9Z"], "env": {"U": "canary7Kq9Zx4"}},
        }
    },
    indent=2,
)
REVIEWED_TOML = """[mcp_servers.pem]
command = "npx"
[mcp_servers.pem.env]
SIGNING_KEY = \"\"\"
canary-line-one
canary-line-two
\"\"\"
U = "canary-unicode-SECRET"

[tui]
notifications = true
"""

CONFIGS: dict[str, Config] = {
    "desktop-realistic": _config(_desktop("linux"), REVIEWED, 7),
    "codex-realistic": _config(".codex/config.toml", REVIEWED_TOML, 1),
    "desktop-mac": _config(_desktop("darwin"), PLAIN, 1, "darwin"),
    "desktop-mac-secrets": _config(_desktop("darwin"), SECRETS, 3, "darwin"),
    "desktop-linux": _config(_desktop("linux"), SECRETS, 3),
    "desktop-windows": _config(_desktop("win32"), WINDOWS, 1, "win32"),
    "desktop-windows-crlf": _config(_desktop("win32"), SECRETS.replace("\n", "\r\n"), 3, "win32"),
    "desktop-bom": _config(_desktop("win32"), "\ufeff" + PLAIN.replace("\n", "\r\n"), 1, "win32"),
    "desktop-minified": _config(_desktop("linux"), json.dumps(json.loads(SECRETS), separators=(",", ":")), 3),
    "desktop-no-final-newline": _config(_desktop("linux"), PLAIN.rstrip("\n"), 1),
    "desktop-no-servers": _config(_desktop("darwin"), '{"globalShortcut": ""}', 0, "darwin"),
    "desktop-empty-block": _config(_desktop("linux"), '{"mcpServers": {}}\n', 0),
    "desktop-empty-file": _config(_desktop("linux"), "", 0),
    "desktop-blank-file": _config(_desktop("linux"), "\n  \r\n", 0),
    "desktop-unicode": _config(
        _desktop("darwin"), PLAIN.replace('filesystem"', 'Ablage 🗂 ü"').replace("jo", "jö"), 1, "darwin"
    ),
    "desktop-escapes": _config(_desktop("linux"), PLAIN.replace('filesystem"', 'f\\u0069les\\n"'), 1),
    "desktop-duplicate-key": _config(
        _desktop("linux"),
        '{"mcpServers": {"a": {"command": "x", "command": "y", "args": []}, "b": {"command": "z"}}}',
        0,
    ),
    "desktop-already": _config(_desktop("linux"), WRAPPED, 0),
    "desktop-odd-entries": _config(_desktop("linux"), ODD, 1),
    "desktop-literal-dollar": _config(
        _desktop("linux"),
        '{"mcpServers": {"a": {"command": "x", "args": ["${not a reference"], "env": {"P": "a${b}c"}}}}',
        1,
    ),
    "cursor-tabs-comments": _config(".cursor/mcp.json", CURSOR, 2),
    "cursor-crlf-tabs": _config(".cursor/mcp.json", CURSOR.replace("\n", "\r\n"), 2, "win32"),
    "cursor-only-comments": _config(".cursor/mcp.json", "// nothing yet\n/* really */\n", 0),
    "cursor-odd-space": _config(".cursor/mcp.json", '{ "mcpServers"\n:\n{ "a":{"command":"x"\n,"args":[ ]\n}\n}\n}', 1),
    "vscode-inputs": _config(_code("linux"), VSCODE, 3),
    "vscode-mac": _config(_code("darwin"), VSCODE.replace("    ", "\t"), 3, "darwin"),
    "vscode-windows": _config(_code("win32"), VSCODE.replace("\n", "\r\n"), 3, "win32"),
    "vscode-settings": _config(_code("linux", "settings.json"), SETTINGS, 1),
    "vscode-profile": _config(f"{APPS['linux']}/Code/User/profiles/-7a1b/mcp.json", VSCODE, 3),
    "vscode-insiders": _config(f"{APPS['linux']}/Code - Insiders/User/mcp.json", VSCODE, 3),
    "vscode-empty": _config(_code("linux"), '{\n\t"servers": {},\n\t"inputs": []\n}', 0),
    "claude-code-projects": _config(".claude.json", CLAUDE_CODE, 4),
    "claude-code-mac": _config(".claude.json", CLAUDE_CODE + "\n", 4, "darwin"),
    "claude-code-huge": _config(".claude.json", HUGE, 1),
    "codex": _config(".codex/config.toml", CODEX, 2),
    "codex-crlf": _config(".codex/config.toml", CODEX.replace("\n", "\r\n"), 2, "win32"),
    "codex-inline": _config(".codex/config.toml", CODEX_INLINE, 2),
    "codex-dotted": _config(".codex/config.toml", CODEX_DOTTED, 1),
    "codex-bom": _config(".codex/config.toml", "\ufeff" + CODEX, 2),
    "codex-no-servers": _config(".codex/config.toml", 'model = "x"\n# [mcp_servers.a]\n', 0),
    "windsurf": _config(".codeium/windsurf/mcp_config.json", WINDSURF, 2),
    "windsurf-windows": _config(".codeium/windsurf/mcp_config.json", WINDSURF.replace("\n", "\r\n"), 2, "win32"),
}
