"""Numbered packets from pod to pod, counted where they were sent, on the devices of both nodes, and where they arrived.

Of each pair in one direction: a stream of UDP packets over many source ports, one TCP connection, and between the nodes' own addresses
a few packets that show that the captures see what passes. A pair that loses packets is sent more of them: a loss that comes back is no
passing one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.cluster.pairs import pair_name, pair_nodes
from pytest_k8snet.errors import TRANSPORT_ERRORS, MeasurementError, ProbeError, UnsupportedError
from pytest_k8snet.measure.answering import Outcomes, Place, address_of, at_once, documents_of, second_address_of
from pytest_k8snet.measure.taking import MEASURE_ERRORS
from pytest_k8snet.plan import WIRE_PACKETS
from pytest_k8snet.record.pcap import section

if TYPE_CHECKING:
    from pytest_k8snet.access.base import Agent
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

PACKETS_AGAIN = 2 * WIRE_PACKETS  # to a pair that has lost some
CONTROL_PACKETS = 64  # between the nodes' own addresses
SOURCE_PORTS = 32
CONTROL_PORTS = 4
POD_SOCKETS = 8  # without privileges a buffer is as large as net.core.rmem_max allows
TCP_BYTES = 48 * 1024

PAIR_PPS = 400  # of one pair
NODE_PPS = 2000  # of all that one node sends to
TOGETHER = 32  # nodes that capture at the same time
KEPT_FRAMES = 2  # of each stream, device and form
MOST_PCAP_BYTES = 128 * 1024

_SHORT_S = 30.0
_SPARE_S = 90.0  # that captures go on when nobody ends them

Bits = int  # a set of packets' numbers


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Measure what the nodes `subjects` send to the nodes they are paired with, a few nodes at the same time."""
    for group in _groups(context, subjects):
        yield from _take_group(context, group)


def _groups(context: MeasureContext, subjects: Sequence[str]) -> Iterator[list[str]]:
    """Give the nodes that are measured together: no more than `TOGETHER` with those that they send to, unless one alone has more."""
    group: list[str] = []
    involved: set[str] = set()
    for name in subjects:
        more = {name, *context.targets_of(name)}
        if group and len(involved | more) > TOGETHER:
            yield group
            group, involved = [], set()
        group.append(name)
        involved |= more
    if group:
        yield group


def _take_group(context: MeasureContext, group: Sequence[str]) -> Iterator[Document]:
    crossings: dict[str, Crossing] = {}

    def measure(names: Sequence[str]) -> Outcomes:
        pairs = [pair_name(name, target) for name in names for target in context.targets_of(name)]
        first, results = _cross(context, pairs, address_of)
        # Once more for the nodes at both ends; what is cut off again then is told with its pairs, as the others have their packets.
        cut = {} if crossings else {name: error for name, error in first.failed.items() if isinstance(error, TRANSPORT_ERRORS)}
        crossings.update(dict.fromkeys(names, first))
        both = [pair for pair in pairs if _has_both(context, pair) and "error" not in results[pair]]
        second_results = _cross(context, both, _second_address)[1] if both and not context.stopped.is_set() else {}
        values = at_once(context, names, partial(_values, context, first, results, second_results))
        ways = {name: [cut[end] for end in (name, *context.targets_of(name)) if end in cut] for name in names}
        return {name: ways[name][0] if ways[name] else outcome for name, outcome in values.items()}

    def method(name: str) -> str:
        return f"numbered packets, and captures at both uplinks, {context.place_of(name)}"

    for document in documents_of(context, "wire", method, group, measure):
        name = document.subject
        pcap = None if document.failed else crossings[name].pcap([name, *context.targets_of(name)])
        yield replace(document, pcap=pcap or None)


