"""What a grant lets through (docs/grants.md): paths, addresses, arguments, and everything else that must stay."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import JsonValue

from mcp_guard.approval.bounds import fits, offers_of, roots_of
from mcp_guard.approval.grants import real_path
from mcp_guard.approval.places import place_of
from mcp_guard.approval.statement import Stored
from mcp_guard.model import (
    ApprovalTerms,
    ArgumentFact,
    Call,
    CallContext,
    CallKind,
    Decision,
    Effect,
    GrantOffer,
    JsonDict,
    MaskedJson,
    Principal,
    RawArguments,
    Risk,
    Target,
    ToolFacts,
    Views,
)

SAME = GrantOffer(900.0, 5, None)
FOLDER = GrantOffer(900.0, 5, {"/path": "folder", "/mode": "same"})
DOMAIN = GrantOffer(900.0, 5, {"/to": "domain"})
SCHEMA: JsonDict = {
    "type": "object",
    "properties": {"path": {}, "content": {}, "mode": {}, "to": {}, "force": {}},
}
FACTS = ToolFacts(True, ("write",), Risk.HIGH, arguments={"/to": ArgumentFact("recipient", "full")}, why="Writes.")


def stored(arguments: JsonDict, *offers: GrantOffer, **views: object) -> Stored:
    target = Target(CallKind.TOOL, "files", "write", "write", True, "d1", SCHEMA, facts=FACTS, server_identity="i1")
    raw = RawArguments(arguments)
    call = Call("call_1", target, raw, Principal("os", "alice"), CallContext("stdio", "2025-11-25", "ses_1"))
    terms = ApprovalTerms(grants=offers or (SAME, FOLDER, DOMAIN))
    decision = Decision(Effect.REQUIRE_APPROVAL, "default:high", Risk.HIGH, ("why",), "p1", terms)
    seen = replace(Views(raw, MaskedJson(arguments), MaskedJson(arguments)), **views)  # type: ignore[arg-type]  # test
    return Stored(call, seen, decision, "prod", "personal")


def covers(given: JsonDict, asked: JsonDict, offer: GrantOffer) -> bool:
    first, second = stored(given), stored(asked)
    roots = roots_of(first, offer, real_path)
    assert roots is not None
    return fits(first, offer, roots, second, real_path)


def in_folder(path: JsonValue, **more: JsonValue) -> bool:
    return covers({"path": "/srv/work/notes/a.txt", "content": "x"}, {"path": path, "content": "y", **more}, FOLDER)


@pytest.mark.parametrize(
    "path",
    [
        "/srv/work/notes/b.txt",
        "/srv/work/notes/deep/er/b.txt",
        "/srv/work/notes//b.txt",
        "/srv/work/notes/./b.txt",
        "/srv/work/notes/b c.txt",
        ["/srv/work/notes/b.txt", "/srv/work/notes/c.txt"],
    ],
)
def test_a_path_in_the_folder_fits(path: JsonValue) -> None:
    """Attack 36: the bound lets through what it says. A list fits when all of it does."""
    assert in_folder(path) is (not isinstance(path, list))  # the approved call had no list: another type


@pytest.mark.parametrize(
    "path",
    [
        "/srv/work/other/b.txt",
        "/srv/work/notes",
        "/srv/work/notes/",
        "/srv/work/notesx/b.txt",
        "/srv/work/notes.txt",
        "/srv/work/Notes/b.txt",
        "/SRV/work/notes/b.txt",
        "/srv/work/notes/../other/b.txt",
        "/srv/work/notes/..",
        "/srv/work/notes/x/../../other",
        "/srv/work/notes/..\u200b/other",
        "/srv/work/notes/{a,../../../etc/passwd}",
        "/srv/work/notes/%2e%2e/other",
        "/srv/work/notes/.%2e/other",
        "/srv/work/notes/\uff0e\uff0e/other",
        "/srv/work/notes/\u2025/other",
        "/srv/work/notes/..\\other",
        "/srv/work/notes/a\\b",
        "/srv/work/notes/.. /other",
        "/srv/work/notes/$HOME/x",
        "/srv/work/notes/`id`",
        "/srv/work/notes/*",
        "/srv/work/notes/a?",
        "/srv/work/notes/a\0.txt",
        "/srv/work/notes/a\n/etc/passwd",
        "/srv/work/notes/ /x",
        "/srv/work/notes/.git/hooks/pre-commit",
        "/srv/work/notes/.env",
        "/srv/work/notes/\uff0egit/config",
        "/srv/work/notes/\u200c.git/config",
        "/srv/work/notes/.g\u200cit/config",
        "/srv/work/notes/ .git/config",
        "/srv/work/notes/a\u202e",
        "/srv/work/notes/a\u2066b",
        "/srv/work/notes/a\ud800",
        "/srv/work/notes/a\ue000",
        "/srv/work/notes/a\x85",
        "/srv/work/notes/GIT~1/config",
        "/srv/work/notes/git~2/config",
        "/srv/work/notes/deep/.ssh/authorized_keys",
        "//srv/work/notes/b.txt",
        "/srv/work/./notes/../notes/b.txt",
        "srv/work/notes/b.txt",
        "./b.txt",
        "b.txt",
        "~/b.txt",
        "~root/b.txt",
        "file:///srv/work/notes/b.txt",
        " /srv/work/notes/b.txt",
        "C:/srv/work/notes/b.txt",
        "C:\\srv\\work\\notes\\b.txt",
        "\\\\srv\\work\\notes\\b.txt",
        "/",
        "",
        "/srv/work/notes/" + "a" * 3000,
        None,
        7,
        True,
        {"path": "/srv/work/notes/b.txt"},
        [],
        [None],
        ["/srv/work/notes/b.txt", "/etc/passwd"],
        ["/srv/work/notes/b.txt", 7],
        [["/srv/work/notes/b.txt"]],
    ],
    ids=str,
)
def test_a_path_that_is_not_beyond_doubt_in_the_folder_asks(path: JsonValue) -> None:
    """Attack 36, S9 of docs/security.md: what could be read in another way, or is of another type, does not fit."""
    assert not in_folder(path)


def test_no_path_at_all_asks() -> None:
    """A missing argument may mean the server's own default."""
    assert not covers({"path": "/srv/work/notes/a.txt"}, {"content": "y"}, FOLDER)


