"""Healthy answers of the program ``traffic``: who has an address answers, and Services lead to their probe pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.probe_policies import allowed

if TYPE_CHECKING:
    from pytest_k8snet.access.fake import FakeCluster

PORT = 40000
POLICED = "traffic: whether there is a NetworkPolicy"


def respond(fake: FakeCluster, node: str, role: str, op: str, params: Mapping[str, Any]) -> Any:
    """Answer like the program would."""
    if op == "traffic.serve":
        return {"number": 1, "port": params["port"] or PORT, "families": ["IPv4"]}
    if op == "traffic.stop":
        return True
    if op == "traffic.through":
        pod = next(name for name in fake.nodes if params["address"] == fake.policy_address(name))
        answers = {target["key"]: outward(fake, target) for target in params["wanted"]}
        through = {"name": f"policy-{pod}", "answers": answers, "error": None}
        return {"through": through, "answers": fake.answered(node, "pod", "traffic.connect", {**params, "tries": 1})}
    return {
        target["key"]: policed(fake, node, target) or answered(owner(fake, target), source_of(fake, node, role, target["address"]))
        for target in params["targets"]
    }


def source_of(fake: FakeCluster, node: str, role: str, target: str) -> str | None:
    """Return the address, of the target's family, that a node or its pod sends from."""
    return next((address for address in fake.addresses_of(node, role) if (":" in address) == (":" in target)), None)


def policed(fake: FakeCluster, node: str, target: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the answer of a pod that was made for a NetworkPolicy, None when it is none."""
    name = next((name for name in fake.nodes if target["address"] == fake.policy_address(name)), None)
    if name is None:
        return None
    shut = fake.kept.get(POLICED) and not allowed(target["port"], chosen=node in [*fake.probed][::2])
    return answered(None if shut else f"policy-{name}", fake.pod_ip(node))


def outward(fake: FakeCluster, target: Mapping[str, Any]) -> dict[str, Any]:
    """Return what such a pod gets from the probe pod at an address."""
    name = owner(fake, target)
    shut = fake.kept.get(POLICED) and not allowed(target["port"], chosen=name in [*fake.probed][::2])
    return {"name": None if shut else name, "error": "timed out" if shut else None}


def owner(fake: FakeCluster, target: Mapping[str, Any]) -> str | None:
    """Return whose pod or node answers at an address and port, None when nobody does."""
    for name in fake.nodes:
        if target["address"] in fake.cluster_ips_of(name) or target["port"] == fake.service_of(name)[1]:
            return name
    return next((name for name, item in fake.nodes.items() if target["address"] in (*fake.pod_ips(name), *item.addresses)), None)


def answered(name: str | None, source: str | None) -> dict[str, Any]:
    """Return the result of a connection that `name` answered."""
    if name is None:
        return {"name": None, "peer": None, "ms": 5000.0, "tries": 2, "error": "timed out", "refused": False}
    return {"name": name, "peer": [source, 50000], "ms": 0.4, "tries": 1, "error": None, "refused": False}
