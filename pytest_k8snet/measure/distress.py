"""Whether a cluster bears the load that is put on it: its API server answers a small request about as soon as it did before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pytest_k8snet.errors import ClusterError

MOST_S = 5.0  # that an answer may take whatever it took before
TIMES = 3.0  # as long as before
LOOKS = 2  # one slow answer says nothing
_BETWEEN_S = 2.0


@dataclass(frozen=True, slots=True)
class Watch:
    """How the API server answered before the load."""

    ask: Callable[[], None]
    before_s: float | None  # None: it did not

    @classmethod
    def begin(cls, ask: Callable[[], None]) -> Watch:
        """Ask for the first time."""
        try:
            return cls(ask, _seconds(ask))
        except ClusterError:
            return cls(ask, None)

    def distress(self, wait: Callable[[float], object]) -> str | None:
        """Return in words that the API server answers too late or no more, None while all is well; `wait` passes time between looks."""
        told = None
        for look in range(LOOKS):
            if look:
                wait(_BETWEEN_S)
            told = self._late()
            if told is None:
                break
        return told

    def _late(self) -> str | None:
        before = "nothing before it" if self.before_s is None else f"{self.before_s:.2f} s before it"
        try:
            took_s = _seconds(self.ask)
        except ClusterError as error:
            return f"the API server did not answer a small request ({error})"
        if took_s <= max(MOST_S, TIMES * (self.before_s or 0.0)):
            return None
        return f"the API server took {took_s:.1f} s to answer a small request, {before}"


def _seconds(ask: Callable[[], None]) -> float:
    start = time.monotonic()
    ask()
    return time.monotonic() - start