def test_each_path_of_an_approved_list_has_its_folder() -> None:
    """Lists: every element must lie in one of the approved folders."""
    given: JsonDict = {"path": ["/srv/one/a/x", "/srv/two/b/y"]}
    assert covers(given, {"path": ["/srv/two/b/z"]}, FOLDER)
    assert not covers(given, {"path": ["/srv/two/b/z", "/srv/three/c/z"]}, FOLDER)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "a" / "b"
    (root / "work").mkdir(parents=True)
    (root / "secret").mkdir()
    return root


def under(tree: Path, asked: str, change: Callable[[], None]) -> bool:
    first = stored({"path": str(tree / "work" / "a.txt")})
    roots = roots_of(first, FOLDER, real_path)
    assert roots is not None
    change()
    return fits(first, FOLDER, roots, stored({"path": str(tree / asked)}), real_path)


@pytest.mark.skipif(os.name == "nt", reason="making links needs a privilege there")
def test_a_link_that_leads_out_of_the_folder_asks(tree: Path) -> None:
    """Attack 36: judged as the system would open it; also through a link that comes after the grant."""
    link = tree / "work" / "out"
    assert under(tree, "work/b.txt", lambda: None)
    assert under(tree, "work/new/deep/b.txt", lambda: None)
    assert not under(tree, "work/out/b.txt", lambda: link.symlink_to(tree / "secret"))
    assert not under(tree, "work/dangling", lambda: (tree / "work" / "dangling").symlink_to(tree / "secret" / "new"))
    assert not under(tree, "work/loop", lambda: (tree / "work" / "loop").symlink_to(tree / "work" / "loop"))


@pytest.mark.skipif(os.name == "nt", reason="making links needs a privilege there")
def test_a_folder_that_becomes_a_link_after_the_grant_asks(tree: Path) -> None:
    """Attack 36: the folder is the one that the reviewer saw, not what stands under its name later."""

    def swap() -> None:
        (tree / "work").rmdir()
        (tree / "work").symlink_to(tree / "secret")

    assert not under(tree, "work/b.txt", swap)


