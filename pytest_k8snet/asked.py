"""Whether there is what ``--k8snet-checks`` asks for: a pattern that nothing answers to would leave checks out, and nobody would know."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pytest_k8snet.catalogue import checks
from pytest_k8snet.errors import ConfigurationError
from pytest_k8snet.expect.validate import did_you_mean
from pytest_k8snet.markers import RESERVED
from pytest_k8snet.options import COMMAND_LINE, RECORDING

if TYPE_CHECKING:
    from pytest_k8snet.options import Settings


def see_that_packaged_are_there(settings: Settings) -> None:
    """Raise `ConfigurationError` for a pattern of packaged checks that none has, before anything is made."""
    for pattern in settings.checks:
        if pattern.upper().startswith(RESERVED) and settings.sources["checks"] != RECORDING:
            _see(pattern, (), settings.sources["checks"])


def see_that_all_are_there(settings: Settings, collected: Collection[str]) -> None:
    """Raise `ConfigurationError` for a pattern of the command line that neither a `collected` check has nor a packaged one.

    What the environment or an ini file says of checks of one's own may be for files that this run does not collect.
    """
    for pattern in settings.checks:
        if settings.sources["checks"] == COMMAND_LINE:
            _see(pattern, collected, COMMAND_LINE)


def matching(pattern: str, ids: Collection[str]) -> list[str]:
    """Return the ids that a pattern is of."""
    return [check_id for check_id in ids if fnmatchcase(check_id, pattern)]


def meant(pattern: str, ids: Sequence[str]) -> str:
    """Return what to do about an id or a pattern that is of none of `ids`."""
    close = None if any(sign in pattern for sign in "*?[") else did_you_mean(pattern, ids, cutoff=0.7)
    return "`k8snet checks` lists them" if close is None else f"did you mean {close!r}?"


def _see(pattern: str, collected: Collection[str], source: str) -> None:
    if matching(pattern, collected):
        return
    ids = [check.id for check in checks()]
    if not matching(pattern, ids):
        where = "" if source == COMMAND_LINE else f" ({source})"
        raise ConfigurationError(f"--k8snet-checks{where}: there is no check {pattern!r}; {meant(pattern, [*ids, *sorted(collected)])}")
