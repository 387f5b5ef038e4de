"""The words by which a tool's definition gives away what the tool does; for `propose`.

A word list is not a proof: a server chooses its own words. So words raise, and silence about change never lowers
below what a person who reads the same definition would assume.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final


class Looks(IntEnum):
    """What a tool looks like; of several signs the greatest counts."""

    READ = 0
    WEB = 1
    """Reads, and what it is asked for leaves to somebody else."""
    UNCLEAR = 2
    SECRETS = 3
    CHANGE = 4
    SEND = 5
    STATEMENT = 6
    """Takes a statement for a database, which may do anything there."""
    DELETE = 7
    GRANT = 8
    SPEND = 9
    EXECUTE = 10


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


READ_VERBS: Final = word_set(
    "get list ls read search find show view describe count query lookup look fetch retrieve check inspect browse peek "
    "cat head tail grep glob stat diff compare analyze analyse calculate compute convert parse validate explain "
    "summarize summarise translate echo ping whoami detect estimate preview crawl scrape resolve"
)
"""After one of these, a word such as `run` or `post` is the thing that is read."""
_ONLY_OF: Final[Mapping[str, frozenset[str]]] = {
    "check": word_set(
        "access availability balance certificate code connection connectivity dependencies domain eligibility email "
        "emails existence exists grammar health inbox limit limits link links mail port ports price prices quota rate "
        "rates size spelling ssl stock style syntax types updates url usage vulnerabilities weather"
    ),
    "convert": word_set(
        "amount base case color colour currency currencies date dates distance hex length markdown number numbers rgb "
        "string temperature timestamp timezone unit units weight"
    ),
    "echo": word_set("input message text"),
    "ping": word_set("address database domain endpoint host ip server url"),
    "resolve": word_set("address dns domain handle host hostname id ids ip library name path symbol uri url username"),
    "translate": word_set("phrase phrases sentence sentences text word words"),
}
"""Verbs of two meanings. They speak of reading alone, or with one of these as the last word: `resolve_incident` does
not, and what `convert_file` does to the file cannot be told."""
READ_NOUNS: Final = word_set("status info version help log logs history diff tree stats metadata schema graph time")
"""As the last word of a name."""
_ARRANGES: Final = word_set("filter sort rank group format count highlight order aggregate")
"""Done to what was read."""
_ONE_THING: Final = {("pull", "request"), ("merge", "request")}
_MANY: Final = 3
"""So many words of two meanings after one of reading are no longer the name of a thing."""
_IDIOMS: Final[Mapping[tuple[str, str], Looks]] = {
    **dict.fromkeys([("check", "in"), ("check", "off"), ("check", "out")], Looks.CHANGE),
    **dict.fromkeys([("turn", "on"), ("turn", "off"), ("sign", "off"), ("for", "sale")], Looks.CHANGE),
    ("get", "rid"): Looks.DELETE,
    ("gets", "rid"): Looks.DELETE,
}
"""Two words that say something else than each of them."""
_JOINS: Final = word_set("and or then plus also")
_LOUD: Final[Mapping[Looks, frozenset[str]]] = {
    Looks.EXECUTE: word_set(
        "exec execute eval evaluate shell bash zsh powershell cmd sudo ssh spawn repl subprocess terminal interpreter "
        "invoke"
    ),
    Looks.SPEND: word_set("pay purchase buy refund payout donate withdraw deposit mint"),
    Looks.GRANT: word_set("revoke authorize authorise promote demote chmod chown impersonate elevate unshare"),
    Looks.DELETE: word_set(
        "delete del remove rm rmdir unlink drop destroy erase purge wipe truncate clear flush prune uninstall discard "
        "reset trash cleanup kill terminate revert rollback unpublish forget nuke obliterate annihilate shred zap "
        "expunge eliminate scrap overwrite unset demolish"
    ),
    Looks.SEND: word_set("send notify publish tweet reply forward submit upload broadcast announce"),
    Looks.CHANGE: word_set(
        "create add insert append prepend write save store put set edit modify alter replace rename mv mkdir touch "
        "upsert rebase checkout apply assign unassign enable disable toggle activate deactivate restart resume cancel "
        "approve reject reopen unlock register unregister unsubscribe install upgrade deploy sync migrate reserve "
        "configure init initialize setup disconnect click press drag fill mark vote trigger dispatch launch scale "
        "rotate restore attach detach bind mount unmount make place acknowledge ack dismiss snooze unban mute unmute "
        "evict cordon uncordon finalize finalise transition reassign unpin unfollow"
    ),
    Looks.SECRETS: word_set(
        "env environ secret secrets token tokens password passwords credential credentials keychain apikey"
    ),
}
"""Words that say what is done wherever they stand in a name."""
_QUIET: Final[Mapping[Looks, frozenset[str]]] = {
    Looks.EXECUTE: word_set("run command python javascript script"),
    Looks.SPEND: word_set("payment charge order trade bid"),
    Looks.GRANT: word_set("grant share invite permission permissions role roles"),
    Looks.SEND: word_set("email mail post message call webhook sms dm"),
    Looks.CHANGE: word_set(
        "update change patch move copy cp merge commit push pull stash start stop pause close lock subscribe release "
        "import export download schedule book tag label request build compile test draft fork transfer archive clean "
        "empty select type swap"
    ),
}
"""Words that are also names of things: they count unless a word of reading stands before them."""
_RIGHTS: Final = word_set(
    "role roles permission permissions acl policy policies iam collaborator collaborators member members admin access "
    "token tokens password passwords secret secrets credential credentials visibility owner ownership"
)
"""What it is to change one of these is to change who may do what."""
_STATEMENTS: Final = word_set("sql query queries statement statements graphql cypher")
_FILLERS: Final = word_set("make place")
"""`Makes a request`, `places nearby`."""
_BY_WORD: Final = {word: looks for looks, words in _LOUD.items() for word in words}
_BY_QUIET_WORD: Final = {word: looks for looks, words in _QUIET.items() for word in words}
_STEMS: Final = ("delete", "remove", "destroy", "execute", "write", "create", "modify", "insert", "upload", "install",
                 "publish", "purchase", "revoke", "rename", "replace", "update", "command", "terminal")  # fmt: skip
"""Words so long that they show inside a name without separators."""
_ORDERS: Final[Mapping[str, Looks]] = {
    **dict.fromkeys(
        word_set(
            "exec execute eval evaluate shell bash zsh powershell cmd cmds cmdline commandline sudo ssh subprocess "
            "argv command commands javascript js python script scripts interpreter"
        ),
        Looks.EXECUTE,
    ),
    **dict.fromkeys(word_set("sql cypher"), Looks.STATEMENT),
    **dict.fromkeys(
        word_set(
            "delete deletes remove removes erase destroy purge wipe drop truncate overwrite unlink rm rmdir nuke kill "
            "uninstall unpublish deletion deletions removal"
        ),
        Looks.DELETE,
    ),
    **dict.fromkeys(
        word_set("write create insert append prepend modify rename replace upsert edit save install deploy update add"),
        Looks.CHANGE,
    ),
    **dict.fromkeys(word_set("send publish upload notify tweet"), Looks.SEND),
    **dict.fromkeys(word_set("pay purchase buy refund withdraw"), Looks.SPEND),
    **dict.fromkeys(word_set("revoke chmod chown impersonate"), Looks.GRANT),
}
"""Words in the name of an argument that are orders. In a participle (`updated`) they are a filter."""
_LONG_ORDERS: Final = ("delete", "remove", "destroy", "execute", "overwrite", "purge", "cmdline", "commandline")
_PARTICIPLE: Final = re.compile(r"(un|non|not)?(delete|remove|destroy|execute|purge)d|overwritten|removable|executable")
_LABELS: Final = word_set("version versions id ids name names type types line count status hash language")
_LANGUAGES: Final = word_set(
    "python py javascript js typescript ts shell bash lua ruby perl php r java sql wasm source"
)
_DIGITS: Final = str.maketrans("301457", "eoiast")
_BENT: Final = re.compile(r"(s|d|r|rs|ed|er|ers|ing|ion|ions|able|ment|ments|ly)?")
_BEFORE_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS: Final = re.compile(r"[^a-z]+")
_MAX_NAME: Final = 256

_DOES: Final[Mapping[Looks, frozenset[str]]] = {
    Looks.DELETE: word_set("deletes removes erases destroys overwrites purges wipes truncates"),
    Looks.CHANGE: word_set(
        "modifies creates inserts writes appends replaces renames moves installs deploys restarts saves assigns "
        "cancels approves rejects reopens toggles"
    ),
    Looks.SEND: word_set("sends publishes submits uploads"),
    Looks.EXECUTE: word_set("executes"),
    Looks.SPEND: word_set("purchases pays refunds"),
    Looks.GRANT: word_set("revokes"),
}
"""Third persons that are no nouns."""
DEEDS: Final[Mapping[str, Looks]] = {word: looks for looks, words in _DOES.items() for word in words}
"""What each of them says."""


def tokens(name: str) -> list[str]:
    """The words of a name in small letters: `getHTMLPage`, `get_html-page` and `Get HTML page` are the same."""
    plain = unicodedata.normalize("NFKC", name[:_MAX_NAME])
    return [word for word in _SEPARATORS.split(_BEFORE_CAPITAL.sub(" ", plain).lower()) if word]


def of_name(words: list[str]) -> tuple[Looks, str] | None:
    """What the words of a name say of change, and the word that says so; None where they say nothing of it."""
    found: tuple[Looks, str] | None = None
    reads = False
    quiet = 0
    for before, word in zip(["", *words], words, strict=False):
        looks = _of_word(word, reads=reads and before not in _JOINS, before=before)
        if looks is not None and (found is None or looks[0] > found[0]):
            found = looks
        quiet += reads and word in _BY_QUIET_WORD and (before, word) not in _ONE_THING
        reads = reads or word in READ_VERBS
    if found is None and (quiet >= _MANY or _joins_unknown(words)):
        return Looks.UNCLEAR, "more than reading"
    return None if found is None else (_in_company(found[0], words), found[1])


def _joins_unknown(words: list[str]) -> bool:
    """`view_and_frobnicate`: a word of reading, and then something else that is done."""
    known = READ_VERBS | _ARRANGES
    return any(
        join in _JOINS and verb in READ_VERBS and word not in known
        for verb, join, word in zip(words, words[1:], words[2:], strict=False)
    )


def of_argument(words: list[str], *, base: bool = False) -> tuple[Looks, str] | None:
    """What the words of an argument's name, or of one of its choices, order. `deleted_after` and `run_id` do not.

    Args:
        words: Of the name.
        base: Whether words of two meanings count, too.
    """
    if base:
        return of_name(words)
    found: list[tuple[Looks, str]] = []
    for word, after in zip(words, [*words, ""][1:], strict=True):
        looks = _ORDERS.get(word)
        if looks is Looks.EXECUTE and after in _LABELS:
            continue
        if looks is not None:
            found.append((looks, word))
        found += [
            (_ORDERS[stem], stem)
            for stem in _LONG_ORDERS
            if stem in word and word != stem and _PARTICIPLE.fullmatch(word) is None
        ]
    if len(words) > 1 and words[-1] == "code" and not _LANGUAGES.isdisjoint(words):
        found.append((Looks.EXECUTE, "code"))
    return max(found, default=None)


def spelt_with_digits(name: str) -> bool:
    """Whether a word of change is written with digits for letters: `d3l3te`."""
    plain = name.lower().translate(_DIGITS)
    return plain != name.lower() and any(stem in plain and stem not in name.lower() for stem in _LONG_ORDERS)


def _of_word(word: str, *, reads: bool, before: str) -> tuple[Looks, str] | None:
    if word in _BY_WORD:
        return _BY_WORD[word], word
    if (before, word) in _IDIOMS:
        return _IDIOMS[before, word], f"{before} {word}"
    if word in _BY_QUIET_WORD:
        return None if reads else (_BY_QUIET_WORD[word], word)
    for stem in _STEMS:
        if stem[:-1] in word and not (reads and word.startswith(stem[:-1]) and _is_bent(word, stem)):
            return of_name([stem])
    return None


def _is_bent(word: str, stem: str) -> bool:
    rest = word.removeprefix(stem) if word.startswith(stem) else word.removeprefix(stem[:-1])
    return _BENT.fullmatch(rest) is not None


def _in_company(looks: Looks, words: Iterable[str]) -> Looks:
    """What the other words of the name make of it."""
    others = set(words)
    if looks is Looks.CHANGE and others & _RIGHTS:
        return Looks.GRANT
    if looks is Looks.EXECUTE and others & _STATEMENTS:
        return Looks.STATEMENT
    return looks


def reads_only(words: list[str]) -> bool:
    """Whether a name in which nothing speaks of change speaks of reading."""
    if not READ_NOUNS.isdisjoint(words[-1:]):
        return True
    verb = next((word for word in words if word in READ_VERBS), None)
    if verb is None or verb not in _ONLY_OF:
        return verb is not None
    return words[-1] == verb or words[-1] in _ONLY_OF[verb]


def of_opening(word: str) -> tuple[Looks, str] | None:
    """What the first word of a description says of change: `Save`, `Saves`; a plural of two meanings says nothing."""
    if (found := of_name([word])) is not None:
        return found
    singles = (word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ies") + "y")
    single = next((one for one in singles if one != word and one in _BY_WORD and one not in _FILLERS), None)
    return None if single is None else (_BY_WORD[single], word)
