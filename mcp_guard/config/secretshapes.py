"""What a secret looks like in the configuration of a server: by its name, by its shape, and by what surrounds it.

Two judgements, since they cost differently. `names_a_secret` and `secret_spans` are sure: a warning may rest on them.
`is_harmless` is sure of the opposite; what lies between is moved out of sight, which changes nothing for the server.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

MIN_PART = 6
"""Characters; a shorter part of a text is not taken for a secret by itself."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NAME = re.compile(
    r"secret|token(?!s)|passw|passphrase|passcode|pass[-_]phrase|api[-_]?(?:key|hash)|private[-_]?key|access[-_]?key"
    r"|credential|authori[sz]ation|cookie|webhook|connection[-_]?str|conn[-_]?str"
    r"|session[-_]?(?:string|key|id|data)|sign(?:ing|ature)?[-_]?key"
    r"|(?:^|[-_. ])(?:key|keys|auth|pat|pwd|pw|pass|dsn|session|hash|sig|signature|jwt|bearer|creds?|otp|totp|seed"
    r"|mnemonic|salt|sid|headers|license)$",
    re.IGNORECASE,
)
_NOT_A_SECRET = re.compile(
    r"(?:file|path|dir|folder|url|uri|endpoint|tokens|limit|name|timeout|ttl|type|mode|algorithm|format|length|count"
    r"|enabled|expiry|scopes?|method|prefix|header)$",
    re.IGNORECASE,
)
_TRIVIAL = re.compile(r"\d{1,5}(?::[\d.:]+)?(?:/tcp|/udp)?|true|false|yes|no|on|off|none|null", re.IGNORECASE)
_SCHEME = re.compile(r"(?:bearer|basic|token|apikey|bot)\s+", re.IGNORECASE)

_PREFIXED = (
    r"(?:sk-|[sr]k_(?:live|test)_|gh[opsur]_|github_pat_|glpat-|xox[abeprs]-|xapp-|A[KS]IA|npm_|pypi-|hf_|ntn_|secret_"
    r"|gsk_|AIza|ya29\.|sntry[su]_|figd_|lin_api_|shp(?:at|ca|pa|ss)_|SG\.|whsec_|dop_v1_|fc-|tvly-|pplx-|dckr_pat_"
    r"|sbp_|ATATT|BSA|r8_|eyJ|vercel_|nvapi-|rnd_|key-)[A-Za-z0-9_.=+/-]{12,}"
)
_IN_TEXT = re.compile(
    r"(?<=://)[^\s/:@]{0,200}:(?P<password>(?!\d{1,5}[/?#])[^\s\"'<>]{1,300})@"
    r"|(?<=://)(?P<user>[A-Za-z0-9_-]{16,200})@"
    rf"|(?<![A-Za-z0-9])(?P<prefixed>{_PREFIXED})"
    r"|(?<![A-Za-z])(?i:bearer|basic)\s+(?P<bearer>[A-Za-z0-9_.=+/~:-]{6,})"
)
_ASSIGNED = re.compile(
    r"(?<![A-Za-z0-9_.-])(?P<name>[A-Za-z][A-Za-z0-9_. -]{0,60}?)[\"']?[ \t]{0,3}[=:][ \t]{0,3}"
    r"(?:\"(?P<double>[^\"\\]+)\"|'(?P<single>[^']+)'|(?P<bare>[^\s\"';,&|]+(?:[^\"';,&|]*(?=;))?))"
)
_OPTION = re.compile(r"(?<!\S)--?(?P<name>[A-Za-z][A-Za-z0-9_-]{1,60})[ \t]+(?P<bare>[^\s\"'-][^\s\"']*)")

_SEPARATOR = re.compile(r"[-_.,:;/\\ *=]+")
_WORD = re.compile(r"[A-Za-z]{1,20}")
_CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{5}", re.IGNORECASE)
_TELLING = re.compile(r"secret|passw|passphrase|token|credential|change-?me|hunter2", re.IGNORECASE)
_EMAIL = re.compile(r"[a-z][A-Za-z._+-]{0,40}\d{0,4}@[A-Za-z0-9-]{1,60}(?:\.[A-Za-z]{2,20}){1,3}")
_PATH = re.compile(r"(?:~|\.{1,2})?[/\\]|[A-Za-z]:[/\\]|~$")
_LONGEST_PLAIN = 300
_LONGEST_NUMBER = 10
_SHORT_MIXED = 5
_KEY_FILE = re.compile(r"(?:~|\.{1,2})?[/\\].*\.[a-z0-9]{2,5}|[A-Za-z]:[/\\].*\.[a-z0-9]{2,5}", re.DOTALL)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9_+/=~.:-]{16,}")
_TOKEN_PART = 12
_TOKEN_ENTROPY = 3.0
_BLOCKS = 4
_HUMPS = 5


