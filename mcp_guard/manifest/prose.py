"""What the sentences of a definition give away: descriptions of a tool and of its arguments; for `propose`. Pure.

Verbs count by their stems wherever they stand. A participle alone is a filter (`deleted files`), and what a text says
that it does not do is not done. What is not English, or is written in letters that only look like it, cannot be read.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from mcp_guard.manifest.words import DEEDS, Looks, of_argument, of_opening, word_set

MAX_PROSE: Final = 8000
"""Characters of all sentences of one tool that are read; more cannot be told."""

_STRONG: Final = {
    Looks.DELETE: "delet eras destroy purg wip overwrit truncat obliterat expung nuk unlink",
    Looks.EXECUTE: "execut",
}
"""Stems that count in every form but a participle alone."""
_WEAK: Final = {
    Looks.DELETE: "remov drop clear reset",
    Looks.CHANGE: "modif modify creat insert writ append renam replac updat edit sav deploy install mov alter patch "
    "cancel assign approv reject",
    Looks.SEND: "send publish upload submit post forward email",
    Looks.SPEND: "purchas refund pay buy",
    Looks.GRANT: "revok grant authoriz",
    Looks.EXECUTE: "run invok eval evaluat spawn",
}
"""Stems that are also nouns, or the work of a person: they count after a word that makes them a deed."""
_FOREIGN: Final = {
    Looks.DELETE: r"\b(?:elimin[aeo]|borr[aeo]|suprim|supprim|effac|l[oö]sch|loesch|entfern|verwijder|exclu[ií]|"
    r"apag[aeu]|"
    r"rimuov|usu[nń]|odstra|slett|radera)\w*|删除|刪除|清空|抹去|削除|消去|삭제|удал\w*|стира\w*|видал\w*|حذف",
    Looks.EXECUTE: r"\b(?:ejecut|exécut|ausf[uü]hr|esegu)\w*|执行|執行|実行|실행|выполн\w*",
    Looks.SEND: r"\b(?:env[ií][aeo]|envoy|verschick|versend|invi[ao])\w*|发送|發送|送信|отправ\w*",
}
_END: Final = r"(?:e|es|s|ies|y|ing|ning|ping|ring|ting|ion|ions|al|er|or)?"
_PAST: Final = r"(?:e?d|ied|ped|ten|t)"


def _forms(stems: dict[Looks, str]) -> str:
    return "|".join(sorted((stem for group in stems.values() for stem in group.split()), key=len, reverse=True))


_DEED: Final = rf"(?:{_forms(_STRONG)}|{_forms(_WEAK)}){_END}"
_AND: Final = r"(?:\s*,\s*(?:or\s+|and\s+|nor\s+)?|\s+(?:or|and|nor)\s+)"
_DENIED: Final = re.compile(
    rf"\b(?:not|never|without|cannot|\w+n[’']t)\s+(?:be\s+)?{_DEED}(?:{_AND}{_DEED})*\b", re.IGNORECASE
)
_STRONG_FORM: Final = re.compile(rf"\b({_forms(_STRONG)}){_END}\b")
_PASSIVE: Final = re.compile(
    rf"\b(?:will|to|may|can|is|are|gets?|being|must|should|shall)\s+(?:then\s+|also\s+|be\s+|permanently\s+)*"
    rf"({_forms(_STRONG)}|{_forms(_WEAK)}){_PAST}\b"
)
_LED: Final = re.compile(
    rf"\b(?:and|or|then|to|will|can|may|also|must|for|by)\s+(?:permanently\s+|then\s+|also\s+)*"
    rf"({_forms(_WEAK)})(?:e|y|ing|ning|ping|ting)?\b(?!\s+(?:id|ids|number|sha|date|time|status|address|log))"
)
_FIRST_WORD: Final = re.compile(r"[^a-z]*([a-z]+)")
_THIRD_PERSON: Final = re.compile(r"\b(" + "|".join(sorted(DEEDS)) + r")\b")
_MATTER: Final = (
    "(?:incident|issue|thread|ticket|alert|alarm|comment|conversation|discussion|case|conflict|problem|task|finding|"
    "error|dispute)s?"
)
"""What is closed when it is resolved; a name or an address is not."""
_PHRASES: Final[tuple[tuple[re.Pattern[str], Looks], ...]] = (
    (re.compile(r"\b(shell commands?|arbitrary (code|commands?)|command[- ]lines? to\b)"), Looks.EXECUTE),
    (
        re.compile(
            r"\b(?:run|runs|running|evaluat\w+|execut\w+|interpret\w*)\b[^.]{0,40}\b(commands?|code|scripts?)\b"
        ),
        Looks.EXECUTE,
    ),
    (re.compile(r"\b(?:run|runs|running|sql)\b[^.]{0,20}\b(sql|statements?|to run)\b"), Looks.STATEMENT),
    (re.compile(r"\b(environment variables|api keys|private keys|passwords|credentials)\b"), Looks.SECRETS),
    (re.compile(r"\bget(?:s|ting)? rid of\b"), Looks.DELETE),
    (re.compile(r"\bcheck(?:s|ing)? (?:off|out (?:an?|the|this))\b"), Looks.CHANGE),
    (
        re.compile(r"\bmark(?:s|ing)?\s+(?:an?|the|this|it|them|all|one|messages?|emails?|items?)\b[^.]{0,40}\bas\b"),
        Looks.CHANGE,
    ),
    (re.compile(rf"\bresolv(?:es?|ing)\s+(?:[\w-]+\s+){{0,4}}{_MATTER}\b"), Looks.CHANGE),
    (
        re.compile(r"\bping(?:s|ing)?\s+(?:\w+\s+){0,2}(?:user|person|people|member|team|channel|everyone)s?\b"),
        Looks.SEND,
    ),
    (
        re.compile(r"\bin-place\b|\b(?:file|image|document|text|contents?|it|them)\b[^.]{0,30}\bin place\b"),
        Looks.CHANGE,
    ),
    (
        re.compile(r"\b(?:stores|(?:and|then|to|will|can|may)\s+store|storing)\s+(?:it|them|the|this|an?|its|your)\b"),
        Looks.CHANGE,
    ),
    (
        re.compile(
            r"\b(?:echo|dump|print|export|render)(?:s|es|ing)?\b[^.]{0,40}\b(?:in)?to\s+"
            r"(?:(?:an?|the|this|that|your)\s+)?(?:\w+\s+)?(?:file|disk|folder|directory|path)\b"
        ),
        Looks.CHANGE,
    ),
    (re.compile(r"\b(irreversibl[ey]|cannot be undone|permanently|for ever|forever)\b"), Looks.DELETE),
)
_ENGLISH: Final = word_set(
    "the of for and from with by to this that are its as if or which what when where whether not no only all any each "
    "between about into using used use based than then other another more most must should can will your you it "
    "get gets list lists read reads search searches return returns fetch fetches show shows find finds retrieve "
    "retrieves current number name names file files path time date default optional maximum minimum value values "
    "user page pages required needed specified given available current string text query result results convert"
)
"""Words without which hardly any English description gets along."""
_WORDS: Final = re.compile(r"[^\W\d_]+")
_FEW: Final = 5
"""Words below which nothing can be said of a language."""
_FOREIGN_SHARE: Final = 0.1


def of_prose(text: str, *, argument: bool = False) -> tuple[Looks, str] | None:
    """What sentences say of change, and the words that say so; None where they say nothing of it.

    Args:
        text: A description.
        argument: Whether of an argument. These begin with a noun as a rule: `Message to look for`.

    Returns:
        The words are matched by this module: ASCII, and empty where the text is not.
    """
    lower = unicodedata.normalize("NFKC", text[:MAX_PROSE]).lower()
    found = [(looks, "") for looks, pattern in _BY_FOREIGN if pattern.search(lower)]
    spoken = any(word.startswith(_ALL_STEMS) for word in {*re.findall(r"[a-z]+", lower)})  # a text without is the rule
    plain = _DENIED.sub(" ", lower) if spoken else lower
    first = _FIRST_WORD.match(plain)
    opening = None if first is None else of_argument([first[1]]) if argument else of_opening(first[1])
    if opening is not None:
        found.append(opening)
    found += [(DEEDS[word], word) for word in _THIRD_PERSON.findall(plain)]
    for pattern in (_STRONG_FORM, _PASSIVE, _LED) if spoken else ():
        found += [(_BY_STEM[match[1]], match[0]) for match in pattern.finditer(plain)]
    found += [(looks, _ends(match[0])) for pattern, looks in _PHRASES if (match := pattern.search(plain))]
    best = max(found, default=None)
    return None if best is None else (best[0], best[1] if best[1].isascii() and best[1].isprintable() else "")


def _ends(phrase: str) -> str:
    """First and last word: what stands between them is the server's."""
    words = phrase.split()
    return phrase if len(words) <= 2 else f"{words[0]} ... {words[-1]}"  # noqa: PLR2004 - both ends


