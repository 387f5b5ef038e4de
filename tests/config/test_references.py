"""References in the servers block."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mcp_guard.config.references import ResolvedServers, Resolver, resolve_servers
from mcp_guard.config.schema import ServerConfig

SECRET = "hunter2-hunter2"


def resolve(server: ServerConfig, resolver: Resolver) -> ResolvedServers:
    return resolve_servers({"a": server}, resolver)


def whats(resolved: ResolvedServers) -> list[str]:
    return [f.what for f in resolved.findings]


def test_every_kind_of_reference_is_resolved_inside_longer_text(tmp_path: Path) -> None:
    """docs/config.md: env, file, keyring, VAR, VAR with default, config_dir."""
    (tmp_path / "key").write_text(f"{SECRET}-file\n")
    entries = {("svc", "me/x"): f"{SECRET}-ring"}
    resolver = Resolver({"T": SECRET, "H": "host"}, tmp_path, keyring=lambda s, u: entries.get((s, u)))
    texts = ["Bearer ${env:T}", "${file:key}", "${keyring:svc/me/x}", "${H}:${PORT:-80}", "${config_dir}/x", "$H {T}"]

    resolved = resolve(ServerConfig(command="x", args=texts), resolver)

    assert resolved.servers["a"].args == [
        f"Bearer {SECRET}", f"{SECRET}-file", f"{SECRET}-ring", "host:80", f"{tmp_path}/x", "$H {T}",
    ]  # fmt: skip
    assert resolved.secrets == (SECRET, f"{SECRET}-file", f"{SECRET}-ring")
    assert resolved.findings == ()


def test_the_value_of_a_variable_is_not_expanded_again(tmp_path: Path) -> None:
    """Threat S38: `${ENV}` expansion of attacker text."""
    resolved = resolve(ServerConfig(command="x", args=["${A}"]), Resolver({"A": "${env:T}", "T": SECRET}, tmp_path))

    assert resolved.servers["a"].args == ["${env:T}"]


def test_a_missing_file_or_keyring_is_a_finding_without_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRIBUTING.md, habit 4: no value echoed."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    resolved = resolve(ServerConfig(command="x", args=["${file:canary}", "${keyring:a/b}"]), Resolver({}, tmp_path))

    assert whats(resolved) == [
        "the file of a ${file:…} cannot be read: No such file or directory",
        "${keyring:…} needs the package keyring",
    ]


def test_a_keyring_that_fails_or_has_no_entry_is_a_finding_without_its_text(tmp_path: Path) -> None:
    """CONTRIBUTING.md, habit 4: no text of foreign exceptions."""

    def broken(service: str, user: str) -> str | None:
        raise RuntimeError(SECRET + service + user)

    for keyring, what in ((broken, "the keyring cannot be read"), (lambda *_: None, "the keyring has no such entry")):
        resolved = resolve(ServerConfig(command="${keyring:a/b}"), Resolver({}, tmp_path, keyring=keyring))

        assert whats(resolved) == [what]


@pytest.mark.parametrize(
    "text", ["${}", "${a b}", "${env:}", "${env:A-B}", "${env:A:-x}", "${keyring:x}", "${userHome}", "${", "${A${B}}"]
)
def test_what_is_not_understood_is_refused_and_never_passed_on_as_it_stands(tmp_path: Path, text: str) -> None:
    """docs/config.md: a host's own references are refused by name."""
    resolved = resolve(ServerConfig(command="x", args=[text]), Resolver({"A": "1", "B": "1"}, tmp_path))

    assert resolved.findings


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"a\0b", b"x" * (64 * 1024 + 1)], ids=["not UTF-8", "NUL", "too long"]
)
def test_a_secret_file_that_is_not_a_small_text_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """CONTRIBUTING.md, habit 9: everything is bounded."""
    (tmp_path / "key").write_bytes(content)

    assert resolve(ServerConfig(command="${file:key}"), Resolver({}, tmp_path)).findings


def test_a_plain_secret_is_warned_of_by_its_key_and_masked_with_and_without_its_scheme(tmp_path: Path) -> None:
    """docs/config.md: plain secrets work, with a warning."""
    server = ServerConfig(url="http://h/", headers={"Authorization": f"Bearer {SECRET}", "Accept": "text/plain"})
    resolved = resolve(server, Resolver({}, tmp_path))

    assert [(f.place, f.what) for f in resolved.warnings] == [
        (("servers", "a", "headers", "Authorization"), "a secret in plain text")
    ]
    assert set(resolved.secrets) == {SECRET, f"Bearer {SECRET}"}


def test_a_secret_too_short_to_mask_exactly_is_warned_of(tmp_path: Path) -> None:
    """docs/masking.md: an exact match of `1` would mask everything."""
    resolved = resolve(ServerConfig(command="x", env={"A": "${env:T}"}), Resolver({"T": "1"}, tmp_path))

    assert resolved.secrets == ()
    assert "fewer than 6 characters" in resolved.warnings[0].what


def test_a_disabled_server_needs_none_of_its_references(tmp_path: Path) -> None:
    """security.md F2: one server that is off never blocks the others."""
    resolved = resolve(ServerConfig(command="${env:NOPE}", disabled=True), Resolver({}, tmp_path))

    assert resolved.findings == ()
    assert resolved.servers == {}


def test_resolved_servers_show_nothing_of_themselves(tmp_path: Path) -> None:
    """CONTRIBUTING.md, habit 4: no secret in a repr."""
    resolved = resolve(ServerConfig(command="${env:T}"), Resolver({"T": SECRET}, tmp_path))

    assert SECRET not in repr(resolved)


def test_names_that_only_speak_of_secrets_are_not_taken_for_one(tmp_path: Path) -> None:
    """A warning that is wrong teaches to ignore warnings; a masked `4096` corrupts results."""
    env = {"MAX_TOKENS": "409600", "TOKEN_FILE": "/run/token", "TOKEN_URL": "https://auth.example.com/t"}
    resolved = resolve_servers({"a": ServerConfig(command="a", env=env)}, Resolver({}, tmp_path))

    assert resolved.warnings == ()
    assert resolved.secrets == ()
