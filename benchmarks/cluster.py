"""A cluster of many nodes that is not there: the objects of its API, and what agents on its nodes would answer.

The facts are those that a node of a lab gave (tests/recordings), with the variety that nodes of a large cluster have: names, addresses,
pools, zones, kernels, uplinks, pods, Services. Everything follows from the number of nodes, so that two processes agree on it.
"""

from __future__ import annotations

import copy
import ipaddress
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.faults import FAULTS, Answers, Fault
from pytest_k8snet.agent.agent import MOST_ROUTES, without_counters, without_real_servers
from pytest_k8snet.cluster.virtual_servers import WantedServer, wanted

RECORDING = Path(__file__).parent.parent / "tests/recordings/ipvs-native"
VERSION = "v1.34.6"
SERVICES = 500
EXISTING_PODS = 20  # as many as a run looks at
HZ = 250  # of the nodes' kernels: IPVS tells time-outs in ticks

_POOLS = ("general", "compute", "memory", "edge")
_ZONES = ("eu-1a", "eu-1b", "eu-1c")
_KERNELS = ("6.1.176", "6.8.0-94-generic", "6.12.41+deb13-amd64")
_IMAGES = ("Debian GNU/Linux 12 (bookworm)", "Ubuntu 24.04.4 LTS", "Debian GNU/Linux 13 (trixie)")
_UPLINKS = ("eth0", "ens192", "eno1np0")
_CONFIGZ = "kubeproxy.config.k8s.io"
_NOQUEUE = {"kind": "noqueue", "handle": "0:", "root": True, "refcnt": 2, "options": {}}
_TABLE_HEAD = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
"""


@dataclass(frozen=True, slots=True)
class SimulatedNode:
    """One node and what tells it from others."""

    number: int
    name: str
    address: str
    pod_range: ipaddress.IPv4Network
    pool: str
    zone: str
    kind: int  # of kernel, image and uplink
    pods: int

    @property
    def uplink(self) -> str:
        """The device that holds its address."""
        return _UPLINKS[self.kind]

    def pod_ip(self, number: int) -> str:
        """Return the address of one of its pods; that of the probe pod comes after the others."""
        return str(self.pod_range[2 + number])


class SimulatedCluster:
    """`count` nodes, of which `faulty` are each broken in one known way."""

    def __init__(self, count: int, faulty: int = len(FAULTS), services: int = SERVICES) -> None:
        chance = random.Random(20)  # noqa: S311 - the same nodes in every process
        self.nodes = {node.name: node for node in (_node(number, chance) for number in range(1, count + 1))}
        self._names = [*self.nodes]
        broken = [self._names[number * count // faulty + count // faulty // 2] for number in range(faulty)]
        self.faults: dict[str, Fault] = {name: FAULTS[number % len(FAULTS)] for number, name in enumerate(broken)}
        self.services, self.endpoint_slices = _services(services, [*self.nodes.values()], chance)
        facts = json.loads((RECORDING / "facts/node-1.json").read_text())["values"]
        self._pod_facts: dict[str, Any] = facts.pop("pod")
        del facts["pod_error"], self._pod_facts["name"], facts["peer_routes"]
        links = facts["host"]["links"]
        self._veth = next(link for link in links if link["ifname"].startswith("veth"))
        facts["host"]["links"] = [link for link in links if not link["ifname"].startswith("veth")]
        facts["qdiscs"] = [qdisc for qdisc in facts["qdiscs"] if not qdisc["dev"].startswith("veth")]
        self._facts_of = [_with_uplink(facts, uplink, kernel) for uplink, kernel in zip(_UPLINKS, _KERNELS, strict=True)]
        self._last: tuple[str, Answers] = ("", Answers("", {}, {}, {}))

    @property
    def expected(self) -> set[str]:
        """The cases that are neither pass nor skip."""
        return {f"{check}[{name}]" for name, fault in self.faults.items() for check in fault.turns} | {
            f"{check}[cluster]" for fault in self.faults.values() for check in fault.turns_cluster
        }

    # ---- the API

    def objects(self) -> dict[str, list[dict[str, Any]]]:
        """Return every list of the API that a run reads."""
        proxies = [_proxy_pod(node) for node in self.nodes.values()]
        return {
            "/api/v1/nodes": [_api_node(node) for node in self.nodes.values()],
            "/apis/apps/v1/daemonsets": [
                _daemonset("kube-system", "kube-proxy", len(proxies)),
                _daemonset("kube-flannel", "kube-flannel-ds", len(proxies)),
            ],
            "/api/v1/namespaces/kube-system/pods": proxies,
            "/api/v1/services": self.services,
            "/apis/discovery.k8s.io/v1/endpointslices": self.endpoint_slices,
        }

    def config_maps(self) -> dict[tuple[str, str], dict[str, str]]:
        """Return namespace and name to data."""
        return {
            ("kube-system", "kube-proxy"): {
                "config.conf": "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
                "mode: ipvs\nipvs:\n  scheduler: rr\n  strictARP: true\n"
            },
            ("kube-flannel", "kube-flannel-cfg"): {
                "net-conf.json": json.dumps({"Network": "10.32.0.0/11", "Backend": {"Type": "host-gw"}})
            },
        }

    # ---- the agents

    def answer(self, name: str, role: str, op: str) -> bytes:
        """Return what an agent answers, as JSON."""
        node, answers = self.nodes[name], self._answers(name)
        if role == "pod" or op == "ipvs":
            return json.dumps(answers.pod if role == "pod" else answers.ipvs).encode()
        if op == "activity":
            return json.dumps(_later(answers.host["activity"])).encode()
        return json.dumps({**answers.host, "peer_routes": self._peer_routes(node, answers)}).encode()

    def _answers(self, name: str) -> Answers:
        """Return the answers of a node's agents. Only a faulty node's may be changed: they share what nodes have in common."""
        if self._last[0] == name:
            return self._last[1]
        node = self.nodes[name]
        table = self._table(node)
        facts = self._facts_of[node.kind]
        pods = min(node.pods, EXISTING_PODS)
        proxy = {
            **facts["kube_proxy"],
            "processes": [f"pid {900 + node.number}: /usr/local/bin/kube-proxy --config=/var/lib/kube-proxy/config.conf"],
            "configz": {_CONFIGZ: {**facts["kube_proxy"]["configz"][_CONFIGZ], "hostnameOverride": node.name}},
        }
        host = {
            **facts,
            "host": {
                **facts["host"],
                "links": facts["host"]["links"] + [{**self._veth, "ifname": name} for name in _veths(node)],
                "routes": self._host_routes(node),
                "routes_total": 2 + len(self.nodes),
            },
            "qdiscs": facts["qdiscs"] + [{**_NOQUEUE, "dev": name} for name in _veths(node)],
            "conntrack": {**facts["conntrack"], "count": 1200 + 37 * (node.number % 911)},
            "existing_pods": [
                {**self._pod_of(node, number), "name": f"team-{number % 7}/app-{number}-{node.number:05d}"} for number in range(pods)
            ],
            "existing_pods_running": node.pods,
            "ipvs": without_real_servers({"loaded": True, "table": table}),
            "kube_proxy": proxy,
        }
        ipvs = {"loaded": True, "table": table, "kube_ipvs0": True, "configz": proxy["configz"], "mode": "ipvs"}
        answers = Answers(node.uplink, host, self._pod_of(node, node.pods), ipvs)
        if node.name in self.faults:
            answers = Answers(node.uplink, *json.loads(json.dumps([host, answers.pod, ipvs])))
            self.faults[node.name].change(answers)
        self._last = (name, answers)
        return answers

    def _pod_of(self, node: SimulatedNode, number: int) -> dict[str, Any]:
        default, local = self._pod_facts["routes"]
        routes = [
            {**default, "gateway": str(node.pod_range[1])},
            {**local, "dst": str(node.pod_range), "prefsrc": node.pod_ip(number)},
        ]
        return {**self._pod_facts, "routes": routes}

    def _host_routes(self, node: SimulatedNode) -> list[dict[str, Any]]:
        """Return the node's main table as flannel's host-gw makes it: a route to every other node's pod range."""
        rest = {"protocol": "boot", "scope": "global", "flags": []}
        own = {"protocol": "kernel", "scope": "link", "flags": []}
        return [
            {"type": "unicast", "dst": "default", "gateway": "10.16.0.1", "dev": node.uplink, **rest},
            {"type": "unicast", "dst": "10.16.0.0/16", "dev": node.uplink, "prefsrc": node.address, **own},
            {"type": "unicast", "dst": str(node.pod_range), "dev": "cni0", "prefsrc": str(node.pod_range[1]), **own},
            *(
                {"type": "unicast", "dst": str(peer.pod_range), "gateway": peer.address, "dev": node.uplink, **rest}
                for peer in [peer for peer in self.nodes.values() if peer is not node][: MOST_ROUTES - 3]
            ),
        ]

    def _peer_routes(self, node: SimulatedNode, answers: Answers) -> list[dict[str, Any]]:
        usual = {name: way for name, way in self._ways.items() if name != node.name}
        way = {"dev": answers.uplink, "error": None, "real_pod": True}
        if answers.odd_route is None:
            return [{**way, "peers": usual}]
        odd = {name: usual.pop(name) for name in [*usual][7::100]}
        return [{**way, "peers": usual}, {**way, **answers.odd_route, "peers": odd}]

    @cached_property
    def _ways(self) -> dict[str, list[str]]:
        """Every node's pod that is asked for, and the gateway to it."""
        return {peer.name: [peer.pod_ip(peer.pods), peer.address] for peer in self.nodes.values()}

    # ---- IPVS

    def _table(self, node: SimulatedNode) -> str:
        own = wanted(self._node_services, self.endpoint_slices, node=node.name, node_ips=[node.address], zone=node.zone)
        return without_counters(_TABLE_HEAD + self._common_table + "".join(map(_entry, own.values())))

    @cached_property
    def _node_services(self) -> list[dict[str, Any]]:
        """Services whose virtual servers differ from node to node."""
        return [service for service in self.services if service["spec"]["type"] != "ClusterIP"]

    @cached_property
    def _common_table(self) -> str:
        common = [service for service in self.services if service["spec"]["type"] == "ClusterIP"]
        return "".join(map(_entry, wanted(common, self.endpoint_slices, node="", node_ips=["10.16.0.2"]).values()))