def _cross(
    context: MeasureContext, pairs: Sequence[str], address: Callable[[MeasureContext, str, Place], str]
) -> tuple[Crossing, dict[str, dict[str, Any]]]:
    """Let packets of these pairs cross, to addresses as `address` gives them, and those of pairs that lose some once more."""
    first = Crossing(context, pairs, WIRE_PACKETS, address, everything=True)
    first.run()
    results = {pair: first.result(pair) for pair in pairs}
    lossy = [pair for pair, result in results.items() if "error" not in result and _loses(result["streams"][0])]
    if lossy and not context.stopped.is_set():
        second = Crossing(context, lossy, PACKETS_AGAIN, address, everything=False)
        second.run()
        for pair in lossy:
            again = second.result(pair)
            results[pair]["streams"] += again.get("streams", [])
            results[pair]["not_again"] = again.get("error")
    return first, results


def _has_both(context: MeasureContext, pair: str) -> bool:
    """Whether nodes and pods of both ends have addresses of both families."""
    places: tuple[Place, ...] = ("host", "pod")
    return all(second_address_of(context, name, place) is not None for name in pair_nodes(pair) for place in places)


def _second_address(context: MeasureContext, node: str, place: Place) -> str:
    address = second_address_of(context, node, place)
    assert address is not None
    return address


def _values(
    context: MeasureContext,
    crossing: Crossing,
    results: Mapping[str, Mapping[str, Any]],
    second_results: Mapping[str, Mapping[str, Any]],
    name: str,
) -> dict[str, Any]:
    error = crossing.failed.get(name)
    own, own_second = (
        {pair_nodes(pair)[1]: result for pair, result in found.items() if pair_nodes(pair)[0] == name}
        for found in (results, second_results)
    )
    if error is not None and own:
        raise error
    if not own:
        context.access.pod(name)  # a node that nothing can be sent from is not one that has nobody to send to
    return {"pairs": own, "second_pairs": own_second, "devices": crossing.devices.get(name)}


def _loses(stream: Mapping[str, Any]) -> bool:
    return bool(stream["delivered"] < stream["sent"])


@dataclass(slots=True)
class _Node:
    """What is known of a node during a crossing."""

    pod_receiver: Mapping[str, Any] | None = None
    host_receiver: Mapping[str, Any] | None = None
    capture: Mapping[str, Any] | None = None
    sent: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # by path
    arrived: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # by path
    captured: Mapping[str, Any] = field(default_factory=dict)


