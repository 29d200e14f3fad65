"""What judges of the kernel's counters say alike."""

from __future__ import annotations

OLDER = "the recording is older than the reading of the kernel's counters"
RESTARTED = "the machine was started anew during the run: its counters began again"


def percent(value: float) -> str:
    """Write a share, three digits of it."""
    return f"{100 * value:.3g} %"
