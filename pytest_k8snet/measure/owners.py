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

from pytest_k8snet.errors import MeasurementError
from pytest_k8snet.measure.answering import Outcomes, answered, at_once, documents_of

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
    """Ask from the nodes `subjects`, all at the same time; nothing where there are no such addresses."""
    method = f"ARP requests, {TRIES} of each address, by the agent of the node"
    yield from documents_of(context, "owners", method, subjects, lambda _: _measure(context, subjects))  # what each hears is put together


def _measure(context: MeasureContext, subjects: Sequence[str]) -> Outcomes:
    services = shared(context.services.services(), context.services.endpoint_slices())
    chosen = dict(sorted(services.items())[:MOST_ADDRESSES])
    told = {"addresses": chosen, "left_out": len(services) - len(chosen)}
    asking = [*subjects][:MOST_NODES] if chosen else []
    heard: list[Outcomes] = []
    if asking:
        heard = [at_once(context, asking, partial(_ask, context, addresses=[*chosen]))]
        if unclear(heard[0], chosen) and not context.stopped.wait(MOVED_S):
            heard.append(at_once(context, asking, partial(_ask, context, addresses=[*chosen])))

    def outcome(node: str) -> Mapping[str, Any] | Exception:
        answers = [answer for answer in (item.get(node) for item in heard) if answer is not None]
        failed = next((answer for answer in answers if isinstance(answer, Exception)), None)
        return failed or {**told, "heard": answers}

    return {node: outcome(node) for node in subjects}


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


def _ask(context: MeasureContext, node: str, *, addresses: Sequence[str]) -> Mapping[str, Any]:
    """Ask from a node. It asks for the next node's address as well: who hears no answer to that would hear none at all."""
    own = {item.name: item.internal_ip for item in context.cluster.nodes if item.internal_ip and ":" not in item.internal_ip}
    if node not in own:
        raise MeasurementError(f"{node}: the node has no IPv4 InternalIP")
    names = sorted(own)
    following = own[names[(names.index(node) + 1) % len(names)]]
    control = None if following == own[node] else following
    wanted = None if control in addresses else control
    params = {"uplink_ip": own[node], "addresses": addresses, "control": wanted, "tries": TRIES, "wait_s": WAIT_S}
    answer: Mapping[str, Any] = context.access.host(node).request("arp.ask", params, timeout_s=REQUEST_S)
    answers = {address: macs for address, macs in answer["answers"].items() if address in addresses}
    return {**answer, "control": control, "control_macs": answer["answers"].get(control), "answers": answers}


def unclear(heard: Outcomes, addresses: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether an address that nodes have in their subnet has no owner, although it should, or several."""
    for address, entry in addresses.items():
        answers = [item["answers"][address] for item in answered(heard).values() if address in item["answers"]]
        owners = {mac for macs in answers for mac in macs}
        if answers and (len(owners) > 1 or (not owners and entry["ready"])):
            return True
    return False
