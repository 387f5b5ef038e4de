"""Exit codes and the one place where an error becomes text on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mcp_guard.errors import ConfigError, GuardError, UsageError

OK = 0
FINDING = 1
"""The command ran and found something: tampering, a problem, a request that is already decided."""
USAGE = 2
"""The command line or the configuration is not usable."""
CANNOT = 3
"""Something needed is not there or broke: the store, the log, a server."""
INTERRUPTED = 130


def exit_code(error: GuardError) -> int:
    """The exit code of an error: 2 for usage and configuration, 3 for faults, 1 for the rest."""
    from mcp_guard.errors import FaultError

    if isinstance(error, ConfigError | UsageError):
        return USAGE
    return CANNOT if isinstance(error, FaultError) else FINDING


def report(command: Callable[[], int]) -> int:
    """Run a command; print a `GuardError` as its code, sentence and hint, and never a traceback."""
    try:
        return command()
    except GuardError as error:
        sys.stderr.write(f"{error}\n")
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseExceptionGroup as group:
        known = group.subgroup(GuardError)
        if known is None:
            raise
        first = _first(known)
        sys.stderr.write(f"{first}\n")
        return exit_code(first)


def _first(group: BaseExceptionGroup[GuardError]) -> GuardError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
