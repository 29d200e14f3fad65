"""Faults of the service proxy: what kube-proxy does not heal by itself, and kube-proxies that are configured otherwise.

kube-proxy repairs a changed scheduler or a deleted real server within one sync; it leaves a weight alone. So the scheduler is changed in
the configuration of that node's kube-proxy, and a stale endpoint is made by cutting it off from the API server.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import yaml

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.faults.kernel import Action, sysctl
from pytest_k8snet.lab.faults.model import Fault, FaultyLab, FaultyNode, Turns
from pytest_k8snet.lab.faults.polling import wait_until
from pytest_k8snet.lab.faults.rules import flush
from pytest_k8snet.lab.objects import KUBE_PROXY_ELSEWHERE

PROXY_MODE = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:10249/proxyMode', timeout=5).read().decode())"

DAEMON_SET: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"namespace": "kube-system", "name": "kube-proxy"}}
CONFIG_MAP: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "kube-proxy"}}
OTHER = "kube-proxy-other"

SERVICE = "k8snet-lab-fault"


def _renamed(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a copy of an object read from the API that can be created under another name."""
    fresh = copy.deepcopy(dict(manifest))
    fresh["metadata"] = {
        "namespace": manifest["metadata"]["namespace"],
        "name": name,
        "labels": dict(manifest["metadata"].get("labels", {})),
    }
    fresh.pop("status", None)
    return fresh


def _other_config_map(lab: FaultyLab, changes: Mapping[str, Any]) -> dict[str, Any]:
    config_map = _renamed({**CONFIG_MAP, **lab.read_object(CONFIG_MAP)}, OTHER)
    config = yaml.safe_load(config_map["data"]["config.conf"])
    for path, value in changes.items():
        *parents, key = path.split(".")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        place[key] = value
    config_map["data"]["config.conf"] = yaml.safe_dump(config)
    return config_map


def _other_daemon_set(lab: FaultyLab) -> dict[str, Any]:
    daemon_set = _renamed({**DAEMON_SET, **lab.read_object(DAEMON_SET)}, OTHER)
    labels = {"k8s-app": OTHER}
    daemon_set["spec"]["selector"] = {"matchLabels": labels}
    template = daemon_set["spec"]["template"]
    template["metadata"]["labels"] = labels
    template["spec"].pop("affinity", None)
    template["spec"]["nodeSelector"] = {KUBE_PROXY_ELSEWHERE: "other"}
    for volume in template["spec"]["volumes"]:
        if volume.get("configMap", {}).get("name") == "kube-proxy":
            volume["configMap"]["name"] = OTHER
    return daemon_set


def _proxy_mode(lab: FaultyLab, node: str) -> str | None:
    try:
        return lab.run(node, ["python3", "-c", PROXY_MODE]).stdout.strip()
    except LabError:
        return None


def _table(lab: FaultyLab, node: str) -> str:
    return lab.run(node, ["ipvsadm", "-Sn"]).stdout


def _configure_otherwise(lab: FaultyLab, node: FaultyNode, changes: Mapping[str, Any]) -> None:
    """Let the node be served by a kube-proxy of its own with a changed configuration."""
    lab.apply_object(_other_config_map(lab, changes))
    lab.apply_object(_other_daemon_set(lab))
    lab.label_node(node.name, KUBE_PROXY_ELSEWHERE, "other")


def _configure_as_all(lab: FaultyLab, node: FaultyNode) -> None:
    """Give the node back to the lab's DaemonSet, with the rules of the other kube-proxy removed."""
    lab.label_node(node.name, KUBE_PROXY_ELSEWHERE, "none")
    lab.delete_object({**DAEMON_SET, "metadata": {**DAEMON_SET["metadata"], "name": OTHER}})
    lab.delete_object({**CONFIG_MAP, "metadata": {**CONFIG_MAP["metadata"], "name": OTHER}})
    wait_until(lambda: _proxy_mode(lab, node.name) is None, f"kube-proxy on {node.name} to end")
    flush(lab, node)
    lab.label_node(node.name, KUBE_PROXY_ELSEWHERE, None)
    wait_until(
        lambda: _proxy_mode(lab, node.name) == lab.proxy_mode and " rr" in _table(lab, node.name),
        f"kube-proxy on {node.name} to serve in {lab.proxy_mode} mode again",
    )


