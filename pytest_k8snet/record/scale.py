"""Typed view of the ``scale`` document of a node: connections to the last of many frontends of Services."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_k8snet.record.document import Document


@dataclass(frozen=True, slots=True)
class Size:
    """What one number of frontends cost."""

    frontends: int
    services: int
    made_s: float  # until the API server had taken them
    answering_s: float | None  # from the first of them on, until the last answered this node's pod; None: not in `waited_s`
    waited_s: float
    error: str | None
    connected_ms: tuple[float, ...]  # sorted
    direct_ms: tuple[float, ...]  # the same of connections to the pod itself, at the same time
    unanswered: int

    def percentile(self, share: float) -> float:
        """Return the milliseconds in which such a share of the connections was open."""
        return _percentile(self.connected_ms, share)

    @property
    def more_ms(self) -> float:
        """How much longer half of the connections took than half of those to the pod itself."""
        return max(0.0, _percentile(self.connected_ms, 0.5) - _percentile(self.direct_ms, 0.5))


@dataclass(frozen=True, slots=True)
class ScaleRecord:
    """What one node's probe pod found; no sizes where none were asked for."""

    node: str
    endpoint: str | None  # the node of the pod that all lead to
    sizes: tuple[Size, ...]

    @classmethod
    def from_document(cls, document: Document) -> ScaleRecord:
        """Read the typed view of a ``scale`` document.

        Raises `RecordError` with the recorded reason when nothing could be measured, and when the document is damaged.
        """
        with document.reading("connections to many Services") as data:
            return cls(
                node=document.subject,
                endpoint=data["endpoint"],
                sizes=tuple(
                    Size(
                        frontends=item["frontends"],
                        services=item["services"],
                        made_s=float(item["made_s"]),
                        answering_s=item["answering_s"],
                        waited_s=float(item["waited_s"]),
                        error=item["error"],
                        connected_ms=tuple(float(value) for value in item["connected_ms"]),
                        direct_ms=tuple(float(value) for value in item["direct_ms"]),
                        unanswered=item["unanswered"],
                    )
                    for item in data["sizes"]
                ),
            )


def _percentile(sorted_ms: tuple[float, ...], share: float) -> float:
    return sorted_ms[min(len(sorted_ms) - 1, int(share * len(sorted_ms)))]
