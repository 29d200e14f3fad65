"""UDP at a given rate by iperf3 between the nodes and between the pods of a pair: what is lost of it, and how unevenly it arrives.

As with throughput a take in a few is disturbed by something that passes: where pods lose more than their nodes, or less was sent than asked
for, both are taken again, up to `MOST_UDP_TAKES` in all. The rate is what was asked for: pairs are measured one after the other, however
many there are. iperf3 counts as lost what it read too late as well: the kernel that received it knows how much that was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.base import Agent, run
from pytest_k8snet.agent.wire import named_counters
from pytest_k8snet.cluster.pairs import pair_nodes
from pytest_k8snet.errors import AccessError, MeasurementError, NoPodError
from pytest_k8snet.measure.answering import Place, address_of, agent_of
from pytest_k8snet.measure.distress import Watch
from pytest_k8snet.measure.taking import now, take_document
from pytest_k8snet.measure.throughput import AGAIN, BROKEN, iperf3, spared, take_paths
from pytest_k8snet.plan import MOST_UDP_TAKES
from pytest_k8snet.record.udp import SENT

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

CLEARLY_MORE = 0.001  # of the packets, beyond what is lost between nodes: reason enough to look again
COUNTERS = ("/proc/net/snmp", "/proc/net/snmp6")  # of the network namespace of who reads them; the second is there with IPv6 alone


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Send between the pairs `subjects`; nothing where it was not asked for."""
    method = f"iperf3 -u, {context.settings.take_s} s a take, between nodes and between pods"
    watch = None if context.udp_bps is None else Watch.begin(context.ask_api)
    for number, subject in enumerate(subjects, 1):
        yield take_document("udp", subject, method, partial(_pair, context, subject))
        left = subjects[number:]
        if left and watch is not None and (distress := watch.distress(context.stopped.wait)) is not None:
            yield from spared("udp", left, f"after UDP between {subject} {distress}")
            return


def _pair(context: MeasureContext, subject: str) -> dict[str, Any]:
    values: dict[str, Any] = {"rate_bps": context.udp_bps, "seconds": context.settings.take_s, "pod_absent": None, "takes": []}
    if context.udp_bps is None:
        return values
    source, target = pair_nodes(subject)
    for name in (source, target):
        try:
            context.access.pod(name)
        except NoPodError as error:
            values["pod_absent"] = str(error)

    def again(takes: Sequence[Mapping[str, Any]]) -> bool:
        worth = pods_lose_more(takes) or too_little_sent(takes, context.udp_bps or 0)
        return len(takes) < MOST_UDP_TAKES and worth and not context.stopped.is_set()

    takes = take_paths(lambda path: _take(context, source, target, path), _untaken, again, pods=values["pod_absent"] is None)
    return {**values, "takes": takes}


def too_little_sent(takes: Sequence[Mapping[str, Any]], rate_bps: int) -> bool:
    """Whether a path has no take that was sent at the rate: a sender without its processor for a moment may have it the next time."""
    if any(take["error"] is not None for take in takes):
        return False
    best: list[float] = [max(take["sent_bps"] for take in takes if take["path"] == place) for place in AGAIN]
    return min(best) < SENT * rate_bps


def pods_lose_more(takes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether even the best take of the pods lost more than the best one of the nodes; what went wrong is not repeated."""
    if any(take["error"] is not None for take in takes):
        return False
    best: dict[str, float] = {
        place: min((take["lost"] - take["overflowed"]) / max(1, take["packets"]) for take in takes if take["path"] == place)
        for place in AGAIN
    }
    return best["pod"] > best["host"] + CLEARLY_MORE


def _take(context: MeasureContext, source: str, target: str, path: Place) -> dict[str, Any]:
    values = _untaken(path, None)
    try:
        server, client = agent_of(context, target, path), agent_of(context, source, path)
        before = _overflows(server)
        values.update(read_datagrams(iperf3(context, server, client, address_of(context, target, path), udp_bps=context.udp_bps)))
        values["overflowed"] = min(values["lost"], max(0, _overflows(server) - before))
    except (AccessError, MeasurementError) as error:
        values.update(error=str(error), broken=isinstance(error, BROKEN))
    return values


def _overflows(receiver: Agent) -> int:
    """Return how many datagrams have ever found no room in a socket of the receiver's; 0 where its kernel does not tell."""
    return read_overflows(run(receiver, ["cat", *COUNTERS]).stdout)


def read_overflows(text: str) -> int:
    """Return the sum of UDP's RcvbufErrors of both families in the text of /proc/net/snmp and snmp6."""
    lines = text.splitlines()
    of_first = named_counters("\n".join(line for line in lines if line.startswith("Udp:")))
    of_second = {words[0]: words[1] for words in map(str.split, lines) if len(words) == 2}
    return of_first.get("Udp.RcvbufErrors", 0) + int(of_second.get("Udp6RcvbufErrors", 0))


FIGURES = (
    "sent_bps",
    "packets",
    "lost",
    "unseen",
    "overflowed",
    "jitter_ms",
    "datagram_bytes",
    "cpu_sender_percent",
    "cpu_receiver_percent",
)


def _untaken(path: Place, error: str | None) -> dict[str, Any]:
    return {"path": path, "at": now(), **dict.fromkeys(FIGURES), "error": error, "broken": False}


def read_datagrams(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures in iperf3's JSON. What of the last datagrams was lost the receiver does not know, as it counts by their numbers.

    Those that were sent behind the last one that came are ``unseen``: a few are always on their way when it ends.

    Raises `MeasurementError` when it holds an error, and when one of the two counts is missing.
    """
    if result.get("error"):
        raise MeasurementError(f"iperf3: {result['error']}")
    end = result.get("end") or {}
    sent, received = end.get("sum_sent") or {}, end.get("sum_received") or {}
    if not sent.get("packets") or not isinstance(received.get("lost_packets"), int):
        raise MeasurementError("iperf3: its result does not say how many datagrams were sent and how many of them were lost")
    seen = int(received.get("packets") or 0)
    cpu = end.get("cpu_utilization_percent") or {}
    return {
        "sent_bps": sent["bits_per_second"],
        "packets": seen or sent["packets"],
        "lost": max(0, received["lost_packets"]) if seen else sent["packets"],
        "unseen": max(0, sent["packets"] - seen) if seen else 0,
        "jitter_ms": received["jitter_ms"] if seen else None,
        "datagram_bytes": ((result.get("start") or {}).get("test_start") or {}).get("blksize"),
        "cpu_sender_percent": cpu.get("host_total"),
        "cpu_receiver_percent": cpu.get("remote_total"),
    }