def _iptables_mode(lab: FaultyLab, node: FaultyNode) -> None:
    _configure_otherwise(lab, node, {"mode": "iptables"})
    wait_until(lambda: _proxy_mode(lab, node.name) == "iptables", f"kube-proxy on {node.name} in iptables mode")


def _scheduler(lab: FaultyLab, node: FaultyNode) -> None:
    _configure_otherwise(lab, node, {"ipvs.scheduler": "lc"})

    def changed() -> bool:
        table = _table(lab, node.name)
        return " -s lc" in table and " -s rr" not in table

    wait_until(changed, f"every virtual server on {node.name} with scheduler lc")


def weigh_cluster_dns(lab: FaultyLab, node: FaultyNode, *, now: int, then: int, by_ipv6: bool = False) -> None:
    """Give the first real server of kube-dns whose weight is `now` another one; which is the first differs from time to time."""
    service = lab.read_object({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "kube-system", "name": "kube-dns"}})
    address = next(address for address in service["spec"]["clusterIPs"] if (":" in address) == by_ipv6)
    address = re.escape(f"[{address}]" if by_ipv6 else address)
    found = re.search(rf"^-a (-t {address}:9153 -r \S+ -m) -w {now}\b", _table(lab, node.name), re.MULTILINE)
    if found is None:
        raise LabError(f"{node.name}: no real server of kube-system/kube-dns port 9153 with weight {now} in the IPVS table")
    lab.run(node.name, ["ipvsadm", "-e", *found[1].split(), "-w", str(then)])


def _service_objects(lab: FaultyLab, replicas: int) -> tuple[dict[str, Any], dict[str, Any]]:
    labels = {"app": SERVICE}
    metadata = {"namespace": "default", "name": SERVICE, "labels": labels}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "automountServiceAccountToken": False,
                    "containers": [{"name": "pause", "image": lab.pause_image, "imagePullPolicy": "IfNotPresent"}],
                },
            },
        },
    }
    return service, deployment


def api_address_of_kube_proxy(lab: FaultyLab) -> str:
    """Return where kube-proxy, and nothing else on a node, reaches the API server."""
    kubeconfig = yaml.safe_load(lab.read_object(CONFIG_MAP)["data"]["kubeconfig.conf"])
    return str(kubeconfig["clusters"][0]["cluster"]["server"]).removeprefix("https://").rpartition(":")[0]


def _change_cut(lab: FaultyLab, node: FaultyNode, action: str) -> None:
    """Insert (-I) or delete (-D) the rules that cut a node's kube-proxy from the API server.

    Both directions: what comes in on a connection that is open is read by kube-proxy even when no acknowledgement gets out.
    """
    address = api_address_of_kube_proxy(lab)
    for chain, side in (("INPUT", "-s"), ("OUTPUT", "-d")):
        rule = [chain, side, address, "-m", "comment", "--comment", "k8snet-lab fault", "-j", "DROP"]
        lab.run(node.name, ["iptables-legacy", "-w", action, *rule])


def _ready_replicas(lab: FaultyLab, deployment: Mapping[str, Any]) -> int:
    return int(lab.read_object(deployment).get("status", {}).get("readyReplicas", 0))


def _stale_endpoint(lab: FaultyLab, node: FaultyNode) -> None:
    service, deployment = _service_objects(lab, replicas=1)
    lab.apply_object(service)
    lab.apply_object(deployment)
    wait_until(lambda: _ready_replicas(lab, deployment) == 1, "the pod of the fault's Service to be ready")
    cluster_ip = lab.read_object(service)["spec"]["clusterIP"]
    wait_until(lambda: f"-a -t {cluster_ip}:80 " in _table(lab, node.name), f"the Service in the table of {node.name}")
    _change_cut(lab, node, "-I")
    lab.apply_object(_service_objects(lab, replicas=2)[1])
    wait_until(lambda: _ready_replicas(lab, deployment) == 2, "the second pod of the fault's Service to be ready")
    others = [other.name for other in lab.nodes if other.name != node.name]
    wait_until(
        lambda: all(_table(lab, other).count(f"-a -t {cluster_ip}:80 ") == 2 for other in others),
        "the second endpoint in the tables of the other nodes",
    )


