"""What is a secret in the entries of servers that people use, and what is none."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mcp_guard.config.secretfiles import SecretFiles
from mcp_guard.config.secretshapes import is_harmless, names_a_secret, random_parts, secret_spans

X = "canaryQ7w4Zk29Lm3Rt8Vb6Nc1"
WORD = "Canary7w!Zk"
"""A password as people choose it."""


def env(**values: str) -> dict[str, Any]:
    return {"command": "npx", "env": values}


def args(*words: str) -> dict[str, Any]:
    return {"command": "npx", "args": [*words]}


SECRET: dict[str, dict[str, Any]] = {
    "notion": env(OPENAPI_MCP_HEADERS=f'{{"Authorization": "Bearer ntn_{X}", "Notion-Version": "2022-06-28"}}'),
    "notion-token": env(NOTION_TOKEN=f"ntn_{X}"),
    "github": env(GITHUB_PERSONAL_ACCESS_TOKEN=f"ghp_{X}"),
    "github-docker": args("run", "-i", "-e", f"GITHUB_PERSONAL_ACCESS_TOKEN={X}", "ghcr.io/github/github-mcp-server"),
    "gitlab": env(GITLAB_PERSONAL_ACCESS_TOKEN=f"glpat-{X}"),
    "slack": env(SLACK_BOT_TOKEN=f"xoxb-{X}"),
    "slack-cookie": env(SLACK_MCP_XOXD_TOKEN=X),
    "slack-webhook": env(SLACK_WEBHOOK_URL=f"https://hooks.slack.com/services/T000/B000/{X}"),
    "discord-webhook": env(HOOK=f"https://discord.com/api/webhooks/123456789/{X}"),
    "postgres": args("-y", "@modelcontextprotocol/server-postgres", f"postgresql://app:{WORD}@localhost:5432/db"),
    "postgres-env": env(DATABASE_URI=f"postgresql://app:{WORD}@localhost/db?sslmode=require"),
    "postgres-at": env(DATABASE_URL=f"postgresql://app:p@{X}@localhost/db"),
    "pgpassword": env(PGPASSWORD=WORD),
    "mysql": env(MYSQL_PASS=WORD),
    "mysql-pwd": env(MYSQL_PWD=WORD),
    "mssql": env(CONNECTION_STRING=f"Server=db;User Id=sa;Password={WORD};Encrypt=true"),
    "mssql-arg": args("mssql-mcp", f"Server=db;User Id=sa;Password={WORD};Encrypt=true"),
    "mongodb": args("mongodb-mcp-server", "--connectionString", f"mongodb+srv://u:{X}@c.mongodb.net/db"),
    "mongodb-env": env(MDB_MCP_CONNECTION_STRING=f"mongodb://u:{X}@h:27017"),
    "mongodb-atlas": env(MDB_MCP_API_CLIENT_SECRET=X),
    "redis": args("mcp-server-redis", f"redis://default:{WORD}@redis.example:6379/0"),
    "redis-pwd": env(REDIS_PWD=WORD),
    "redis-flag": args("redis-mcp", "--password", WORD),
    "aws": env(AWS_SECRET_ACCESS_KEY=f"{X}/{X}"),
    "aws-id": env(AWS_ACCESS_KEY_ID="AKIA" + "CANARY7ABCDEFGHI"),
    "stripe": args("-y", "@stripe/mcp", "--tools=all", f"--api-key=sk_live_{X}"),
    "stripe-neutral": args("@stripe/mcp", f"rk_test_{X}"),
    "sentry": args("@sentry/mcp-server", f"--access-token={X}"),
    "sentry-dsn": env(SENTRY_DSN=f"https://{X.lower()}@o123.ingest.sentry.io/456"),
    "telegram": env(TELEGRAM_API_HASH="0123456789abcdef0canary456789abcdef"),
    "telegram-session": env(TELEGRAM_SESSION_STRING=X * 4),
    "session": env(SESSION_STRING=X),
    "telegram-bot": env(BOT=f"123456789:AA{X}"),
    "brave": env(BRAVE_API_KEY=f"BSA{X}"),
    "firecrawl": env(FIRECRAWL_API_KEY=f"fc-{X}"),
    "tavily": env(TAVILY=f"tvly-{X}"),
    "exa-url": {"url": f"https://mcp.exa.ai/mcp?exaApiKey={X}"},
    "supabase": args("@supabase/mcp-server-supabase@latest", "--read-only", "--access-token", f"sbp_{X}"),
    "supabase-key": env(SUPABASE_SERVICE_ROLE_KEY=f"eyJhbGciOi.eyJ{X}.{X}"),
    "mcp-remote": args("mcp-remote", "https://x.example/sse", "--header", f"Authorization:Bearer {X}"),
    "mcp-remote-space": args("mcp-remote", "https://x.example/sse", "--header", f"Authorization: Bearer {X}"),
    "mcp-remote-own": args("mcp-remote", "https://x.example/sse", "--header", f"X-Own:{X}"),
    "docker-neutral": args("run", "-e", f"U={X}", "mcp/x"),
    "smtp": args("--smtp-pass", WORD),
    "pass": args("--pass", WORD),
    "camel": args("--apiKey", X),
    "user": args("-u", f"elastic:{WORD}"),
    "shell": args("-c", f"API_KEY={X} npx -y server"),
    "shell-flag": args("-c", f"npx -y server --token {X}"),
    "command": {"command": f"npx -y server --api-key {X}"},
    "passphrase": env(PASSPHRASE="canary-horse-battery"),
    "neutral": env(U=X),
    "neutral-words": env(U="secret-unicode-CANARY"),
    "gmail": env(MAIL="cana ryxz abcd efgh"),
    "signing": env(SIGNING_KEY=f"-----BEGIN PRIVATE KEY-----\n{X}\n-----END PRIVATE KEY-----\n"),
    "google": env(GOOGLE_CREDENTIALS=f'{{"type": "service_account", "private_key": "{X}"}}'),
    "json-neutral": env(CONFIG=f'{{"hosts": ["a"], "apiKey": "{X}"}}'),
    "zapier": {"url": f"https://mcp.zapier.com/api/mcp/s/{X}/mcp"},
    "composio": {"url": "https://mcp.composio.dev/composio/server/550e8400-e29b-41d4-a716-canary440000?user_id=x"},
    "header": {"url": "https://x.example", "headers": {"X-Own": X}},
    "cookie": {"url": "https://x.example", "headers": {"Cookie": f"sid={X}"}},
    "basic": {"url": "https://x.example", "headers": {"Authorization": f"Basic {X}=="}},
    "uuid": env(INTEGRATION="550e8400-e29b-41d4-a716-canary440000"),
    "figma": args("figma-developer-mcp", f"--figma-api-key={X}", "--stdio"),
    "jira": env(JIRA_API_TOKEN=f"ATATT3{X}"),
    "linear": args("server-linear", f"lin_api_{X}"),
    "bearer": args("--auth-header", f"Bearer {X}"),
    "git": args("clone", f"https://oauth2:{X}@gitlab.example/a/b.git"),
    "webhook-arg": args("--hook", f"https://hooks.example/{X}"),
}
"""Each with a secret in which `canary` stands, in whatever case."""

PLAIN: dict[str, dict[str, Any]] = {
    "filesystem": args("-y", "@modelcontextprotocol/server-filesystem", "/Users/jo/Documents", "C:\\Users\\Jo"),
    "version": args("-y", "@modelcontextprotocol/server-everything@2025.1.14", "mcp-server-kubernetes@latest"),
    "docker": args("run", "-i", "--rm", "-e", "GITHUB_TOKEN", "ghcr.io/github/github-mcp-server:v0.5.0"),
    "docker-port": args("run", "-p", "8080:80", "-u", "1000:1000", "-v", "/var/run/docker.sock:/var/run/docker.sock"),
    "uvx-git": args("--from", "git+https://github.com/oraios/serena", "serena", "start-mcp-server"),
    "region": env(AWS_REGION="us-east-1", AWS_PROFILE="default", LANG="en_US.UTF-8", TZ="Europe/Vienna"),
    "level": env(LOG_LEVEL="info", DEBUG="true", FASTMCP_LOG_LEVEL="ERROR", NODE_ENV="production", PORT="8080"),
    "models": env(MODEL="claude-sonnet-4-20250514", OTHER="gpt-4o-mini", EMBED="text-embedding-3-small"),
    "node": env(NODE_OPTIONS="--max-old-space-size=4096"),
    "host": env(MYSQL_HOST="127.0.0.1", MYSQL_USER="root", PGSSLMODE="require", DB="localhost:5432"),
    "url": env(JIRA_URL="https://acme.atlassian.net", QDRANT_URL="http://localhost:6333"),
    "email": env(JIRA_USERNAME="jo@acme.example"),
    "files": env(
        GOOGLE_APPLICATION_CREDENTIALS="/home/jo/key.json", TOKEN_FILE="/run/token", KUBECONFIG="~/.kube/config"
    ),
    "limits": env(MAX_TOKENS="4096", TOKEN_LIMIT="800", SESSION_TIMEOUT="30"),
    "lists": env(TOOLSETS="repos,issues,pull_requests", FILTER='["a", "b"]', OPTIONS='{"depth": 2, "mode": "fast"}'),
    "references": env(API_KEY="${env:API_KEY}", OTHER="${OTHER:-none}"),
    "headers": {
        "url": "https://api.example.com/mcp/v1?toolset=all",
        "headers": {"Accept": "application/json, text/event-stream", "Notion-Version": "2022-06-28"},
    },
    "flags": args("--read-only", "--transport", "stdio", "--project-ref=abcdef", "--features=database,docs"),
    "remote": args("mcp-remote", "https://mcp.linear.app/sse", "3334", "--header", "Authorization:${AUTH}"),
    "words": env(OWNER="acme-corp", PROJECT="My Project", EMPTY="", QUERY="status=open"),
}
"""Nothing in them has to be moved."""


@pytest.mark.parametrize("fields", SECRET.values(), ids=SECRET.keys())
def test_the_secrets_of_popular_servers_are_moved(fields: dict[str, Any]) -> None:
    """docs/hosts.md: plain secrets move into files."""
    files = SecretFiles(careful=True)
    moved = files.move_from("s", fields)
    left = repr(moved).replace("${file:secrets", "").lower()
    assert "canary" not in left.replace(" ", "")
    assert any("canary" in text.lower().replace(" ", "") for text in files.files.values())
    assert _back(moved, files.files) == fields


def _back(value: Any, files: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _back(inner, files) for key, inner in value.items()}
    if isinstance(value, list):
        return [_back(inner, files) for inner in value]
    for name, text in files.items():
        value = value.replace(f"${{file:{name}}}", text)
    return value


@pytest.mark.parametrize("fields", PLAIN.values(), ids=PLAIN.keys())
def test_what_evidently_is_no_secret_stays_readable(fields: dict[str, Any]) -> None:
    """docs/hosts.md: guard.yaml says how a server is started."""
    files = SecretFiles(careful=True)
    assert files.move_from("s", fields) == fields
    assert files.files == {}


def test_the_tables_are_long_enough_to_mean_something() -> None:
    """Both ways."""
    assert len(SECRET) >= 60
    assert sum(len(f.get("env", {})) + len(f.get("args", [])) for f in PLAIN.values()) >= 60


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("MYSQL_PASS", True),
        ("dbPassword", True),
        ("accessKey", True),
        ("X-Api-Key", True),
        ("SENTRY_DSN", True),
        ("BYPASS", False),
        ("COMPASS", False),
        ("MONKEY", False),
        ("HASH_ALGORITHM", False),
        ("SESSION_TIMEOUT", False),
        ("TOKEN_FILE", False),
        ("tokenizer", True),
    ],
)
def test_names_tell(name: str, secret: bool) -> None:  # noqa: FBT001 - a column
    """Configuration contract: secrets are known by their names; a doubtful one counts as a secret."""
    assert names_a_secret(name) is secret


def test_parts_of_a_text_are_found_where_they_stand() -> None:
    """docs/masking.md: exact values are masked wherever they occur, so also the password alone."""
    text = f'{{"Authorization": "Bearer {X}", "a": "postgres://u:{WORD}@h"}}'
    assert [text[start:end] for _, start, end in secret_spans(text)] == [X, WORD]
    assert not is_harmless(text)


@pytest.mark.parametrize("shape", ["a=", "Bearer ", "://u:", "-a ", "x@", 'a="', "eyJ", "a.", "/", "[", '{"a":'])
def test_long_texts_are_looked_at_in_time(shape: str) -> None:
    """Bad input: a host's file is anybody's."""
    text = shape * (200_000 // len(shape))
    start = time.process_time()
    SecretFiles(careful=True).move_from("s", {"args": [text], "env": {"A": text}, "command": text, "url": text})
    assert time.process_time() - start < 5


def test_an_address_that_cannot_be_read_is_not_taken_for_a_harmless_one() -> None:
    """Configuration contract: a doubtful one counts as a secret."""
    assert not is_harmless(f"https://[half/{WORD}")
    assert random_parts("https://[half/x") == []
    moved = SecretFiles(careful=True)
    moved.move_from("s", {"env": {"ENDPOINT": f"https://[half/{WORD}"}})
    assert WORD in "".join(moved.files.values())