class Crossing:
    """Packets of some pairs at the same time. `everything`: with a TCP connection."""

    def __init__(
        self,
        context: MeasureContext,
        pairs: Sequence[str],
        packets: int,
        address: Callable[[MeasureContext, str, Place], str],
        *,
        everything: bool,
    ) -> None:
        self._context = context
        self._address_of = address
        self._pairs = pairs
        self._packets = packets
        self._everything = everything
        self._mark = secrets.token_hex(4)
        self._ids = {(pair, path): secrets.token_hex(8) for pair in pairs for path in ("pod", "host")}
        self._sources = {name: [pair_nodes(pair)[1] for pair in pairs if pair_nodes(pair)[0] == name] for name, _ in map(pair_nodes, pairs)}
        self._targets = {name: [pair_nodes(pair)[0] for pair in pairs if pair_nodes(pair)[1] == name] for _, name in map(pair_nodes, pairs)}
        self._nodes = {name: _Node() for pair in pairs for name in pair_nodes(pair)}
        self.failed: dict[str, Exception] = {}

    @property
    def devices(self) -> dict[str, Mapping[str, Any]]:
        """What was captured on, by node: the uplink, all devices that lead to other nodes, and those to the pod."""
        return {
            name: {key: node.capture["devices"][key] for key in ("uplink", "wire", "pod")}
            for name, node in self._nodes.items()
            if node.capture is not None
        }

    def run(self) -> None:
        """Send, see and receive. What went wrong on a node is in `failed`."""
        self._each(self._nodes, self._begin)
        self._each(self._nodes, self._capture)
        self._each(self._sources, self._send)
        self._context.stopped.wait(self._context.settings.settle_s)
        self._each(self._nodes, self._end, all_of_them=True)

    def _address(self, name: str, place: Place) -> str:
        return self._address_of(self._context, name, place)

    def _each(self, names: Iterable[str], act: Callable[[str], None], *, all_of_them: bool = False) -> None:
        def safely(name: str) -> None:
            try:
                act(name)
            except MEASURE_ERRORS as error:
                self.failed.setdefault(name, error)

        chosen = [name for name in names if all_of_them or name not in self.failed]
        if chosen:
            with ThreadPoolExecutor(max_workers=TOGETHER, thread_name_prefix="k8snet-wire") as pool:
                for _ in pool.map(safely, chosen):
                    pass

    @property
    def _seconds(self) -> float:
        """How long the longest sending takes."""
        most = max((len(targets) for targets in self._sources.values()), default=0)
        return self._packets * max(1 / PAIR_PPS, most / NODE_PPS)

    @property
    def _max_s(self) -> float:
        return self._seconds + _SPARE_S

    def _begin(self, name: str) -> None:
        node, agents = self._nodes[name], self._context.access
        from_nodes = self._targets.get(name, [])
        # The pod's agent first: where there are no pods nothing is done at all.
        node.pod_receiver = self._receiver(agents.pod(name), self._address(name, "pod"), name, "pod", from_nodes)
        node.host_receiver = self._receiver(agents.host(name), self._address(name, "host"), name, "host", from_nodes)

    def _receiver(
        self, agent: Agent, address: str, name: str, path: Literal["pod", "host"], from_nodes: Sequence[str]
    ) -> Mapping[str, Any]:
        params = {
            "address": address,
            "udp": len(from_nodes) * _sockets(path),
            "tcp": len(from_nodes) if path == "pod" and self._everything else 0,
            "streams": {self._ids[pair_name(source, name), path]: self._count(path) for source in from_nodes},
            "max_s": self._max_s,
        }
        answer: Mapping[str, Any] = agent.request("wire.receive", params, timeout_s=_SHORT_S)
        return answer

    def _count(self, path: Literal["pod", "host"]) -> int:
        return self._packets if path == "pod" else CONTROL_PACKETS

    def _capture(self, name: str) -> None:
        node = self._nodes[name]
        assert node.pod_receiver is not None
        pairs = [pair for pair in self._pairs if name in pair_nodes(pair)]
        params = {
            "uplink_ip": self._address(name, "host"),
            "links": node.pod_receiver["links"],
            "streams": {self._ids[pair, path]: self._count(path) for pair in pairs for path in ("pod", "host")},
            "tcp": [list(to) for pair in pairs if (to := self._tcp_of(pair)) is not None],
            "mark": self._mark,
            "kept": KEPT_FRAMES,
            "max_s": self._max_s,
        }
        node.capture = self._context.access.host(name).request("wire.capture", params, timeout_s=_SHORT_S)

    def _tcp_of(self, pair: str) -> tuple[str, int] | None:
        """Return address and port of the pair's connection."""
        source, target = pair_nodes(pair)
        receiver = self._nodes[target].pod_receiver
        if receiver is None or not receiver["tcp"]:
            return None
        return self._address(target, "pod"), receiver["tcp"][self._targets[target].index(source)]

    def _send(self, name: str) -> None:
        targets = [target for target in self._sources[name] if target not in self.failed]
        for path, ports in (("host", CONTROL_PORTS), ("pod", SOURCE_PORTS)):
            streams = [self._stream(name, target, path, ports) for target in targets]  # type: ignore[arg-type]
            tcp = [
                {"address": to[0], "port": to[1], "bytes": TCP_BYTES}
                for target in targets
                if path == "pod" and (to := self._tcp_of(pair_name(name, target))) is not None
            ]
            params = {"mark": self._mark, "rate_pps": min(PAIR_PPS * len(targets), NODE_PPS), "streams": streams, "tcp": tcp}
            agent = self._context.access.pod(name) if path == "pod" else self._context.access.host(name)
            if targets:
                answer = agent.request("wire.send", params, timeout_s=_SHORT_S + 3 * self._seconds + 8 * len(tcp))
                self._nodes[name].sent[path] = {
                    "streams": dict(zip(targets, answer["streams"], strict=True)),
                    "tcp": dict(zip(targets, answer["tcp"], strict=False)),
                }

    def _stream(self, name: str, target: str, path: Literal["pod", "host"], ports: int) -> dict[str, Any]:
        node = self._nodes[target]
        receiver = node.pod_receiver if path == "pod" else node.host_receiver
        assert receiver is not None
        return {
            "address": self._address(target, path),
            "ports": receiver["udp"][self._targets[target].index(name) :: len(self._targets[target])],
            "token": self._ids[pair_name(name, target), path],
            "count": self._count(path),
            "sources": ports,
        }

    def _end(self, name: str) -> None:
        node, agents = self._nodes[name], self._context.access
        errors: list[Exception] = []

        def ask(agent: Callable[[str], Agent], op: str, begun: Mapping[str, Any] | None) -> Mapping[str, Any]:
            try:
                answer = {} if begun is None else agent(name).request(op, {"id": begun["id"]}, timeout_s=_SHORT_S)
                if begun is not None and not answer["told"]:
                    # What came after that looks lost.
                    raise MeasurementError(f"{name}: {op}: it ended by itself after {self._max_s:.0f} s; the nodes are too busy for it")
            except MEASURE_ERRORS as error:
                errors.append(error)
                return {}
            return answer

        node.captured = ask(agents.host, "wire.captured", node.capture)
        node.arrived["pod"] = ask(agents.pod, "wire.received", node.pod_receiver)
        node.arrived["host"] = ask(agents.host, "wire.received", node.host_receiver)
        if errors:
            raise errors[0]

    # ---- what comes out of it

    def pcap(self, names: Iterable[str]) -> bytes:
        """Return the packets that were kept on these nodes, as many nodes as there is room for."""
        data = b""
        for name in names:
            frames = self._nodes[name].captured.get("frames") if name in self._nodes else None
            if frames:
                more = section(name, frames)
                if len(data) + len(more) > MOST_PCAP_BYTES:
                    break
                data += more
        return data

    def result(self, pair: str) -> dict[str, Any]:
        """Return what one pair's document says, or why nothing was measured of it: ``error``."""
        source, target = pair_nodes(pair)
        for name in (source, target):
            if name in self.failed:
                error = self.failed[name]
                reason = str(error) or type(error).__name__
                return {"error": reason, "unsupported": isinstance(error, UnsupportedError), "missing": isinstance(error, ProbeError)}
        there = self._nodes[target]
        return {
            "address": self._address(source, "pod"),
            "target_address": self._address(target, "pod"),
            "streams": [self._udp(pair, "pod")],
            "control": self._udp(pair, "host"),
            "tcp": self._tcp(pair),
            "cipher": {"source": self._cipher(source, pair), "target": self._cipher(target, pair)},
            "overflow": there.arrived["pod"]["overflow"],
        }

    def _udp(self, pair: str, path: Literal["pod", "host"]) -> dict[str, Any]:
        source, target = pair_nodes(pair)
        here, there = self._nodes[source], self._nodes[target]
        own = self._ids[pair, path]
        sending = here.sent[path]["streams"][target]
        arriving = there.arrived[path]["streams"][own]
        sent, delivered = _bits(sending), _bits(arriving)
        seen_here, seen_there = _Seen(here, own), _Seen(there, own)
        lost = sent & ~delivered
        return {
            "packets": self._count(path),
            "sent": sent.bit_count(),
            "errors": sending["errors"],
            "delivered": delivered.bit_count(),
            "overflow": there.arrived[path]["overflow"],
            "senders": sorted(arriving["senders"]),
            "source": seen_here.to_json(sent, self._growth(source)),
            "target": seen_there.to_json(delivered, self._growth(target)),
            # Neither on a device of the source's nor delivered: where these went nobody knows.
            "nowhere": (sent & ~seen_here.wire & ~delivered).bit_count(),
            "lost": _places(lost, seen_here, seen_there),
            "at_target_pod": seen_there.pod.bit_count(),  # none at all: it cannot be seen there
        }

    def _growth(self, name: str) -> dict[str, Any]:
        node = self._nodes[name]
        return {"node": dict(node.captured["counters"]), "pod": dict(node.arrived["pod"]["counters"])}

    def _tcp(self, pair: str) -> dict[str, Any] | None:
        source, target = pair_nodes(pair)
        to = self._tcp_of(pair)
        sending = self._nodes[source].sent["pod"]["tcp"].get(target)
        if to is None or sending is None:
            return None
        arrived = [item["bytes"] for item in self._nodes[target].arrived["pod"]["tcp"] if item["port"] == to[1]]
        return {
            **sending,
            "delivered": sum(arrived),
            "source": self._tcp_seen(source, to),
            "target": self._tcp_seen(target, to),
        }

    def _tcp_seen(self, name: str, to: tuple[str, int]) -> dict[str, int]:
        """Return bytes by form: of several devices in each other's place that which saw most."""
        node = self._nodes[name]
        forms: dict[str, int] = {}
        for item in node.captured["tcp"]:
            if item["to"] == f"{to[0]} {to[1]}" and item["device"] in _wire(node):
                forms[item["form"]] = max(forms.get(item["form"], 0), item["bytes"])
        return forms

    def _cipher(self, name: str, pair: str) -> list[dict[str, Any]]:
        """Return the encrypted packets from the pair's one node to its other, by kind and length."""
        node = self._nodes[name]
        ends = [frozenset(self._context.cluster.node(end).addresses) for end in pair_nodes(pair)]
        counts: dict[tuple[str, int], int] = {}
        for item in node.captured["cipher"]:
            if item["source"] in ends[0] and item["target"] in ends[1]:
                key = item["kind"], item["length"]
                counts[key] = max(counts.get(key, 0), item["count"])
        return [{"kind": kind, "length": length, "count": count} for (kind, length), count in sorted(counts.items())]


