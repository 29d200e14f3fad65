"""The second reading of what the kernels count, late in the run; facts hold the first one. Nobody waits in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pytest_k8snet.measure.taking import take_document

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

_TIMEOUT_S = 30.0


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Read the counters of the nodes `subjects`, all at the same time."""

    def read(name: str) -> Document:
        params = {"uplink_ip": context.cluster.node(name).internal_ip}
        return take_document(
            "activity",
            name,
            f"/proc {context.place_of(name)}",
            lambda: context.access.host(name).request("activity", params, timeout_s=_TIMEOUT_S),
        )

    with ThreadPoolExecutor(max_workers=context.settings.facts_threads, thread_name_prefix="k8snet-activity") as pool:
        yield from pool.map(read, subjects)