def test_mail_to_the_same_domain_fits() -> None:
    """Attack 36: the host after the @ and nothing else."""
    for to in ("dana@example.com", "dana@EXAMPLE.com", "d.a+x@example.com"):
        assert covers({"to": "bob@example.com"}, {"to": to}, DOMAIN)
    assert covers({"to": ["a@example.com", "b@example.org"]}, {"to": ["c@example.org"]}, DOMAIN)


@pytest.mark.parametrize(
    "to",
    [
        "dana@evil-example.com",
        "dana@example.com.evil.org",
        "dana@sub.example.com",
        "dana@com",
        "dana@example.com@evil.org",
        "dana@evil.org@example.com",
        "dana@example.com,eve@evil.org",
        "dana@example.com;eve@evil.org",
        "dana@example.com eve@evil.org",
        "dana@example.com\neve@evil.org",
        "Dana <dana@evil.org>",
        "Dana <dana@example.com>",
        '"eve@evil.org"@example.com',
        "eve%evil.org@example.com",
        "evil.org!eve@example.com",
        "dana@example.com.",
        "dana@example.com:25",
        "dana@[127.0.0.1]",
        "dana@examp\u0142e.com",
        "dana@ex\u0430mple.com",
        "dana@example\u3002com",
        "dana@\uff45xample.com",
        "dana@exam\u00adple.com",
        "dana@exam\u200bple.com",
        "mailto:dana@example.com",
        "@example.com",
        "example.com",
        "https://example.com/",
        "",
        None,
        3,
        {"mail": "dana@example.com"},
        [],
        ["dana@example.com", "eve@evil.org"],
        ["dana@example.com", 1],
    ],
    ids=str,
)
def test_mail_that_is_not_beyond_doubt_to_that_domain_asks(to: JsonValue) -> None:
    """Attack 36: suffixes, several addresses in one text, look-alikes, other types."""
    assert not covers({"to": "bob@example.com"}, {"to": to}, DOMAIN)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a",
        "https://example.com:8443/a",
        "https://user@example.com/a",
        "https://example.com@evil.org/",
        "https://evil.org#example.com",
        "https://evil.org/?https://example.com",
        "https://example.com\\@evil.org/",
        "https://evil.org\\.example.com/",
        "https://example.com.evil.org/",
        "https://evil-example.com/",
        "https:///example.com/",
        "https://example.com:/",
        "https://example.com:99999/",
        "https://[::1]/",
        "ftp://example.com/",
        "javascript://example.com/%0aalert(1)",
        "//example.com/",
        "https:example.com",
        "https://exa\tmple.com/",
        "bob@example.com",
        "example.com",
    ],
)
def test_an_address_that_is_not_beyond_doubt_of_that_host_asks(url: str) -> None:
    """Attack 36: scheme, port and host stay, and nobody else's name stands in front."""
    assert covers({"to": "https://example.com/hook"}, {"to": "https://EXAMPLE.com/other?x=1"}, DOMAIN)
    assert not covers({"to": "https://example.com/hook"}, {"to": url}, DOMAIN)


def test_names_in_other_scripts_are_compared_in_ascii() -> None:
    """IDNA: a name that two readers would map differently leads nowhere."""
    assert place_of("a@b\u00fccher.example") == place_of("c@xn--bcher-kva.example")
    assert place_of("a@fa\u00df.example") is None


@pytest.mark.parametrize(
    "asked",
    [
        {"path": "/srv/work/notes/a.txt", "content": "y"},
        {"path": "/srv/work/notes/a.txt", "content": "x", "force": True},
        {"path": "/srv/work/notes/a.txt"},
        {"path": "/srv/work/notes/a.txt", "content": None},
        {"path": ["/srv/work/notes/a.txt"], "content": "x"},
        {"path": "/srv/work/notes/a.txt ", "content": "x"},
    ],
    ids=str,
)
def test_a_grant_for_the_same_arguments_covers_no_others(asked: JsonDict) -> None:
    """Attack 36, S2: the typed canonical form decides."""
    given: JsonDict = {"path": "/srv/work/notes/a.txt", "content": "x"}
    assert covers(given, dict(reversed(given.items())), SAME)
    assert not covers(given, asked, SAME)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), ("1", 1), (2**60, 2**60 + 1), (0.0, -0.0)], ids=str)
def test_numbers_that_only_look_alike_are_not_the_same(one: JsonValue, other: JsonValue) -> None:
    """S2."""
    assert not covers({"content": one}, {"content": other}, SAME)