def _fresh_endpoint(lab: FaultyLab, node: FaultyNode) -> None:
    _change_cut(lab, node, "-D")
    service, deployment = _service_objects(lab, replicas=0)
    cluster_ip = lab.read_object(service)["spec"]["clusterIP"]
    lab.delete_object(deployment)
    lab.delete_object(service)
    wait_until(lambda: f" {cluster_ip}:80 " not in _table(lab, node.name), f"kube-proxy on {node.name} to catch up with the API server")


def _arp(ignore: int, announce: int) -> Action:
    return sysctl(f"net.ipv4.conf.all.arp_ignore={ignore}", f"net.ipv4.conf.all.arp_announce={announce}")


USUAL_TIMEOUT_S = 900  # IPVS_TCP_S_ESTABLISHED of the kernel (net/netfilter/ipvs/ip_vs_proto_tcp.c)
SHORT_TIMEOUT_S = 15


def _timeout(seconds: int) -> Action:
    def act(lab: FaultyLab, node: FaultyNode) -> None:
        lab.run(node.name, ["ipvsadm", "--set", str(seconds), "0", "0"])

    return act


FAULTS = (
    Fault(
        "proxy-mode-iptables",
        area="proxy",
        summary="the node's kube-proxy runs in iptables mode",
        turns=(Turns("NET-PROXY-001"), Turns("NET-PROXY-002", subject="cluster"), Turns("NET-PROXY-007"), Turns("NET-SERVICE-004")),
        apply=_iptables_mode,
        revert=_configure_as_all,
        proxy_modes=("ipvs",),
    ),
    Fault(
        "ipvs-scheduler",
        area="proxy",
        summary="the node's kube-proxy is configured with the scheduler lc",
        turns=(Turns("NET-PROXY-003"), Turns("NET-PROXY-007")),
        apply=_scheduler,
        revert=_configure_as_all,
        proxy_modes=("ipvs",),
    ),
    Fault(
        "real-server-weight-0",
        area="proxy",
        summary="a real server of kube-dns has weight 0: it gets no connections",
        turns=(Turns("NET-PROXY-006"),),
        apply=lambda lab, node: weigh_cluster_dns(lab, node, now=1, then=0),
        revert=lambda lab, node: weigh_cluster_dns(lab, node, now=0, then=1),
        proxy_modes=("ipvs",),
    ),
    Fault(
        "stale-endpoint",
        area="proxy",
        summary="the node's kube-proxy is cut off from the API server, then a Service is scaled from 1 to 2",
        turns=(
            Turns("NET-PROXY-006"),
            *(Turns(f"NET-SERVICE-00{n}") for n in (1, 2, 3, 5)),
            *(Turns(f"NET-SERVICE-00{n}", verdict="inconclusive") for n in (4, 6, 7)),
        ),
        apply=_stale_endpoint,
        revert=_fresh_endpoint,
        proxy_modes=("ipvs",),
    ),
    Fault(
        "strict-arp-off",
        area="proxy",
        summary="arp_ignore and arp_announce are 0: the node answers ARP for every Service address",
        turns=(Turns("NET-PROXY-005"),),
        apply=_arp(0, 0),
        revert=_arp(1, 2),
        proxy_modes=("ipvs",),
    ),
    Fault(
        "ipvs-without-conntrack",
        area="proxy",
        summary="net.ipv4.vs.conntrack, which kube-proxy sets at its start, is 0: what iptables is to do with Services' packets it cannot",
        turns=(Turns("NET-PROXY-004"),),
        apply=sysctl("net.ipv4.vs.conntrack=0"),
        revert=sysctl("net.ipv4.vs.conntrack=1"),
        proxy_modes=("ipvs",),
    ),
    Fault(
        "idle-connections-forgotten",
        area="service",
        summary=f"IPVS forgets connections that nobody uses after {SHORT_TIMEOUT_S} s, and not after {USUAL_TIMEOUT_S} "
        "(seen with --k8snet-idle=30)",
        turns=(Turns("NET-SERVICE-009"),),
        apply=_timeout(SHORT_TIMEOUT_S),
        revert=_timeout(USUAL_TIMEOUT_S),
        proxy_modes=("ipvs",),
    ),
)
