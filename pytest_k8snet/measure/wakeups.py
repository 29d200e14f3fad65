"""How late a node wakes up from short sleeps, a second at a time: what keeps its processors keeps packets waiting as well.

All nodes at the same time. A take in which much was late is taken again, a while later each time: what passes is no busy neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.measure.answering import at_once
from pytest_k8snet.measure.latency import figures
from pytest_k8snet.measure.taking import take_document

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

SECONDS = 1.0
SLEEP_S = 0.001
LATE_MS = 10.0  # from here on a wake-up is late: a scheduler's tick is 1 to 10 ms
AGAIN = 0.02  # of the time late: taken again
PAUSES_S = (1.0, 3.0, 6.0)  # before each of the takes after the first: a proxy that writes its rules is busy for seconds
KEPT_GAPS = 5
_SHORT_S = 30.0


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Measure the nodes `subjects`, all at the same time."""

    def measure(name: str) -> Document:
        method = f"sleeps of {SLEEP_S * 1000:g} ms, {context.place_of(name)}"
        return take_document("wakeups", name, method, partial(_takes, context, name))

    for document in at_once(context, subjects, measure).values():
        if isinstance(document, Exception):
            raise document
        yield document


def _takes(context: MeasureContext, name: str) -> dict[str, Any]:
    params = {"seconds": SECONDS, "sleep_s": SLEEP_S}
    takes: list[dict[str, Any]] = []
    for pause_s in (0.0, *PAUSES_S):
        if takes and (takes[-1]["late_share"] <= AGAIN or context.stopped.wait(pause_s)):
            break
        takes.append(read_take(context.access.host(name).request("latency.wakeups", params, timeout_s=_SHORT_S)))
    return {"seconds": SECONDS, "sleep_ms": SLEEP_S * 1000, "late_from_ms": LATE_MS, "takes": takes}


def read_take(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of one take."""
    late = answer["late_ms"]
    gaps = [gap for gap in late if gap >= LATE_MS]
    return {
        "samples": len(late),
        **figures(late),
        "gaps": len(gaps),
        "longest_ms": gaps[-KEPT_GAPS:],
        "late_share": round(sum(gaps) / 1000 / SECONDS, 4),
        "processor": answer["processor"],
    }
