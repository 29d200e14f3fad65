"""Who answers for the addresses of load balancers that are in the nodes' own subnet: every node asks all others, by ARP.

MetalLB in layer 2 mode, kube-vip, keepalived and Cilium let one node have such an address. A node does not hear itself: what each hears is
put together. What is not as it should be is looked at again, as an address may be on its way to another node.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_k8snet.measure.answering import at_once
from pytest_k8snet.measure.taking import take_document

if TYPE_CHECKING:
    from pytest_k8snet.measure.registry import MeasureContext
    from pytest_k8snet.record.document import Document

TRIES = 3
WAIT_S = 0.5
MOVED_S = 12.0  # that an address is given to get to another node
MOST_ADDRESSES = 32
MOST_NODES = 32  # every question is heard by the whole segment
REQUEST_S = 60.0


def take(context: MeasureContext, subjects: Sequence[str]) -> Iterator[Document]:
    """Ask for the addresses, once for the whole cluster; nothing where there are none."""
    method = f"ARP requests, {TRIES} of each address, by the agents of the nodes"
    for subject in subjects:
        yield take_document("owners", subject, method, partial(_measure, context))


def _measure(context: MeasureContext) -> dict[str, Any]:
    services = shared(context.services.services(), context.services.endpoint_slices())
    chosen = dict(sorted(services.items())[:MOST_ADDRESSES])
    nodes = [name for name, probe in sorted(context.probes.items()) if probe.error is None][:MOST_NODES]
    heard: list[Mapping[str, Any]] = []
    if chosen:
        heard = [_ask(context, nodes, [*chosen])]
        if unclear(heard[0], chosen) and not context.stopped.wait(MOVED_S):
            heard.append(_ask(context, nodes, [*chosen]))
    return {"addresses": chosen, "left_out": len(services) - len(chosen), "heard": heard}


def shared(services: Sequence[Mapping[str, Any]], slices: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the IPv4 addresses of load balancers that nodes are to answer for, with their Services and whether any has an endpoint."""
    ready = {
        (item["metadata"]["namespace"], (item["metadata"].get("labels") or {}).get("kubernetes.io/service-name"))
        for item in slices
        if any((endpoint.get("conditions") or {}).get("ready", True) for endpoint in item.get("endpoints") or ())
    }
    found: dict[str, dict[str, Any]] = {}
    for service in services:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        if (service.get("spec") or {}).get("type") != "LoadBalancer":
            continue
        for ingress in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
            address = ingress.get("ip") or ""
            with suppress(ValueError):
                if ipaddress.ip_address(address).version == 4 and ingress.get("ipMode", "VIP") != "Proxy":
                    entry = found.setdefault(address, {"services": [], "ready": False})
                    entry["services"].append(f"{namespace}/{name}")
                    entry["ready"] = entry["ready"] or (namespace, name) in ready
    return found


def _ask(context: MeasureContext, nodes: Sequence[str], addresses: Sequence[str]) -> dict[str, Any]:
    """Ask from all nodes. Each asks for the next node's address as well: who hears no answer to that would hear none at all."""
    own = {name: context.cluster.node(name).internal_ip for name in nodes}

    def ask(node: str) -> Mapping[str, Any]:
        control = own[nodes[(nodes.index(node) + 1) % len(nodes)]] if len(nodes) > 1 else None
        wanted = [*addresses, *([control] if control is not None and control not in addresses and ":" not in control else [])]
        params = {"uplink_ip": own[node], "addresses": wanted, "tries": TRIES, "wait_s": WAIT_S}
        answer: Mapping[str, Any] = context.access.host(node).request("arp.ask", params, timeout_s=REQUEST_S)
        answers = dict(answer["answers"])
        return {
            **answer,
            "control": control,
            "control_macs": answers.pop(control, None) if control not in addresses else answers[control],
            "answers": answers,
        }

    found = at_once(context, nodes, ask)
    return {
        "asked": {name: answer for name, answer in found.items() if not isinstance(answer, Exception)},
        "not_asked": {name: str(answer) for name, answer in found.items() if isinstance(answer, Exception)},
    }


def unclear(heard: Mapping[str, Any], addresses: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether an address that nodes have in their subnet has no owner, although it should, or several."""
    for address, entry in addresses.items():
        answers = [item["answers"][address] for item in heard["asked"].values() if address in item["answers"]]
        owners = {mac for macs in answers for mac in macs}
        if answers and (len(owners) > 1 or (not owners and entry["ready"])):
            return True
    return False
