"""Secrets that are known by the names, words and commands beside them."""

from __future__ import annotations

import pytest

from mcp_guard.masking.engine import scan


def secrets(text: str) -> list[str]:
    return [text[f.start : f.end] for f in scan(text) if f.type == "SECRET"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("DB_PASSWORD=hunter2!", "hunter2!"),
        ('    password:            "tu-lip"', "tu-lip"),
        ('{"Shoptoken": "{\\"a\\": \\"a1b2c3d4e5\\"}"}', '{\\"a\\": \\"a1b2c3d4e5\\"}'),
        ("SHOP_TOKEN=qwzxkvjhgfpymrtblcndsaqw", "qwzxkvjhgfpymrtblcndsaqw"),
        ("  # password: tulipsandbees\n", "tulipsandbees"),
        ('jwt-secret = "mnbvcxzlkjhgfdsapoiuytrewq"', "mnbvcxzlkjhgfdsapoiuytrewq"),
        ("Set-Cookie:\n  - shop-auth.sid=s%3Ab4N8vQ2xLm6Rt0Kd", "s%3Ab4N8vQ2xLm6Rt0Kd"),
        ("Authorization: Bearer a1b2c3d4e5f6g7h8", "a1b2c3d4e5f6g7h8"),
        ("openssl req -passin pass:marigold -out x", "marigold"),
        ("$p = ConvertTo-SecureString 'Summer!' -AsPlainText", "Summer!"),
        ('curl --user "admin:tulip" http://x', "tulip"),
        ("alter user shop identified by orchid42 container", "orchid42"),
        ("CREATE USER a IDENTIFIED WITH sha256 BY 'tulip'", "tulip"),
        ("restore --password Daffodil77! now", "Daffodil77!"),
    ],
)
def test_secret_beside_its_name_or_command_is_found(text: str, value: str) -> None:
    """masking.md §2: keyword anchors."""
    assert secrets(text) == [value]


def test_each_secret_of_a_list_is_found_and_words_are_not() -> None:
    """masking.md §7: lists under a name that says secret."""
    assert secrets('{"tokens": ["0f1e2d3c4b5a6978", "8796a5b4c3d2e1f0"]} x') == ["0f1e2d3c4b5a6978", "8796a5b4c3d2e1f0"]
    assert secrets('{"tokens": ["the", "weather", "in March 2026"]} x') == []


@pytest.mark.parametrize(
    "text",
    [
        "password = get_password(token)",
        'VAULT_PWD="vault.pem"',
        'CHANGE_PASSWORD="change_it.sh"',
        "PASSWORD=`head -n 1 settings`",
        "SECRET_FILE: /etc/shop/login.txt",
        'Password: "shop.cache.password"',
        "password=${DB_PASSWORD} token=$TOKEN key=<your key>",
        "shopPassword=###FILL_IN###",
        "crawl -u https://example.com/?id=1",
        "docker run -u 1000:1000 image",
        "-- ALTER USER x IDENTIFIED BY '` + value + `'",
        "tool -pwd-age -verbose-list",
        "max_tokens: 4096, token_count=123456789",
    ],
)
def test_what_only_stands_where_a_secret_could_is_left_alone(text: str) -> None:
    """masking.md §7: few false masks in code."""
    assert secrets(text) == []