def unreadable(text: str) -> str:
    """Why sentences cannot be read, as the end of "Its description …"; empty where they can."""
    plain = unicodedata.normalize("NFKC", text[:MAX_PROSE])
    if len(text) > MAX_PROSE:
        return "is too long to be read whole"
    if plain.isascii():
        return "" if _english(plain) else "is not in English"
    letters = [letter for letter in plain if letter.isalpha()]
    strange = sum(not _latin(letter) for letter in letters)
    if any(_mixed(word) for word in _WORDS.findall(plain)):
        return "has letters that look like others"
    if strange > _FOREIGN_SHARE * len(letters) or not _english(plain):
        return "is not in English"
    return ""


def _english(text: str) -> bool:
    words = [word for word in re.findall(r"[^\W\d_]+", text.lower()) if word.isalpha()]
    return len(words) < _FEW or not _ENGLISH.isdisjoint(words)


def _latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith(("LATIN ", "MICRO "))


def _mixed(word: str) -> bool:
    """Whether one word has letters of two scripts; ideographs stand beside Latin letters without a space."""
    near = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU", "DESERET", "GEORGIAN")
    return any(_latin(letter) for letter in word) and any(
        unicodedata.name(letter, "").startswith(near) for letter in word if not letter.isascii()
    )


_BY_STEM: Final = {
    stem: looks for group in (_WEAK, _STRONG) for looks, stems in group.items() for stem in stems.split()
}
_ALL_STEMS: Final = tuple(_BY_STEM)
_BY_FOREIGN: Final = tuple((looks, re.compile(rf"(?:{pattern})")) for looks, pattern in _FOREIGN.items())
