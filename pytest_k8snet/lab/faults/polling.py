"""Wait for what a fault should have brought about, up to a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from pytest_k8snet.errors import LabError


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 90, interval_s: float = 0.5) -> None:
    """Return when `condition` holds; raise `LabError` naming `what` when it does not before the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout_s:.0f} s for {what}; look at `k8snet lab logs`")
        time.sleep(interval_s)
