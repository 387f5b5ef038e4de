"""What scrubadub users get from us through its entry points: a detector, its Filth classes, a post-processor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mcp_guard.masking.engine import scan
from mcp_guard.masking.placeholders import Tagger
from mcp_guard.masking.scrub import import_scrubadub

_scrubadub = import_scrubadub()  # before anything else of the package, so that its heavy parts stay away
_filth: Any = _scrubadub.filth
_Filth: Any = _filth.Filth
_Detector: Any = _scrubadub.detectors.Detector
_PostProcessor: Any = _scrubadub.post_processors.PostProcessor


class SecretFilth(_Filth):  # type: ignore[misc]
    """A key, token or password."""

    type = "secret"


class IbanFilth(_Filth):  # type: ignore[misc]
    """An international bank account number."""

    type = "iban"


class IpFilth(_Filth):  # type: ignore[misc]
    """A public IP address."""

    type = "ip"


class OtherFilth(_Filth):  # type: ignore[misc]
    """Other personal data, found by the name of its field."""

    type = "pii"


_FILTH: dict[str, Any] = {
    "EMAIL": _filth.EmailFilth,
    "PHONE": _filth.PhoneFilth,
    "CREDIT_CARD": _filth.CreditCardFilth,
    "US_SSN": _filth.SocialSecurityNumberFilth,
    "SECRET": SecretFilth,
    "PRIVATE_KEY": SecretFilth,
    "IBAN": IbanFilth,
    "IP": IpFilth,
}


class GuardDetector(_Detector):  # type: ignore[misc]
    """All types of the guard's engine in one pass."""

    name: ClassVar[str] = "mcp_guard"
    autoload: ClassVar[bool] = False

    def iter_filth(self, text: str, document_name: str | None = None) -> Iterator[Any]:
        """Yield one Filth for each finding."""
        for finding in scan(text):
            kind = _FILTH.get(finding.type, OtherFilth)
            yield kind(
                beg=finding.start,
                end=finding.end,
                text=text[finding.start : finding.end],
                detector_name=self.name,
                document_name=document_name,
                locale=self.locale,
            )


class GuardPlaceholder(_PostProcessor):  # type: ignore[misc]
    """Replaces by the guard's placeholders. Idempotent, since scrubadub runs post-processors twice."""

    name: ClassVar[str] = "mcp_guard_placeholder"
    autoload: ClassVar[bool] = False

    def __init__(self, key: bytes, scope: str = "") -> None:
        super().__init__()
        self._tagger = Tagger(key, scope)

    def process_filth(self, filth_list: list[Any]) -> list[Any]:
        """Set the replacement of each Filth that has none."""
        for filth in filth_list:
            if filth.replacement_string is None:
                filth.replacement_string = f"[{self._tagger.token(str(filth.type).upper(), filth.text)}]"
        return filth_list