def test_what_the_bound_does_not_name_may_differ_in_value_and_not_in_type() -> None:
    """docs/grants.md: an argument that the tool does not know, or of another type, asks."""
    assert in_folder("/srv/work/notes/b.txt", force=True)
    assert not in_folder("/srv/work/notes/b.txt", Force=True)
    assert not in_folder("/srv/work/notes/b.txt", unknown=1)
    assert not in_folder("/srv/work/notes/b.txt", content=["y"])
    assert not in_folder("/srv/work/notes/b.txt", mode="append")  # bound as absent


CHANGED: dict[str, Callable[[Stored], Stored]] = {
    "requester": lambda s: replace(s, call=replace(s.call, principal=Principal("os", "eve"))),
    "label": lambda s: replace(s, call=replace(s.call, principal=Principal("os", "alice", "other"))),
    "server": lambda s: replace(s, call=replace(s.call, target=replace(s.call.target, server="web"))),
    "server identity": lambda s: replace(s, call=replace(s.call, target=replace(s.call.target, server_identity="i2"))),
    "tool": lambda s: replace(s, call=replace(s.call, target=replace(s.call.target, name="delete"))),
    "kind": lambda s: replace(s, call=replace(s.call, target=replace(s.call.target, kind=CallKind.PROMPT))),
    "definition": lambda s: replace(s, call=replace(s.call, target=replace(s.call.target, definition_digest="d2"))),
    "environment": lambda s: replace(s, environment="test"),
    "mode": lambda s: replace(s, mode="team"),
    "policy": lambda s: replace(s, decision=replace(s.decision, policy_digest="p2")),
    "rule": lambda s: replace(s, decision=replace(s.decision, rule="strict")),
    "path into git": lambda s: replace(
        s, decision=replace(s.decision, rule="builtin:git-folder", terms=ApprovalTerms(grants=(SAME,)))
    ),
    "risk": lambda s: replace(s, decision=replace(s.decision, risk=Risk.CRITICAL)),
    "nothing offered now": lambda s: replace(s, decision=replace(s.decision, terms=ApprovalTerms())),
    "less offered now": lambda s: replace(
        s, decision=replace(s.decision, terms=ApprovalTerms(grants=(replace(FOLDER, max_uses=1),)))
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_grant_ends_where_anything_it_was_given_for_has_changed(name: str) -> None:
    """S13, S14 of docs/security.md: requester, server, definition, environment, policy, mode and rule are bound."""
    first = stored({"path": "/srv/work/notes/a.txt"})
    roots = roots_of(first, FOLDER, real_path) or {}
    same = stored({"path": "/srv/work/notes/b.txt"})
    assert fits(first, FOLDER, roots, same, real_path)
    assert not fits(first, FOLDER, roots, CHANGED[name](same), real_path)


def test_a_secret_in_the_arguments_is_covered_by_the_same_arguments_alone() -> None:
    """masking.arguments.secrets: what nobody looked at does not go out under a wider bound."""
    first = stored({"path": "/srv/work/notes/a.txt", "content": "x"})
    secret = stored({"path": "/srv/work/notes/b.txt", "content": "key"}, secrets=("API_KEY",))
    assert not fits(first, FOLDER, roots_of(first, FOLDER, real_path) or {}, secret, real_path)
    assert offers_of(secret) == (SAME,)


def test_only_what_can_be_bound_and_is_shown_is_offered() -> None:
    """S17: the reviewer sees the folder and the domain that a grant is about."""
    plain: JsonDict = {"path": "/srv/work/notes/a.txt"}
    assert offers_of(stored(plain)) == (SAME, FOLDER)
    assert offers_of(stored({"path": "notes/a.txt", "to": "a@example.com"})) == (SAME, DOMAIN)
    assert offers_of(stored(plain, for_reviewer=MaskedJson({"path": "[hidden]"}))) == (SAME,)
    assert offers_of(stored({**plain, "unknown": 1})) == (SAME,)


def test_values_without_a_canonical_form_resemble_nothing_not_even_themselves() -> None:
    """docs/grants.md: what is not understood does not fit; security.md S2."""
    odd: JsonDict = {"path": "/srv/work/notes/a", "mode": float("nan")}
    assert not fits(stored(odd), SAME, {}, stored(odd), real_path)
