"""The bridge to scrubadub, in processes of their own: imports are the point."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from mcp_guard.errors import ConfigError
from mcp_guard.masking import scrub
from mcp_guard.masking.findings import Finding
from mcp_guard.masking.scrub import load_detectors


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_masker_does_not_import_scrubadub() -> None:
    """decisions.md D10: imported lazily."""
    assert run("import sys, mcp_guard.masking.masker; print('scrubadub' in sys.modules)") == "False"


def test_named_detector_masks_and_heavy_modules_stay_away() -> None:
    """decisions.md D10."""
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from mcp_guard.config.schema import MaskingConfig\n"
        "from mcp_guard.masking.masker import Masker\n"
        "m = Masker(MaskingConfig(detectors=['scrubadub:postalcode@en_GB']), b'k' * 32)\n"
        "print(m.text('lives at SW1A 2AA now'), 'sklearn' in sys.modules, 'nltk' in sys.modules)"
    )
    assert run(code) == "lives at [PII] now False False"


def test_our_detector_works_inside_scrubadub() -> None:
    """decisions.md D10: published to its users."""
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from mcp_guard.masking.scrub_plugin import GuardDetector, GuardPlaceholder\n"
        "import scrubadub\n"
        "s = scrubadub.Scrubber(detector_list=[GuardDetector()], post_processor_list=[GuardPlaceholder(b'k' * 32)])\n"
        "print(s.clean('mail jo@x.com'))"
    )
    assert run(code).startswith("mail [EMAIL_")


class Slow:
    """A detector that does not come back until it is let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def iter_filth(self, _text: str) -> Iterator[object]:
        self.gate.wait()
        return iter(())


def test_detector_over_its_budget_masks_the_whole_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """security.md F18: it passes nothing that was not looked at."""
    monkeypatch.setattr(scrub, "BUDGET_S", 0.01)
    slow = Slow()
    found = scrub._bounded(slow, "slow")("some text")
    slow.gate.set()
    assert found == [Finding(0, 9, "SECRET", "scrubadub:slow:over_budget")]


class Leaving:
    """A detector that ends its thread after what it found first."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def iter_filth(self, _text: str) -> Iterator[object]:
        yield SimpleNamespace(beg=0, end=1, type="name")
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError(), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_detector_that_fails_masks_the_whole_value(error: BaseException) -> None:
    """security.md F18: however it fails, what it found so far is not all there is."""
    assert [f[:3] for f in scrub._bounded(Leaving(error), "broken")("some text")] == [(0, 9, "SECRET")]


def test_detector_that_is_not_there_is_a_config_error() -> None:
    """security.md F18: a guard that cannot look does not start."""
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from mcp_guard.errors import ConfigError\n"
        "from mcp_guard.masking.scrub import load_detectors\n"
        "try: load_detectors(['scrubadub:no_such_detector'])\n"
        "except ConfigError as error: print(error.message)"
    )
    assert run(code) == "masking.detectors: 'scrubadub:no_such_detector' cannot be loaded by scrubadub"


@pytest.mark.parametrize("name", ["postalcode", "other:x", "scrubadub:"])
def test_detector_of_another_form_is_a_config_error(name: str) -> None:
    """Config errors name the key."""
    with pytest.raises(ConfigError, match=r"masking\.detectors"):
        load_detectors([name])