def names_a_secret(name: str) -> bool:
    """Whether a variable, header or option of this name holds a secret; `MAX_TOKENS` and `TOKEN_FILE` do not."""
    spaced = _CAMEL.sub("_", name)
    return bool(_NAME.search(spaced)) and not _NOT_A_SECRET.search(spaced)


def is_trivial(value: str) -> bool:
    """Whether a value is no secret whatever its name: a port, a short number, a switch, the path of a file."""
    return bool(_TRIVIAL.fullmatch(value)) or (bool(_KEY_FILE.fullmatch(value)) and "\n" not in value)


def scheme_end(value: str) -> int:
    """Where the secret begins after a scheme such as `Bearer`."""
    scheme = _SCHEME.match(value)
    return scheme.end() if scheme else 0


def secret_spans(text: str) -> list[tuple[str, int, int]]:
    """Secrets that stand in a text, with what names each of them (empty when only its shape tells). In order, apart."""
    found = sorted(_spans(text), key=lambda span: (span[1], -span[2]))
    kept: list[tuple[str, int, int]] = []
    for name, start, end in found:
        if start < end and (not kept or start >= kept[-1][2]):
            kept.append((name, start, end))
    return kept


def _spans(text: str) -> Iterator[tuple[str, int, int]]:
    for match in _IN_TEXT.finditer(text):
        group = str(match.lastgroup)
        yield "", *match.span(group)
    for pattern in (_ASSIGNED, _OPTION):
        for match in pattern.finditer(text):
            group, value = str(match.lastgroup), match[str(match.lastgroup)]
            if names_a_secret(match["name"]) and not is_trivial(value) and "${" not in value:
                yield match["name"].strip(), match.start(group) + scheme_end(value), match.end(group)


def looks_random(text: str) -> bool:
    """Whether a word looks like a token: long, and neither words, a path, a number nor a version."""
    if not _TOKEN.fullmatch(text) or text.startswith(("/", ".", "~", "@")) or is_harmless(text):
        return False
    if _UUID.fullmatch(text):
        return True
    parts = [part for part in re.split(r"[-_./:=+~]+", text) if not _is_word(part)]
    longest = max(parts, key=len, default="")
    mixed = any(c.isdigit() for c in longest) or not (longest.islower() or longest.isupper())
    return len(longest) >= _TOKEN_PART and mixed and _entropy(text) >= _TOKEN_ENTROPY


def random_parts(url: str) -> list[str]:
    """Steps of an address' path that look like tokens, as some services put them there."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return []
    return [step for step in path.split("/") if looks_random(step)]


def is_harmless(value: str) -> bool:
    """Whether a value is evidently no secret: words, a number, a switch, a version, a path, an address."""
    if not value.strip() or is_trivial(value):
        return True
    if len(value) > _LONGEST_PLAIN or secret_spans(value):
        return False
    if "://" in value:
        return _is_plain_address(value)
    if value[0] in "[{":
        return _is_plain_json(value)
    if _PATH.match(value):
        return not any(map(looks_random, re.split(r"[/\\:,;]+", value)))
    return bool(_EMAIL.fullmatch(value)) or _are_words(value)


def _are_words(value: str) -> bool:
    parts = [part for part in _SEPARATOR.split(value) if part]
    if _TELLING.search(value) or not all(_is_word(part) or _is_mixed(part) for part in parts):
        return False
    lengths = {len(part) for part in parts}
    like_a_licence = len(parts) >= _BLOCKS and len(lengths) == 1 and max(lengths) >= _BLOCKS
    return sum(map(_is_mixed, parts)) <= 2 and not like_a_licence  # noqa: PLR2004 - gpt-4o on eu1


def _is_word(part: str) -> bool:
    if part.isdigit():
        return len(part) <= _LONGEST_NUMBER
    if not _WORD.fullmatch(part) or _CONSONANTS.search(part):
        return False
    humps = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", part)
    return len(humps) <= _HUMPS and (all(len(hump) > 1 for hump in humps) or len(part) <= 2 or len(humps) == 2)  # noqa: PLR2004 - eMail


def _is_mixed(part: str) -> bool:
    """`v1`, `4o`, `utf8`, `gpt4o`."""
    return len(part) <= _SHORT_MIXED and part.isalnum() and part.isascii() and not part.isdigit() and not part.isalpha()


def _is_plain_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    if "@" in parts.netloc or " " in value or random_parts(value):
        return False
    return _are_words(parts.query.replace("&", " ")) and _are_words(parts.fragment)


def _is_plain_json(value: str) -> bool:
    try:
        pending: list[object] = [json.loads(value)]
    except (ValueError, RecursionError):
        return False
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if any(names_a_secret(str(key)) or not is_harmless(str(key)) for key in item):
                return False
            pending += item.values()
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, str) and (item[:1] in {"[", "{"} or not is_harmless(item)):
            return False
    return True


def _entropy(text: str) -> float:
    """Bits per character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
