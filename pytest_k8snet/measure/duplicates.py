"""Who has the nodes' own addresses: every node asks for its own, and for those of some others, by ARP probes (RFC 5227).

A node does not hear itself, so who answers for its own address is another machine; from others that ask everybody it is heard beside it.
That answers for other nodes' addresses come at all shows that one would be heard. A kernel takes an answer that nobody waits for as well,
where it has an entry to put it into: for an address that two machines have that could be the wrong one. It has none for its own; others'
are asked for as the program ``arp`` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.model import parsed_address
from pytest_k8snet.measure.answering import Outcomes, answered, at_once, documents_of

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

Heard = Mapping[str, Mapping[str, Any]]  # what ``arp.own`` gave, by the nodes that could ask

TRIES = 3
WAIT_S = 0.5
AGAIN_S = 3.0  # later what was strange is asked for again
OTHERS = 3  # nodes that each asks for beside itself
MOST_NODES = 256  # every question is heard by the whole segment
REQUEST_S = 60.0


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Ask from the nodes `subjects`, all at the same time."""
    method = f"ARP probes (RFC 5227), {TRIES} of each address, by the agent of the node"
    yield from documents_of(context, "duplicates", method, subjects, lambda _: _measure(context, subjects))  # nobody hears itself


def _measure(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    own = {node.name: address for node in context.cluster.nodes if (address := _ipv4(node.addresses)) is not None}
    asking = [name for name in subjects if name in own]
    left_out = set(asking[MOST_NODES:])
    asking = asking[:MOST_NODES]
    outcomes = at_once(context, asking, partial(_ask, context, own=own))
    if _strange(_heard(outcomes), own) and not context.stopped.wait(AGAIN_S):
        outcomes = at_once(context, asking, partial(_ask, context, own=own))
    heard = _heard(outcomes)

    def outcome(node: str) -> Mapping[str, Any] | Exception:
        if node not in own:
            return {"absent": "the node has no IPv4 InternalIP"}
        if node in left_out:
            return {"absent": f"{MOST_NODES} nodes ask for their addresses, and this is one of {len(left_out)} more"}
        return _told(node, heard, own) if node in heard else outcomes[node]

    return {node: outcome(node) for node in subjects}


def _ipv4(addresses: Sequence[str]) -> str | None:
    parsed = map(parsed_address, addresses)
    return next((str(address) for address in parsed if address is not None and address.version == 4), None)


def _ask(context: MeasureContext, node: str, *, own: Mapping[str, str]) -> Mapping[str, Any]:
    """Ask from a node for its own address and those of the nodes that follow it."""
    names = sorted(own)
    place = names.index(node)
    others = [own[name] for name in (*names[place + 1 :], *names[:place])]
    params = {"uplink_ip": own[node], "others": others, "most": OTHERS, "tries": TRIES, "wait_s": WAIT_S}
    answer: Mapping[str, Any] = context.access.host(node).request("arp.own", params, timeout_s=REQUEST_S)
    return answer


def _heard(outcomes: Outcomes) -> Heard:
    """Return the answers of the nodes that could ask."""
    return {name: answer for name, answer in answered(outcomes).items() if "absent" not in answer}


def _answers(heard: Heard) -> Iterator[tuple[str, str, str]]:
    """Yield who heard, the address that everybody was asked for, and the hardware address that answered."""
    for name, answer in heard.items():
        for address, macs in answer["answers"].items():
            yield from ((name, address, mac) for mac in macs)


def _controls(answer: Mapping[str, Any], address: str) -> dict[str, Sequence[str]]:
    """Return what answered a node for other nodes' addresses."""
    return {asked: macs for asked, macs in (*answer["answers"].items(), *answer["controls"].items()) if asked != address}


def _strange(heard: Heard, own: Mapping[str, str]) -> bool:
    """Whether an address is answered for by what is no device of the node that has it, as far as its devices are known."""
    nodes = {address: name for name, address in own.items()}
    known = {nodes[own[name]]: {*answer["macs"]} for name, answer in heard.items()}
    return any(nodes[address] in known and mac not in known[nodes[address]] for _, address, mac in _answers(heard))


def _told(node: str, heard: Heard, own: Mapping[str, str]) -> dict[str, Any]:
    """Return what is known of one node's address: by whom which hardware addresses were heard to answer for it, and whose those are."""
    answer, address = heard[node], own[node]
    by: dict[str, list[str]] = {name: [] for name, item in heard.items() if address in item["answers"]}
    addresses: dict[str, set[str]] = {}
    for name, asked, mac in _answers(heard):
        addresses.setdefault(mac, set()).add(asked)
        if asked == address:
            by[name].append(mac)
    for item in heard.values():
        for asked, macs in item["controls"].items():
            for mac in macs:
                addresses.setdefault(mac, set()).add(asked)
    strangers = {mac for macs in by.values() for mac in macs} - {*answer["macs"]}
    whose = {mac: name for name, item in heard.items() for mac in item["macs"]}
    counts = Counter({mac: len(asked) for mac, asked in addresses.items()})
    return {
        **{key: answer[key] for key in ("device", "mac", "macs", "network", "routers")},
        "address": address,
        "heard_by": by,
        "controls": {asked: len(macs) for asked, macs in _controls(answer, address).items()},
        "strangers": {mac: {"node": whose.get(mac), "addresses": counts[mac]} for mac in sorted(strangers)},
    }