def _node(number: int, chance: random.Random) -> SimulatedNode:
    pool, zone = chance.choice(_POOLS), _ZONES[number % len(_ZONES)]
    suffix = "".join(chance.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
    return SimulatedNode(
        number=number,
        name=f"{pool}-{zone}-{number:04d}-{suffix}",
        address=str(ipaddress.IPv4Address("10.16.0.10") + number),
        pod_range=ipaddress.IPv4Network((int(ipaddress.IPv4Address("10.32.0.0")) + 256 * number, 24)),
        pool=pool,
        zone=zone,
        kind=_POOLS.index(pool) % len(_KERNELS),
        pods=chance.randint(20, 108),
    )


def _services(count: int, nodes: Sequence[SimulatedNode], chance: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return Services of all types, and their EndpointSlices."""
    services, slices = [], []
    for number in range(count):
        name, namespace = f"app-{number}", f"team-{number % 7}"
        kind = "LoadBalancer" if number % 40 == 13 else "NodePort" if number % 25 == 7 else "ClusterIP"
        ports = [
            {"name": f"port-{index}", "protocol": "TCP", "port": 8000 + index, "targetPort": 8080 + index}
            for index in range(1 + number % 3)
        ]
        if kind != "ClusterIP":
            ports = [{**port, "nodePort": 30000 + 3 * number + index} for index, port in enumerate(ports)]
        address = str(ipaddress.IPv4Address("10.96.1.0") + number)
        spec = {
            "type": kind,
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": ports,
            "selector": {"app": name},
            "sessionAffinity": "ClientIP" if number % 30 == 11 else "None",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            **({"externalTrafficPolicy": "Cluster"} if kind == "NodePort" else {}),
            **({"externalTrafficPolicy": "Local", "healthCheckNodePort": 29000 + number} if kind == "LoadBalancer" else {}),
        }
        status = {"loadBalancer": {"ingress": [{"ip": f"10.17.0.{number % 250 + 1}", "ipMode": "VIP"}]} if kind == "LoadBalancer" else {}}
        services.append({"metadata": _metadata(namespace, name, {"app": name}), "spec": spec, "status": status})
        homes = chance.sample(nodes, min(len(nodes), 1 + chance.randrange(6)))
        slices.append(
            {
                "metadata": _metadata(namespace, f"{name}-x7k2p", {"kubernetes.io/service-name": name}),
                "addressType": "IPv4",
                "endpoints": [_endpoint(node, chance.randrange(node.pods), namespace, name) for node in homes],
                "ports": [{"name": port["name"], "protocol": "TCP", "port": port["targetPort"]} for port in ports],
            }
        )
    return services, slices


def _endpoint(node: SimulatedNode, pod: int, namespace: str, name: str) -> dict[str, Any]:
    return {
        "addresses": [node.pod_ip(pod)],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": node.name,
        "zone": node.zone,
        "targetRef": {"kind": "Pod", "namespace": namespace, "name": f"{name}-{node.number:05d}", "uid": _uid(name, node.number)},
    }


def _metadata(namespace: str, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": namespace,
        "uid": _uid(namespace, name),
        "resourceVersion": str(1000 + len(name)),
        "creationTimestamp": "2026-10-01T08:00:00Z",
        "labels": {**labels, "app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": namespace},
        "managedFields": [
            {"manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-10-01T08:00:00Z", "fieldsType": "FieldsV1",
             "fieldsV1": {f"f:{field}": {".": {}, "f:value": {}} for field in ("metadata", "spec", "status", "labels", "annotations")}}
            for manager in ("helm", "kube-controller-manager")
        ],
    }  # fmt: skip


def _uid(*parts: object) -> str:
    return f"{random.Random(repr(parts)).getrandbits(128):032x}"  # noqa: S311


def _api_node(node: SimulatedNode) -> dict[str, Any]:
    labels = {
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "karpenter.sh/nodepool": node.pool,
        "topology.kubernetes.io/zone": node.zone,
        "node.kubernetes.io/instance-type": f"{node.pool}.4xlarge",
    }
    metadata = _metadata("", node.name, labels)
    del metadata["namespace"]
    return {
        "metadata": metadata,
        "spec": {"podCIDR": str(node.pod_range), "podCIDRs": [str(node.pod_range)], "providerID": f"sim:///{node.zone}/{node.name}"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": node.address}, {"type": "Hostname", "address": node.name}],
            "capacity": {"cpu": "16", "memory": "65536000Ki", "pods": "110"},
            "conditions": [
                {"type": kind, "status": "True" if kind == "Ready" else "False", "reason": "KubeletReady", "message": "kubelet says so",
                 "lastHeartbeatTime": "2026-11-25T14:00:00Z"}
                for kind in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
            ],
            "images": [{"names": [f"registry.example/app-{number}@sha256:{_uid(number) * 2}"], "sizeBytes": 10**8} for number in range(25)],
            "nodeInfo": {
                "operatingSystem": "linux",
                "architecture": "amd64",
                "kernelVersion": _KERNELS[node.kind],
                "osImage": _IMAGES[node.kind],
                "kubeletVersion": VERSION,
            },
        },
    }  # fmt: skip


def _proxy_pod(node: SimulatedNode) -> dict[str, Any]:
    name = f"kube-proxy-{node.number:05d}"
    metadata = _metadata("kube-system", name, {"k8s-app": "kube-proxy"})
    metadata["ownerReferences"] = [{"kind": "DaemonSet", "name": "kube-proxy", "controller": True}]
    return {
        "metadata": metadata,
        "spec": {
            "nodeName": node.name,
            "hostNetwork": True,
            "containers": [_proxy_container()],
            "volumes": [{"name": name, "hostPath": {"path": f"/{name}"}} for name in ("lib-modules", "xtables-lock", "config")],
            "tolerations": [
                {"operator": "Exists", "key": f"node.kubernetes.io/{key}"} for key in ("not-ready", "unreachable", "disk-pressure")
            ],
        },
        "status": {"phase": "Running", "podIP": node.address, "hostIP": node.address},
    }


def _daemonset(namespace: str, name: str, count: int) -> dict[str, Any]:
    spec = {"nodeSelector": {"kubernetes.io/os": "linux"}, "containers": [_proxy_container() if name == "kube-proxy" else {"name": name}]}
    return {
        "metadata": _metadata(namespace, name, {"k8s-app": name}),
        "spec": {"template": {"spec": spec}},
        "status": {"desiredNumberScheduled": count, "numberReady": count},
    }


def _proxy_container() -> dict[str, Any]:
    return {
        "name": "kube-proxy",
        "image": f"registry.k8s.io/kube-proxy:{VERSION}",
        "command": ["/usr/local/bin/kube-proxy", "--config=/var/lib/kube-proxy/config.conf"],
        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("lib-modules", "xtables-lock", "config")],
    }


def _veths(node: SimulatedNode) -> list[str]:
    return [f"veth{node.number * 131 + pod:08x}" for pod in range(node.pods + 1)]


def _with_uplink(facts: dict[str, Any], uplink: str, kernel: str) -> dict[str, Any]:
    """Return the recorded facts on another kernel, with another name for eth0."""
    facts = copy.deepcopy(facts)
    for item in (*facts["host"]["links"], *facts["qdiscs"]):
        for key in ("ifname", "dev"):
            if item.get(key) == "eth0":
                item[key] = uplink
    facts["host"]["sysctls"]["net.ipv4.neigh.default.gc_thresh3"] = "16384"  # all nodes are on one link
    facts["host"]["sysctls"] = {key.replace(".eth0.", f".{uplink}."): value for key, value in facts["host"]["sysctls"].items()}
    return {**facts, "uplink": uplink, "physical": [uplink], "kernel": kernel}


def _entry(server: WantedServer) -> str:
    flags = f"persistent {server.persistent_s * HZ} FFFFFFFF" if server.persistent_s else ""
    head = f"{server.key.protocol}  {_hex(server.key.address)}:{server.key.port:04X} rr {flags} \n"
    return head + "".join(
        f"  -> {_hex(endpoint.address)}:{endpoint.port:04X}      Masq    1      {endpoint.port % 7}          0         \n"
        for endpoint in sorted(server.endpoints)
    )


def _hex(address: str) -> str:
    return f"{int(ipaddress.IPv4Address(address)):08X}"


def _later(activity: dict[str, Any]) -> dict[str, Any]:
    """Return the counters of a node a minute later, in which it had nothing to do."""
    processor = activity["processor"]
    return {
        **activity,
        "at_s": activity["at_s"] + 60.0,
        "processor": {**processor, "idle": processor["idle"] + 6000 * processor["online"]},
    }