class _Seen:
    """Where on a node the packets of one stream were seen."""

    def __init__(self, node: _Node, own: str) -> None:
        self._node = node
        wire = _wire(node)
        self.forms: dict[str, Bits] = {}
        self.pod: Bits = 0
        for item in node.captured["seen"]:
            if item["token"] != own:
                continue
            if item["device"] in wire:
                self.forms[item["form"]] = self.forms.get(item["form"], 0) | _bits(item)
            else:
                self.pod |= _bits(item)
        self.addresses = sorted(
            {
                address
                for item in node.captured["sources"]
                if item["token"] == own and item["device"] in wire
                for address in item["addresses"]
            }
        )

    @property
    def wire(self) -> Bits:
        """In whatever form."""
        seen = 0
        for bits in self.forms.values():
            seen |= bits
        return seen

    def to_json(self, all_of_them: Bits, growth: Mapping[str, Any]) -> dict[str, Any]:
        """Return counts; of `all_of_them` also how many were not seen."""
        captured = self._node.captured
        return {
            "forms": {form: bits.bit_count() for form, bits in sorted(self.forms.items())},
            "unseen": (all_of_them & ~self.wire).bit_count(),
            "addresses": self.addresses,
            "dropped": captured["dropped"],
            "cipher_dropped": captured["cipher_dropped"],
            "cut": captured["cut"],
            "unread": captured["unread"],
            "counters": growth,
        }


def _places(lost: Bits, here: _Seen, there: _Seen) -> dict[str, int]:
    """Return how many of the `lost` packets went missing behind which place, by the last one at which they were seen."""
    places = {}
    for name, seen in (("target_pod", there.pod), ("target_node", there.wire), ("wire", here.wire), ("source_node", here.pod)):
        places[name] = (lost & seen).bit_count()
        lost &= ~seen
    places["source_pod"] = lost.bit_count()
    if not here.pod:  # the pod's device shows nothing at all: a CNI's programs go around it
        places["source_node"], places["source_pod"] = places["source_pod"], 0
    return places


def _sockets(path: Literal["pod", "host"]) -> int:
    """Return how many sockets receive a stream: the buffer of one alone holds no more than half a second of it on some kernels."""
    return POD_SOCKETS if path == "pod" else 1


def _wire(node: _Node) -> frozenset[str]:
    assert node.capture is not None
    return frozenset(node.capture["devices"]["wire"])


def _bits(item: Mapping[str, Any]) -> Bits:
    return int.from_bytes(bytes.fromhex(item["bits"]), "little")
