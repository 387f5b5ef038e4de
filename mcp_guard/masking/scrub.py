"""The bridge to scrubadub (decisions.md D10): its detectors for us, our detector for its users.

Imported only when guard.yaml names a `scrubadub:` detector, or by scrubadub itself through its entry points. Its two
heavy submodules (nltk, scipy, scikit-learn) belong to detectors that are off by default and are not loaded.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable
from typing import Any

from mcp_guard.errors import ConfigError
from mcp_guard.masking.findings import Finding

BUDGET_S = 0.25
"""Time of one detector on one value; after it the whole value is masked."""
_HEAVY = {"scrubadub.detectors.skype": "SkypeDetector", "scrubadub.detectors.text_blob": "TextBlobNameDetector"}
_gate = threading.Lock()


def import_scrubadub() -> Any:
    """The package, without its heavy submodules where it was not imported before."""
    with _gate:
        if "scrubadub" in sys.modules:
            return sys.modules["scrubadub"]
        for name, detector in _HEAVY.items():
            stub = types.ModuleType(name)
            setattr(stub, detector, None)
            sys.modules[name] = stub
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its own dependencies, at compile time
                import scrubadub  # type: ignore[import-untyped]
        finally:
            for name in _HEAVY:
                sys.modules.pop(name, None)
        return scrubadub


def load_detectors(names: list[str]) -> list[Callable[[str], list[Finding]]]:
    """Detectors named `scrubadub:NAME@LOCALE`, each as a function of a text, bound in time.

    Raises:
        ConfigError: a name is not of that form, or scrubadub or the detector is not there.
    """
    made = []
    for name in names:
        source, _, rest = name.partition(":")
        detector, _, locale = rest.partition("@")
        if source != "scrubadub" or not detector:
            raise ConfigError(f"masking.detectors: {name!r} is not of the form scrubadub:NAME@LOCALE")
        try:
            import_scrubadub()
            from scrubadub.detectors import detector_catalogue  # type: ignore[import-untyped]

            found = detector_catalogue.get(detector)(locale=locale or "en_US")
        except Exception:  # noqa: BLE001 - foreign code at start: whatever it raises, the detector is not there
            raise ConfigError(f"masking.detectors: {name!r} cannot be loaded by scrubadub") from None
        made.append(_bounded(found, detector))
    return made


def _bounded(detector: Any, name: str) -> Callable[[str], list[Finding]]:
    def detect(text: str) -> list[Finding]:
        found: list[Finding] = []
        whole = threading.Event()

        def run() -> None:
            # BaseException: one that exits, or panics in Rust, has not looked at all of it either.
            with contextlib.suppress(BaseException):
                found.extend(
                    Finding(filth.beg, filth.end, _type_of(filth.type), f"scrubadub:{name}")
                    for filth in detector.iter_filth(text)
                )
                whole.set()

        worker = threading.Thread(target=run, daemon=True)
        start = time.monotonic()
        worker.start()
        worker.join(BUDGET_S)
        # Whatever it failed with, the whole value is masked then (F18).
        if not whole.is_set() or time.monotonic() - start > 2 * BUDGET_S:
            return [Finding(0, len(text), "SECRET", f"scrubadub:{name}:over_budget")]
        return found

    return detect


def _type_of(filth_type: str) -> str:
    return {
        "email": "EMAIL",
        "phone": "PHONE",
        "credit_card": "CREDIT_CARD",
        "address": "ADDRESS",
        "name": "PERSON",
        "date_of_birth": "DOB",
        "social_security_number": "US_SSN",
    }.get(filth_type, "PII")
