"""Plain secrets of a host's entry go into files."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_guard.config.secretfiles import SecretFiles

CANARY = "canary0123456789abcdef"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"env": {"API_KEY": CANARY}}, {"env": {"API_KEY": "${file:secrets/s.API_KEY}"}}),
        (
            {"headers": {"Authorization": f"Bearer {CANARY}"}},
            {"headers": {"Authorization": "Bearer ${file:secrets/s.Authorization}"}},
        ),
        ({"args": ["--api-key", CANARY]}, {"args": ["--api-key", "${file:secrets/s.api-key}"]}),
        ({"args": [f"--token={CANARY}"]}, {"args": ["--token=${file:secrets/s.token}"]}),
        ({"args": ["-e", f"DB_PASSWORD={CANARY}"]}, {"args": ["-e", "DB_PASSWORD=${file:secrets/s.DB_PASSWORD}"]}),
        (
            {"args": ["--header", f"Authorization: Bearer {CANARY}"]},
            {"args": ["--header", "Authorization: Bearer ${file:secrets/s.Authorization}"]},
        ),
        (
            {"env": {"DATABASE": f"postgresql://me:{CANARY}@db/x"}},
            {"env": {"DATABASE": "postgresql://me:${file:secrets/s.DATABASE}@db/x"}},
        ),
        ({"args": [f"postgresql://me:{CANARY}@db/x"]}, {"args": ["postgresql://me:${file:secrets/s.arg}@db/x"]}),
        ({"url": f"https://me:{CANARY}@example.com/mcp"}, {"url": "https://me:${file:secrets/s.url}@example.com/mcp"}),
        ({"args": ["-p", CANARY, "db"]}, {"args": ["-p", "${file:secrets/s.password}", "db"]}),
        ({"args": [f"-p{CANARY}", "db"]}, {"args": ["-p${file:secrets/s.password}", "db"]}),
        (
            {"url": f"https://h/m?a=1&api_key={CANARY}&b=2"},
            {"url": "https://h/m?a=1&api_key=${file:secrets/s.api_key}&b=2"},
        ),
    ],
    ids=[
        "env",
        "header",
        "flag",
        "flag=",
        "docker",
        "header-flag",
        "address",
        "address-arg",
        "url",
        "-p",
        "-pX",
        "query",
    ],
)
def test_a_secret_becomes_a_reference_and_the_rest_stays(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Configuration contract: secrets are references."""
    files = SecretFiles()
    assert files.move_from("s", fields) == expected
    assert list(files.files.values()) == [CANARY]


def test_a_token_is_known_by_its_beginning_wherever_it_stands() -> None:
    """Masking rules: prefix rules."""
    files = SecretFiles()
    token = "ghp_" + "a1" * 18
    moved = files.move_from("s", {"env": {"SETTING": f"x {token} y"}, "args": [token]})
    assert token not in str(moved)
    assert list(files.files.values()) == [token, token]


@pytest.mark.parametrize(
    "fields",
    [
        {"env": {"API_KEY": "${env:API_KEY}", "TOKEN_FILE": "/run/token", "MAX_TOKENS": "4096", "USE_TOKEN": "true"}},
        {"env": {"API_KEY": ""}, "args": ["--key-path", "/k", "--token", "--verbose", "-y", "a@b"]},
        {"args": ["-p", "8080:80", "-p", "8443", "-p", "./a", "-port", "-path_x", "-t", "stdio"]},
        {"url": "https://h/m?max_tokens=5&token=${env:T}&key=true"},
        {"url": "https://me:${env:PASSWORD}@example.com/mcp", "args": ["${TOKEN:-none}", 5]},
    ],
    ids=range(5),
)
def test_what_is_no_plain_secret_stays(fields: dict[str, Any]) -> None:
    """Configuration contract: references stay references."""
    files = SecretFiles()
    assert files.move_from("s", fields) == fields
    assert not files.files


def test_names_of_files_are_safe_and_never_shared() -> None:
    """Threat S38: path escape."""
    files = SecretFiles()
    files.move_from("s", {"env": {"../a/TOKEN": CANARY, ".._a_TOKEN": "other-value"}})
    assert list(files.files) == ["secrets/s..._a_TOKEN", "secrets/s..._a_TOKEN.2"]


def test_secrets_do_not_show() -> None:
    """Hygiene: no secret in a repr."""
    files = SecretFiles()
    files.move_from("s", {"env": {"API_KEY": CANARY}})
    assert CANARY not in repr(files)


def test_line_breaks_at_the_end_stay_beside_the_reference() -> None:
    """docs/config.md: a file gives back its text without them."""
    files = SecretFiles()
    key = "-----BEGIN PRIVATE KEY-----\n" + CANARY + "\n-----END PRIVATE KEY-----\n"
    moved = files.move_from("s", {"env": {"SIGNING_KEY": key}})
    assert moved == {"env": {"SIGNING_KEY": "${file:secrets/s.SIGNING_KEY}\n"}}
    assert files.files == {"secrets/s.SIGNING_KEY": key.rstrip("\n")}


def test_only_what_is_sure_is_counted_where_nothing_is_moved() -> None:
    """docs/doctor.md: a finding must be right."""
    fields = {"env": {"REGION": "x7-K2", "TEAM_ID": "T0123ABCD9", "A_TOKEN": CANARY}}
    assert len(SecretFiles().files) == 0
    sure, careful = SecretFiles(), SecretFiles(careful=True)
    sure.move_from("s", fields)
    careful.move_from("s", fields)
    assert [*sure.files] == ["secrets/s.A_TOKEN"]
    assert [*careful.files] == ["secrets/s.TEAM_ID", "secrets/s.A_TOKEN"]
